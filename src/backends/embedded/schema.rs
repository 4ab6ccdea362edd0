//! The schema of the file, and the migration of earlier versions to this one.

use rusqlite::{Connection, OptionalExtension as _};

use super::error::{DbError, OpenError};
use crate::ports::event_store::{LogId, TokenKey};

/// One script per version, in order: never changed once released, only added to.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema-2.sql"),
    include_str!("schema-3.sql"),
    include_str!("schema-4.sql"),
];
/// Marks the file as ours: "CATG".
const APPLICATION_ID: i32 = 0x4341_5447;

/// The version that this program writes, and the newest that it reads.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// The first version that records the log of its read model's rows.
pub(super) const READ_MODELS_SINCE: usize = 2;

/// The first version that records the end of its log.
pub(super) const END_SINCE: usize = 4;

/// The first version that records the end of each commit, and finds its request by its position.
pub(super) const COMMITS_SINCE: usize = 3;

/// Migrates the file to [`VERSION`], a new one as well.
///
/// # Errors
/// [`OpenError`] for a file of a newer version or of another program; it is left unchanged.
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
    // A log with events has had an id: if that is gone, other data is missing as well.
    connection
        .execute(
            "INSERT INTO facts SELECT name, value FROM (SELECT 'log_id' AS name, ?1 AS value UNION ALL SELECT 'lease_token', 0) \
             WHERE NOT EXISTS (SELECT 1 FROM log) ON CONFLICT DO NOTHING",
            [fastrand::u32(1..)],
        )
        .map_err(DbError::from)?;
    make_token_key(connection)?;
    Ok(())
}

/// The version of an open file.
pub(super) fn version(connection: &Connection) -> Result<usize, DbError> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    Ok(usize::try_from(version).unwrap_or(0))
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
    let tables = tables_version(connection).map_err(DbError::from)?;
    match usize::try_from(version) {
        // A migration would begin with a script that was run before.
        Ok(version) if version < tables => Err(OpenError::new(format!(
            "the header of the file is damaged (byte 60, schema version: {version}, and its tables are those of version {tables}): restore a backup"
        ))),
        Ok(version) if version <= VERSION => Ok(version),
        Err(_) => Err(OpenError::new(format!(
            "the header of the file is damaged (byte 60, schema version: {version}, and no version is negative): restore a backup"
        ))),
        _ => Err(OpenError::new(format!(
            "it has schema version {version}, this program knows versions up to {VERSION}: use the newer program that wrote it"
        ))),
    }
}

/// The earliest version that has all the tables of the file.
fn tables_version(connection: &Connection) -> rusqlite::Result<usize> {
    let main = Some("main");
    Ok(if connection.column_exists(main, "checkpoints", "fingerprint")? {
        END_SINCE
    } else if connection.table_exists(main, "commits")? {
        COMMITS_SINCE
    } else if connection.table_exists(main, "read_models")? {
        READ_MODELS_SINCE
    } else {
        usize::from(connection.table_exists(main, "log")?)
    })
}

/// The id of the file's log.
///
/// # Errors
/// [`DbError::Corrupt`] if the file has none.
pub(super) fn log_id(connection: &Connection) -> Result<LogId, DbError> {
    let value: i64 = connection.query_row("SELECT value FROM facts WHERE name = 'log_id'", [], |row| row.get(0))?;
    match u32::try_from(value) {
        Ok(id) if id != 0 => Ok(LogId(id)),
        _ => Err(DbError::Corrupt(format!("log id {value}"))),
    }
}

/// The facts that hold the key of the log, 64 bits each: a fact is a number, in the files of all versions.
const TOKEN_KEY: [&str; 4] = ["token_key_1", "token_key_2", "token_key_3", "token_key_4"];

/// Creates the key of the log unless it has one: a log of an earlier version has none.
fn make_token_key(connection: &Connection) -> Result<(), OpenError> {
    if has_token_key(connection)? {
        return Ok(());
    }
    let key = TokenKey::random().map_err(OpenError::new)?;
    let mut values = [0; TOKEN_KEY.len()];
    for (value, bytes) in values.iter_mut().zip(key.bytes().as_chunks().0) {
        *value = i64::from_be_bytes(*bytes);
    }
    // All or none of them, since one statement writes them.
    let insert =
        "INSERT INTO facts VALUES ('token_key_1', ?1), ('token_key_2', ?2), ('token_key_3', ?3), ('token_key_4', ?4)";
    connection.execute(insert, values).map_err(DbError::from)?;
    Ok(())
}

fn has_token_key(connection: &Connection) -> Result<bool, DbError> {
    let count = "SELECT count(*) FROM facts WHERE name LIKE 'token_key_%'";
    Ok(connection.query_row(count, [], |row| row.get::<_, i64>(0))? > 0)
}

/// The key of the log.
///
/// # Errors
/// [`DbError::Corrupt`] if a part of it is missing.
pub(super) fn token_key(connection: &Connection) -> Result<TokenKey, DbError> {
    let mut key = [0; TokenKey::BYTES];
    for (name, bytes) in TOKEN_KEY.into_iter().zip(key.as_chunks_mut().0) {
        let part = connection.query_row("SELECT value FROM facts WHERE name = ?1", [name], |row| row.get::<_, i64>(0));
        let part = part.optional()?.ok_or_else(|| DbError::Corrupt(format!("the fact {name} is missing")))?;
        *bytes = part.to_be_bytes();
    }
    Ok(TokenKey::of(key))
}

/// Deletes the key: the log has become another one, and gets its own when it is opened.
pub(super) fn forget_token_key(connection: &Connection) -> Result<(), DbError> {
    connection.execute("DELETE FROM facts WHERE name LIKE 'token_key_%'", [])?;
    Ok(())
}
