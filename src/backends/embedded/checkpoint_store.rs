//! Checkpoints in a table.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{
    database::{Database, Sync},
    error::DbError,
    event_store::rows::bits,
};
use crate::ports::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore, is_valid_name},
    event_store::Position,
};

/// Checkpoints in a data folder. A save survives the end of the process at once, and a power loss with the next synced commit: until then the
/// previous checkpoint is valid, which costs repeated work, but no event.
#[derive(Clone, Debug)]
pub struct EmbeddedCheckpointStore(Arc<Database>);

impl EmbeddedCheckpointStore {
    /// The checkpoints in an open data folder.
    #[must_use]
    pub const fn new(database: Arc<Database>) -> Self {
        Self(database)
    }
}

#[async_trait]
impl CheckpointStore for EmbeddedCheckpointStore {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        let name = checked(name)?;
        self.0.read(move |connection| Ok(stored(connection, &name)?)).await
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let name = checked(name)?;
        let save = move |connection: &Connection| {
            if let Some(current) = stored(connection, &name)? {
                current.allows(&checkpoint)?;
            }
            Ok(store(connection, &name, checkpoint)?)
        };
        self.0.write(Sync::Later, save).await
    }
}

fn checked(name: &str) -> Result<String, CheckpointError> {
    if is_valid_name(name) { Ok(name.to_owned()) } else { Err(CheckpointError::InvalidName) }
}

fn stored(connection: &Connection, name: &str) -> Result<Option<Checkpoint>, DbError> {
    let sql = "SELECT position, fencing_token, fingerprint FROM checkpoints WHERE name = ?1";
    let row = connection
        .prepare_cached(sql)?
        .query_row([name], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))
        .optional()?;
    Ok(row.map(|(position, token, fingerprint)| Checkpoint {
        position: Position(position.cast_unsigned()),
        fingerprint,
        fencing_token: token.cast_unsigned(),
    }))
}

fn store(connection: &Connection, name: &str, checkpoint: Checkpoint) -> Result<(), DbError> {
    let sql = "INSERT OR REPLACE INTO checkpoints VALUES (?1, ?2, ?3, ?4)";
    let params = params![name, bits(checkpoint.position.0), bits(checkpoint.fencing_token), checkpoint.fingerprint];
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}
