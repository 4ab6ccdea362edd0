//! The only writing connection.

use std::{path::Path, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rusqlite::Connection;

use super::super::{error::DbError, new_store::WRITES, opened_file::OpenedFile};

/// The writer's page cache, in KiB.
const CACHE_KIB: i64 = 64 * 1024;
/// The WAL is checkpointed into the file when it has grown by this many pages of 4 KiB. A higher value makes that rarer, and a restart longer.
const CHECKPOINT_PAGES: i64 = 4_000;
/// The size that a longer WAL is truncated to, in bytes.
const WAL_KEPT_BYTES: i64 = 64 * 1024 * 1024;
/// The size of a probe: like the largest usual commit, so that it does not find space where commits find none.
const PROBE_BYTES: i64 = 64 * 1024;
/// There is no other writer; this is for a backup that opens or closes the file at that moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// When a transaction must outlive a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Sync {
    /// Before the reply.
    Now,
    /// With the next synced transaction: it survives the end of the process at once.
    Later,
}

/// Whether the last write succeeded. Shared with the health check.
#[derive(Debug, Default)]
pub(in super::super) struct WriteHealth(Mutex<Option<DbError>>);

/// A connection that writes one transaction at a time.
#[derive(Debug)]
pub(in super::super) struct WriteConnection {
    connection: Connection,
    sync: Option<Sync>,
    health: Arc<WriteHealth>,
    file: Arc<OpenedFile>,
}

impl WriteHealth {
    pub(in super::super) fn failure(&self) -> Option<DbError> {
        self.0.lock().clone()
    }

    fn note(&self, result: Result<(), DbError>) -> Result<(), DbError> {
        *self.0.lock() = result.clone().err();
        result
    }
}

impl WriteConnection {
    pub(in super::super) fn open(file: &Path) -> Result<Self, DbError> {
        let connection = Connection::open_with_flags(file, WRITES)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(128);
        connection.execute_batch(&format!(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; \
             PRAGMA checkpoint_fullfsync = ON; PRAGMA cache_size = -{CACHE_KIB}; \
             PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA journal_size_limit = {WAL_KEPT_BYTES}; \
             PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
        ))?;
        Ok(Self { connection, sync: None, health: Arc::default(), file: Arc::new(OpenedFile::new(file)) })
    }

    /// Whether SQLite has accepted the settings that make a commit survive a power loss, as read back from it.
    pub(super) fn is_synced(&self) -> Result<bool, DbError> {
        let journal: String = self.connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
        let synchronous: i64 = self.connection.pragma_query_value(None, "synchronous", |row| row.get(0))?;
        Ok(journal == "wal" && synchronous >= 2)
    }

    pub(in super::super) const fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn health(&self) -> Arc<WriteHealth> {
        Arc::clone(&self.health)
    }

    pub(in super::super) fn file(&self) -> &Arc<OpenedFile> {
        &self.file
    }

    pub(in super::super) fn begin(&mut self, sync: Sync) -> Result<(), DbError> {
        self.file.verify()?;
        let result = self.set_sync(sync).and_then(|()| self.run("BEGIN IMMEDIATE"));
        if result.is_err() { self.health.note(result) } else { result }
    }

    /// After an error the transaction has ended, too. With [`DbError::Full`] nothing has been written. After any other error a crash could bring it
    /// back, until another write has succeeded, see [`WriteConnection::probe`].
    pub(in super::super) fn commit(&mut self) -> Result<(), DbError> {
        let result = self.run("COMMIT");
        if result.is_err() {
            self.roll_back();
        }
        self.health.note(result)
    }

    /// Undoes a transaction. A failure of the rollback does not matter: uncommitted data is never visible.
    pub(in super::super) fn roll_back(&mut self) {
        if !self.connection.is_autocommit()
            && let Err(error) = self.run("ROLLBACK")
        {
            tracing::warn!(%error, "a transaction could not be rolled back");
        }
    }

    /// Records that a write failed inside its transaction.
    pub(in super::super) fn note_failure(&self, error: &DbError) {
        let _ = self.health.note(Err(error.clone()));
    }

    /// Writes and syncs as much as a large commit. When that succeeds, the store works again, and a transaction whose commit failed before is
    /// certainly gone: this one has replaced it in the WAL.
    pub(in super::super) fn probe(&mut self) -> Result<(), DbError> {
        self.transaction(Sync::Now, |connection| {
            // Random, since SQLite does not rewrite unchanged data.
            let sql = "INSERT OR REPLACE INTO probe VALUES (1, randomblob(?1))";
            connection.prepare_cached(sql)?.execute([PROBE_BYTES])?;
            Ok(())
        })
    }

    /// Runs `work` as one transaction, rolled back if it fails.
    pub(super) fn transaction<T, E: From<DbError>>(
        &mut self,
        sync: Sync,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.begin(sync)?;
        match work(&self.connection) {
            Ok(value) => {
                self.commit()?;
                Ok(value)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Whether commits are synced is a setting of the connection. One connection for both kinds of transaction, since a second one would make each
    /// drop the other's cache at every write.
    fn set_sync(&mut self, sync: Sync) -> Result<(), DbError> {
        if self.sync != Some(sync) {
            self.sync = None;
            self.connection.execute_batch(match sync {
                Sync::Now => "PRAGMA synchronous = FULL",
                Sync::Later => "PRAGMA synchronous = NORMAL",
            })?;
            self.sync = Some(sync);
        }
        Ok(())
    }

    fn run(&self, sql: &str) -> Result<(), DbError> {
        self.connection.prepare_cached(sql)?.execute([])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_transaction_is_synced_as_requested() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().canonicalize().unwrap().join("test.db");
        std::fs::write(&file, "").unwrap();
        let mut connection = WriteConnection::open(&file).unwrap();
        assert!(connection.is_synced().unwrap());
        for sync in [Sync::Now, Sync::Later, Sync::Later, Sync::Now, Sync::Now] {
            connection.begin(sync).unwrap();
            assert_eq!(connection.is_synced().unwrap(), sync == Sync::Now, "{sync:?}");
            connection.commit().unwrap();
        }
    }
}
