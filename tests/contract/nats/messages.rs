//! The messages that the store sends and stores.

use super::*;

/// The messages that the client of a store sends in a second beside the work: the requests of its follower of the log, and what has to be
/// repeated where a batch took longer than a request waits, so that a busy machine may need more messages for the same work.
const OTHERS_A_SECOND: u64 = 10;

/// The number of messages that the client of a store has sent for `work`, without those that the time taken explains.
async fn sent(nats: &Nats, work: impl Future<Output = ()>) -> u64 {
    let count = || nats.client().statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    let (before, since) = (count(), Instant::now());
    work.await;
    (count() - before).saturating_sub(since.elapsed().as_secs() * OTHERS_A_SECOND)
}

#[tokio::test(flavor = "multi_thread")]
async fn long_logs_and_long_orders_are_read_in_batches() {
    let server = shared();
    let prefix = fresh_prefix();
    const ORDER: u64 = 3_000;
    const LOG: u64 = 100_000;
    let store = server.store_of(&prefix).await;
    for revision in 0..ORDER {
        store.append(commit(1, ExpectedRevision::Exactly(revision), &format!("{revision}"))).await.unwrap();
    }
    let template = store.append(commit(2, ExpectedRevision::NoStream, "other")).await.unwrap();
    // The rest is the same message repeated, published without waiting: a follower of the log does not compare revisions.
    let raw = server.raw().await;
    let stream = raw.get_stream(format!("{prefix}-log")).await.unwrap();
    let message = stream.get_raw_message(template.position.0 >> 8).await.unwrap().payload;
    let client = async_nats::connect(server.url()).await.unwrap();
    for count in ORDER + 1..LOG {
        client.publish(format!("{prefix}.log.2"), message.clone()).await.unwrap();
        if count % 10_000 == 0 {
            client.flush().await.unwrap();
        }
    }
    client.flush().await.unwrap();
    drop(store);
    // Before the node starts: its follower would read messages as they arrive, with requests that count here.
    until("all messages are stored", async || {
        let stream = raw.get_stream(format!("{prefix}-log")).await.unwrap();
        stream.cached_info().state.last_sequence > LOG
    })
    .await;
    // A node that starts now has none of it in memory.
    let nats = server.connect_to(&prefix).await;
    let fresh = NatsEventStore::new(nats.clone());
    fresh.until_verified().await.unwrap();
    let forward = sent(&nats, async {
        let (mut from, mut count) = (Position(0), 0);
        loop {
            let events = fresh.read_log(from, Direction::Forward, usize::MAX).await.unwrap();
            let Some(last) = events.last() else { break };
            (from, count) = (last.position, count + events.len() as u64);
        }
        assert_eq!(count, LOG);
    });
    let forward = forward.await;
    assert!(forward < 100, "{LOG} events took {forward} requests");
    let backward = sent(&nats, async {
        let events = fresh.read_log(Position(u64::MAX), Direction::Backward, 4_000).await.unwrap();
        assert_eq!(events.len(), 4_000);
    });
    let backward = backward.await;
    assert!(backward < 20, "4 000 events backward took {backward} requests");
    let order = sent(&nats, async {
        for direction in [Direction::Forward, Direction::Backward] {
            let from = if direction == Direction::Forward { 1 } else { u64::MAX };
            let events = fresh.read_stream(StreamId(1), from, direction, usize::MAX).await.unwrap();
            assert_eq!(events.len() as u64, ORDER);
            assert!(events.is_sorted_by_key(|event| match direction {
                Direction::Forward => event.revision,
                Direction::Backward => u64::MAX - event.revision,
            }));
        }
        // By pages, each starting where the previous one ended.
        let mut from = 1;
        loop {
            let events = fresh.read_stream(StreamId(1), from, Direction::Forward, 100).await.unwrap();
            let Some(last) = events.last() else { break };
            assert_eq!(events[0].revision, from);
            from = last.revision + 1;
        }
        assert_eq!(from, ORDER + 1);
    });
    let order = order.await;
    assert!(order < 150, "an order of {ORDER} events took {order} requests");
    // Its state is found for an append that needs every request id.
    let append = sent(&nats, async {
        let request = RequestKey { scope: RequestScope::Stream, id: "pay".into(), fingerprint: 1 };
        let pay = Commit { request: Some(request), ..commit(1, ExpectedRevision::Exactly(ORDER), "pay") };
        assert_eq!(fresh.append(pay).await.unwrap().first_revision, ORDER + 1);
    });
    let append = append.await;
    assert!(append < 20, "an append to an order of {ORDER} events took {append} requests");
    let one = sent(&nats, async {
        fresh.append(commit(1, ExpectedRevision::Exactly(ORDER + 1), "next")).await.unwrap();
    });
    let one = one.await;
    assert!(one <= 3, "an append to a known order is one request, but for the follower of the log: {one}");
}

#[tokio::test]
async fn a_foreign_message_is_named_and_neither_returned_nor_skipped() {
    let server = shared();
    let prefix = fresh_prefix();
    let raw = server.raw().await;
    let writer = server.store_of(&prefix).await;
    let good = writer.append(commit(1, ExpectedRevision::Any, "good")).await.unwrap();
    raw.publish(format!("{prefix}.log.1"), "not ours".into()).await.unwrap().await.unwrap();
    // A commit of one order under the subject of another.
    let stream = raw.get_stream(format!("{prefix}-log")).await.unwrap();
    let message = stream.get_raw_message(good.position.0 >> 8).await.unwrap().payload;
    raw.publish(format!("{prefix}.log.5"), message).await.unwrap().await.unwrap();
    // One store that has it in memory, and one that has to fetch it.
    sleep(Duration::from_millis(300)).await;
    for store in [writer, server.store_of(&prefix).await] {
        let read = store.read_log(Position(0), Direction::Forward, 10).await.unwrap();
        assert_eq!(read.iter().map(text).collect::<Vec<_>>(), ["good"], "what is whole is read");
        let corrupt = |read: Result<Vec<StoredEvent>, StoreError>, name: &str| match read {
            Err(StoreError::Corrupt(what)) => assert!(what.contains(name), "{what}"),
            other => panic!("{other:?}"),
        };
        corrupt(store.read_log(good.position, Direction::Forward, 10).await, "message 3 of the log");
        corrupt(store.read_log(Position(u64::MAX), Direction::Backward, 10).await, "message 4 of the log");
        corrupt(store.read_stream(StreamId(1), 1, Direction::Forward, 10).await, "checksum");
        corrupt(store.read_stream(StreamId(5), 1, Direction::Forward, 10).await, "order 1");
        let refused = store.append(commit(5, ExpectedRevision::NoStream, "x")).await;
        assert!(matches!(refused, Err(AppendError::Store(StoreError::Corrupt(_)))), "{refused:?}");
    }
}

#[tokio::test]
async fn streams_and_messages_are_as_documented() {
    let server = shared();
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    let paid = commit(9, ExpectedRevision::NoStream, "paid");
    store.append(paid.clone()).await.unwrap();
    store.append(create(8, "create-1", "created")).await.unwrap();
    let raw = server.raw().await;
    for (name, subjects, messages) in [("log", "log.*", 3), ("requests", "request.*", 1)] {
        let mut stream = raw.get_stream(format!("{prefix}-{name}")).await.unwrap();
        let info = stream.info().await.unwrap();
        assert_eq!(info.config.subjects, [format!("{prefix}.{subjects}")]);
        assert_eq!(info.state.messages, messages);
        assert!(info.config.deny_delete && info.config.deny_purge && info.config.max_age.is_zero());
        assert_eq!((info.config.max_messages, info.config.max_bytes), (-1, -1));
        assert!(stream.delete_message(1).await.is_err() && stream.purge().await.is_err());
    }
    let stream = raw.get_stream(format!("{prefix}-log")).await.unwrap();
    let message = stream.get_last_raw_message_by_subject(&format!("{prefix}.log.9")).await.unwrap();
    assert_eq!(message.headers.get("Nats-Msg-Id").unwrap().as_str(), format!("{:032x}", paid.id.0));
    let first = stream.get_raw_message(1).await.unwrap();
    assert_eq!(first.subject.as_str(), format!("{prefix}.log.id"));
    assert!(String::from_utf8_lossy(&first.payload).ends_with(&store.log_id().unwrap().0.to_string()));
}

#[tokio::test]
async fn an_append_to_an_order_that_the_store_has_read_is_one_message() {
    let nats = shared().connect_to(&crate::nats_server::fresh_prefix()).await;
    let store = NatsEventStore::new(nats.clone());
    store.until_verified().await.unwrap();
    for stream in 1..=10 {
        store.append(commit(stream, ExpectedRevision::NoStream, "first")).await.unwrap();
    }
    let sent = || nats.client().statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    let mut fewest = u64::MAX;
    for revision in 1..=20 {
        let before = sent();
        for stream in 1..=10 {
            let next = commit(stream, ExpectedRevision::Exactly(revision), "next");
            store.append(next).await.unwrap();
        }
        fewest = fewest.min(sent() - before);
    }
    // In addition, the live tail and its checks send a message now and then; on a busy machine, in most rounds.
    assert!((10..20).contains(&fewest), "at least {fewest} messages for 10 appends");
}

#[test]
fn the_current_server_is_of_another_release_line_than_that_of_debian() {
    let server = NatsServer::start_current("");
    let log = std::fs::read_to_string(server.folder.path().join("nats.log")).unwrap();
    let version = log.lines().find_map(|line| line.split_once("Version:")).unwrap().1.trim();
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    assert!(version.starts_with("2.") && minor >= 11, "{version}");
}
