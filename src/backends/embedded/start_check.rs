//! What is looked at when a file is opened: the indexes by which events and request ids are found. The log itself is checked row by row when it
//! is read; a row of an index that has gone bad only makes something not be found.
//!
//! A small file is looked at whole, of a larger one the newest rows and as many anywhere: a start costs no more with a large log. All of it is
//! for `ordersystem verify`.

use rusqlite::Connection;

use super::{
    error::DbError,
    event_store::{requests, rows},
};
use crate::ports::event_store::Position;

/// A file that is no larger is looked at whole: some tens of milliseconds.
const WHOLE_BYTES: i64 = 16 * 1024 * 1024;
/// Of a larger one so many rows of each kind are looked at among the newest, and as many anywhere.
const SAMPLES: u64 = 64;

/// What is wrong with the indexes of the log and with the request ids; `None`: nothing that was seen.
pub(super) fn damage(connection: &Connection) -> Option<String> {
    match look(connection) {
        Ok(found) => found,
        Err(DbError::Corrupt(what)) => Some(what),
        // A file that cannot be read now says so to whoever reads it.
        Err(DbError::Full(_) | DbError::Unavailable(_)) => None,
    }
}

fn look(connection: &Connection) -> Result<Option<String>, DbError> {
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

/// Says that the event at `position` is not found by its order, if so.
fn not_found(connection: &Connection, position: Position) -> Result<Option<String>, DbError> {
    let event = rows::event_at(connection, position)?;
    let found = rows::position_of(connection, event.stream, event.revision)?;
    Ok((found != Some(position)).then(|| {
        let at = found.map_or_else(|| "nowhere".to_owned(), |found| format!("at position {found}"));
        format!(
            "revision {} of order {} is at position {position}, and is found by its order {at}",
            event.revision, event.stream
        )
    }))
}
