//! The two streams of a log: creates them, checks that they do not lose messages, and reads the id of the log.
//!
//! Nothing is read or written on a connection before this check. An existing log is never created again: if its stream is gone, so are its events.

mod counts;
mod lost_requests;
mod same;

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
        provision::{is_made_elsewhere, until_known},
        server::{ServerFacts, StreamFacts},
    },
    ports::event_store::{Durability, LogId, LogLoss, LossKind, Position, StoreError, TokenKey},
    telemetry::outage::{Line, Outage},
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
    verified: AtomicU64,
    facts: Mutex<Option<Facts>>,
    /// Since when no check has found the log.
    missing_since: Mutex<Option<Instant>>,
    loss: watch::Sender<Option<LogLoss>>,
    looking: tokio::sync::Mutex<Option<(Instant, ConnectError)>>,
    outage: Outage,
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
            verified: AtomicU64::new(0),
            facts: Mutex::default(),
            missing_since: Mutex::default(),
            loss: watch::Sender::new(None),
            looking: tokio::sync::Mutex::new(None),
            outage: Outage::new().whatever_the_cause(),
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
            let found = Some(LogLoss { kind, why: self.nats.named(why.clone()) });
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
        self.facts().map_or_else(|| "not read yet".to_owned(), |facts| facts.summary)
    }

    fn facts(&self) -> Option<Facts> {
        self.facts.lock().clone()
    }

    /// Ensures that the streams have been checked on this connection.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] gives the reason why they cannot be used.
    pub(super) async fn ready(&self) -> Result<(), StoreError> {
        if self.is_verified() {
            return Ok(());
        }
        self.verify().await.map_err(|refused| StoreError::Unavailable(refused.why().to_owned()))
    }

    fn is_verified(&self) -> bool {
        self.nats.is_connected() && self.verified.load(Ordering::Acquire) == self.nats.connections()
    }

    /// Checks the streams again before the next call: something unexpected happened.
    pub(super) fn doubt(&self) {
        self.verified.store(0, Ordering::Release);
    }

    /// Checks the streams once; concurrent callers get the same result.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why they cannot be used, and whether waiting helps.
    pub(super) async fn verify(&self) -> Result<(), ConnectError> {
        let mut failed = self.looking.lock().await;
        if self.is_verified() {
            return Ok(());
        }
        if !self.nats.is_connected() {
            let why = self.nats.failure().unwrap_or_else(|| "not connected".to_owned());
            return Err(ConnectError::Retryable(format!("NATS is unreachable: {}", self.nats.named(why))));
        }
        if let Some((at, why)) = &*failed
            && at.elapsed() < PAUSE
        {
            return Err(why.clone());
        }
        let connections = self.nats.connections();
        let was_known = self.id().is_some();
        match self.check_now().await {
            Ok(()) => {
                self.verified.store(connections, Ordering::Release);
                *failed = None;
                // A short failure at the start was not reported.
                let is_news = |lasted: Duration| was_known || lasted >= self.nats.options().connect_timeout;
                if self.outage.works().is_some_and(is_news) {
                    tracing::info!(server = self.nats.server().address(), "the log in NATS can be used again");
                }
                Ok(())
            }
            Err(refused) => {
                let line = self.outage.failed(refused.why());
                // The code that starts a node reports its first failure, with the address.
                let is_reported = failed.is_some() || was_known;
                if let Some(Line { unsaid }) = line.filter(|_| is_reported) {
                    tracing::warn!(why = self.nats.named(refused.why()), unsaid, "the log in NATS cannot be used");
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
    pub(super) async fn check_now(&self) -> Result<(), ConnectError> {
        let server = ServerFacts::read(&self.nats).await?;
        if let Some(why) = server.unfit_for_sync().filter(|_| self.nats.options().synced) {
            return Err(ConnectError::Fatal(why));
        }
        let [log_probe, request_probe] = self.probe_subjects();
        let log = self.stream_facts(&self.stream, &self.log_subjects(), &log_probe, None).await?;
        let requests = self.stream_facts(&self.requests, &self.request_subjects(), &request_probe, Some(&log)).await?;
        for facts in [&log, &requests] {
            if let Some(why) = server.unfit_for(facts, self.nats.options().replicas) {
                return Err(ConnectError::Fatal(why));
            }
        }
        let synced = self.nats.synced(&[log.servers(), requests.servers()]).await;
        if let (Synced::Unknown(Unread { server, may_be_away: true, .. }), None) = (&synced, self.facts()) {
            return Err(ConnectError::Retryable(format!(
                "whether {server} is available will be known within seconds; {synced}"
            )));
        }
        if let (Synced::Not(server), true) = (&synced, self.nats.options().synced) {
            return Err(ConnectError::Fatal(format!(
                "--nats-synced is wrong: {server} is not set to sync_interval: always"
            )));
        }
        let durability = log.durability(&synced).min(requests.durability(&synced));
        let least = if requests.durability(&synced) < log.durability(&synced) { &requests } else { &log };
        let detail = least.survival(&synced);
        let is_replicated = log.is_replicated() || requests.is_replicated();
        let id = self.find_id(&log).await?;
        self.found();
        if self.facts().is_none() {
            self.nats.may_consume(&self.stream).await?;
        }
        // A user without write permission may read a log that is only read.
        if self.nats.options().makes_log {
            tokio::try_join!(self.nats.may_publish(log_probe), self.nats.may_publish(request_probe))?;
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

    /// The properties of stream `name`; creates it if it does not exist and never did. `probe` is one of its `subjects`; `log` is the stream of the log,
    /// for that of the request ids.
    async fn stream_facts(
        &self,
        name: &str,
        subjects: &str,
        probe: &str,
        log: Option<&StreamFacts>,
    ) -> Result<StreamFacts, ConnectError> {
        let info = format!("STREAM.INFO.{name}");
        let found: Result<Value, _> = self.nats.ask(&info, &()).await;
        let found = match found {
            Err(error) if error.is(code::STREAM_NOT_FOUND) => {
                // The log gets its first message after both streams exist.
                if let Some(log) = log.filter(|log| !log.is_empty())
                    && self.is_log(log).await?
                {
                    return self.without_requests(log);
                }
                if self.id.get().is_some() {
                    let why = format!(
                        "stream {name} is gone, and with it the log that this node uses: restore it, or restart the node to begin a new one"
                    );
                    return Err(self.lost(LossKind::Gone, why));
                }
                if !self.nats.options().makes_log {
                    return Err(ConnectError::Fatal(format!("there is no log here: no stream {name}")));
                }
                self.make_stream(name, subjects).await?;
                until_known(&self.nats, name, probe, true).await?;
                self.nats.ask(&info, &()).await.map_err(passing)?
            }
            found => found.map_err(passing)?,
        };
        StreamFacts::read(name, subjects, &found).map_err(ConnectError::Fatal)
    }

    fn first_is_not_shown(&self) -> ConnectError {
        ConnectError::Retryable(format!(
            "the server that answers does not show the first message of stream {}",
            self.stream
        ))
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
                let server = self.nats.server().address();
                tracing::info!(server, stream = name, replicas, "created a stream in NATS");
                Ok(())
            }
            // Another node was first; the stream that it created is checked below.
            Err(error) if error.is(code::STREAM_NAME_IN_USE) => Ok(()),
            Err(error) if error.is(code::SUBJECTS_OVERLAP) && is_made_elsewhere(&self.nats, name).await => Ok(()),
            Err(error) if error.passes() => {
                Err(ConnectError::Retryable(format!("cannot create stream {name}: {error}")))
            }
            Err(error) if error.is(code::NO_CLUSTER) => Err(ConnectError::Fatal(format!(
                "cannot create stream {name}: {error}: --nats-replicas {replicas} needs a cluster of at least {replicas} servers; with one \
                 server omit it"
            ))),
            Err(error) => Err(ConnectError::Fatal(format!("cannot create stream {name}: {error}"))),
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
            (First::Missing, _) if log.is_replicated() => Err(self.first_is_not_shown()),
            (found, Some(_)) => {
                let why = format!(
                    "stream {} holds another log than the one that this node uses: restore that one, or restart the node to use the one \
                     that is there",
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
            None => {
                self.keys.verify_writable().await?;
                looked.await
            }
        };
        match found {
            Ok(key) => {
                *self.token_key.lock() = Some(key);
                Ok(())
            }
            Err(_) if known.is_some() => Ok(()),
            Err(why) => Err(ConnectError::Retryable(format!("cannot read the key of the log: {why}"))),
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
        let found = found.ok_or("it was missing right after it had been created")?;
        TokenKey::from_hex(&found).ok_or_else(|| format!("the value of {name} is not a key"))
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
        let last = last.ok_or_else(|| CallError::Lost("NATS does not report where the stream ends".to_owned()))?;
        *answered = (question, last);
        Ok(last)
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
