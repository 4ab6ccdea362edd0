//! Consumers that NATS has created but does not know yet when they are used: one in twenty on a cluster.

use bytes::Bytes;
use ordersystem::ports::event_store::{
    Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, Revision, StreamId,
};

use crate::nats_server::{JETSTREAM, NatsServer, fresh_prefix};

const EVENTS: Revision = 12;
const READERS: usize = 20;
/// Four of five requests for messages are answered with "no responders".
const HARD_TO_FIND: &str = r#"mappings = { "$JS.API.CONSUMER.MSG.NEXT.*.*": [
    { destination: "nobody.$1.$2", weight: 80% }, { destination: "$JS.API.CONSUMER.MSG.NEXT.$1.$2", weight: 20% } ] }"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_is_repeated_while_no_server_has_the_new_reader() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    for revision in 0..EVENTS {
        let expected = if revision == 0 { ExpectedRevision::NoStream } else { ExpectedRevision::Exactly(revision) };
        let events = vec![Bytes::from_static(b"event")];
        let commit = Commit { id: CommitId::random(), stream: StreamId(1), expected, request: None, events };
        store.append(commit).await.unwrap();
    }
    drop(store);
    server.kill();
    server.start_again_with(&format!("{JETSTREAM}\n{HARD_TO_FIND}"));
    for _ in 0..READERS {
        // A store with nothing in memory.
        let store = server.store_of(&prefix).await;
        let of_stream = store.read_stream(StreamId(1), 1, Direction::Forward, 100).await.expect("read");
        let of_log = store.read_log(Position(0), Direction::Forward, 100).await.expect("read");
        assert_eq!((of_stream.len() as u64, of_log.len() as u64), (EVENTS, EVENTS));
    }
}
