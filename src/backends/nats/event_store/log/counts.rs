//! The messages of a stream, as counted by one server.

use serde_json::{Value, json};

use super::Log;
use crate::backends::nats::{api::CallError, connection::Nats};

impl Log {
    /// The sequence of the last message of a server, and its number of messages with `subject`: both of one server, which may be behind.
    ///
    /// # Errors
    /// [`CallError`].
    pub(in crate::backends::nats::event_store) async fn count(&self, subject: &str) -> Result<(u64, u64), CallError> {
        Self::count_in(&self.nats, &self.stream, subject).await
    }

    /// Like [`Log::count`], for the stream of request ids.
    ///
    /// # Errors
    /// [`CallError`].
    pub(in crate::backends::nats::event_store) async fn count_requests(
        &self,
        subject: &str,
    ) -> Result<(u64, u64), CallError> {
        Self::count_in(&self.nats, &self.requests, subject).await
    }

    async fn count_in(nats: &Nats, stream: &str, subject: &str) -> Result<(u64, u64), CallError> {
        let body = json!({ "subjects_filter": subject });
        let info: Value = nats.ask(&format!("STREAM.INFO.{stream}"), &body).await?;
        let state = &info["state"];
        let last = state["last_seq"].as_u64();
        let last = last.ok_or_else(|| CallError::Lost("NATS does not report where the stream ends".to_owned()))?;
        Ok((last, state["subjects"][subject].as_u64().unwrap_or_default()))
    }

    /// Whether message `sequence` has been removed from the log, according to a server that has had it.
    ///
    /// # Errors
    /// [`CallError`].
    pub(in crate::backends::nats::event_store) async fn is_deleted(&self, sequence: u64) -> Result<bool, CallError> {
        let info: Value =
            self.nats.ask(&format!("STREAM.INFO.{}", self.stream), &json!({ "deleted_details": true })).await?;
        let state = &info["state"];
        let number = |key: &str| state[key].as_u64().unwrap_or_default();
        let deleted = state["deleted"].as_array().map_or(&[][..], Vec::as_slice);
        let is_listed = deleted.iter().any(|deleted| deleted.as_u64() == Some(sequence));
        Ok(number("last_seq") >= sequence && (number("first_seq") > sequence || is_listed))
    }
}
