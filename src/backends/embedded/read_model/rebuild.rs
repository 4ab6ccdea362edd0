//! The shadow set of tables, filled while the first one serves.
//!
//! Its indexes are created after the rows are inserted: sorting them once costs far less than keeping them in order during the inserts. Creating them
//! and dropping the old tables are the only long transactions, one for each, since commits wait for the writer in the meantime.

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::{
    super::{
        database::{Database, Sync},
        error::DbError,
    },
    apply,
    slot::Sql,
};
use crate::ports::read_model::{LogCheckpoint, ReadModelError, RowChange, ShadowReadModel};

/// A rebuild in a separate set of tables.
#[derive(Debug)]
pub(super) struct EmbeddedRebuild {
    database: Arc<Database>,
    sql: &'static Sql,
    /// The number of this rebuild, as stored with the tables.
    build: i64,
}

impl EmbeddedRebuild {
    pub(super) async fn begin(database: Arc<Database>) -> Result<Self, ReadModelError> {
        let build = fastrand::i64(1..);
        let claim = move |connection: &Connection| {
            let sql = Sql::served(connection)?.other();
            connection
                .execute("INSERT OR REPLACE INTO read_models VALUES (?1, 0, ?2, 0, 0, 0)", params![sql.slot, build])?;
            Ok::<_, DbError>(sql)
        };
        let sql = database.write(Sync::Later, claim).await?;
        let rebuild = Self { database, sql, build };
        rebuild.drop_tables(sql).await?;
        rebuild.write(|connection, sql| Ok(connection.execute_batch(&sql.create).map_err(DbError::from)?)).await?;
        Ok(rebuild)
    }

    /// Runs `work` as a transaction, if this rebuild is not over.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, &'static Sql) -> Result<T, ReadModelError> + Send + 'static,
    ) -> Result<T, ReadModelError> {
        let (sql, build) = (self.sql, self.build);
        let write = move |connection: &Connection| {
            if sql.build(connection)? != Some(build) {
                return Err(ReadModelError::Unavailable("this rebuild has ended".to_owned()));
            }
            work(connection, sql)
        };
        self.database.write(Sync::Later, write).await
    }

    /// Each table and index in a separate transaction, so that waiting writes get their turn between them.
    async fn drop_tables(&self, of: &'static Sql) -> Result<(), ReadModelError> {
        for statement in &of.drop {
            let drop = move |connection: &Connection| Ok::<_, DbError>(connection.execute_batch(statement)?);
            self.database.write(Sync::Later, drop).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl ShadowReadModel for EmbeddedRebuild {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        self.write(move |connection, sql| apply(connection, sql, changes, checkpoint)).await
    }

    async fn index(&self) -> Result<(), ReadModelError> {
        for index in &self.sql.indexes {
            let index = index.replace("CREATE INDEX", "CREATE INDEX IF NOT EXISTS");
            self.write(move |connection, _| Ok(connection.execute_batch(&index).map_err(DbError::from)?)).await?;
        }
        Ok(())
    }

    async fn promote(&self) -> Result<(), ReadModelError> {
        self.index().await?;
        let swap = |connection: &Connection, sql: &'static Sql| {
            LogCheckpoint::may_replace(sql.place(connection)?, sql.other().place(connection)?)?;
            let swap = "UPDATE read_models SET is_served = 1 - is_served, build = 0";
            connection.execute(swap, []).map_err(DbError::from)?;
            Ok(())
        };
        self.write(swap).await?;
        // From here on the new set serves. If the old one cannot be dropped now, that is done when the folder is opened, or by the next rebuild.
        let old = self.sql.other();
        let cleared = match self.drop_tables(old).await {
            Ok(()) => self.database.write(Sync::Later, forget(old, 0)).await,
            failed => failed,
        };
        if let Err(error) = cleared {
            tracing::warn!(%error, "cannot drop the tables of the old read model yet");
        }
        Ok(())
    }

    async fn discard(&self) -> Result<(), ReadModelError> {
        // Ended first, and only then dropped: tables of an active rebuild are never incomplete.
        match self.write(|_, _| Ok(())).await {
            Ok(()) => {}
            Err(ReadModelError::Unavailable(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.drop_tables(self.sql).await?;
        self.database.write(Sync::Later, forget(self.sql, self.build)).await
    }
}

fn forget(sql: &'static Sql, build: i64) -> impl FnOnce(&Connection) -> Result<(), ReadModelError> + Send + 'static {
    move |connection| {
        let delete = "DELETE FROM read_models WHERE slot = ?1 AND is_served = 0 AND build = ?2";
        connection.execute(delete, params![sql.slot, build]).map_err(DbError::from)?;
        Ok(())
    }
}
