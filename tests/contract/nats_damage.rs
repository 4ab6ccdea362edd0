//! A log in NATS with a damaged file: every read reports the missing messages, and a running node is not affected.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use ordersystem::{
    backends::nats::event_store::NatsEventStore,
    ports::event_store::{Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, StoreError, StreamId},
};

use crate::nats_server::{NatsServer, fresh_prefix};

/// With this size they fill more than two blocks of the server's files.
const ORDERS: u64 = 240;
const EVENT_BYTES: usize = 100_000;
/// More consumers than the readers of a node may keep for the next read.
const FEW_CONSUMERS: usize = 20;

async fn fill(store: &NatsEventStore) {
    for order in 1..=ORDERS {
        let events = vec![Bytes::from(vec![order as u8; EVENT_BYTES])];
        let (stream, expected) = (StreamId(order), ExpectedRevision::NoStream);
        store.append(Commit { id: CommitId::random(), stream, expected, request: None, events }).await.unwrap();
    }
}

/// The message files of a stream, oldest first.
fn blocks(server: &NatsServer, stream: &str) -> Vec<PathBuf> {
    fn find(folder: &Path, name: &str) -> Option<PathBuf> {
        let entries: Vec<_> = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
        let here = entries.iter().find(|path| path.is_dir() && path.ends_with(name)).cloned();
        here.or_else(|| entries.iter().find_map(|path| find(path, name)))
    }
    let folder = find(server.folder.path(), stream).expect("the stream is stored").join("msgs");
    let files = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path());
    let mut blocks: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "blk")).collect();
    blocks.sort_by_key(|path| path.file_stem().and_then(|stem| stem.to_str()?.parse::<u32>().ok()));
    blocks
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_damaged_data_report_it_and_leave_no_consumers() {
    let mut server = NatsServer::start_current("");
    let prefix = fresh_prefix();
    fill(&server.store_of(&prefix).await).await;
    server.kill();
    let blocks = blocks(&server, &format!("{prefix}-log"));
    assert!(blocks.len() >= 3, "{blocks:?}");
    let mut bytes = std::fs::read(&blocks[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].iter_mut().for_each(|byte| *byte ^= 0xff);
    std::fs::write(&blocks[1], bytes).unwrap();
    server.start_again();

    let store = server.store_of(&prefix).await;
    let (mut damaged, mut position) = (0, Position(0));
    // As in an audit: continues after an unreadable message.
    for _ in 0..2_000 {
        match store.read_log(position, Direction::Forward, 8).await {
            Ok(events) if events.is_empty() => break,
            Ok(events) => {
                assert!(events.iter().all(|event| event.payload.iter().all(|byte| *byte == event.stream.0 as u8)));
                position = events.last().unwrap().position;
            }
            Err(StoreError::Corrupt(what)) => {
                assert!(what.contains("missing"), "{what}");
                damaged += 1;
                // The next message, whose positions begin 256 further.
                position = Position((position.0 / 256 + 1) * 256 + 255);
            }
            Err(error) => panic!("{error}"),
        }
    }
    println!("{damaged} reads met damage");
    assert!(damaged > 5, "{damaged}");
    let stream = server.raw().await.get_stream(format!("{prefix}-log")).await.unwrap();
    let consumers = stream.cached_info().state.consumer_count;
    assert!(consumers <= FEW_CONSUMERS, "{consumers} consumers after {damaged} damaged reads");
}
