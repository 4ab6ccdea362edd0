//! The checks at opening a file: the indexes by which events and request ids are found. The log itself is verified row by row when it is read; a
//! damaged index row only makes an entry impossible to find.
//!
//! A small file is checked completely, in a larger one the newest rows and as many anywhere: a large log does not make the start slower. `ordersystem
//! verify` checks all of it.

use rusqlite::Connection;

use super::{
    error::DbError,
    event_store::{requests, rows},
};
use crate::ports::event_store::Position;

/// A file up to this size is checked completely: some tens of milliseconds.
const WHOLE_BYTES: i64 = 16 * 1024 * 1024;
/// In a larger one this many rows of each kind are checked among the newest, and as many anywhere.
const SAMPLES: u64 = 64;

/// The damage of the log's indexes and of the request ids; `None` if none was found.
pub(super) fn damage(connection: &Connection) -> Option<String> {
    match check_indexes(connection) {
        Ok(found) => found,
        Err(DbError::Corrupt(what)) => Some(what),
        // If the file is not readable now, later reads report it.
        Err(DbError::Full(_) | DbError::Unavailable(_)) => None,
    }
}

fn check_indexes(connection: &Connection) -> Result<Option<String>, DbError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let head = rows::head(connection)?;
    if pragma("page_count")?.saturating_mul(pragma("page_size")?) <= WHOLE_BYTES {
        for table in ["log", "requests", "commits"] {
            let sql = format!("PRAGMA integrity_check('{table}')");
            let said: String = connection.query_row(&sql, [], |row| row.get(0))?;
            if said != "ok" {
                return Ok(Some(format!("SQLite: {said}")));
            }
        }
        return requests::wrong_between(connection, Position(0), head);
    }
    let newest = Position(head.0.saturating_sub(SAMPLES));
    if let Some(wrong) = requests::wrong_between(connection, newest, head)? {
        return Ok(Some(wrong));
    }
    for position in (newest.0 + 1..=head.0).chain((0..SAMPLES).map(|_| fastrand::u64(1..=head.0))).map(Position) {
        if let Some(wrong) = not_found(connection, position)? {
            return Ok(Some(wrong));
        }
        if let Some(wrong) = requests::wrong_between(connection, position, position)? {
            return Ok(Some(wrong));
        }
    }
    Ok(None)
}

/// Reports the event at `position` if it is not found by its order.
fn not_found(connection: &Connection, position: Position) -> Result<Option<String>, DbError> {
    let event = rows::event_at(connection, position)?;
    let found = rows::position_of(connection, event.stream, event.revision)?;
    Ok((found != Some(position)).then(|| {
        let at = found.map_or_else(|| "nowhere".to_owned(), |found| format!("at position {found}"));
        format!(
            "revision {} of order {} is at position {position}, but the index of the order has it {at}",
            event.revision, event.stream
        )
    }))
}
