//! A server that crashes or is paused, and writers that race or die half way.

use super::*;
use crate::{
    proxy::{Proxy, Way},
    support::soon,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_under_load_loses_nothing_acknowledged_and_keeps_nothing_twice() {
    let mut server = NatsServer::start("");
    let store = server.store().await;
    let acknowledged = under_harm(Arc::new(store), async {
        for _ in 0..3 {
            server.kill();
            sleep(Duration::from_millis(200)).await;
            server.start_again();
            sleep(Duration::from_millis(700)).await;
        }
    })
    .await;
    assert!(acknowledged > 20, "the load was real: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_server_leaves_no_outcome_guessed() {
    let server = NatsServer::start("");
    let store = server.store().await;
    let acknowledged = under_harm(Arc::new(store), async {
        server.signal("STOP");
        sleep(Duration::from_secs(4)).await;
        server.signal("CONT");
    })
    .await;
    assert!(acknowledged > 20, "the load was real: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outcome_of_an_append_to_a_paused_server_is_found_by_its_commit_id() {
    let server = NatsServer::start("");
    let store = Arc::new(server.store().await);
    store.append(commit(1, ExpectedRevision::NoStream, "a")).await.unwrap();
    server.signal("STOP");
    let append = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(commit(1, ExpectedRevision::Exactly(1), "b")).await }
    });
    sleep(Duration::from_millis(2_500)).await;
    assert!(!append.is_finished(), "its answer is lost, and it is looked for");
    server.signal("CONT");
    let appended = append.await.unwrap().expect("the server tells what became of it");
    assert_eq!((appended.first_revision, appended.replayed), (2, false));
    assert_eq!(stream_texts(&*store, 1).await, ["a", "b"]);

    // If the server does not return in time the outcome is unknown, where the order was known on this connection, so that nothing had to be
    // read.
    store.append(commit(1, ExpectedRevision::Exactly(2), "b")).await.unwrap();
    server.signal("STOP");
    let unknown = store.append(commit(1, ExpectedRevision::Exactly(3), "c")).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
    let not_sent = store.append(commit(1, ExpectedRevision::Exactly(3), "d")).await;
    assert!(matches!(not_sent, Err(AppendError::Store(StoreError::Unavailable(_)))), "{not_sent:?}");
    let found = soon("the check", store.check()).await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    server.signal("CONT");
    until("the store works", async || store.check().await).await;
    let texts = stream_texts(&*store, 1).await;
    assert!(texts == ["a", "b", "b"] || texts == ["a", "b", "b", "c"], "{texts:?}");
}

#[tokio::test]
async fn a_store_whose_nats_is_down_serves_when_it_comes() {
    let mut server = NatsServer::start("");
    server.kill();
    let nats = Nats::start(server.options(&fresh_prefix())).await.unwrap();
    let store = NatsEventStore::new(nats);
    assert!(matches!(store.until_verified().await, Err(ConnectError::Retryable(_))), "time may mend it");
    let started = Instant::now();
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(store.durability(), Durability::Unknown, "it has not been checked yet");
    let refused = store.append(commit(1, ExpectedRevision::Any, "a")).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "nothing was sent: {refused:?}");
    server.start_again();
    until("the store works", async || store.check().await).await;
    assert_ne!(store.log_id().unwrap().0, 0);
    assert_eq!(store.durability(), Durability::Process);
    store.append(commit(1, ExpectedRevision::NoStream, "b")).await.unwrap();
    assert_eq!(stream_texts(&store, 1).await, ["b"]);
}

/// The newest message of a request in NATS.
async fn reservation(raw: &jetstream::Context, prefix: &str, id: &str) -> (String, Bytes) {
    let subject = format!("{prefix}.request.{}", BASE64URL_NOPAD.encode(id.as_bytes()));
    let stream = raw.get_stream(format!("{prefix}-requests")).await.unwrap();
    let message = stream.get_last_raw_message_by_subject(&subject).await.unwrap();
    (subject, message.payload)
}

#[tokio::test]
async fn a_crash_between_reservation_and_append_is_healed_by_the_next_try() {
    let server = shared();
    let raw = server.raw().await;
    // The messages of a node that ended right after the reservation, taken from a log in which it continued.
    let source = fresh_prefix();
    let crashed = create(11, "create.*.>1", "first");
    server.store_of(&source).await.append(crashed.clone()).await.unwrap();
    let (subject, message) = reservation(&raw, &source, "create.*.>1").await;
    for (fingerprint, heals) in [(7, true), (8, false)] {
        let prefix = fresh_prefix();
        let store = server.store_of(&prefix).await;
        raw.publish(subject.replacen(&source, &prefix, 1), message.clone()).await.unwrap().await.unwrap();
        let request = RequestKey { fingerprint, ..crashed.request.clone().unwrap() };
        assert_eq!(store.find_request(StreamId(11), &request).await, Ok(None), "what is only reserved is not made");
        let again = store.append(Commit { request: Some(request.clone()), ..create(12, "", "second") }).await;
        if heals {
            let appended = again.unwrap();
            assert_eq!((appended.stream, appended.first_revision, appended.replayed), (StreamId(11), 1, true));
            assert_eq!(store.find_request(StreamId(99), &request).await, Ok(Some(appended)));
        } else {
            assert_eq!(again, Err(AppendError::RequestIdReused));
        }
        assert_eq!(stream_texts(&store, 11).await, ["first"]);
        assert!(stream_texts(&store, 12).await.is_empty());
        // The node itself, which has not crashed after all, learns that the command was executed.
        let original = store.append(crashed.clone()).await.unwrap();
        assert_eq!((original.stream, original.last_revision), (StreamId(11), 1));
        assert_eq!(stream_texts(&store, 11).await, ["first"]);
    }
    // A reservation whose order has continued without it has no effect.
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    raw.publish(subject.replacen(&source, &prefix, 1), message.clone()).await.unwrap().await.unwrap();
    store.append(commit(11, ExpectedRevision::NoStream, "another's")).await.unwrap();
    assert_eq!(store.find_request(StreamId(11), crashed.request.as_ref().unwrap()).await, Ok(None));
    let again = store.append(create(12, "create.*.>1", "second")).await.unwrap();
    assert_eq!((again.stream, again.replayed), (StreamId(12), false));
    assert_eq!(stream_texts(&store, 11).await, ["another's"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_of_one_log_race_and_one_wins_each_time() {
    let server = shared();
    let prefix = fresh_prefix();
    let stores = [Arc::new(server.store_of(&prefix).await), Arc::new(server.store_of(&prefix).await)];
    assert_eq!(stores[0].log_id(), stores[1].log_id());
    const ROUNDS: u64 = 300;
    let race = |index: usize| {
        let store = Arc::clone(&stores[index]);
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for round in 0..ROUNDS {
                let request =
                    RequestKey { scope: RequestScope::Stream, id: format!("r{round}").into(), fingerprint: 1 };
                let plain =
                    store.append(commit(1, ExpectedRevision::Exactly(round), &format!("{index}-{round}"))).await;
                let asked = Commit { request: Some(request), ..commit(2, ExpectedRevision::Any, &format!("{round}")) };
                let once = store.append(asked).await.unwrap();
                let created =
                    store.append(create(1_000 + 2 * round + index as u64, &format!("c{round}"), "new")).await.unwrap();
                answers.push((plain, once, created));
            }
            answers
        })
    };
    let (first, second) = (race(0), race(1));
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    for (round, (left, right)) in first.iter().zip(&second).enumerate() {
        let plain = [&left.0, &right.0];
        assert_eq!(plain.iter().filter(|answer| answer.is_ok()).count(), 1, "round {round}: {plain:?}");
        for (left, right) in [(left.1, right.1), (left.2, right.2)] {
            assert_ne!(left.replayed, right.replayed, "round {round}");
            assert_eq!((left.stream, left.position), (right.stream, right.position), "round {round}");
        }
    }
    let texts: Vec<_> = (0..ROUNDS).map(|round| round.to_string()).collect();
    for store in &stores {
        assert_eq!(stream_texts(&**store, 2).await, texts);
        assert_eq!(stream_texts(&**store, 1).await.len() as u64, ROUNDS);
    }
    // Events appended by one are visible to the other at once.
    for round in 0..100 {
        let appended = stores[round % 2].append(commit(3, ExpectedRevision::Any, "x")).await.unwrap();
        let other = &stores[(round + 1) % 2];
        let newest = other.read_log(Position(appended.position.0 - 1), Direction::Forward, 10).await.unwrap();
        assert_eq!(newest.len(), 1, "round {round}");
    }
}

/// A new order first reserves its request id.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_order_whose_reply_was_lost_with_the_connection_is_unknown_before_the_8_s_for_looking_are_over() {
    let server = NatsServer::start("");
    let (proxy, prefix) = (Proxy::to(server.port), fresh_prefix());
    let options = NatsOptions {
        url: format!("nats://127.0.0.1:{}", proxy.port()),
        connect_timeout: Duration::from_millis(100),
        ..server.options(&prefix)
    };
    let store = Arc::new(NatsEventStore::new(Nats::start(options).await.unwrap()));
    soon("the log is made", async {
        while store.until_verified().await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    proxy.hold(Way::Back);
    let append = tokio::spawn({
        let store = Arc::clone(&store);
        let request = RequestKey { scope: RequestScope::Log, id: "create-1".into(), fingerprint: 7 };
        async move { store.append(Commit { request: Some(request), ..commit(1, ExpectedRevision::NoStream, "a") }).await }
    });
    let requests = server.raw().await.get_stream(format!("{prefix}-requests")).await.unwrap();
    until("the request id is reserved", async || requests.get_info().await.unwrap().state.messages == 1).await;
    proxy.cut();
    let cut_at = Instant::now();
    let unknown = append.await.unwrap();
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
    assert!(cut_at.elapsed() < Duration::from_secs(8), "no reply can come: {:?}", cut_at.elapsed());
}
