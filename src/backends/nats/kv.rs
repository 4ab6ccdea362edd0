//! A bucket of NATS KV, implemented with the publish conditions of its stream.
//!
//! A bucket is a stream `KV_<bucket>` that keeps the last message of each subject `$KV.<bucket>.<key>`, so `nats kv` shows its contents. The client
//! library's own way of creating one asks for the account's limits, which nats-server 2.9 returns in a form that the library cannot read: hence this
//! implementation. The stream's leader answers reads, not a replica that may lag.
//!
//! A bucket that vanishes while nodes run, as with a server that comes back without its data, is recreated empty at its next use. Its revisions
//! restart at 1. [`Made`] distinguishes the incarnations where the difference matters.

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
    api::{CallError, in_words, only_after},
    connection::{ConnectError, Nats},
    provision::{Made, ask_again, connected, make_stream},
};

/// The header by which a message marks its key as deleted.
const OPERATION: &str = "KV-Operation";
/// The longest pause before a write is retried because another to the same key was in flight.
const MAX_BUSY_PAUSE: Duration = Duration::from_millis(20);

/// The content of a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The sequence of the message: it grows with every write to the bucket.
    pub revision: u64,
    /// The time of the write, by the server's clock, in nanoseconds since 1970: distinguishes two writes to which a server that lost its data gave
    /// the same revision.
    pub written_at: i128,
    /// `None` if the key was deleted.
    pub value: Option<Bytes>,
}

/// Why a write was not made, or may not have been made.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The key has another revision: nothing was written.
    Conflict,
    /// It is unknown whether it was written.
    Unavailable(String),
}

#[derive(Debug)]
pub(super) struct Bucket {
    nats: Nats,
    name: String,
    /// The incarnation of the bucket that was found last; `None` if it must be checked.
    made: Mutex<Option<Made>>,
    /// Held during a check; concurrent callers share its result.
    looking: tokio::sync::Mutex<()>,
    /// When the bucket was found to have been recreated, if it was.
    made_again_at: Mutex<Option<Instant>>,
}

impl Bucket {
    /// The bucket `{prefix}-<name>`, created at its first use.
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

    /// Finds or creates the bucket.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why it cannot be used, and whether waiting helps.
    pub(super) async fn verify(&self) -> Result<Made, ConnectError> {
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
                server = self.nats.server().address(),
                bucket = self.name,
                "the bucket in NATS was lost with its contents and has been created again, empty"
            );
        }
        Ok(made)
    }

    /// The current incarnation of the bucket, as NATS reports it now.
    ///
    /// # Errors
    /// A description of the problem with NATS.
    pub(super) async fn made_now(&self) -> Result<Made, String> {
        self.verify().await.map_err(|error| format!("the bucket {}: {}", self.name, error.why()))
    }

    /// The incarnation of the bucket that was found last.
    ///
    /// # Errors
    /// A description of the problem with NATS.
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

    /// Finds or creates the bucket, and checks that this user may read it and write to it.
    ///
    /// # Errors
    /// As [`Bucket::verify`].
    pub(super) async fn verify_writable(&self) -> Result<(), ConnectError> {
        self.verify().await?;
        let stream = self.stream();
        tokio::try_join!(self.nats.may_read(&stream), self.nats.may_publish(self.subject("probe"))).map(drop)
    }

    /// Whether it would accept a write.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), String> {
        self.nats.probe(self.subject("probe"), deadline).await.map_err(|why| format!("the bucket {}: {why}", self.name))
    }

    /// Whether it vanished and was found recreated less than `time` ago.
    pub(super) fn was_made_again_within(&self, time: Duration) -> bool {
        let at = *self.made_again_at.lock();
        at.is_some_and(|at| at.elapsed() < time)
    }

    fn with_made<T>(&self, work: impl FnOnce(&mut Option<Made>) -> T) -> T {
        work(&mut self.made.lock())
    }

    /// The content of `key`; `None` if it was never written.
    ///
    /// # Errors
    /// A description of the problem with NATS.
    pub(super) async fn get(&self, key: &str) -> Result<Option<Entry>, String> {
        self.made().await?;
        let stream = self.nats.jetstream().get_stream_no_info(self.stream()).await.map_err(|error| in_words(&error))?;
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
            _ => Err(format!("the bucket {}: {}", self.name, in_words(&error))),
        }
    }

    /// Writes `value`, or deletes the key, if its revision is still `expected`; 0 for a key that was never written. Returns the new revision.
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
                // Another write to the key is in flight: it is not yet decided whether this one would be refused.
                error if error.is_undecided() && Instant::now() < give_up_at => {
                    sleep(MAX_BUSY_PAUSE.mul_f64(fastrand::f64())).await;
                }
                error if error.is_wrong_sequence() => return Err(WriteError::Conflict),
                error => {
                    let why = format!("the bucket {} does not accept a write: {error}", self.name);
                    return Err(WriteError::Unavailable(why));
                }
            }
        }
    }

    /// Like `write`, once; if no server takes it the bucket may have vanished, and is recreated.
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
    /// Whether JetStream did not decide, because another publish is in flight.
    fn is_undecided(&self) -> bool {
        matches!(self, Self::UnderWay(_))
    }
}
