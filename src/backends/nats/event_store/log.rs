//! The two streams of a log: creates them, checks that they do not lose messages, and reads the id of the log.
//!
//! Nothing is read or written on a connection before this check. An existing log is never created again: if its stream is gone, so are its events.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{HeaderMap, header};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::commit::last_position;
use crate::{
    backends::nats::{
        api::{CallError, Which, code},
        connection::{ConnectError, Nats},
        kv::{Bucket, WriteError},
        monitor::{Synced, Unread},
        server::{ServerFacts, StreamFacts},
    },
    ports::event_store::{Durability, LogId, LogLoss, LossKind, Position, StoreError, TokenKey},
};

/// The text of the first message of the log, before the log's number.
const FIRST_MESSAGE: &str = "log of ordersystem, number ";
/// The sequence of the first message, which names the log and holds no event.
pub(super) const FIRST_SEQUENCE: u64 = 1;
/// The pause before the streams are checked again after a failure.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the check may take that the key of the log is still stored, if this node knows it.
const CONFIRM_KEY_WITHIN: Duration = Duration::from_millis(300);
/// How long the log must be missing before it counts as gone: a server that has just been elected may not know all streams yet.
const GONE_AFTER: Duration = Duration::from_secs(3);

/// The streams on the connected server.
#[derive(Debug)]
pub(super) struct Log {
    nats: Nats,
    /// The stream of all commits.
    pub stream: String,
    /// The stream of request ids.
    pub requests: String,
    id: OnceLock<LogId>,
    /// The bucket of the log's key: separate from the log, since earlier versions would take another message there for an event.
    keys: Bucket,
    token_key: Mutex<Option<TokenKey>>,
    /// The connection on which all checks passed; 0: none.
    admitted: AtomicU64,
    facts: Mutex<Option<Facts>>,
    /// Since when no check has found the log.
    missing_since: Mutex<Option<Instant>>,
    loss: watch::Sender<Option<LogLoss>>,
    looking: tokio::sync::Mutex<Option<(Instant, ConnectError)>>,
    head: HeadQuestion,
}

/// The properties of the streams when last checked.
#[derive(Clone, Debug)]
struct Facts {
    durability: Durability,
    /// The reason for that durability.
    detail: String,
    is_replicated: bool,
    summary: String,
}

/// The first message of the log, as returned by a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    /// It holds the log's id.
    Names(LogId),
    /// It is another message.
    Strange,
    /// The server returns none.
    Missing,
}

/// Reads the end of the log; callers that come while an older request is in flight share the next reply.
#[derive(Debug, Default)]
struct HeadQuestion {
    asked: AtomicU64,
    answered: tokio::sync::Mutex<(u64, u64)>,
}

impl Log {
    pub(super) fn new(nats: Nats) -> Self {
        Self {
            stream: nats.stream_name("log"),
            requests: nats.stream_name("requests"),
            keys: Bucket::new(nats.clone(), "checkpoints"),
            token_key: Mutex::default(),
            nats,
            id: OnceLock::new(),
            admitted: AtomicU64::new(0),
            facts: Mutex::default(),
            missing_since: Mutex::default(),
            loss: watch::Sender::new(None),
            looking: tokio::sync::Mutex::new(None),
            head: HeadQuestion::default(),
        }
    }

    pub(super) fn id(&self) -> Option<LogId> {
        self.id.get().copied()
    }

    pub(super) fn token_key(&self) -> Option<TokenKey> {
        *self.token_key.lock()
    }

    /// Whether the log is gone, or another one is in its place.
    pub(super) fn loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.loss.subscribe()
    }

    /// Records that a check did not find the log.
    fn lost(&self, kind: LossKind, why: String) -> ConnectError {
        let since = *self.missing_since.lock().get_or_insert_with(Instant::now);
        if kind == LossKind::Replaced || since.elapsed() >= GONE_AFTER {
            let found = Some(LogLoss { kind, why: why.clone() });
            self.loss.send_if_modified(|loss| {
                let is_news = *loss != found;
                *loss = found;
                is_news
            });
        }
        ConnectError::Retryable(why)
    }

    /// Records that a check found it.
    fn found(&self) {
        *self.missing_since.lock() = None;
        self.loss.send_if_modified(|loss| loss.take().is_some());
    }

    pub(super) fn durability(&self) -> Durability {
        self.facts().map_or(Durability::Unknown, |facts| facts.durability)
    }

    /// A human-readable reason for the durability.
    pub(super) fn durability_detail(&self) -> Option<String> {
        self.facts().map(|facts| facts.detail)
    }

    /// Whether a stream is kept on several servers, so that one that takes itself for the leader may be behind. True until it is known.
    pub(super) fn is_replicated(&self) -> bool {
        self.facts().is_none_or(|facts| facts.is_replicated)
    }

    /// A human-readable summary.
    pub(super) fn summary(&self) -> String {
        self.facts().map_or_else(|| "not seen yet".to_owned(), |facts| facts.summary)
    }

    fn facts(&self) -> Option<Facts> {
        self.facts.lock().clone()
    }

    /// Ensures that the streams have been checked on this connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] gives the reason why they cannot be used.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        if self.is_admitted() {
            return Ok(());
        }
        self.admit().await.map_err(|refused| StoreError::Unavailable(refused.why().to_owned()))
    }

    fn is_admitted(&self) -> bool {
        self.nats.is_connected() && self.admitted.load(Ordering::Acquire) == self.nats.connections()
    }

    /// Checks the streams again before the next call: something unexpected happened.
    pub(super) fn doubt(&self) {
        self.admitted.store(0, Ordering::Release);
    }

    /// Checks the streams once; concurrent callers get the same result.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why they cannot be used, and whether waiting helps.
    pub(super) async fn admit(&self) -> Result<(), ConnectError> {
        let mut failed = self.looking.lock().await;
        if self.is_admitted() {
            return Ok(());
        }
        if !self.nats.is_connected() {
            let why = self.nats.failure().unwrap_or_else(|| "not connected".to_owned());
            return Err(ConnectError::Retryable(format!("NATS is unreachable: {why}")));
        }
        if let Some((at, why)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        let connections = self.nats.connections();
        match self.look().await {
            Ok(()) => {
                self.admitted.store(connections, Ordering::Release);
                *failed = None;
                Ok(())
            }
            Err(refused) => {
                let is_news = failed.as_ref().is_none_or(|(_, before)| *before != refused);
                // The code that starts a node reports its first failure, with the address.
                if is_news && (failed.is_some() || self.id().is_some()) {
                    tracing::warn!(why = refused.why(), "the log in NATS cannot be used");
                }
                *failed = Some((Instant::now(), refused.clone()));
                Err(refused)
            }
        }
    }

    /// Checks the server and both streams, even if they passed before.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn look(&self) -> Result<(), ConnectError> {
        let server = ServerFacts::read(&self.nats).await?;
        if let Some(why) = server.unfit_for_sync().filter(|_| self.nats.options().synced) {
            return Err(ConnectError::Fatal(why));
        }
        let log = self.stream_facts(&self.stream, &self.log_subjects()).await?;
        let requests = self.stream_facts(&self.requests, &self.request_subjects()).await?;
        for facts in [&log, &requests] {
            if let Some(why) = server.unfit_for(facts, self.nats.options().replicas) {
                return Err(ConnectError::Fatal(why));
            }
        }
        let synced = self.nats.synced(&[log.servers(), requests.servers()]).await;
        if let (Synced::Unknown(Unread { server, may_be_away: true, .. }), None) = (&synced, self.facts()) {
            return Err(ConnectError::Retryable(format!("whether {server} is there shows within seconds; {synced}")));
        }
        if let (Synced::Not(server), true) = (&synced, self.nats.options().synced) {
            return Err(ConnectError::Fatal(format!(
                "--nats-synced asserts what is not so: {server} is not set to sync_interval: always"
            )));
        }
        let durability = log.durability(&synced).min(requests.durability(&synced));
        let least = if requests.durability(&synced) < log.durability(&synced) { &requests } else { &log };
        let detail = least.survival(&synced);
        let is_replicated = log.is_replicated() || requests.is_replicated();
        let id = self.find_id(&log).await?;
        self.found();
        // A user without write permission may read a log that is only read.
        if self.nats.options().makes_log {
            let [log, requests] = self.probe_subjects();
            tokio::try_join!(self.nats.may_publish(log), self.nats.may_publish(requests))?;
            self.find_token_key(id).await?;
        }
        let streams = if log.survival(&synced) == requests.survival(&synced) {
            format!("streams {} and {}: {detail}", self.stream, self.requests)
        } else {
            format!("{}; {}", log.summary(&synced), requests.summary(&synced))
        };
        let summary = format!("{}, {streams}", server.summary());
        *self.facts.lock() = Some(Facts { durability, detail, is_replicated, summary });
        Ok(())
    }

    fn log_subjects(&self) -> String {
        self.nats.subject("log.*")
    }

    fn request_subjects(&self) -> String {
        self.nats.subject("request.*")
    }

    /// The subjects that probe whether a publish would be stored, one in each stream.
    fn probe_subjects(&self) -> [String; 2] {
        ["log.id", "request.probe"].map(|subject| self.nats.subject(subject))
    }

    /// The properties of stream `name`; creates it if it does not exist and never did.
    async fn stream_facts(&self, name: &str, subjects: &str) -> Result<StreamFacts, ConnectError> {
        let info = format!("STREAM.INFO.{name}");
        let found: Result<Value, _> = self.nats.ask(&info, &()).await;
        let found = match found {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                if self.id.get().is_some() {
                    let why = format!(
                        "stream {name} is gone, and the log that this node has been working on with it: bring it back, or start the node again to \
                         begin a new one"
                    );
                    return Err(self.lost(LossKind::Gone, why));
                }
                if !self.nats.options().makes_log {
                    return Err(ConnectError::Fatal(format!("there is no log here: no stream {name}")));
                }
                self.make_stream(name, subjects).await?;
                self.nats.ask(&info, &()).await.map_err(passing)?
            }
            found => found.map_err(passing)?,
        };
        StreamFacts::read(name, subjects, &found).map_err(ConnectError::Fatal)
    }

    async fn make_stream(&self, name: &str, subjects: &str) -> Result<(), ConnectError> {
        let replicas = self.nats.options().replicas;
        let config = json!({
            "name": name, "subjects": [subjects], "storage": "file", "num_replicas": replicas, "retention": "limits", "discard": "new",
            "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1, "max_msg_size": -1, "max_consumers": -1,
            "deny_delete": true, "deny_purge": true,
        });
        match self.nats.ask::<Value>(&format!("STREAM.CREATE.{name}"), &config).await {
            Ok(_) => {
                tracing::info!(stream = name, replicas, "made a stream in NATS");
                Ok(())
            }
            // Another node was first; the stream that it created is checked below.
            Err(error) if error.is(code::STREAM_NAME_IN_USE) => Ok(()),
            Err(error) if error.passes() => {
                Err(ConnectError::Retryable(format!("stream {name} cannot be made: {error}")))
            }
            Err(error) => Err(ConnectError::Fatal(format!("stream {name} cannot be made: {error}"))),
        }
    }

    /// Checks that it is the same log as before; the first time reads its id, or creates it.
    async fn find_id(&self, log: &StreamFacts) -> Result<LogId, ConnectError> {
        let known = self.id();
        let mut found = self.first_message().await?;
        if found == First::Missing && log.is_empty() && known.is_none() && self.nats.options().makes_log {
            // Of nodes that start together one creates it, and all read it.
            let mut headers = HeaderMap::new();
            headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, "0");
            let text = format!("{FIRST_MESSAGE}{}", fastrand::u32(1..));
            match self.nats.store(self.nats.subject("log.id"), headers, text.into()).await {
                Err(error) if !error.is_wrong_sequence() => return Err(passing(error)),
                _ => found = self.first_message().await?,
            }
        }
        match (found, known) {
            (First::Names(found), None) => {
                // Only one check runs at a time.
                Ok(*self.id.get_or_init(|| found))
            }
            (First::Names(found), Some(known)) if found == known => Ok(found),
            // A new leader, or a deposed one, may not have it.
            (First::Missing, _) if log.is_replicated() => Err(ConnectError::Retryable(format!(
                "the server that answers does not show the first message of stream {}",
                self.stream
            ))),
            (found, Some(_)) => {
                let why = format!(
                    "stream {} holds another log than this node has been working on: bring that one back, or start the node again to work on the \
                     one that is there",
                    self.stream
                );
                Err(self.lost(if found == First::Missing { LossKind::Gone } else { LossKind::Replaced }, why))
            }
            (First::Missing | First::Strange, None) => Err(ConnectError::Fatal(format!(
                "the first message of stream {} is not the one that names a log",
                self.stream
            ))),
        }
    }

    /// Reads the key of the log, or creates it: a log of an earlier version has none. If it was lost with the bucket, the key known to this node is
    /// written again; a node that knows the key needs no bucket.
    async fn find_token_key(&self, id: LogId) -> Result<(), ConnectError> {
        let known = self.token_key();
        let looked = self.shared_token_key(id, known);
        let found = match known {
            Some(known) => timeout(CONFIRM_KEY_WITHIN, looked).await.unwrap_or(Ok(known)),
            None => looked.await,
        };
        match found {
            Ok(key) => {
                *self.token_key.lock() = Some(key);
                Ok(())
            }
            Err(_) if known.is_some() => Ok(()),
            Err(why) => Err(ConnectError::Retryable(format!("the key of the log cannot be had: {why}"))),
        }
    }

    async fn shared_token_key(&self, id: LogId, known: Option<TokenKey>) -> Result<TokenKey, String> {
        // A recreated log is another one, and the bucket may still exist.
        let name = format!("token-key-{:08x}", id.0);
        let new = known.map_or_else(TokenKey::random, Ok).map_err(|why| why.to_string())?;
        let entry = self.keys.get(&name).await?;
        let expected = entry.as_ref().map_or(0, |entry| entry.revision);
        let mut found = entry.and_then(|entry| entry.value);
        if found.is_none() {
            // Of nodes that do this together one creates it, and all read it.
            match self.keys.write(&name, Some(new.to_hex().into()), expected).await {
                Ok(_) => return Ok(new),
                Err(WriteError::Conflict) => found = self.keys.get(&name).await?.and_then(|entry| entry.value),
                Err(WriteError::Unavailable(why)) => return Err(why),
            }
        }
        let found = found.ok_or("it was not there a moment after it had been made")?;
        TokenKey::from_hex(&found).ok_or_else(|| format!("what is kept as {name} is none"))
    }

    async fn first_message(&self) -> Result<First, ConnectError> {
        let which = Which { seq: Some(FIRST_SEQUENCE), ..Which::default() };
        let first = self.nats.message(&self.stream, which).await.map_err(passing)?;
        let Some(first) = first else { return Ok(First::Missing) };
        let named = Some(first).filter(|first| first.subject == self.nats.subject("log.id"));
        let number =
            named.and_then(|first| std::str::from_utf8(&first.payload).ok()?.strip_prefix(FIRST_MESSAGE)?.parse().ok());
        Ok(number.filter(|number| *number != 0).map_or(First::Strange, |number| First::Names(LogId(number))))
    }

    /// The sequence of the last message, as known to the leader of the stream after this call began.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn last_sequence(&self) -> Result<u64, CallError> {
        let newest_question = self.head.asked.load(Ordering::Acquire);
        let mut answered = self.head.answered.lock().await;
        let (question, sequence) = *answered;
        if question > newest_question {
            return Ok(sequence);
        }
        let question = self.head.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let info: Value = self.nats.ask(&format!("STREAM.INFO.{}", self.stream), &()).await?;
        let last = info["state"]["last_seq"].as_u64();
        let last = last.ok_or_else(|| CallError::Lost("NATS does not say where the stream ends".to_owned()))?;
        *answered = (question, last);
        Ok(last)
    }

    /// The sequence of the last message of a server, and its number of messages with `subject`: both of one server, which may be behind.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn count(&self, subject: &str) -> Result<(u64, u64), CallError> {
        Self::count_in(&self.nats, &self.stream, subject).await
    }

    /// Like [`Log::count`], for the stream of request ids.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn count_requests(&self, subject: &str) -> Result<(u64, u64), CallError> {
        Self::count_in(&self.nats, &self.requests, subject).await
    }

    async fn count_in(nats: &Nats, stream: &str, subject: &str) -> Result<(u64, u64), CallError> {
        let body = json!({ "subjects_filter": subject });
        let info: Value = nats.ask(&format!("STREAM.INFO.{stream}"), &body).await?;
        let state = &info["state"];
        let last = state["last_seq"].as_u64();
        let last = last.ok_or_else(|| CallError::Lost("NATS does not say where the stream ends".to_owned()))?;
        Ok((last, state["subjects"][subject].as_u64().unwrap_or_default()))
    }

    /// Whether message `sequence` has been removed from the log, according to a server that has had it.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn is_deleted(&self, sequence: u64) -> Result<bool, CallError> {
        let info: Value =
            self.nats.ask(&format!("STREAM.INFO.{}", self.stream), &json!({ "deleted_details": true })).await?;
        let state = &info["state"];
        let number = |key: &str| state[key].as_u64().unwrap_or_default();
        let deleted = state["deleted"].as_array().map_or(&[][..], Vec::as_slice);
        let is_listed = deleted.iter().any(|deleted| deleted.as_u64() == Some(sequence));
        Ok(number("last_seq") >= sequence && (number("first_seq") > sequence || is_listed))
    }

    /// Whether publishes to the log and to the requests would be decided.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), CallError> {
        let [log, requests] = self.probe_subjects();
        tokio::try_join!(self.nats.probe(log, deadline), self.nats.probe(requests, deadline))?;
        Ok(())
    }
}

/// The position of the last event of a log that ends with message `sequence`, a commit.
pub(super) const fn head_position(sequence: u64) -> Position {
    if sequence > FIRST_SEQUENCE { last_position(sequence) } else { Position(0) }
}

fn passing(error: CallError) -> ConnectError {
    match error {
        CallError::Forbidden(why) => ConnectError::Fatal(why),
        error => ConnectError::Retryable(error.to_string()),
    }
}
