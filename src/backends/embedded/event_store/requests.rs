//! The commits that carry a request id, found by it.

use rusqlite::{Connection, OptionalExtension as _, params};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::{
    super::error::DbError,
    rows::{self, bits},
};
use crate::event_store::{AppendError, Appended, Position, RequestKey, RequestScope, StreamId};

/// A row of `requests`.
struct Remembered {
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
        return Err(AppendError::RequestReused);
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

/// Remembers the commit that `request` has made.
pub(super) fn remember(connection: &Connection, request: &RequestKey, appended: &Appended) -> Result<(), DbError> {
    let (scope, stream) = key(appended.stream, request.scope);
    let remembered = Remembered {
        fingerprint: request.fingerprint,
        position: appended.position,
        events: appended.last_revision - appended.first_revision + 1,
    };
    connection.prepare_cached("INSERT INTO requests VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        scope,
        stream,
        &*request.id,
        &remembered.fingerprint.to_be_bytes()[..],
        bits(remembered.position.0),
        bits(remembered.events),
        remembered.checksum(scope, stream, &request.id),
    ])?;
    Ok(())
}

fn load(connection: &Connection, stream: StreamId, request: &RequestKey) -> Result<Option<Remembered>, DbError> {
    let (scope, stream) = key(stream, request.scope);
    let mut statement = connection.prepare_cached(
        "SELECT fingerprint, position, events, checksum FROM requests WHERE scope = ?1 AND stream = ?2 AND id = ?3",
    )?;
    let row = statement
        .query_row(params![scope, stream, &*request.id], |row| {
            let fingerprint: [u8; 16] = row.get(0)?;
            let (position, events): (i64, i64) = (row.get(1)?, row.get(2)?);
            let remembered = Remembered {
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

/// The first columns of the key. In the log every id is in one stream, so to speak.
const fn key(stream: StreamId, scope: RequestScope) -> (i64, i64) {
    match scope {
        RequestScope::Stream => (0, bits(stream.0)),
        RequestScope::Log => (1, 0),
    }
}

impl Remembered {
    /// Over the whole row. Stored: never changed.
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
