//! Connections that read, in addition to the writing one: each read is a snapshot of the committed and synced data.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::super::error::DbError;

/// Concurrent reads; further ones wait for their turn. Reading is CPU and page cache, so a few are enough.
const MAX_READERS: usize = 4;
/// A reader's page cache, in KiB.
const CACHE_KIB: i64 = 8 * 1024;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

/// Opens the file for reading only.
pub(in super::super) fn open_reader(file: &Path) -> Result<Connection, DbError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(&format!(
        "PRAGMA cache_size = -{CACHE_KIB}; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF;"
    ))?;
    Ok(connection)
}

impl Readers {
    pub(super) fn new(file: PathBuf) -> Self {
        Self { file, idle: Mutex::default(), turns: Arc::new(Semaphore::new(MAX_READERS)) }
    }

    pub(super) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(&self.turns)
    }

    /// Runs `work` on a connection; blocks.
    pub(super) fn run<T, E: From<DbError>>(&self, work: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => open_reader(&self.file)?,
        };
        let result = work(&connection);
        // A connection that is still in a transaction would continue to see an old snapshot.
        if connection.is_autocommit() {
            self.idle.lock().push(connection);
        }
        result
    }

    /// Closes the open connections that are not in use.
    pub(super) fn close(&self) {
        self.idle.lock().clear();
    }
}
