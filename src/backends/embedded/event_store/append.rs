//! Group commit: many commits, one transaction, one sync.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    super::{
        database::{PendingCommit, Sync, WriteConnection},
        end,
        error::DbError,
    },
    commits,
    requests::{self, RequestRow},
    rows,
    tail::Tail,
};
use crate::ports::event_store::{
    AppendError, Appended, Commit, Position, RequestKey, Revision, StoreError, StoredEvent, StreamId,
};

/// Last revisions kept in memory; up to twice as many at times.
const KEPT_REVISIONS: usize = 65_536;

/// Events of a transaction that are not in the table yet. Fewer than [`KEPT_REVISIONS`], so that the last revisions of their streams are in memory.
const MAX_PENDING_EVENTS: usize = 4_096;

/// The writer's knowledge of the log in addition to the file.
#[derive(Debug)]
pub(in super::super) struct LogWriter {
    tail: Arc<Tail>,
    revisions: Revisions,
}

/// What a transaction adds, in the order of the log. It is inserted together, which costs less than one by one.
#[derive(Debug, Default)]
struct Added {
    events: Vec<StoredEvent>,
    /// How many of them are in the table.
    inserted: usize,
    /// The requests of those that are not.
    requests: Vec<(requests::Key, RequestRow)>,
    keys: HashSet<requests::Key>,
}

/// The last revisions of recently written streams, including those of the current transaction.
#[derive(Debug, Default)]
struct Revisions {
    newer: HashMap<StreamId, Revision>,
    older: HashMap<StreamId, Revision>,
    /// No stream with a higher number has events: new orders have growing numbers, so most need no look-up. In the order of SQLite's numbers.
    highest_stream: Option<i64>,
}

/// The result of a commit inside its transaction.
type Answer = Result<Appended, AppendError>;

impl LogWriter {
    pub(in super::super) fn load(connection: &Connection, tail: Arc<Tail>) -> Result<Self, DbError> {
        let highest_stream = connection.query_row("SELECT max(stream) FROM log", [], |row| row.get(0))?;
        Ok(Self { tail, revisions: Revisions { highest_stream, ..Revisions::default() } })
    }

    /// Writes a batch and replies to all its callers.
    pub(in super::super) fn append(&mut self, connection: &mut WriteConnection, batch: Vec<PendingCommit>) {
        let now = Instant::now();
        let mut awaited = Vec::with_capacity(batch.len());
        for pending in batch {
            if pending.deadline.is_some_and(|deadline| deadline <= now) {
                let _ = pending.reply.send(Err(AppendError::TooLate));
            } else if !pending.reply.is_closed() {
                // A commit whose caller has gone is skipped: no caller learns that it was not written.
                awaited.push(pending);
            }
        }
        let batch = awaited;
        if batch.is_empty() {
            return;
        }
        match self.write(connection, &batch) {
            Ok(answers) => {
                for (pending, answer) in batch.into_iter().zip(answers) {
                    let _ = pending.reply.send(answer);
                }
            }
            // Damage found by one commit does not fail the others.
            Err(AppendError::Store(StoreError::Corrupt(_))) if batch.len() > 1 => {
                batch.into_iter().for_each(|pending| self.append(connection, vec![pending]));
            }
            Err(error) => {
                for pending in batch {
                    let _ = pending.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction with all of `batch`; the results are final when it returns. An error is the result of all.
    fn write(&mut self, connection: &mut WriteConnection, batch: &[PendingCommit]) -> Result<Vec<Answer>, AppendError> {
        connection.begin(Sync::Now)?;
        let mut added = Added::of(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for pending in batch {
            match self.apply(connection.connection(), &pending.commit, &mut added) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    connection.roll_back();
                    connection.note_failure(&error);
                    self.revisions.forget();
                    return Err(error.into());
                }
            }
        }
        if added.events.is_empty() {
            connection.roll_back();
            return Ok(answers);
        }
        self.commit(connection, added).map(|()| answers)
    }

    /// Writes `commits` as one transaction: all of them, in this order, or none.
    pub(in super::super) fn append_all(
        &mut self,
        connection: &mut WriteConnection,
        commits: &[Commit],
    ) -> Result<Position, AppendError> {
        connection.begin(Sync::Now)?;
        let mut added = Added::of(commits.len());
        for commit in commits {
            let refused = match self.apply(connection.connection(), commit, &mut added) {
                Ok(Ok(Appended { replayed: false, .. })) => continue,
                Ok(Ok(_)) => AppendError::RequestIdReused,
                Ok(Err(refused)) => refused,
                Err(error) => {
                    connection.note_failure(&error);
                    error.into()
                }
            };
            connection.roll_back();
            self.revisions.forget();
            return Err(refused);
        }
        let last = added.last().unwrap_or_else(|| self.tail.head());
        self.commit(connection, added).map(|()| last)
    }

    /// Commits the transaction with these events.
    fn commit(&mut self, connection: &mut WriteConnection, mut added: Added) -> Result<(), AppendError> {
        if let Err(error) = added.finish(connection.connection()) {
            connection.roll_back();
            connection.note_failure(&error);
            self.revisions.forget();
            return Err(error.into());
        }
        match connection.commit() {
            Ok(()) => {
                // Verified before anything is acknowledged, or seen.
                let kept = connection.file().verify();
                self.tail.publish(added.events);
                kept.map_err(|lost| AppendError::OutcomeUnknown(lost.to_string()))
            }
            Err(error) => {
                self.revisions.forget();
                Err(after_failed_commit(connection, error))
            }
        }
    }

    /// Adds a commit to the transaction, or refuses it and adds nothing. An error invalidates the transaction.
    fn apply(&mut self, connection: &Connection, commit: &Commit, added: &mut Added) -> Result<Answer, DbError> {
        if let Some(request) = &commit.request {
            match added.find_request(connection, commit.stream, request)? {
                Ok(None) => {}
                Ok(Some(earlier)) => return Ok(Ok(earlier)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        let before = self.revisions.last(connection, commit.stream)?;
        if !commit.expected.holds(before) {
            return Ok(Err(AppendError::Conflict { actual: before }));
        }
        let head = added.last().unwrap_or_else(|| self.tail.head());
        for (payload, step) in commit.events.iter().zip(1..) {
            added.events.push(StoredEvent {
                stream: commit.stream,
                revision: before + step,
                position: Position(head.0 + step),
                payload: payload.clone(),
            });
        }
        let count = commit.events.len() as u64;
        let appended = Appended {
            stream: commit.stream,
            first_revision: before + 1,
            last_revision: before + count,
            position: Position(head.0 + count),
            replayed: false,
        };
        if let Some(request) = &commit.request {
            added.remember(request, &appended);
        }
        if added.events.len() - added.inserted >= MAX_PENDING_EVENTS {
            added.insert(connection)?;
        }
        commits::remember(connection, appended.position, count)?;
        self.revisions.set(commit.stream, appended.last_revision);
        Ok(Ok(appended))
    }
}

/// A failed commit is not stored; but unless there is no space, or another write has replaced it in the WAL since, it could reappear after a crash.
fn after_failed_commit(connection: &mut WriteConnection, error: DbError) -> AppendError {
    match error {
        DbError::Full(why) => AppendError::Full(why),
        error => match connection.probe() {
            Ok(()) => error.into(),
            Err(again) => AppendError::OutcomeUnknown(format!("{error}; and then: {again}")),
        },
    }
}

impl Added {
    fn of(commits: usize) -> Self {
        Self { events: Vec::with_capacity(commits), ..Self::default() }
    }

    /// The position of the last event.
    fn last(&self) -> Option<Position> {
        self.events.last().map(|event| event.position)
    }

    /// Adds the request of a commit, whose events have been added.
    fn remember(&mut self, request: &RequestKey, appended: &Appended) {
        let key = requests::key_of(appended.stream, request);
        self.keys.insert(key.clone());
        self.requests.push((key, RequestRow::of(request, appended)));
    }

    /// Finds the commit of an earlier try, in this transaction or before it. The first error invalidates the transaction.
    fn find_request(
        &mut self,
        connection: &Connection,
        stream: StreamId,
        request: &RequestKey,
    ) -> Result<Result<Option<Appended>, AppendError>, DbError> {
        if !self.keys.is_empty() && self.keys.contains(&requests::key_of(stream, request)) {
            self.insert(connection)?;
        }
        Ok(requests::find(connection, stream, request))
    }

    /// Inserts what is not in the tables yet. An error invalidates the transaction.
    fn insert(&mut self, connection: &Connection) -> Result<(), DbError> {
        rows::insert(connection, self.events.get(self.inserted..).unwrap_or_default())?;
        requests::remember(connection, &self.requests)?;
        self.inserted = self.events.len();
        self.requests.clear();
        self.keys.clear();
        Ok(())
    }

    /// Inserts the rest, and records the end of the log.
    fn finish(&mut self, connection: &Connection) -> Result<(), DbError> {
        self.insert(connection)?;
        self.last().map_or(Ok(()), |last| end::set(connection, last))
    }
}

impl Revisions {
    fn last(&mut self, connection: &Connection, stream: StreamId) -> Result<Revision, DbError> {
        if self.highest_stream.is_none_or(|highest| rows::bits(stream.0) > highest) {
            return Ok(0);
        }
        if let Some(revision) = self.newer.get(&stream).or_else(|| self.older.get(&stream)) {
            return Ok(*revision);
        }
        rows::last_revision(connection, stream)
    }

    fn set(&mut self, stream: StreamId, revision: Revision) {
        if self.newer.len() >= KEPT_REVISIONS {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(stream, revision);
        self.highest_stream = self.highest_stream.max(Some(rows::bits(stream.0)));
    }

    /// Called after a transaction that was not committed.
    fn forget(&mut self) {
        self.newer.clear();
        self.older.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        backends::embedded::new_store,
        ports::event_store::{CommitId, ExpectedRevision, RequestScope},
    };

    fn opened(folder: &tempfile::TempDir) -> (PathBuf, WriteConnection, LogWriter) {
        let file = folder.path().canonicalize().unwrap().join("orders.db");
        new_store::make_if_missing(&file).unwrap();
        let connection = WriteConnection::open(&file).unwrap();
        let tail = Arc::new(Tail::load(connection.connection()).unwrap());
        let log = LogWriter::load(connection.connection(), tail).unwrap();
        (file, connection, log)
    }

    fn commit(stream: u64, request: Option<&str>) -> Commit {
        Commit {
            id: CommitId::random(),
            stream: StreamId(stream),
            expected: ExpectedRevision::Any,
            request: request.map(|id| RequestKey { scope: RequestScope::Log, id: id.into(), fingerprint: 7 }),
            events: vec![b"x".as_slice().into()],
        }
    }

    #[test]
    fn a_commit_into_a_file_that_was_just_removed_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let (file, mut connection, mut log) = opened(&folder);
        connection.begin(Sync::Now).unwrap();
        let mut added = Added::default();
        log.apply(connection.connection(), &commit(1, None), &mut added).unwrap().unwrap();
        std::fs::remove_file(&file).unwrap();
        let outcome = log.commit(&mut connection, added);
        assert!(matches!(&outcome, Err(AppendError::OutcomeUnknown(why)) if why.contains("removed")), "{outcome:?}");
    }

    #[test]
    fn a_commit_sees_those_before_it_in_the_same_transaction() {
        let folder = tempfile::tempdir().unwrap();
        let (_, mut connection, mut log) = opened(&folder);
        let count = MAX_PENDING_EVENTS as u64 + 100;
        connection.begin(Sync::Now).unwrap();
        let mut added = Added::default();
        let mut apply = |commit: &Commit| log.apply(connection.connection(), commit, &mut added).unwrap();
        for number in 1..=count {
            let appended = apply(&commit(number, Some(&format!("request {number}")))).unwrap();
            assert_eq!((appended.position, appended.replayed), (Position(number), false));
        }
        // One that is in the table, one that was not yet, and one that made it be.
        for number in [1, count, count - 1] {
            let repeated = apply(&commit(number, Some(&format!("request {number}")))).unwrap();
            assert_eq!((repeated.position, repeated.replayed), (Position(number), true));
        }
        let mut other = commit(9, Some("request 9"));
        other.request.as_mut().unwrap().fingerprint += 1;
        assert!(matches!(apply(&other), Err(AppendError::RequestIdReused)));
        let taken = Commit { expected: ExpectedRevision::NoStream, ..commit(count, None) };
        assert!(matches!(apply(&taken), Err(AppendError::Conflict { actual: 1 })));
        assert_eq!(apply(&commit(count, None)).unwrap().last_revision, 2);
        log.commit(&mut connection, added).unwrap();
        let stored =
            |sql| connection.connection().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap().cast_unsigned();
        assert_eq!(stored("SELECT count(*) FROM log"), count + 1);
        assert_eq!(stored("SELECT count(*) FROM requests"), count);
        end::check(connection.connection()).unwrap();
        assert_eq!(requests::wrong_between(connection.connection(), Position(0), Position(count)).unwrap(), None);
    }
}
