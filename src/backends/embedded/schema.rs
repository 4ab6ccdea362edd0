//! What is in the file, and how files of earlier versions become files of this one.

use rusqlite::Connection;

use super::error::{DbError, OpenError};
use crate::event_store::LogId;

/// One script a version, in order: never changed once released, only added to.
pub(super) const MIGRATIONS: &[&str] =
    &[include_str!("schema.sql"), include_str!("schema-2.sql"), include_str!("schema-3.sql")];
/// Marks the file as ours: "CATG".
const APPLICATION_ID: i32 = 0x4341_5447;

/// The version that this program writes, and the newest that it reads.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The first version that knows where a commit ends, and finds its request by its position.
pub(super) const COMMITS_SINCE: usize = 3;

/// Brings the file to [`VERSION`], a new one as well.
///
/// # Errors
/// [`OpenError`] for a file of a newer version or of another program; it is left as it is.
pub(super) fn migrate(connection: &Connection) -> Result<(), OpenError> {
    let version = check(connection)?;
    for (done, script) in MIGRATIONS.iter().enumerate().skip(version) {
        // A crash between two scripts leaves a file of the version between.
        let result = connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {script} PRAGMA user_version = {}; PRAGMA application_id = {APPLICATION_ID}; COMMIT;",
            done + 1
        ));
        result.map_err(DbError::from)?;
    }
    connection
        .execute(
            "INSERT INTO facts VALUES ('log_id', ?1), ('lease_token', 0) ON CONFLICT DO NOTHING",
            [fastrand::u32(1..)],
        )
        .map_err(DbError::from)?;
    Ok(())
}

/// The version of a file that this program can read; 0 for a new one.
///
/// # Errors
/// As [`migrate`].
pub(super) fn check(connection: &Connection) -> Result<usize, OpenError> {
    let pragma = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let version = pragma("user_version").map_err(DbError::from)?;
    let application = pragma("application_id").map_err(DbError::from)?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(DbError::from)?;
    let is_new = tables == 0 && version == 0 && application == 0;
    if !is_new && application != APPLICATION_ID {
        return Err(OpenError::new("it is a database of another program"));
    }
    match usize::try_from(version) {
        Ok(version) if version <= VERSION => Ok(version),
        _ => Err(OpenError::new(format!(
            "it has schema version {version}, this program knows versions up to {VERSION}: use the newer program that wrote it"
        ))),
    }
}

/// Which log the file holds.
///
/// # Errors
/// [`DbError::Corrupt`] if the file does not say.
pub(super) fn log_id(connection: &Connection) -> Result<LogId, DbError> {
    let value: i64 = connection.query_row("SELECT value FROM facts WHERE name = 'log_id'", [], |row| row.get(0))?;
    match u32::try_from(value) {
        Ok(id) if id != 0 => Ok(LogId(id)),
        _ => Err(DbError::Corrupt(format!("log id {value}"))),
    }
}
