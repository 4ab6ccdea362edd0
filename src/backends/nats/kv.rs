//! A bucket of NATS KV, by the publish conditions of its stream.
//!
//! A bucket is a stream `KV_<bucket>` that keeps the last message of each subject `$KV.<bucket>.<key>`, so `nats kv` shows what is here.
//! The client library's own way of making one asks for the account's limits, which nats-server 2.9 answers in a form that it cannot read:
//! hence by hand. Reads are answered by the stream's leader, not by a replica that may lag.
//!
//! A bucket that vanishes while nodes run, as with a server that comes back without its data, is made again at its next use and is empty then.
//! Its revisions begin again at 1. What must not begin again is told apart by [`Made`].

use std::time::Duration;

use async_nats::{
    HeaderMap,
    jetstream::{
        ErrorCode,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, StorageType},
    },
};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use super::{
    api::{CallError, only_after},
    connection::{ConnectError, Nats},
    provision::{Made, ask_again, connected, make_stream},
};

/// The header by which a message says that its key is deleted.
const OPERATION: &str = "KV-Operation";
/// The longest pause before a write is sent again because another to the same key was under way.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(20);

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
    /// Which making of the bucket was found last; `None` if it has to be looked at.
    made: Mutex<Option<Made>>,
    /// Whoever looks; the others wait for what it finds.
    looking: tokio::sync::Mutex<()>,
    /// When it was found to have been made again, if it was.
    made_again_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// The bucket `{prefix}-<name>`, made at its first use.
    pub(super) fn new(nats: Nats, name: &str) -> Self {
        let name = nats.stream_name(name);
        Self {
            nats,
            name,
            made: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            made_again_at: Mutex::default(),
        }
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// Finds the bucket, or makes it.
    ///
    /// # Errors
    /// [`ConnectError`] says why it cannot be used, and whether waiting helps.
    pub(super) async fn admit(&self) -> Result<Made, ConnectError> {
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
        let made = Made::of(&make_stream(&self.nats, config).await?);
        let before = self.with_made(|known| known.replace(made));
        if before.is_some_and(|before| before != made) {
            tracing::error!(
                bucket = self.name,
                "the bucket in NATS was lost with what it held, and is there again, empty"
            );
        }
        Ok(made)
    }

    /// Which making of the bucket is there, as NATS says now.
    ///
    /// # Errors
    /// Says what is wrong with NATS.
    pub(super) async fn made_now(&self) -> Result<Made, String> {
        self.admit().await.map_err(|error| format!("the bucket {}: {}", self.name, error.why()))
    }

    /// Which making of the bucket was found last.
    ///
    /// # Errors
    /// Says what is wrong with NATS.
    pub(super) async fn made(&self) -> Result<Made, String> {
        connected(&self.nats).await?;
        if let Some(made) = self.with_made(|known| *known) {
            return Ok(made);
        }
        let _looking = self.looking.lock().await;
        match self.with_made(|known| *known) {
            Some(made) => Ok(made),
            None => self.made_now().await,
        }
    }

    /// Finds the bucket, or makes it, and whether this user may write to it.
    ///
    /// # Errors
    /// As [`Bucket::admit`].
    pub(super) async fn admit_writer(&self) -> Result<(), ConnectError> {
        self.admit().await?;
        self.nats.may_publish(self.subject("probe")).await
    }

    /// Whether it would take a write.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), String> {
        self.nats.probe(self.subject("probe"), deadline).await.map_err(|why| format!("the bucket {}: {why}", self.name))
    }

    /// Whether it vanished and was found made again less than `time` ago.
    pub(super) fn was_made_again_within(&self, time: Duration) -> bool {
        let at = *self.made_again_at.lock();
        at.is_some_and(|at| at.elapsed() < time)
    }

    fn with_made<T>(&self, work: impl FnOnce(&mut Option<Made>) -> T) -> T {
        work(&mut self.made.lock())
    }

    /// What `key` holds; `None` if it was never written.
    ///
    /// # Errors
    /// Says what is wrong with NATS.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, String> {
        self.made().await?;
        let stream =
            self.nats.jetstream().get_stream_no_info(self.stream()).await.map_err(|error| error.to_string())?;
        let subject = self.subject(key);
        let error = match ask_again(|| stream.get_last_raw_message_by_subject(&subject)).await {
            Ok(message) => {
                let is_deleted = message.headers.get(OPERATION).is_some();
                return Ok(Some(Entry {
                    revision: message.sequence,
                    written_at: message.time.unix_timestamp_nanos(),
                    value: (!is_deleted).then_some(message.payload),
                }));
            }
            Err(error) => error,
        };
        match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                self.made_now().await?;
                Ok(None)
            }
            _ => Err(format!("the bucket {}: {error}", self.name)),
        }
    }

    /// Writes `value`, or deletes the key, if its revision is still `expected`; 0 for a key that was never written. Answers the new one.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(super) async fn write(&self, key: &str, value: Option<Bytes>, expected: u64) -> Result<u64, WriteError> {
        self.made().await.map_err(WriteError::Unavailable)?;
        let mut headers = only_after(expected);
        if value.is_none() {
            headers.insert(OPERATION, "DEL");
        }
        let value = value.unwrap_or_default();
        let give_up_at = Instant::now() + self.nats.options().request_timeout;
        loop {
            let error = match self.store(key, headers.clone(), value.clone()).await {
                Ok(revision) => return Ok(revision),
                Err(error) => error,
            };
            match error {
                // Another write to the key is under way: whether this one would be refused is not decided yet.
                error if error.is_undecided() && Instant::now() < give_up_at => {
                    sleep(MAX_BUSY_PAUSE.mul_f64(fastrand::f64())).await;
                }
                error if error.is_wrong_sequence() => return Err(WriteError::Conflict),
                error => {
                    let why = format!("the bucket {} does not take a write: {error}", self.name);
                    return Err(WriteError::Unavailable(why));
                }
            }
        }
    }

    /// The same once; where nobody takes it the bucket may have vanished, and is made again.
    async fn store(&self, key: &str, headers: HeaderMap, value: Bytes) -> Result<u64, CallError> {
        match self.nats.store(self.subject(key), headers.clone(), value.clone()).await {
            Err(CallError::NotSent(_)) if self.nats.is_connected() => {
                self.made_now().await.map_err(CallError::NotSent)?;
                self.nats.store(self.subject(key), headers, value).await
            }
            answer => answer,
        }
    }
}

impl CallError {
    /// Whether JetStream did not decide, because another publish is under way.
    fn is_undecided(&self) -> bool {
        matches!(self, Self::UnderWay(_))
    }
}
