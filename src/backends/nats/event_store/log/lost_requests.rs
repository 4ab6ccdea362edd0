//! A log whose stream of request ids is gone.

use super::{First, Log};
use crate::{
    backends::nats::{connection::ConnectError, server::StreamFacts},
    ports::event_store::LossKind,
};

impl Log {
    /// Whether the messages in the stream of `log` are those of a log.
    pub(super) async fn is_log(&self, log: &StreamFacts) -> Result<bool, ConnectError> {
        match self.first_message().await? {
            First::Names(_) => Ok(true),
            // A new leader, or a deposed one, may not have it.
            First::Missing if log.is_replicated() => Err(self.first_is_not_shown()),
            First::Missing | First::Strange => Ok(false),
        }
    }

    /// The stream of the request ids is gone, but the log of `log` is not. A node must not begin an empty one: it would take repeated commands for new
    /// ones. Reading the log needs none: so it can still be copied.
    pub(super) fn without_requests(&self, log: &StreamFacts) -> Result<StreamFacts, ConnectError> {
        if !self.nats.options().makes_log {
            return Ok(log.clone());
        }
        let why = format!(
            "stream {} is gone, and with it the request ids of the commands in stream {}, so that a repeated command would take effect again: \
             restore it, or copy the log to another prefix with `ordersystem copy`, which registers the ids again",
            self.requests, self.stream
        );
        Err(if self.id.get().is_some() { self.lost(LossKind::Gone, why) } else { ConnectError::Fatal(why) })
    }
}
