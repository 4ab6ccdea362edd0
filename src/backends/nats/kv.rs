//! A bucket of NATS KV, by the publish conditions of its stream.
//!
//! A bucket is a stream `KV_<bucket>` that keeps the last message of each subject `$KV.<bucket>.<key>`, so `nats kv` shows what is here.
//! The client library's own way of making one asks for the account's limits, which nats-server 2.9 answers in a form that it cannot read:
//! hence by hand. Reads are answered by the stream's leader, not by a replica that may lag.

use async_nats::{
    HeaderMap,
    jetstream::{
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType},
    },
};
use bytes::Bytes;
use tokio::sync::OnceCell;

use super::{
    connection::Nats,
    provision::{connected, make_stream},
};

/// The header by which a message says that its key is deleted.
const OPERATION: &str = "KV-Operation";

/// What a key holds.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The sequence of the message: grows with every write to the bucket.
    pub revision: u64,
    /// When it was written, by the server's clock, in nanoseconds since 1970: tells two writes apart that a server which lost its data gave
    /// the same revision.
    pub written_at: i128,
    /// `None` if the key was deleted.
    pub value: Option<Bytes>,
}

/// Why a write was not made, or may not have been.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The key has another revision: nothing was written.
    Conflict,
    /// It is not known whether it was written.
    Unavailable(String),
}

#[derive(Debug)]
pub(super) struct Bucket {
    nats: Nats,
    name: String,
    made: OnceCell<()>,
}

impl Bucket {
    /// The bucket `{prefix}-<name>`, made at its first use.
    pub(super) fn new(nats: Nats, name: &str) -> Self {
        let name = nats.stream_name(name);
        Self { nats, name, made: OnceCell::new() }
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    async fn ready(&self) -> Result<(), String> {
        connected(&self.nats).await?;
        let make = || async {
            let config = Config {
                name: self.stream(),
                subjects: vec![self.subject(">")],
                max_messages_per_subject: 1,
                allow_rollup: true,
                deny_delete: true,
                allow_direct: true,
                discard: DiscardPolicy::New,
                storage: StorageType::File,
                num_replicas: self.nats.options().replicas,
                ..Config::default()
            };
            make_stream(&self.nats, config).await
        };
        // Once: a bucket that is gone later took its revisions along, and making it anew would count them from 1 again.
        self.made.get_or_try_init(make).await.map(drop)
    }

    /// What `key` holds; `None` if it was never written.
    ///
    /// # Errors
    /// Says what is wrong with NATS.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, String> {
        self.ready().await?;
        let stream =
            self.nats.jetstream().get_stream_no_info(self.stream()).await.map_err(|error| error.to_string())?;
        match stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => {
                let is_deleted = message.headers.get(OPERATION).is_some();
                Ok(Some(Entry {
                    revision: message.sequence,
                    written_at: message.time.unix_timestamp_nanos(),
                    value: (!is_deleted).then_some(message.payload),
                }))
            }
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => Ok(None),
            Err(error) => Err(format!("the bucket {}: {error}", self.name)),
        }
    }

    /// Writes `value`, or deletes the key, if its revision is still `expected`; 0 for a key that was never written. Answers the new one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(super) async fn write(&self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, WriteError> {
        self.ready().await.map_err(WriteError::Unavailable)?;
        let mut headers = HeaderMap::new();
        if value.is_none() {
            headers.insert(OPERATION, "DEL");
        }
        let message = PublishMessage::build()
            .headers(headers)
            .payload(value.unwrap_or_default())
            .expected_last_subject_sequence(expected);
        let unavailable = |error: &dyn std::fmt::Display| {
            WriteError::Unavailable(format!("the bucket {} does not take a write: {error}", self.name))
        };
        let sent = self.nats.jetstream().send_publish(self.subject(key), message).await;
        match sent.map_err(|error| unavailable(&error))?.await {
            Ok(ack) => Ok(ack.sequence),
            Err(error) if is_conflict(&error) => Err(WriteError::Conflict),
            Err(error) => Err(unavailable(&error)),
        }
    }
}

fn is_conflict(error: &PublishError) -> bool {
    // The client library does not know yet the code that newer servers give when they do not say which sequence is the last.
    error.kind() == PublishErrorKind::WrongLastSequence
        || std::error::Error::source(error).is_some_and(|source| source.to_string().contains("wrong last sequence"))
}
