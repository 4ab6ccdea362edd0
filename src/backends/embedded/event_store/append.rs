//! Group commit: many commits, one transaction, one sync.

use std::{collections::HashMap, sync::Arc};

use rusqlite::Connection;
use tokio::time::Instant;

use super::{
    super::{
        database::{PendingCommit, Sync, WriteConnection},
        end,
        error::DbError,
    },
    commits, requests, rows,
    tail::Tail,
};
use crate::ports::event_store::{AppendError, Appended, Commit, Position, Revision, StoreError, StoredEvent, StreamId};

/// Last revisions kept in memory; up to twice as many at times.
const KEPT_REVISIONS: usize = 65_536;

/// The writer's knowledge of the log in addition to the file.
#[derive(Debug)]
pub(in super::super) struct LogWriter {
    tail: Arc<Tail>,
    revisions: Revisions,
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
        let mut stored = Vec::with_capacity(batch.len());
        let mut answers = Vec::with_capacity(batch.len());
        for pending in batch {
            match self.apply(connection.connection(), &pending.commit, &mut stored) {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    connection.roll_back();
                    connection.note_failure(&error);
                    self.revisions.forget();
                    return Err(error.into());
                }
            }
        }
        if stored.is_empty() {
            connection.roll_back();
            return Ok(answers);
        }
        self.commit(connection, stored).map(|()| answers)
    }

    /// Writes `commits` as one transaction: all of them, in this order, or none.
    pub(in super::super) fn append_all(
        &mut self,
        connection: &mut WriteConnection,
        commits: &[Commit],
    ) -> Result<Position, AppendError> {
        connection.begin(Sync::Now)?;
        let mut stored = Vec::with_capacity(commits.len());
        for commit in commits {
            let refused = match self.apply(connection.connection(), commit, &mut stored) {
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
        let last = stored.last().map_or_else(|| self.tail.head(), |event| event.position);
        self.commit(connection, stored).map(|()| last)
    }

    /// Commits the transaction with these events.
    fn commit(&mut self, connection: &mut WriteConnection, stored: Vec<StoredEvent>) -> Result<(), AppendError> {
        if let Some(last) = stored.last()
            && let Err(error) = end::set(connection.connection(), last.position)
        {
            connection.roll_back();
            connection.note_failure(&error);
            self.revisions.forget();
            return Err(error.into());
        }
        match connection.commit() {
            Ok(()) => {
                // Verified before anything is acknowledged, or seen.
                let kept = connection.file().verify();
                self.tail.publish(stored);
                kept.map_err(|lost| AppendError::OutcomeUnknown(lost.to_string()))
            }
            Err(error) => {
                self.revisions.forget();
                Err(after_failed_commit(connection, error))
            }
        }
    }

    /// Adds a commit to the transaction, or refuses it and adds nothing. An error invalidates the transaction.
    fn apply(
        &mut self,
        connection: &Connection,
        commit: &Commit,
        stored: &mut Vec<StoredEvent>,
    ) -> Result<Answer, DbError> {
        if let Some(request) = &commit.request {
            match requests::find(connection, commit.stream, request) {
                Ok(None) => {}
                Ok(Some(earlier)) => return Ok(Ok(earlier)),
                Err(refused) => return Ok(Err(refused)),
            }
        }
        let before = self.revisions.last(connection, commit.stream)?;
        if !commit.expected.holds(before) {
            return Ok(Err(AppendError::Conflict { actual: before }));
        }
        let head = stored.last().map_or_else(|| self.tail.head(), |event| event.position);
        for (payload, step) in commit.events.iter().zip(1..) {
            let event = StoredEvent {
                stream: commit.stream,
                revision: before + step,
                position: Position(head.0 + step),
                payload: payload.clone(),
            };
            rows::insert(connection, &event)?;
            stored.push(event);
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
            requests::remember(connection, request, &appended)?;
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
    use super::*;
    use crate::{
        backends::embedded::new_store,
        ports::event_store::{CommitId, ExpectedRevision},
    };

    #[test]
    fn a_commit_into_a_file_that_was_just_removed_is_not_acknowledged() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("orders.db");
        new_store::make_if_missing(&file).unwrap();
        let mut connection = WriteConnection::open(&file).unwrap();
        let tail = Arc::new(Tail::load(connection.connection()).unwrap());
        let mut log = LogWriter::load(connection.connection(), tail).unwrap();
        let commit = Commit {
            id: CommitId::random(),
            stream: StreamId(1),
            expected: ExpectedRevision::Any,
            request: None,
            events: vec![b"x".as_slice().into()],
        };
        connection.begin(Sync::Now).unwrap();
        let mut stored = Vec::new();
        log.apply(connection.connection(), &commit, &mut stored).unwrap().unwrap();
        std::fs::remove_file(&file).unwrap();
        let outcome = log.commit(&mut connection, stored);
        assert!(matches!(&outcome, Err(AppendError::OutcomeUnknown(why)) if why.contains("removed")), "{outcome:?}");
    }
}
