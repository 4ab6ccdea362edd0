//! Whole commits: the events of the log, the end of each commit, and the request that made it.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::{
    super::error::DbError,
    requests,
    rows::{self, bits, bounded},
};
use crate::ports::event_store::{
    CommitPage, Direction, Position, ReadBound, RecordedCommit, RequestKey, StoreError, StoredEvent,
};

/// Records that the last `events` events up to `position` are one commit; a commit of one event needs no record.
pub(super) fn remember(connection: &Connection, position: Position, events: u64) -> Result<(), DbError> {
    if events > 1 {
        let mut statement = connection.prepare_cached("INSERT INTO commits VALUES (?1, ?2)")?;
        statement.execute(params![bits(position.0), bits(events)])?;
    }
    Ok(())
}

/// Implements [`crate::ports::event_store::EventStore::read_commits`], for a log that reaches at least to `head`.
pub(in super::super) fn read(
    connection: &Connection,
    from: Position,
    max_events: usize,
    head: Position,
) -> Result<Vec<RecordedCommit>, StoreError> {
    let mut page = CommitPage::new(max_events);
    let from = end_of_commit_at(connection, from)?;
    let events = rows::read_log(connection, from, Direction::Forward, ReadBound::events(max_events), head)?;
    let Some(last) = events.last().map(|event| event.position) else { return Ok(Vec::new()) };
    let sizes = sizes(connection, from, last)?;
    let mut events = events.into_iter();
    while let Some(first) = events.next() {
        let size = sizes.get(&first.position.0).copied().unwrap_or(1);
        let events = whole_commit(connection, first, &mut events, size, head)?;
        if !page.take(RecordedCommit { request: None, events }) {
            break;
        }
    }
    let mut commits = page.into_commits();
    add_requests(connection, &mut commits)?;
    Ok(commits)
}

/// The end of the commit that has an event at `position`, and others after it; `position` itself if there is none.
fn end_of_commit_at(connection: &Connection, position: Position) -> Result<Position, DbError> {
    let mut statement = connection
        .prepare_cached("SELECT position, events FROM commits WHERE position > ?1 ORDER BY position LIMIT 1")?;
    let mut rows = statement.query([bounded(position.0)])?;
    let Some(row) = rows.next()? else { return Ok(position) };
    let (end, events) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
    Ok(if end.saturating_sub(events) < position.0 { Position(end) } else { position })
}

/// The numbers of events of the commits that begin after `from` and up to `last`, by the position of their first event.
fn sizes(connection: &Connection, from: Position, last: Position) -> Result<BTreeMap<u64, u64>, DbError> {
    let mut statement =
        connection.prepare_cached("SELECT position, events FROM commits WHERE position > ?1 ORDER BY position")?;
    let mut rows = statement.query([bounded(from.0)])?;
    let mut sizes = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (end, events) = (row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned());
        let first = end.checked_sub(events).map_or(0, |before| before + 1);
        if first > last.0 {
            break;
        }
        sizes.insert(first, events);
    }
    Ok(sizes)
}

/// The commit of `size` events that begins with `first`: its further events come from the page, and beyond its end from the log.
fn whole_commit(
    connection: &Connection,
    first: StoredEvent,
    page: &mut impl Iterator<Item = StoredEvent>,
    size: u64,
    head: Position,
) -> Result<Vec<StoredEvent>, StoreError> {
    let damaged =
        |at: Position| StoreError::Corrupt(format!("the commit of {size} events at position {at} is not whole"));
    let begins_at = first.position;
    let mut events = vec![first];
    while (events.len() as u64) < size {
        let (before, missing) = (&events[events.len() - 1], size as usize - events.len());
        let next = match page.next() {
            Some(next) => vec![next],
            None => rows::read_log(connection, before.position, Direction::Forward, ReadBound::events(missing), head)?,
        };
        let (stream, revision) = (before.stream, before.revision);
        let follows = next
            .iter()
            .zip(revision + 1..)
            .all(|(event, revision)| (event.stream, event.revision) == (stream, revision));
        if next.is_empty() || !follows {
            return Err(damaged(begins_at));
        }
        events.extend(next);
    }
    Ok(events)
}

fn add_requests(connection: &Connection, commits: &mut [RecordedCommit]) -> Result<(), StoreError> {
    let (Some(first), Some(last)) = (commits.first(), commits.last()) else { return Ok(()) };
    let first = first.events.first().map_or(Position(0), |event| event.position);
    let mut found: BTreeMap<Position, (RequestKey, u64)> = BTreeMap::new();
    for (position, request, events) in requests::between(connection, first, last.position())? {
        if found.insert(position, (request, events)).is_some() {
            return Err(StoreError::Corrupt(format!("the commit at position {position} has two request ids")));
        }
    }
    for commit in commits {
        if let Some((request, events)) = found.remove(&commit.position()) {
            if events != commit.events.len() as u64 {
                let (id, position) = (request.id, commit.position());
                return Err(StoreError::Corrupt(format!(
                    "request '{id}' is of {events} events at position {position}, which is the end of another commit"
                )));
            }
            commit.request = Some(request);
        }
    }
    match found.pop_first() {
        Some((position, (request, _))) => Err(StoreError::Corrupt(format!(
            "request '{}' is of the commit at position {position}, where none ends",
            request.id
        ))),
        None => Ok(()),
    }
}
