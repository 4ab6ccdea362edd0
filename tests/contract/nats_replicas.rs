//! Behaviour that only a cluster shows: replicas, concurrent publishes, and deposed leaders that do not know it.

use std::sync::Arc;

use bytes::Bytes;
use ordersystem::{
    backends::nats::event_store::NatsEventStore,
    ports::event_store::{
        AppendError, Appended, Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, RequestKey,
        RequestScope, StoreError, StreamId,
    },
};

use crate::{
    nats_cluster::{NatsCluster, SERVERS, shared},
    nats_server::fresh_prefix,
    support::until,
};

fn commit(stream: u64, expected: ExpectedRevision, text: &str) -> Commit {
    let events = vec![Bytes::copy_from_slice(text.as_bytes())];
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

fn create(stream: u64, id: &str) -> Commit {
    let request = RequestKey { scope: RequestScope::Log, id: id.into(), fingerprint: 7 };
    Commit { request: Some(request), ..commit(stream, ExpectedRevision::NoStream, "created") }
}

fn pay(stream: u64, id: &str) -> Commit {
    let request = RequestKey { scope: RequestScope::Stream, id: id.into(), fingerprint: 7 };
    Commit { request: Some(request), ..commit(stream, ExpectedRevision::Exactly(1), "paid") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_twice_at_once_through_two_nodes_takes_effect_once_and_both_get_the_reply() {
    let prefix = fresh_prefix();
    let stores = [Arc::new(shared().store_at(0, &prefix).await), Arc::new(shared().store_at(1, &prefix).await)];
    for round in 0..200 {
        let try_at = |node: usize| {
            let store = Arc::clone(&stores[node]);
            let stream = 10 * round + node as u64;
            tokio::spawn(async move {
                let created = store.append(create(stream, &format!("create-{round}"))).await?;
                let paid = store.append(pay(created.stream.0, &format!("pay-{round}"))).await?;
                Ok::<_, AppendError>((created, paid))
            })
        };
        let (left, right) = tokio::join!(try_at(0), try_at(1));
        let (left, right) = (left.unwrap().expect("told"), right.unwrap().expect("told"));
        let one_commit = |left: Appended, right: Appended| {
            assert_ne!(left.replayed, right.replayed, "round {round}: {left:?} {right:?}");
            assert_eq!(Appended { replayed: true, ..left }, Appended { replayed: true, ..right }, "round {round}");
        };
        one_commit(left.0, right.0);
        one_commit(left.1, right.1);
    }
    let log = stores[0].read_log(Position(0), Direction::Forward, 1_000).await.unwrap();
    assert_eq!(log.len(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_commit_that_is_in_the_log_is_recognised_by_its_id() {
    let source = fresh_prefix();
    let made = commit(1, ExpectedRevision::NoStream, "made");
    let first = shared().store_at(0, &source).await.append(made.clone()).await.unwrap();
    let raw = shared().raw(0).await;
    let stream = raw.get_stream(format!("{source}-log")).await.unwrap();
    let message = stream.get_raw_message(first.position.0 >> 8).await.unwrap().payload;

    // As if one leader had refused it and another had stored it: here the server cannot recognise it by its header.
    let prefix = fresh_prefix();
    let store = shared().store_at(0, &prefix).await;
    raw.publish(format!("{prefix}.log.1"), message).await.unwrap().await.unwrap();
    let appended = store.append(made.clone()).await.expect("it is there");
    assert_eq!((appended.first_revision, appended.replayed), (1, false));
    let again = store.append(commit(1, ExpectedRevision::NoStream, "another")).await;
    assert_eq!(again, Err(AppendError::Conflict { actual: 1 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_are_skipped_by_every_reader_and_are_never_the_end_of_the_log() {
    let prefix = fresh_prefix();
    let store = shared().store_at(0, &prefix).await;
    let raw = shared().raw(0).await;
    let alien_markers = async |count: usize| {
        for _ in 0..count {
            raw.publish(format!("{prefix}.log.confirm"), Bytes::new()).await.unwrap().await.unwrap();
        }
    };
    alien_markers(3).await;
    assert_eq!(store.head().await, Ok(Position(0)));
    assert_eq!(store.confirmed_head().await, Ok(Position(0)));
    let mut positions = Vec::new();
    for stream in 1..=20 {
        positions.push(store.append(commit(stream, ExpectedRevision::NoStream, "x")).await.unwrap().position);
        alien_markers(5).await;
        assert!(store.confirmed().await.unwrap() > positions[positions.len() - 1]);
        assert_eq!(store.confirmed_head().await.as_ref(), Ok(&positions[positions.len() - 1]));
    }
    // More than one batch, and more than the memory of the newest commits holds.
    for _ in 0..700 {
        let ack = raw.publish(format!("{prefix}.log.confirm"), Bytes::new()).await.unwrap();
        drop(ack);
    }
    let mut last = *positions.last().unwrap();
    until("the markers are stored", async || (store.confirmed().await.ok()?.0 >> 8 > 820).then_some(())).await;
    // One that has seen them arrive, and one that starts now.
    for store in [store, shared().store_at(1, &prefix).await] {
        assert_eq!(store.head().await, Ok(last));
        assert_eq!(store.confirmed_head().await, Ok(last));
        for size in [1, 7, 1_000] {
            let mut forward: Vec<Position> = Vec::new();
            loop {
                let from = forward.last().copied().unwrap_or_default();
                let batch = store.read_log(from, Direction::Forward, size).await.unwrap();
                if batch.is_empty() {
                    break;
                }
                forward.extend(batch.iter().map(|event| event.position));
            }
            assert_eq!(forward, positions, "forward by {size}");
        }
        let backward = store.read_log(Position(u64::MAX), Direction::Backward, 1_000).await.unwrap();
        assert_eq!(backward.iter().rev().map(|event| event.position).collect::<Vec<_>>(), positions);
        let newest = store.read_log(Position(u64::MAX), Direction::Backward, 1).await.unwrap();
        assert_eq!(newest[0].position, last);
        let commits = store.read_commits(Position(0), 1_000).await.unwrap();
        assert_eq!(
            commits.iter().map(ordersystem::ports::event_store::RecordedCommit::position).collect::<Vec<_>>(),
            positions
        );
        assert!(store.read_commits(last, 10).await.unwrap().is_empty());
        let appended = store.append_all(vec![commit(fastrand::u64(100..), ExpectedRevision::NoStream, "x")]).await;
        let appended = appended.unwrap();
        positions.push(appended);
        assert_eq!(store.head().await, Ok(appended));
        let one = store.read_log(last, Direction::Forward, 1).await.unwrap();
        assert_eq!(one[0].position, appended);
        last = appended;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_commands_cause_no_marker_and_one_confirmation_serves_all_waiters() {
    let prefix = fresh_prefix();
    let store = Arc::new(shared().store_at(0, &prefix).await);
    for stream in 1..=20 {
        store.append(create(stream, &format!("create-{stream}"))).await.unwrap();
        store.append(pay(stream, "pay")).await.unwrap();
    }
    let raw = shared().raw(0).await;
    let markers = async || {
        let mut stream = raw.get_stream(format!("{prefix}-log")).await.unwrap();
        stream.info().await.unwrap().state.messages - 1 - 40
    };
    assert_eq!(markers().await, 0);
    let asked: Vec<_> = (0..100)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.confirms(StreamId(number % 20 + 1), 2).await })
        })
        .collect();
    for asked in asked {
        assert_eq!(asked.await.unwrap(), Ok(true));
    }
    let sent = markers().await;
    assert!((1..=10).contains(&sent), "{sent} markers for 100 questions at once");
    assert_eq!(store.confirms(StreamId(1), 1).await, Ok(false), "it has two events");
    assert_eq!(store.confirms(StreamId(1_000), 0).await, Ok(true), "there is no such order");
    assert_eq!(store.confirms(StreamId(1), 0).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_reported_only_if_a_quorum_shows_that_nothing_was_written() {
    // The limit of the account, which counts each replica.
    let account = "accounts { A { jetstream { max_file: 12MB }, users: [{ user: a, password: a }] } }\nno_auth_user: a";
    let cluster = NatsCluster::start(account);
    let prefix = fresh_prefix();
    let stream = format!("{prefix}-log");
    drop(cluster.store_at(0, &prefix).await);
    let leader = cluster.leader(&stream).await;
    let store = cluster.store_at(leader, &prefix).await;
    let large = |order: u64| commit(order, ExpectedRevision::NoStream, &"x".repeat(200_000));
    let mut order = 0;
    let refused = until("it is full", async || {
        order += 1;
        store.append(large(order)).await.err().filter(|error| !matches!(error, AppendError::Store(_)))
    })
    .await;
    // Where there is no room for a marker either, no quorum can confirm that the commit is absent.
    assert!(matches!(refused, AppendError::Full(_) | AppendError::OutcomeUnknown(_)), "{refused}");
    assert!(store.check().await.is_err(), "the check fails");
    // A busy machine may take longer than a request.
    let new = until("a definite answer", async || {
        let new = store.append(Commit { events: large(0).events, ..create(order + 1, "create") }).await;
        (!matches!(new, Err(AppendError::OutcomeUnknown(_) | AppendError::Store(_)))).then_some(new)
    })
    .await;
    assert!(
        matches!(new, Err(AppendError::Full(_))),
        "its request id is not reserved, so that nothing was written: {new:?}"
    );

    // Another server may have stored it after the full one had lost the lead.
    cluster.isolate(leader);
    let refused = until("the server that was cut off says that it is full", async || {
        match store.append(large(order + 1)).await {
            Err(AppendError::Store(_)) => None,
            outcome => Some(outcome),
        }
    })
    .await;
    assert!(matches!(refused, Err(AppendError::OutcomeUnknown(_))), "{refused:?}");
}

/// The limit of the stream, not of the account: a quorum still accepts the marker, which shows that nothing was written.
#[tokio::test(flavor = "multi_thread")]
async fn a_replicated_stream_at_its_own_bounds_is_definitely_a_full_store() {
    let cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let bounded = async_nats::jetstream::stream::Config {
        name: format!("{prefix}-log"),
        subjects: vec![format!("{prefix}.log.*")],
        max_bytes: 1_000_000,
        num_replicas: SERVERS,
        discard: async_nats::jetstream::stream::DiscardPolicy::New,
        deny_delete: true,
        deny_purge: true,
        ..Default::default()
    };
    cluster.raw(0).await.create_stream(bounded).await.unwrap();
    let store = cluster.store_at(0, &prefix).await;
    let large = |order: u64| commit(order, ExpectedRevision::NoStream, &"x".repeat(200_000));
    let mut order = 0;
    let refused = until("it is full", async || {
        order += 1;
        store.append(large(order)).await.err().filter(|error| !matches!(error, AppendError::Store(_)))
    })
    .await;
    assert!(matches!(refused, AppendError::Full(_)), "{refused}");
    let refused = store.append(Commit { events: large(0).events, ..create(order + 1, "create") }).await;
    assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
}

/// A deposed server that still answers must never cause the claim that data acknowledged elsewhere does not exist.
async fn is_never_wrong(behind: &NatsEventStore, paid: Appended, created: Appended, request: &RequestKey) {
    let (old, new) = (StreamId(1), created.stream);
    let never_true = |answer: Result<bool, StoreError>| assert!(!matches!(answer, Ok(true)), "{answer:?}");
    let is_corrupt = |error: &StoreError| matches!(error, StoreError::Corrupt(_));
    never_true(behind.confirms(old, 1).await);
    never_true(behind.confirms(new, 0).await);
    never_true(behind.contains(old, 1, paid.position).await);
    let head = behind.confirmed_head().await;
    assert!(head.as_ref().map_or_else(|error| !is_corrupt(error), |head| *head >= created.position), "{head:?}");
    let found = behind.find_request(new, request).await;
    let is_right = match &found {
        Ok(found) => found.is_some_and(|found| found.stream == created.stream),
        Err(AppendError::Store(error)) => !is_corrupt(error),
        Err(AppendError::OutcomeUnknown(_)) => true,
        Err(_) => false,
    };
    assert!(is_right, "{found:?}");
    let refused = behind.append(commit(new.0, ExpectedRevision::Exists, "x")).await;
    assert!(!matches!(refused, Err(AppendError::Conflict { .. })), "{refused:?}");
    let read = behind.read_stream(old, 1, Direction::Forward, 10).await;
    assert!(read.as_ref().err().is_none_or(|error| !is_corrupt(error)), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_connected_to_a_deposed_leader_gives_no_wrong_answer() {
    let cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let stream = format!("{prefix}-log");
    drop(cluster.store_at(0, &prefix).await);
    let old = cluster.leader(&stream).await;
    let other = (old + 1) % SERVERS;
    let (behind, ahead) = (cluster.store_at(old, &prefix).await, cluster.store_at(other, &prefix).await);
    behind.append(commit(1, ExpectedRevision::NoStream, "created")).await.unwrap();
    assert_eq!(behind.confirms(StreamId(1), 1).await, Ok(true));

    cluster.isolate(old);
    until("another leads", async || cluster.leader_as_seen_by(other, &stream).await.filter(|leader| *leader != old))
        .await;
    let paid = until("it takes a payment", async || ahead.append(pay(1, "pay")).await.ok()).await;
    let new = create(2, "create");
    let created = until("it takes a new order", async || ahead.append(new.clone()).await.ok()).await;
    // The premise of this test: the old leader still answers, and has less.
    let raw = cluster.raw(old).await;
    let shown = raw.get_stream(&stream).await.map(|stream| stream.cached_info().state.last_sequence);
    println!("the deposed leader shows {shown:?}, the last is {}", created.position.0 >> 8);
    let request = new.request.unwrap();
    is_never_wrong(&behind, paid, created, &request).await;
    cluster.heal();
    // Until it learns that it is deposed, and has caught up.
    until("the node serves again, and is right", async || {
        is_never_wrong(&behind, paid, created, &request).await;
        (behind.confirms(StreamId(1), 2).await == Ok(true)).then_some(())
    })
    .await;
    assert_eq!(ahead.confirms(StreamId(1), 2).await, Ok(true));
}
