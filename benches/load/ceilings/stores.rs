//! The bare write of each store: the same bytes with the same durability and as many writers, without deciding, indexing by request or publishing.

use std::{path::Path, sync::mpsc, thread};

use async_nats::{HeaderMap, jetstream};
use redis::{Script, aio::MultiplexedConnection};
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

/// How many writes share a transaction.
const MAX_GROUP: usize = 1_024;

/// Where a bare server writes each order.
#[derive(Clone)]
pub enum BareStore {
    /// Nowhere.
    None,
    /// SQLite with a write-ahead log, synced; one writer that commits what waits as a group.
    Sqlite(mpsc::Sender<Write>),
    /// The smallest script that keeps the events of an order and the log: one entry of each.
    Redis(MultiplexedConnection, Script),
    /// One publish, on the condition that the order has no event yet.
    Nats(jetstream::Context),
}

/// The bytes of an event, and who waits for it.
pub type Write = (u64, Vec<u8>, oneshot::Sender<()>);

impl BareStore {
    /// The one at CEILING_STORE, which is a folder or a URL; none where that is not set.
    pub async fn open() -> Self {
        let Ok(url) = std::env::var("CEILING_STORE") else { return Self::None };
        if url.starts_with("redis://") {
            let client = redis::Client::open(url).expect("a URL");
            let connection = client.get_multiplexed_async_connection().await.expect("connects");
            let script = "redis.call('RPUSH', KEYS[1], '1') return redis.call('XADD', KEYS[2], '*', 'e', ARGV[1])";
            return Self::Redis(connection, Script::new(script));
        }
        if url.starts_with("nats://") {
            let servers: Vec<&str> = url.split(',').collect();
            let context = jetstream::new(async_nats::connect(servers).await.expect("connects"));
            let (name, subjects) = ("BARE".to_owned(), vec!["bare.>".to_owned()]);
            let num_replicas =
                std::env::var("CEILING_REPLICAS").map_or(1, |replicas| replicas.parse().expect("a number"));
            let stream = jetstream::stream::Config { name, subjects, num_replicas, ..Default::default() };
            context.create_stream(stream).await.expect("created");
            return Self::Nats(context);
        }
        let (sender, receiver) = mpsc::channel();
        let path = Path::new(&url).join("bare.db");
        thread::spawn(move || write_groups(&path, &receiver));
        Self::Sqlite(sender)
    }

    /// Writes the event of the order `id`; returns once it is durable.
    pub async fn write(&self, id: u64, event: Vec<u8>) {
        match self {
            Self::None => {}
            Self::Sqlite(writer) => {
                let (done, written) = oneshot::channel();
                writer.send((id, event, done)).expect("the writer runs");
                written.await.expect("written");
            }
            Self::Redis(connection, script) => {
                let mut call = script.key(format!("order:{id}"));
                let added = call.key("log").arg(event).invoke_async::<String>(&mut connection.clone()).await;
                added.expect("written");
            }
            Self::Nats(context) => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
                let sent = context.publish_with_headers(format!("bare.{id}"), headers, event.into()).await;
                sent.expect("sent").await.expect("written");
            }
        }
    }
}

fn write_groups(path: &Path, writes: &mpsc::Receiver<Write>) {
    let mut database = Connection::open(path).expect("opens");
    database.pragma_update(None, "journal_mode", "WAL").expect("a write-ahead log");
    database.pragma_update(None, "synchronous", "FULL").expect("synced");
    database
        .execute_batch("CREATE TABLE log (position INTEGER PRIMARY KEY, id INTEGER NOT NULL, event BLOB NOT NULL)")
        .expect("a table");
    while let Ok(first) = writes.recv() {
        let mut group = vec![first];
        group.extend(writes.try_iter().take(MAX_GROUP - 1));
        let transaction = database.transaction().expect("begins");
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO log (id, event) VALUES (?1, ?2)").expect("a statement");
            for (id, event, _) in &group {
                insert.execute(params![id.cast_signed(), event]).expect("inserted");
            }
        }
        transaction.commit().expect("committed");
        for (.., done) in group {
            let _ = done.send(());
        }
    }
}
