//! Rows of the log, each verified against its checksum and its position.

use std::sync::LazyLock;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::super::{error::DbError, many_rows::InsertMany};
use crate::ports::event_store::{
    Direction, MAX_READ_EVENTS, Position, ReadBound, Revision, StoreError, StoredEvent, StreamId,
};

static INSERT: LazyLock<InsertMany> = LazyLock::new(|| InsertMany::into_table("log", 5));

/// A number in SQLite's representation: the same 64 bits.
pub(in super::super) const fn bits(number: u64) -> i64 {
    number.cast_signed()
}

/// The largest number that SQLite can compare in our order; there are no events beyond it.
pub(super) fn bounded(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Covers the content of an event and all fields that locate it. Stored: never changed.
pub(super) fn checksum(stream: StreamId, revision: Revision, position: Position, payload: &[u8]) -> i64 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&stream.0.to_le_bytes());
    place[8..16].copy_from_slice(&revision.to_le_bytes());
    place[16..].copy_from_slice(&position.0.to_le_bytes());
    bits(xxh3_64_with_seed(payload, xxh3_64(&place)))
}

/// Adds the next events to the log. Must be called in a transaction, which an error ends or invalidates.
pub(super) fn insert(connection: &Connection, events: &[StoredEvent]) -> Result<(), DbError> {
    INSERT.insert(connection, events, |values, StoredEvent { stream, revision, position, payload }| {
        values.add(bits(position.0))?;
        values.add(bits(stream.0))?;
        values.add(bits(*revision))?;
        values.add(checksum(*stream, *revision, *position, payload))?;
        values.add(&payload[..])
    })
}

/// The last revision of a stream; 0: no stream.
pub(super) fn last_revision(connection: &Connection, stream: StreamId) -> Result<Revision, DbError> {
    let mut statement = connection.prepare_cached("SELECT max(revision) FROM log WHERE stream = ?1")?;
    let last: Option<i64> = statement.query_row([bits(stream.0)], |row| row.get(0))?;
    Ok(last.map_or(0, i64::cast_unsigned))
}

/// The last position of the log; zero: no events.
pub(in super::super) fn head(connection: &Connection) -> Result<Position, DbError> {
    let last: Option<i64> = connection.query_row("SELECT max(position) FROM log", [], |row| row.get(0))?;
    Ok(Position(last.map_or(0, i64::cast_unsigned)))
}

/// The position of the event with this revision of a stream, by the index of streams.
pub(in super::super) fn position_of(
    connection: &Connection,
    stream: StreamId,
    revision: Revision,
) -> Result<Option<Position>, DbError> {
    let sql = "SELECT position FROM log INDEXED BY log_by_stream WHERE stream = ?1 AND revision = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let found: Option<i64> = statement.query_row([bits(stream.0), bits(revision)], |row| row.get(0)).optional()?;
    Ok(found.map(|position| Position(position.cast_unsigned())))
}

/// The event at `position`, which is known to exist.
pub(in super::super) fn event_at(connection: &Connection, position: Position) -> Result<StoredEvent, DbError> {
    let mut statement = connection.prepare_cached("SELECT * FROM log WHERE position = ?1")?;
    let event = statement.query_row([bits(position.0)], |row| Ok(event(row))).optional()?;
    event.unwrap_or_else(|| Err(missing(position)))
}

/// Implements [`crate::ports::event_store::EventStore::read_log`], for a log that reaches at least to `head`.
pub(in super::super) fn read_log(
    connection: &Connection,
    from: Position,
    direction: Direction,
    bound: ReadBound,
    head: Position,
) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = match direction {
        Direction::Forward => "SELECT * FROM log WHERE position > ?1 ORDER BY position LIMIT ?2",
        Direction::Backward => "SELECT * FROM log WHERE position < ?1 ORDER BY position DESC LIMIT ?2",
    };
    let (events, is_cut) = read(connection, sql, params![bounded(from.0), limit(bound.max_events)], bound)?;
    let positions = events.iter().map(|event| event.position.0);
    match direction {
        Direction::Forward => {
            let last = events.last().map_or(from, |event| event.position);
            require_gapless(positions, from.0.saturating_add(1), 1)?;
            if !is_cut && last < head {
                return Err(missing(Position(last.0 + 1)).into());
            }
        }
        Direction::Backward => {
            let first = events.first().map_or(0, |event| event.position.0);
            require_gapless(positions, first.max(head.0.min(from.0.saturating_sub(1))), -1)?;
            let last = events.last().map_or(from, |event| event.position).0.min(head.0 + 1);
            if !is_cut && last > 1 {
                return Err(missing(Position(last - 1)).into());
            }
        }
    }
    Ok(events)
}

/// Implements [`crate::ports::event_store::EventStore::read_stream`].
pub(super) fn read_stream(
    connection: &Connection,
    stream: StreamId,
    from: Revision,
    direction: Direction,
    max_events: usize,
) -> Result<Vec<StoredEvent>, StoreError> {
    let sql = match direction {
        Direction::Forward => "SELECT * FROM log WHERE stream = ?1 AND revision >= ?2 ORDER BY revision LIMIT ?3",
        Direction::Backward => "SELECT * FROM log WHERE stream = ?1 AND revision <= ?2 ORDER BY revision DESC LIMIT ?3",
    };
    let params = params![bits(stream.0), bounded(from), limit(max_events)];
    let (events, is_cut) = read(connection, sql, params, ReadBound::events(max_events))?;
    let revisions = events.iter().map(|event| event.revision);
    let misplaced = |error| match error {
        StoreError::Corrupt(what) => StoreError::Corrupt(format!("stream {stream}: {what}")),
        other => other,
    };
    match (direction, events.first()) {
        (_, None) => {}
        (Direction::Forward, Some(_)) => require_gapless(revisions, from.max(1), 1).map_err(misplaced)?,
        (Direction::Backward, Some(first)) => {
            require_gapless(revisions, first.revision, -1).map_err(misplaced)?;
            let last = events.last().map_or(1, |event| event.revision);
            if !is_cut && last > 1 {
                return Err(StoreError::Corrupt(format!("stream {stream}: revision {} is missing", last - 1)));
            }
        }
    }
    if let Some(wrong) = events.iter().find(|event| event.stream != stream) {
        return Err(StoreError::Corrupt(format!(
            "the index of stream {stream} leads to an event of stream {}",
            wrong.stream
        )));
    }
    Ok(events)
}

fn limit(max_events: usize) -> i64 {
    max_events.min(MAX_READ_EVENTS) as i64
}

/// The events, and whether the read stopped at a bound.
fn read(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    bound: ReadBound,
) -> Result<(Vec<StoredEvent>, bool), DbError> {
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query(params)?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let event = event(row)?;
        bytes += event.payload.len();
        events.push(event);
        if bytes >= bound.max_bytes {
            return Ok((events, true));
        }
    }
    let is_cut = events.len() >= bound.max_events;
    Ok((events, is_cut))
}

/// The event in a whole row of the log, if it is intact.
fn event(row: &Row<'_>) -> Result<StoredEvent, DbError> {
    let number = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
    let (position, stream, revision) = (Position(number(0)?), StreamId(number(1)?), number(2)?);
    let payload =
        row.get_ref(4)?.as_blob().map_err(|error| DbError::Corrupt(format!("position {position}: {error}")))?;
    if checksum(stream, revision, position, payload) != row.get::<_, i64>(3)? {
        return Err(DbError::Corrupt(format!(
            "the event at position {position} (stream {stream}, revision {revision}) does not match its checksum"
        )));
    }
    Ok(StoredEvent { stream, revision, position, payload: Bytes::copy_from_slice(payload) })
}

fn require_gapless(numbers: impl Iterator<Item = u64>, first: u64, step: i64) -> Result<(), StoreError> {
    let mut expected = first;
    for number in numbers {
        if number != expected {
            return Err(StoreError::Corrupt(format!("number {expected} is missing, {number} is in its place")));
        }
        expected = expected.wrapping_add_signed(step);
    }
    Ok(())
}

fn missing(position: Position) -> DbError {
    DbError::Corrupt(format!("the event at position {position} is missing"))
}
