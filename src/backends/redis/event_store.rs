//! The event store in Redis: the log is one stream, and each order has a list of its entry numbers.
//!
//! How an append is atomic: one Lua script checks the expected revision and the request id, then adds the events to the log and to the order's index.
//! Redis runs nothing else in the meantime, and writes the changes to the append-only file as one transaction.
//!
//! A lost reply leaves open whether the script ran or will still run. Such an append is retried for a while if that is harmless, namely if a revision
//! or a request id lets only one of the tries write: the last reply then gives the outcome, and the commit's id distinguishes our own events from
//! another writer's. Otherwise the store searches for the commit; not finding it proves nothing.

mod append_all;
mod commits;
mod entry;
mod indexes;
mod read;
mod request;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use redis::{Cmd, Value};
use tokio::{
    sync::{OnceCell, watch},
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use self::{commits::EarlyRequests, request::RequestRecord};
use super::{
    connection::{CallError, Redis},
    ends::Ends,
    script::{Script, ScriptCall},
    tail::{self, TailCheck},
    values,
};
use crate::ports::event_store::{
    AppendError, Appended, Commit, Direction, Durability, EventStore, ExpectedRevision, IndexDamage, LogId, LogLoss,
    LogPoint, Position, ReadBound, RecordedCommit, RequestKey, RequestScope, Revision, StoreError, StoredEvent,
    StreamId, TokenKey, on_one,
};

static APPEND: Script = Script::new(concat!(
    include_str!("event_store/ours.lua"),
    include_str!("need.lua"),
    include_str!("event_store/last_event.lua"),
    include_str!("event_store/append.lua")
));
static LOG_ENDS: Script = Script::new(concat!(include_str!("event_store/ours.lua"), include_str!("ends.lua")));

/// How long the outcome of an append whose reply was lost is investigated before it is reported as unknown.
const RESOLVE_WITHIN: Duration = Duration::from_secs(8);
/// Redis's error for a log that has an entry with a number not assigned by us.
const UNEXPECTED_NUMBERING: &str = "The ID specified in XADD";
/// The pause between two checks.
const RESOLVE_PAUSE: Duration = Duration::from_millis(100);

/// An [`EventStore`] in Redis. See the module, and [`super`] for the settings that Redis needs.
#[derive(Debug)]
pub struct RedisEventStore {
    redis: Redis,
    log: String,
    latest: Arc<watch::Sender<Position>>,
    /// The requests of the commits that were written before the log stored request keys.
    early_requests: OnceCell<EarlyRequests>,
    _tail: AbortOnDropHandle<()>,
}

/// The script's reply.
enum Answer {
    Appended {
        last_revision: Revision,
        position: Position,
    },
    Conflict {
        actual: Revision,
    },
    /// The request is known.
    Known,
    /// The log that was seen has been replaced by another one, which ends earlier.
    Shorter {
        seen: Position,
        newest: Position,
    },
    /// The last event of the order has been deleted from the log.
    Missing {
        at: Position,
    },
}

impl RedisEventStore {
    /// The store in `redis`, which was started with `holds_log`. Must be called within a tokio runtime. `redis` need not be connected yet.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        let log = redis.key("log");
        let latest = Arc::new(watch::Sender::new(Position(0)));
        let announced = Arc::clone(&latest);
        let (seen, connected) = (Arc::clone(&latest), redis.clone());
        let tail = tail::watch(
            &redis,
            log.clone(),
            move || seen.borrow().0,
            move |TailCheck { last, before, is_other }| {
                match before {
                    // If the log has become shorter, its end would not count as new for a long time.
                    None => drop(announced.send_replace(Position(last))),
                    // It has lost entries that existed before this check, while the connection stayed open.
                    Some(before) if last < before || is_other => {
                        connected.connect_again();
                        announced.send_replace(Position(last));
                    }
                    Some(_) => {}
                }
                tail::announce(&announced, Position(last));
            },
        );
        Self { redis, log, latest, early_requests: OnceCell::new(), _tail: tail }
    }

    /// The two ends of the log.
    async fn ends(&self) -> Result<Ends, StoreError> {
        let call = LOG_ENDS.prepare().key(&self.log).key(&self.redis.log_id_key()).arg(self.redis.log_id_text());
        let ends = call.run(&self.redis).await.map_err(store_error)?;
        let otherwise =
            || StoreError::Corrupt("the log has entries with ids that this service does not write".to_owned());
        Ends::read(ends).ok_or_else(otherwise)
    }

    fn index_key(&self, stream: StreamId) -> String {
        self.redis.key(&format!("order:{stream}"))
    }

    fn request_key(&self, stream: StreamId, request: &RequestKey) -> String {
        match request.scope {
            RequestScope::Stream => self.redis.key(&format!("requests:{stream}")),
            RequestScope::Log => self.redis.key(&format!("request:{}", request.id)),
        }
    }

    fn append_call(&self, commit: &Commit, seen: Position) -> ScriptCall {
        let mut call = APPEND.prepare().key(&self.log).key(&self.index_key(commit.stream));
        if let Some(request) = &commit.request {
            call = call.key(&self.request_key(commit.stream, request));
        }
        call = call.key(&self.redis.log_id_key());
        call = call.arg(match commit.expected {
            ExpectedRevision::Any => format!("-1 {seen}"),
            ExpectedRevision::Exists => format!("-2 {seen}"),
            ExpectedRevision::NoStream => format!("0 {seen}"),
            ExpectedRevision::Exactly(revision) => format!("{revision} {seen}"),
            ExpectedRevision::After { revision, position } => format!("{revision} {seen} {position}"),
        });
        if let Some(request) = &commit.request {
            call = match request.scope {
                RequestScope::Stream => call.arg(request.id.as_bytes()),
                RequestScope::Log => call.arg(""),
            };
            call = call.arg(request::to_remember(commit, request)).arg(request::to_log(request));
        }
        let call =
            commit.events.iter().fold(call, |call, event| call.arg(entry::encode(commit.id, commit.stream, event)));
        call.arg(self.redis.log_id_text())
    }

    /// Interprets a reply. With `in_doubt` an earlier try may have been the one that wrote.
    async fn interpret(&self, answer: Answer, commit: &Commit, in_doubt: bool) -> Result<Appended, AppendError> {
        match answer {
            Answer::Appended { last_revision, position } => Ok(appended(commit, last_revision, position)),
            Answer::Known => {
                let Some(request) = &commit.request else {
                    return Err(StoreError::Corrupt("the reply has a request that was not looked up".to_owned()).into());
                };
                let known = self.known_request(commit.stream, request).await?.ok_or_else(|| {
                    StoreError::Unavailable(
                        "the log that knew this request has been replaced by one that does not".to_owned(),
                    )
                })?;
                let ours = in_doubt && self.commit_at(known.stream, known.first_revision).await? == Some(commit.id);
                Ok(Appended { replayed: !ours, ..known })
            }
            Answer::Shorter { seen, newest } => Err(self.reread(seen, newest).into()),
            Answer::Missing { at } => Err(read::missing(at.0).into()),
            Answer::Conflict { actual } => {
                let wanted = commit.expected.revision().and_then(|revision| revision.checked_add(1));
                let Some(first) = wanted.filter(|first| in_doubt && *first <= actual) else {
                    return Err(AppendError::Conflict { actual });
                };
                if self.commit_at(commit.stream, first).await? != Some(commit.id) {
                    return Err(AppendError::Conflict { actual });
                }
                let last_revision = first + commit.events.len() as u64 - 1;
                Ok(appended(commit, last_revision, self.position_of(commit.stream, last_revision).await?))
            }
        }
    }

    /// Makes all readers of the log read again, as after a reconnect, since the log ends before the position that was `seen`.
    fn reread(&self, seen: Position, newest: Position) -> StoreError {
        // Only the first of many concurrent appends does this.
        let is_first = self.latest.send_if_modified(|latest| {
            let is_first = *latest >= seen;
            if is_first {
                *latest = newest;
            }
            is_first
        });
        if is_first {
            self.redis.connect_again();
        }
        StoreError::Unavailable(format!(
            "the log ends at {newest}, before {seen}, which it had reached: checking the events that were read"
        ))
    }

    /// Determines the outcome of an append whose reply was lost, for as long as [`RESOLVE_WITHIN`] and while Redis is reachable.
    async fn resolve(&self, commit: &Commit, lost: String) -> Result<Appended, AppendError> {
        // Debug level: many appends fail at once, and the connection reports the unreachable server itself.
        tracing::debug!(stream = %commit.stream, lost, "the reply to an append was lost; looking up its outcome");
        let give_up = Instant::now() + RESOLVE_WITHIN;
        // Only one of the tries can write, in whatever order they arrive.
        let repeatable = commit.request.is_some() || commit.expected.revision().is_some();
        while Instant::now() < give_up && !self.redis.is_away() {
            sleep(RESOLVE_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
            let found = if repeatable {
                match self.try_append(commit).await {
                    Ok(answer) => self.interpret(answer, commit, true).await,
                    // Neither an error nor a timeout reveals the outcome of the earlier try.
                    Err(_) => continue,
                }
            } else {
                match self.find_commit(commit).await {
                    Ok(Some(appended)) => Ok(appended),
                    Ok(None) => break,
                    Err(error) => Err(error.into()),
                }
            };
            match found {
                Err(AppendError::Store(StoreError::Unavailable(_))) => {}
                found => return found,
            }
        }
        Err(AppendError::OutcomeUnknown(lost))
    }

    /// The commit that a request has made. The remembered request and the position of its events are read on one connection: another connection may
    /// lead to a log that has neither, or that has other events at that position.
    async fn known_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        on_one(&self.redis.connections(), || self.look_for_request(stream, request)).await
    }

    async fn look_for_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let key = self.request_key(stream, request);
        let command = match request.scope {
            RequestScope::Log => Cmd::get(key),
            RequestScope::Stream => Cmd::hget(key, &*request.id),
        };
        let found = self.redis.call(&command).await.map_err(store_error)?;
        let Some(text) = values::text(&found) else { return Ok(None) };
        let remembered = RequestRecord::read(text, request)?;
        let position = self.position_of(remembered.stream, remembered.last_revision).await?;
        Ok(Some(remembered.appended(position, true)))
    }

    async fn try_append(&self, commit: &Commit) -> Result<Answer, CallError> {
        let seen = *self.latest.borrow();
        let answer = self.append_call(commit, seen).run(&self.redis).await?;
        read_answer(&answer, seen).ok_or_else(|| CallError::Lost("the script returned an unexpected reply".to_owned()))
    }
}

fn appended(commit: &Commit, last_revision: Revision, position: Position) -> Appended {
    let first_revision = last_revision + 1 - commit.events.len() as u64;
    Appended { stream: commit.stream, first_revision, last_revision, position, replayed: false }
}

fn read_answer(answer: &Value, seen: Position) -> Option<Answer> {
    let Value::Array(parts) = answer else { return None };
    match (&parts[..], parts.first()?) {
        ([_, actual], Value::Int(-1)) => Some(Answer::Conflict { actual: values::number(actual)? }),
        ([_, _], Value::Int(-2)) => Some(Answer::Known),
        ([_, newest], Value::Int(-3)) => Some(Answer::Shorter { seen, newest: Position(values::number(newest)?) }),
        ([_, at], Value::Int(-4)) => Some(Answer::Missing { at: Position(values::number(at)?) }),
        ([last, position], _) => Some(Answer::Appended {
            last_revision: values::number(last)?,
            position: Position(values::number(position)?),
        }),
        _ => None,
    }
}

/// The error of a call that writes nothing, or that is known to have written nothing.
fn store_error(error: CallError) -> StoreError {
    match error {
        // A key has the wrong type: another program has written here.
        CallError::Refused { code, text } if code == "WRONGTYPE" || text.contains(UNEXPECTED_NUMBERING) => {
            StoreError::Corrupt(text)
        }
        other => StoreError::Unavailable(other.to_string()),
    }
}

#[async_trait]
impl EventStore for RedisEventStore {
    fn log_id(&self) -> Option<LogId> {
        self.redis.log_id()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.redis.token_key()
    }

    fn connections(&self) -> watch::Receiver<u64> {
        self.redis.connections()
    }

    fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.redis.log_loss()
    }

    /// According to Redis's settings when last checked; `None` until then.
    fn durability(&self) -> Durability {
        self.redis.facts().map_or(Durability::Unknown, |facts| facts.durability())
    }

    fn durability_detail(&self) -> Option<String> {
        self.redis.facts().map(|facts| facts.summary())
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        commit.require_events()?;
        let appended = match self.try_append(&commit).await {
            Ok(answer) => self.interpret(answer, &commit, false).await?,
            Err(CallError::Lost(why)) => self.resolve(&commit, why).await?,
            Err(CallError::Refused { code, text }) if code == "OOM" => return Err(AppendError::Full(text)),
            Err(other) => return Err(store_error(other).into()),
        };
        tail::announce(&self.latest, appended.position);
        Ok(appended)
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        self.known_request(stream, request).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let entries = self.stream_entries(stream, from, direction, max_events).await?;
        Ok(entries.into_iter().map(|entry| entry.event).collect())
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.log_entries(from, direction, max_events).await
    }

    async fn read_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        self.events_after(point, bound).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        self.commits_after(from, max_events).await
    }

    async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        commits.iter().try_for_each(Commit::require_events)?;
        self.append_in_order(&commits).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        Ok(Position(self.ends().await?.last_given))
    }

    async fn confirm_connection(&self, connection: u64) -> Result<(), StoreError> {
        self.redis.confirm(connection).await.map_err(StoreError::Unavailable)
    }

    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        self.compare_indexes().await
    }

    /// An operator may have trimmed or cut the log: its length shows it.
    async fn missing_entries(&self) -> Result<Option<String>, StoreError> {
        Ok(self.ends().await?.missing())
    }

    fn losses_found(&self) -> u64 {
        self.redis.damage().losses()
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.latest.subscribe()
    }

    fn at_risk(&self) -> Option<String> {
        self.redis.at_risk()
    }

    fn unreachable(&self) -> Option<String> {
        self.redis.unreachable()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.redis.check().await.map_err(StoreError::Unavailable)?;
        let Some((missing, is_more)) = self.redis.damage().look(&self.ends().await?) else { return Ok(()) };
        if is_more {
            // They were deleted while the connection stayed open: all readers verify the events that they have read.
            self.redis.connect_again();
        }
        Err(StoreError::Corrupt(missing))
    }
}
