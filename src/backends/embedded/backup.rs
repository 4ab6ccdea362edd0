//! Copies a data folder, whether or not it is in use.

use std::{fs, path::Path};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use super::{
    data_dir::{self, DATABASE},
    database::open_reader,
    end,
    error::{DbError, OpenError},
    event_store::rows,
    file_header,
    new_store::{Unfinished, WRITES},
    schema,
};
use crate::{
    ports::event_store::{Direction, LogId, MAX_READ_EVENTS, Position, ReadBound},
    private_files,
};

/// The content of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The position of the last event in it.
    pub head: Position,
    /// The id of its log.
    pub log_id: LogId,
}

/// Copies the data folder `dir` into `target`, which must not have a database yet, and which is then a data folder itself.
///
/// The copy is the committed state at one moment; users of `dir`, in this process or another, continue undisturbed. The copy gets its own log id and
/// key: from here on the two logs diverge, so a cursor of one is invalid in the other. It is verified, every event by its checksum, before it gets
/// its name: an existing copy is complete and synced.
///
/// # Errors
/// [`OpenError`] names the folder concerned: nothing to copy, a target that is taken, damage, no space.
pub fn backup(dir: &Path, target: &Path) -> Result<BackedUp, OpenError> {
    let source = open_source(dir).map_err(|error| error.at(dir))?;
    copy_to(&source, target).map_err(|error| error.at(target))
}

fn open_source(dir: &Path) -> Result<Connection, OpenError> {
    let file = data_dir::database_in(dir)?;
    file_header::check(&file)?;
    let connection = open_reader(&file)?;
    schema::check(&connection)?;
    Ok(connection)
}

fn copy_to(source: &Connection, target: &Path) -> Result<BackedUp, OpenError> {
    private_files::make_folder(target)?;
    let target = data_dir::real(target)?;
    let file = target.join(DATABASE);
    if fs::exists(&file)? {
        return Err(OpenError::new(format!("there already is an {DATABASE} here; it is left unchanged")));
    }
    let unfinished = Unfinished::of(&file);
    let done = copy(source, unfinished.path())?;
    unfinished.finish(&file)?;
    data_dir::sync_parent(&target)?;
    Ok(done)
}

fn copy(source: &Connection, file: &Path) -> Result<BackedUp, OpenError> {
    private_files::make_file(file).map_err(OpenError::new)?;
    let mut copy = Connection::open_with_flags(file, WRITES).map_err(DbError::from)?;
    // It is synced as a whole at the end.
    copy.execute_batch("PRAGMA synchronous = OFF").map_err(DbError::from)?;
    // All pages in one step: one snapshot, and no restart when another process writes in the meantime.
    let step = Backup::new(source, &mut copy).and_then(|backup| backup.step(-1)).map_err(DbError::from)?;
    if step != StepResult::Done {
        return Err(OpenError::new(format!("the copy could not be made: {step:?}")));
    }
    let done = BackedUp { head: check(&copy)?, log_id: LogId(fastrand::u32(1..)) };
    // Without a WAL, so that the one file is complete; opening it sets WAL mode again.
    let journal: String =
        copy.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0)).map_err(DbError::from)?;
    if journal != "delete" {
        return Err(OpenError::new(format!("the copy keeps its journal mode {journal}")));
    }
    // The rows belong to this history, whatever its log id.
    if copy.table_exists(None, "read_models").map_err(DbError::from)? {
        let renamed = "UPDATE read_models SET log = ?1 WHERE log = (SELECT value FROM facts WHERE name = 'log_id')";
        copy.execute(renamed, [done.log_id.0]).map_err(DbError::from)?;
    }
    copy.execute("UPDATE facts SET value = ?1 WHERE name = 'log_id'", [done.log_id.0]).map_err(DbError::from)?;
    schema::forget_token_key(&copy)?;
    copy.close().map_err(|(_, error)| DbError::from(error))?;
    Ok(done)
}

/// Reads the whole copy; returns its last position.
fn check(copy: &Connection) -> Result<Position, OpenError> {
    let verdict: String = copy.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(DbError::from)?;
    if verdict != "ok" {
        return Err(DbError::Corrupt(verdict).into());
    }
    end::check(copy)?;
    let head = rows::head(copy)?;
    let mut position = Position(0);
    while position < head {
        let events = rows::read_log(copy, position, Direction::Forward, ReadBound::events(MAX_READ_EVENTS), head);
        let events = events.map_err(OpenError::new)?;
        position = events.last().map_or(head, |last| last.position);
    }
    Ok(head)
}
