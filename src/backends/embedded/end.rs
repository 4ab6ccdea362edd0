//! The end of the log, recorded in several pages of the file: a damaged page, even the last one of the log, is detected.

use rusqlite::{Connection, OptionalExtension as _};

use super::{
    error::DbError,
    event_store::rows::{self, bits},
    schema,
};
use crate::ports::event_store::Position;

/// The checkpoint that always belongs to this log. Others may be numbers of another kind.
const OUTBOX: &str = "outbox";
/// How many findings of SQLite are reported.
const MAX_FINDINGS: usize = 100;

/// Records the end of the log, in the transaction that appends to it.
pub(super) fn set(connection: &Connection, head: Position) -> Result<(), DbError> {
    let mut statement = connection.prepare_cached("UPDATE facts SET value = ?1 WHERE name = 'head'")?;
    match statement.execute([bits(head.0)])? {
        1 => Ok(()),
        _ => Err(DbError::Corrupt("the file does not record where its log ends".to_owned())),
    }
}

/// Checks that the log ends at the recorded position, and that no other record in the same file is further: no backup causes that.
///
/// # Errors
/// [`DbError::Corrupt`] names the records that disagree.
pub(super) fn check(connection: &Connection) -> Result<(), DbError> {
    match disagreements(connection)? {
        what if what.is_empty() => Ok(()),
        what => Err(DbError::Corrupt(what.join("; "))),
    }
}

/// The records that give another end of the log.
fn disagreements(connection: &Connection) -> Result<Vec<String>, DbError> {
    let mut found = Vec::new();
    let head = rows::head(connection)?;
    let (version, log) = (schema::version(connection)?, schema::log_id(connection)?);
    if version >= schema::END_SINCE {
        let said = "SELECT value FROM facts WHERE name = 'head'";
        let said: Option<i64> = connection.query_row(said, [], |row| row.get(0)).optional()?;
        match said.map(i64::cast_unsigned) {
            Some(said) if said == head.0 => {}
            Some(said) => found.push(format!("the log ends at position {head}, but was written up to position {said}")),
            None => found.push("the file does not record where its log ends".to_owned()),
        }
    }
    let mut further = |who: &str, position: Option<i64>| {
        if let Some(position) = position.map(i64::cast_unsigned).filter(|position| *position > head.0) {
            found.push(format!("the log ends at position {head}, but {who} has reached position {position}"));
        }
    };
    if version >= schema::READ_MODELS_SINCE {
        let sql = "SELECT max(position) FROM read_models WHERE log = ?1";
        further("the list of orders", connection.query_row(sql, [log.0], |row| row.get(0))?);
    }
    let sql = "SELECT max(position) FROM checkpoints WHERE name = ?1";
    further("the outbox", connection.query_row(sql, [OUTBOX], |row| row.get(0))?);
    for (who, table) in [("a request", "requests"), ("a commit", "commits")] {
        let is_there = version >= schema::COMMITS_SINCE || table == "requests";
        if is_there {
            let sql = format!("SELECT max(position) FROM main.{table}");
            further(who, connection.query_row(&sql, [], |row| row.get(0))?);
        }
    }
    Ok(found)
}

/// All defects of the file: its pages and indexes, its end, and references into the log without a target.
pub(super) fn audit(connection: &Connection) -> Result<Vec<String>, DbError> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({MAX_FINDINGS})"))?;
    let said = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut found: Vec<_> =
        said.into_iter().filter(|line| line != "ok").map(|line| format!("SQLite: {line}")).collect();
    found.extend(disagreements(connection)?);
    let (head, count): (Option<i64>, i64) =
        connection.query_row("SELECT max(position), count(*) FROM log", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if head.unwrap_or(0) != count {
        found.push(format!("the log ends at position {}, but has {count} events", head.unwrap_or(0)));
    }
    for (what, table) in [("the request", "requests"), ("the commit", "commits")] {
        if table == "commits" && schema::version(connection)? < schema::COMMITS_SINCE {
            continue;
        }
        let sql = format!(
            "SELECT position FROM main.{table} AS pointing \
             WHERE NOT EXISTS (SELECT 1 FROM log WHERE log.position = pointing.position) LIMIT {MAX_FINDINGS}"
        );
        let mut statement = connection.prepare(&sql)?;
        let lost = statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
        found.extend(lost.into_iter().map(|position| format!("{what} at position {position} has no event in the log")));
    }
    Ok(found)
}
