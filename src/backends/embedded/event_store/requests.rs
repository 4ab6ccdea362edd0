//! The commits that carry a request id, indexed by it.

use std::sync::{Arc, LazyLock};

use rusqlite::{Connection, OptionalExtension as _, params};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    super::{error::DbError, many_rows::InsertMany},
    rows::{self, bits},
};
use crate::ports::event_store::{AppendError, Appended, Position, RequestKey, RequestScope, StreamId};

static INSERT: LazyLock<InsertMany> = LazyLock::new(|| InsertMany::into_table("requests", 7));

/// The key of the table. In the log's scope all ids share one stream number.
pub(super) type Key = (i64, i64, Arc<str>);

/// A row of `requests`.
#[derive(Debug)]
pub(super) struct RequestRow {
    fingerprint: u128,
    position: Position,
    events: u64,
}

/// The commit that an earlier try has made, if any.
pub(super) fn find(
    connection: &Connection,
    stream: StreamId,
    request: &RequestKey,
) -> Result<Option<Appended>, AppendError> {
    let Some(earlier) = load(connection, stream, request)? else { return Ok(None) };
    if earlier.fingerprint != request.fingerprint {
        return Err(AppendError::RequestIdReused);
    }
    let last = rows::event_at(connection, earlier.position)?;
    Ok(Some(Appended {
        stream: last.stream,
        first_revision: (last.revision + 1).saturating_sub(earlier.events),
        last_revision: last.revision,
        position: earlier.position,
        replayed: true,
    }))
}

/// Remembers the commits that these requests have made. Must be called in a transaction, which an error ends or invalidates.
pub(super) fn remember(connection: &Connection, requests: &[(Key, RequestRow)]) -> Result<(), DbError> {
    INSERT.insert(connection, requests, |values, ((scope, stream, id), row)| {
        values.add(scope)?;
        values.add(stream)?;
        values.add(&**id)?;
        values.add(&row.fingerprint.to_be_bytes()[..])?;
        values.add(bits(row.position.0))?;
        values.add(bits(row.events))?;
        values.add(row.checksum(*scope, *stream, id))
    })
}

/// The key of `request` for a commit to `stream`.
pub(super) fn key_of(stream: StreamId, request: &RequestKey) -> Key {
    let (scope, stream) = key(stream, request.scope);
    (scope, stream, Arc::clone(&request.id))
}

fn load(connection: &Connection, stream: StreamId, request: &RequestKey) -> Result<Option<RequestRow>, DbError> {
    let (scope, stream) = key(stream, request.scope);
    let mut statement = connection.prepare_cached(
        "SELECT fingerprint, position, events, checksum FROM requests WHERE scope = ?1 AND stream = ?2 AND id = ?3",
    )?;
    let row = statement
        .query_row(params![scope, stream, &*request.id], |row| {
            let fingerprint: [u8; 16] = row.get(0)?;
            let (position, events): (i64, i64) = (row.get(1)?, row.get(2)?);
            let remembered = RequestRow {
                fingerprint: u128::from_be_bytes(fingerprint),
                position: Position(position.cast_unsigned()),
                events: events.cast_unsigned(),
            };
            Ok((remembered, row.get::<_, i64>(3)?))
        })
        .optional()?;
    match row {
        Some((remembered, sum)) if remembered.checksum(scope, stream, &request.id) != sum => {
            Err(DbError::Corrupt(format!("request '{}' does not match its checksum", request.id)))
        }
        row => Ok(row.map(|(remembered, _)| remembered)),
    }
}

/// The requests of the commits that end from position `first` to `last`, and the number of events of each commit.
pub(super) fn between(
    connection: &Connection,
    first: Position,
    last: Position,
) -> Result<Vec<(Position, RequestKey, u64)>, DbError> {
    let mut statement = connection.prepare_cached(
        "SELECT scope, stream, id, fingerprint, position, events, checksum FROM requests WHERE position BETWEEN ?1 AND ?2",
    )?;
    let mut rows = statement.query([rows::bounded(first.0), rows::bounded(last.0)])?;
    let mut requests = Vec::new();
    while let Some(row) = rows.next()? {
        let (scope, stream): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (id, fingerprint): (String, [u8; 16]) = (row.get(2)?, row.get(3)?);
        let (position, events): (i64, i64) = (row.get(4)?, row.get(5)?);
        let remembered = RequestRow {
            fingerprint: u128::from_be_bytes(fingerprint),
            position: Position(position.cast_unsigned()),
            events: events.cast_unsigned(),
        };
        if remembered.checksum(scope, stream, &id) != row.get::<_, i64>(6)? {
            return Err(DbError::Corrupt(format!("request '{id}' of position {position} does not match its checksum")));
        }
        let scope = if scope == 1 { RequestScope::Log } else { RequestScope::Stream };
        let request = RequestKey { scope, id: id.into(), fingerprint: remembered.fingerprint };
        requests.push((remembered.position, request, remembered.events));
    }
    Ok(requests)
}

/// Describes a defective request among those of the commits that end from position `first` to `last`, if any: one that is damaged, that is not found
/// by its id, or that leads to no commit of its order.
pub(in super::super) fn wrong_between(
    connection: &Connection,
    first: Position,
    last: Position,
) -> Result<Option<String>, DbError> {
    for (position, request, events) in between(connection, first, last)? {
        let id = &request.id;
        let event = rows::event_at(connection, position)?;
        match load(connection, event.stream, &request)? {
            Some(found) if (found.position, found.events) == (position, events) => {}
            _ => return Ok(Some(format!("request '{id}' of position {position} is not found by its id"))),
        }
        if event.revision < events {
            let what = format!(
                "request '{id}' made {events} events of order {} up to revision {}",
                event.stream, event.revision
            );
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// The first columns of the key. In the log's scope all ids share one stream number.
const fn key(stream: StreamId, scope: RequestScope) -> (i64, i64) {
    match scope {
        RequestScope::Stream => (0, bits(stream.0)),
        RequestScope::Log => (1, 0),
    }
}

impl RequestRow {
    /// The row of the commit that `request` has made.
    pub(super) const fn of(request: &RequestKey, appended: &Appended) -> Self {
        Self {
            fingerprint: request.fingerprint,
            position: appended.position,
            events: appended.last_revision - appended.first_revision + 1,
        }
    }

    /// Covers the whole row. Stored: never changed.
    fn checksum(&self, scope: i64, stream: i64, id: &str) -> i64 {
        let mut numbers = [0; 48];
        numbers[..8].copy_from_slice(&scope.to_le_bytes());
        numbers[8..16].copy_from_slice(&stream.to_le_bytes());
        numbers[16..32].copy_from_slice(&self.fingerprint.to_le_bytes());
        numbers[32..40].copy_from_slice(&self.position.0.to_le_bytes());
        numbers[40..].copy_from_slice(&self.events.to_le_bytes());
        bits(xxh3_64_with_seed(id.as_bytes(), xxh3_64(&numbers)))
    }
}
