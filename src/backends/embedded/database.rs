//! The opened file of a data folder: one thread that writes, some connections that read, and the end of the log in memory.

mod pending;
mod queue;
mod readers;
mod write_connection;

use std::{path::Path, sync::Arc, thread::JoinHandle};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

pub use super::error::OpenError;
pub(super) use pending::PendingCommit;
pub(super) use queue::Refused;
pub(super) use readers::open_reader;
pub(super) use write_connection::{Sync, WriteConnection};

use self::{
    queue::{CloseOnDrop, Queue},
    readers::Readers,
    write_connection::WriteHealth,
};
use super::{
    data_dir::{DATABASE, DataDir, READ_MODEL},
    end,
    error::DbError,
    event_store::{append::LogWriter, tail::Tail},
    file_header, new_store,
    open_marker::{self, OpenMarker},
    opened_file::OpenedFile,
    read_model::slot::clear_left_over,
    schema, start_check,
};
use crate::{
    ports::event_store::{AppendError, Commit, Durability, LogId, LogLoss, Position, StoreError, TokenKey},
    private_files,
};

/// An open data folder, held by this process alone. When the last user drops it, waiting work is written, the WAL is checkpointed into the file, and
/// another process may open it; that drop waits until all is done.
#[derive(Debug)]
pub struct Database {
    log_id: LogId,
    token_key: TokenKey,
    durability: Durability,
    /// Why it is not durable.
    not_durable: Option<String>,
    tail: Arc<Tail>,
    readers: Readers,
    queue: Arc<Queue>,
    health: Arc<WriteHealth>,
    file: Arc<OpenedFile>,
    /// The damage found when the file was opened.
    damage: Option<String>,
    writer: Option<JoinHandle<()>>,
}

impl Database {
    /// Opens the data folder `dir`, creating it if it does not exist. A large log does not make this slower: SQLite recovers a file that was not
    /// closed properly from its WAL, every row is verified when it is read, and some of the index rows are checked here (`start_check`).
    ///
    /// # Errors
    /// [`OpenError`] names the folder: in use by another process, written by a newer version, damaged, not writable.
    pub fn open(dir: &Path) -> Result<Arc<Self>, OpenError> {
        let named = |error: OpenError| error.at(dir);
        let dir = DataDir::take(dir).map_err(named)?;
        new_store::make_if_missing(&dir.file(DATABASE))?;
        Self::open_file(dir, DATABASE).map_err(named).map(Arc::new)
    }

    /// Like [`Database::open`], for a read model alone, in a separate file: for a node whose log is elsewhere. Deleting that file loses nothing but
    /// the time to rebuild it.
    ///
    /// # Errors
    /// As [`Database::open`], naming the file.
    pub fn open_for_read_model(dir: &Path) -> Result<Arc<Self>, OpenError> {
        let taken = DataDir::take(dir).map_err(|error| error.at(dir))?;
        Self::open_file(taken, READ_MODEL).map_err(|error| error.at(&dir.join(READ_MODEL))).map(Arc::new)
    }

    fn open_file(dir: DataDir, name: &str) -> Result<Self, OpenError> {
        let file = dir.file(name);
        let is_new = !private_files::is_file(&file).map_err(OpenError::new)?;
        if is_new {
            private_files::make_file(&file).map_err(OpenError::new)?;
        }
        file_header::check(&file)?;
        // A read model is rebuilt from its log.
        let is_log = name == DATABASE;
        if is_log {
            open_marker::check(&file)?;
        }
        let mut connection = WriteConnection::open(&file)?;
        schema::migrate(connection.connection())?;
        end::check(connection.connection())?;
        clear_left_over(connection.connection())?;
        // Only a write proves that the folder is writable.
        connection.probe()?;
        let marker = if is_log { Some(OpenMarker::set(&file)?) } else { None };
        let not_durable =
            if connection.is_synced()? { dir.volatile() } else { Some("SQLite does not sync each commit".to_owned()) };
        if is_new {
            tracing::info!("made a new read model in {}", file.display());
        }
        let damage = start_check::damage(connection.connection());
        if let Some(what) = &damage {
            // The intact data is served: the rows of the log are verified when they are read.
            tracing::error!(
                file = %file.display(),
                what,
                "the file is damaged: `ordersystem verify` lists all damage; restore a backup"
            );
        }
        let log_id = schema::log_id(connection.connection())?;
        let token_key = schema::token_key(connection.connection())?;
        let tail = Arc::new(Tail::load(connection.connection())?);
        let log = LogWriter::load(connection.connection(), Arc::clone(&tail))?;
        let queue = Arc::new(Queue::default());
        let (health, opened) = (connection.health(), Arc::clone(connection.file()));
        let work = Arc::clone(&queue);
        let writer = std::thread::Builder::new()
            .name("embedded-writer".to_owned())
            .spawn(move || write(&work, connection, log, marker, dir))?;
        Ok(Self {
            log_id,
            token_key,
            durability: if not_durable.is_none() { Durability::Machine } else { Durability::Process },
            not_durable,
            tail,
            readers: Readers::new(file),
            queue,
            health,
            file: opened,
            damage,
            writer: Some(writer),
        })
    }

    pub(super) const fn log_id(&self) -> LogId {
        self.log_id
    }

    pub(super) const fn token_key(&self) -> TokenKey {
        self.token_key
    }

    pub(super) const fn durability(&self) -> Durability {
        self.durability
    }

    pub(super) fn not_durable(&self) -> Option<&str> {
        self.not_durable.as_deref()
    }

    /// The end of the log.
    ///
    /// # Errors
    /// [`DbError::Unavailable`] if the file was lost when last verified.
    pub(super) fn tail(&self) -> Result<&Tail, DbError> {
        self.file.last_verified().map(|()| &*self.tail)
    }

    /// Wakes after an append.
    pub(super) fn wake(&self) -> watch::Receiver<Position> {
        self.tail.subscribe()
    }

    /// Whether the folder no longer has the file.
    pub(super) fn loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.file.loss()
    }

    pub(super) fn append(&self, pending: PendingCommit) -> Result<(), Refused> {
        self.queue.push_commit(pending)
    }

    /// Appends `commits` as one transaction of the writer.
    pub(super) async fn append_all(&self, commits: Vec<Commit>) -> Result<Position, AppendError> {
        let (reply, answer) = oneshot::channel();
        let task = move |connection: &mut WriteConnection, log: &mut LogWriter| {
            // The caller may have gone in the meantime.
            let _ = reply.send(log.append_all(connection, &commits));
        };
        let refused = |refused: Refused| StoreError::Unavailable(refused.to_string());
        self.queue.push_task(Box::new(task)).map_err(refused)?;
        answer.await.map_err(|_| AppendError::OutcomeUnknown("the writer has ended".to_owned()))?
    }

    /// Runs `work` on a reading connection, off the threads of the runtime.
    pub(super) async fn read<T, E>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let ended = |_| DbError::Unavailable("the reader has ended".to_owned());
        let turn = self.readers.turns().acquire_owned().await.map_err(|_| ended(()))?;
        let this = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            // A connection that is opened now would read what is in the place of the file.
            let result = this.file.verify().map_err(E::from).and_then(|()| this.readers.run(work));
            drop(turn);
            result
        });
        reading.await.map_err(|_| ended(()))?
    }

    /// Runs `work` as one transaction of the writer, between two batches of commits.
    pub(super) async fn write<T, E>(
        &self,
        sync: Sync,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = move |connection: &mut WriteConnection, _: &mut LogWriter| {
            // The caller may have gone in the meantime.
            let _ = reply.send(connection.transaction(sync, work));
        };
        self.queue.push_task(Box::new(task)).map_err(|refused| DbError::Unavailable(refused.to_string()))?;
        answer.await.map_err(|_| DbError::Unavailable("the writer has ended".to_owned()))?
    }

    /// Whether it is the file that was opened, readable, and writable according to the last write; if that failed, tries again.
    pub(super) async fn check(self: &Arc<Self>) -> Result<(), DbError> {
        self.file.verify()?;
        if let Some(what) = &self.damage {
            return Err(DbError::Corrupt(what.clone()));
        }
        self.read(|connection| schema::log_id(connection).map(drop)).await?;
        if self.health.failure().is_some() {
            return self.probe().await;
        }
        // A writer that has ended accepts no more work; otherwise an empty task costs nothing.
        let (reply, answer) = oneshot::channel();
        self.task(reply, |_| Ok(()), answer).await
    }

    async fn probe(&self) -> Result<(), DbError> {
        let (reply, answer) = oneshot::channel();
        self.task(reply, WriteConnection::probe, answer).await
    }

    async fn task(
        &self,
        reply: oneshot::Sender<Result<(), DbError>>,
        work: fn(&mut WriteConnection) -> Result<(), DbError>,
        answer: oneshot::Receiver<Result<(), DbError>>,
    ) -> Result<(), DbError> {
        let task = move |connection: &mut WriteConnection, _: &mut LogWriter| drop(reply.send(work(connection)));
        self.queue.push_task(Box::new(task)).map_err(|refused| DbError::Unavailable(refused.to_string()))?;
        answer.await.map_err(|_| DbError::Unavailable("the writer has ended".to_owned()))?
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Readers first: the last connection to close checkpoints the WAL, which only the writer can.
        self.readers.close();
        self.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the embedded store has panicked");
        }
    }
}

/// The writer thread. The folder is released last, when the file is closed.
fn write(
    queue: &Arc<Queue>,
    mut connection: WriteConnection,
    mut log: LogWriter,
    marker: Option<OpenMarker>,
    dir: DataDir,
) {
    let closing = CloseOnDrop(Arc::clone(queue));
    while let Some(work) = queue.take() {
        if !work.commits.is_empty() {
            log.append(&mut connection, work.commits);
        }
        if let Some(task) = work.task {
            task(&mut connection, &mut log);
        }
    }
    drop(closing);
    drop(marker);
    drop(connection);
    drop(dir);
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "too many writes are waiting",
            Self::Closed => "the writer has ended",
        })
    }
}
