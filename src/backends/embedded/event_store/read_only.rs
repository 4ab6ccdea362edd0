//! The log of a data folder for read-only callers: it works whether or not a service uses the folder, and changes nothing in it.

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::{sync::watch, task::JoinHandle};

use super::{commits, requests, rows};
use crate::{
    backends::embedded::{
        data_dir::{self, DATABASE},
        database::open_reader,
        end,
        error::{DbError, OpenError},
        file_header, open_marker, schema,
    },
    ports::event_store::{
        AppendError, Appended, Commit, Direction, Durability, EventStore, IndexDamage, LogId, Position, ReadBound,
        RecordedCommit, RequestKey, Revision, StoreError, StoredEvent, StreamId, TokenKey,
    },
};

/// How often it checks whether a service has appended events.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// An [`EventStore`] that refuses every append.
#[derive(Debug)]
pub struct ReadOnlyEventStore {
    log_id: LogId,
    connection: Arc<Mutex<Connection>>,
    latest: watch::Sender<Position>,
    watch: JoinHandle<()>,
}

impl ReadOnlyEventStore {
    /// Opens the log in the folder `dir`; must be called within a tokio runtime. A file of an earlier version is read as it is at this moment, even
    /// if a service writes to it in the meantime; one of this version is read as it grows.
    ///
    /// # Errors
    /// [`OpenError`] names the folder: it is empty, of another program, or of a newer version.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_file(dir).map_err(|error| error.at(dir))
    }

    fn open_file(dir: &Path) -> Result<Self, OpenError> {
        let file = data_dir::database_in(dir)?;
        file_header::check(&file)?;
        open_marker::check(&file)?;
        let connection = open_reader(&file)?;
        match schema::check(&connection)? {
            0 => return Err(OpenError::new(format!("there is no log in {DATABASE}"))),
            earlier if earlier < schema::COMMITS_SINCE => add_commits(&connection).map_err(DbError::from)?,
            _ => {}
        }
        let log_id = schema::log_id(&connection)?;
        let latest = watch::Sender::new(rows::head(&connection)?);
        let connection = Arc::new(Mutex::new(connection));
        let watch = tokio::spawn(watch_head(Arc::clone(&connection), latest.clone()));
        Ok(Self { log_id, connection, latest, watch })
    }

    async fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        on(&self.connection, work).await
    }
}

impl Drop for ReadOnlyEventStore {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

/// Adds, for this connection alone, the tables that a file of an earlier version lacks. The transaction that begins here keeps them valid: a service
/// of that version would continue to write without them.
fn add_commits(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "BEGIN; \
         CREATE TEMP TABLE commits AS SELECT position, events FROM main.requests WHERE events > 1; \
         CREATE INDEX temp.commits_by_position ON commits (position); \
         CREATE TEMP TABLE requests AS SELECT * FROM main.requests; \
         CREATE INDEX temp.requests_by_position ON requests (position); \
         CREATE INDEX temp.requests_by_id ON requests (scope, stream, id);",
    )
}

async fn watch_head(connection: Arc<Mutex<Connection>>, latest: watch::Sender<Position>) {
    loop {
        tokio::time::sleep(POLL_INTERVAL).await;
        if let Ok(head) = on(&connection, rows::head).await {
            latest.send_if_modified(|last| std::mem::replace(last, head) != head);
        }
    }
}

/// Runs `work` off the threads of the runtime.
async fn on<T, E>(
    connection: &Arc<Mutex<Connection>>,
    work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<DbError> + Send + 'static,
{
    let connection = Arc::clone(connection);
    let reading = tokio::task::spawn_blocking(move || work(&connection.lock()));
    reading.await.map_err(|_| DbError::Unavailable("the reader has ended".to_owned()))?
}

#[async_trait]
impl EventStore for ReadOnlyEventStore {
    fn log_id(&self) -> Option<LogId> {
        Some(self.log_id)
    }

    /// `None`: a read-only store issues no tokens.
    fn token_key(&self) -> Option<TokenKey> {
        None
    }

    fn connections(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }

    /// None: no write is ever acknowledged.
    fn durability(&self) -> Durability {
        Durability::None
    }

    async fn append(&self, _: Commit) -> Result<Appended, AppendError> {
        Err(StoreError::Unavailable("the log is open for reading only".to_owned()).into())
    }

    async fn find_request(&self, stream: StreamId, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let request = request.clone();
        self.read(move |connection| requests::find(connection, stream, &request)).await
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.read(move |connection| rows::read_stream(connection, stream, from, direction, max_events)).await
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let read = move |connection: &Connection| {
            let head = rows::head(connection)?;
            rows::read_log(connection, from, direction, ReadBound::events(max_events), head)
        };
        self.read(read).await
    }

    async fn read_commits(&self, from: Position, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        let read = move |connection: &Connection| {
            let head = rows::head(connection)?;
            if max_events == 0 || from >= head {
                return Ok(Vec::new());
            }
            commits::read(connection, from, max_events, head)
        };
        self.read(read).await
    }

    async fn head(&self) -> Result<Position, StoreError> {
        self.read(|connection| Ok(rows::head(connection)?)).await
    }

    async fn check_indexes(&self) -> Result<Vec<IndexDamage>, StoreError> {
        self.read(|connection| Ok(end::audit(connection)?.into_iter().map(IndexDamage::of).collect())).await
    }

    fn wake(&self) -> watch::Receiver<Position> {
        self.latest.subscribe()
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.read(|connection| Ok(schema::log_id(connection).map(drop)?)).await
    }
}
