//! Behaviour that only a real server shows: crashes, pauses, settings, and invalid data.

use std::{sync::Arc, time::Duration};

use async_nats::jetstream::{self, stream};
use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use ordersystem::{
    backends::nats::{
        connection::{ConnectError, Nats, NatsOptions},
        event_store::NatsEventStore,
    },
    ports::event_store::{
        AppendError, Commit, CommitId, Direction, Durability, EventStore, ExpectedRevision, LogFollower, Position,
        RequestKey, RequestScope, StoreError, StoredEvent, StreamId,
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    nats_server::{NatsServer, fresh_prefix, shared},
    support::until,
};

fn commit(stream: u64, expected: ExpectedRevision, text: &str) -> Commit {
    let events = vec![Bytes::copy_from_slice(text.as_bytes())];
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

fn create(stream: u64, id: &str, text: &str) -> Commit {
    let request = RequestKey { scope: RequestScope::Log, id: id.into(), fingerprint: 7 };
    Commit { request: Some(request), ..commit(stream, ExpectedRevision::NoStream, text) }
}

async fn stream_texts(store: &NatsEventStore, stream: u64) -> Vec<String> {
    let mut texts = Vec::new();
    loop {
        let from = texts.len() as u64 + 1;
        let events = store.read_stream(StreamId(stream), from, Direction::Forward, usize::MAX).await.unwrap();
        if events.is_empty() {
            return texts;
        }
        texts.extend(events.iter().map(text));
    }
}

fn text(event: &StoredEvent) -> String {
    String::from_utf8(event.payload.to_vec()).unwrap()
}

/// Appends to one stream until `end`, each event once as far as the replies tell. Returns the acknowledged events and those with an unknown
/// outcome.
async fn write_until(store: Arc<NatsEventStore>, stream: u64, end: Instant) -> (Vec<String>, Vec<String>) {
    let (mut acknowledged, mut unknown) = (Vec::new(), Vec::new());
    for number in 0.. {
        if Instant::now() >= end {
            break;
        }
        let text = format!("{stream}-{number}");
        let expected = match number % 3 {
            0 => ExpectedRevision::Any,
            _ => ExpectedRevision::Exactly(last_revision(&store, stream).await),
        };
        match store.append(commit(stream, expected, &text)).await {
            Ok(appended) => {
                assert!(!appended.replayed);
                acknowledged.push(text);
            }
            Err(AppendError::OutcomeUnknown(_)) => unknown.push(text),
            // It was not written, so it must never be seen.
            Err(AppendError::Store(StoreError::Unavailable(_)) | AppendError::Conflict { .. }) => {
                sleep(Duration::from_millis(5)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    (acknowledged, unknown)
}

/// The last revision of a stream; retries until there is a reply.
async fn last_revision(store: &NatsEventStore, stream: u64) -> u64 {
    loop {
        match store.read_stream(StreamId(stream), u64::MAX, Direction::Backward, 1).await {
            Ok(newest) => return newest.first().map_or(0, |event| event.revision),
            Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
}

/// Runs writers and a follower while `harm` is done to the server. Every acknowledged event must be in the log once, in order, with nothing
/// else except events with an unknown outcome, and the follower must have seen all of it.
async fn under_harm(server: &mut NatsServer, harm: impl AsyncFnOnce(&mut NatsServer)) -> (usize, usize) {
    let store = Arc::new(server.store().await);
    let end = Instant::now() + Duration::from_secs(6);
    let follower = tokio::spawn(follow(Arc::clone(&store), end + Duration::from_secs(1)));
    let writers: Vec<_> = (0..8).map(|stream| tokio::spawn(write_until(Arc::clone(&store), stream, end))).collect();
    sleep(Duration::from_millis(500)).await;
    harm(server).await;
    let (mut all, mut all_unknown) = (0, 0);
    for (stream, writer) in writers.into_iter().enumerate() {
        let (acknowledged, unknown) = writer.await.unwrap();
        until("the store works", async || store.check().await).await;
        let mut stored = stream_texts(&store, stream as u64).await;
        all += acknowledged.len();
        all_unknown += unknown.len();
        let before = stored.len();
        stored.retain(|text| !unknown.contains(text));
        assert!(before - stored.len() <= unknown.len(), "an unknown one is there twice: {unknown:?}");
        assert_eq!(stored, acknowledged, "stream {stream}");
    }
    let mut rest = follower.await.unwrap();
    let mut seen = rest.1;
    while let Ok(batch) = rest.0.poll_batch(1_000).await
        && !batch.is_empty()
    {
        seen.extend(batch);
    }
    let mut log = Vec::new();
    while let Ok(events) = store.read_log(log_end(&log), Direction::Forward, 1_000).await
        && !events.is_empty()
    {
        log.extend(events);
    }
    assert_eq!(seen, log, "the follower has seen what is there, once and in order");
    println!("acknowledged: {all}, unknown: {all_unknown}");
    (all, all_unknown)
}

fn log_end(log: &[StoredEvent]) -> Position {
    log.last().map_or(Position(0), |event| event.position)
}

/// Follows the log until `end`, through all errors.
async fn follow(store: Arc<NatsEventStore>, end: Instant) -> (LogFollower, Vec<StoredEvent>) {
    let mut follower = LogFollower::new(store, Position(0));
    let mut seen = Vec::new();
    while Instant::now() < end {
        match follower.poll_batch(100).await {
            Ok(batch) if batch.is_empty() => {
                let _ = tokio::time::timeout(Duration::from_millis(500), follower.wait()).await;
            }
            Ok(batch) => seen.extend(batch),
            Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    }
    (follower, seen)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_under_load_loses_nothing_acknowledged_and_keeps_nothing_twice() {
    let mut server = NatsServer::start("");
    let (acknowledged, _) = under_harm(&mut server, async |server| {
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
async fn a_server_that_stands_still_for_a_while_leaves_no_outcome_guessed() {
    let mut server = NatsServer::start("");
    let (acknowledged, _) = under_harm(&mut server, async |server| {
        server.signal("STOP");
        sleep(Duration::from_secs(4)).await;
        server.signal("CONT");
    })
    .await;
    assert!(acknowledged > 20, "the load was real: {acknowledged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_became_of_an_append_to_a_server_that_stood_still_is_found_by_its_commit() {
    let server = NatsServer::start("");
    let store = Arc::new(server.store().await);
    store.append(commit(1, ExpectedRevision::NoStream, "a")).await.unwrap();
    server.signal("STOP");
    let append = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(commit(1, ExpectedRevision::Exactly(1), "b")).await }
    });
    sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    let found = store.check().await;
    assert!(matches!(found, Err(StoreError::Unavailable(_))), "{found:?}");
    assert!(started.elapsed() < Duration::from_secs(20), "a check does not hang: {:?}", started.elapsed());
    sleep(Duration::from_millis(2_300)).await;
    assert!(!append.is_finished(), "its answer is lost, and it is looked for");
    server.signal("CONT");
    let appended = append.await.unwrap().expect("the server tells what became of it");
    assert_eq!((appended.first_revision, appended.replayed), (2, false));
    assert_eq!(stream_texts(&store, 1).await, ["a", "b"]);

    // If the server does not return in time the outcome is unknown, where the order was known on this connection, so that nothing had to be
    // read.
    store.append(commit(1, ExpectedRevision::Exactly(2), "b")).await.unwrap();
    server.signal("STOP");
    let unknown = store.append(commit(1, ExpectedRevision::Exactly(3), "c")).await;
    assert!(matches!(unknown, Err(AppendError::OutcomeUnknown(_))), "{unknown:?}");
    let not_sent = store.append(commit(1, ExpectedRevision::Exactly(3), "d")).await;
    assert!(matches!(not_sent, Err(AppendError::Store(StoreError::Unavailable(_)))), "{not_sent:?}");
    server.signal("CONT");
    until("the store works", async || store.check().await).await;
    let texts = stream_texts(&store, 1).await;
    assert!(texts == ["a", "b", "b"] || texts == ["a", "b", "b", "c"], "{texts:?}");
}

#[tokio::test]
async fn a_store_whose_nats_is_down_serves_when_it_comes() {
    let mut server = NatsServer::start("");
    server.kill();
    let nats = Nats::start(server.options(&fresh_prefix())).await.unwrap();
    let store = NatsEventStore::new(nats);
    assert!(matches!(store.first_admission().await, Err(ConnectError::Retryable(_))), "time may mend it");
    let started = Instant::now();
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(store.durability(), Durability::Unknown, "nobody has looked at it yet");
    let refused = store.append(commit(1, ExpectedRevision::Any, "a")).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "nothing was sent: {refused:?}");
    server.start_again();
    until("the store works", async || store.check().await).await;
    assert_ne!(store.log_id().unwrap().0, 0);
    assert_eq!(store.durability(), Durability::Process);
    store.append(commit(1, ExpectedRevision::NoStream, "b")).await.unwrap();
    assert_eq!(stream_texts(&store, 1).await, ["b"]);
}

/// Why this server is refused.
async fn refusal(options: NatsOptions) -> String {
    let store = NatsEventStore::new(Nats::start(options).await.unwrap());
    match store.first_admission().await {
        Err(ConnectError::Fatal(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_server_without_jetstream_are_refused_for_good_and_the_password_is_not_told() {
    let server = NatsServer::start("authorization { user: order, password: \"p@ss:w/rd,1\" }");
    let with = |login: &str| NatsOptions::new(format!("nats://{login}@127.0.0.1:{}", server.port), fresh_prefix());
    let refused = refusal(with("order:wr0ng")).await;
    assert!(refused.to_lowercase().contains("authorization") && !refused.contains("wr0ng"), "{refused}");
    for login in ["order:p@ss:w/rd,1", "order:p%40ss:w%2Frd,1"] {
        NatsEventStore::new(Nats::start(with(login)).await.unwrap()).first_admission().await.unwrap();
    }
    let server = NatsServer::start("authorization { token: \"t0k/n\" }");
    let options = NatsOptions::new(format!("nats://t0k/n@127.0.0.1:{}", server.port), fresh_prefix());
    NatsEventStore::new(Nats::start(options).await.unwrap()).first_admission().await.unwrap();

    let server = NatsServer::start_with("");
    let refused = refusal(server.options(&fresh_prefix())).await;
    assert!(refused.contains("JetStream"), "{refused}");
    let refused = refusal(NatsOptions { replicas: 3, ..shared().options(&fresh_prefix()) }).await;
    assert!(refused.contains("replicas"), "{refused}");
}

#[tokio::test]
async fn a_stream_that_would_lose_data_is_refused_with_every_reason() {
    let server = shared();
    let raw = server.raw().await;
    let good = |prefix: &str| stream::Config {
        name: format!("{prefix}-log"),
        subjects: vec![format!("{prefix}.log.*")],
        deny_delete: true,
        deny_purge: true,
        ..stream::Config::default()
    };
    type Spoil = fn(stream::Config) -> stream::Config;
    let cases: [(Spoil, &str); 7] = [
        (|config| stream::Config { max_age: Duration::from_secs(3_600), ..config }, "maximum age"),
        (|config| stream::Config { max_messages: 5, ..config }, "maximum of messages"),
        (|config| stream::Config { max_bytes: 5_000_000, ..config }, "maximum of bytes"),
        (|config| stream::Config { max_messages_per_subject: 5, ..config }, "messages a subject"),
        (|config| stream::Config { storage: stream::StorageType::Memory, ..config }, "storage"),
        (|config| stream::Config { deny_purge: false, ..config }, "deny_purge"),
        (|config| stream::Config { deny_delete: false, ..config }, "deny_delete"),
    ];
    for (spoil, reason) in cases {
        let prefix = fresh_prefix();
        raw.create_stream(spoil(good(&prefix))).await.unwrap();
        let refused = refusal(server.options(&prefix)).await;
        assert!(refused.contains(reason) && refused.contains(&format!("{prefix}-log")), "{refused}");
    }
    let prefix = fresh_prefix();
    raw.create_stream(good(&prefix)).await.unwrap();
    let store = server.store_of(&prefix).await;
    store.append(commit(1, ExpectedRevision::Any, "a")).await.unwrap();
    // A stream with foreign messages is not mistaken for a log.
    let prefix = fresh_prefix();
    raw.create_stream(good(&prefix)).await.unwrap();
    raw.publish(format!("{prefix}.log.7"), "theirs".into()).await.unwrap().await.unwrap();
    let refused = refusal(server.options(&prefix)).await;
    assert!(refused.contains("first message"), "{refused}");
}

#[tokio::test]
async fn a_log_that_comes_back_as_another_is_not_taken_for_it() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    store.append(commit(1, ExpectedRevision::Any, "a")).await.unwrap();
    server.kill();
    std::fs::remove_dir_all(server.folder.path().join("jetstream")).unwrap();
    server.start_again();
    let deadline = Instant::now() + Duration::from_secs(60);
    let why = loop {
        let why = store.check().await.unwrap_err().to_string();
        if why.contains("gone") || Instant::now() > deadline {
            break why;
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(why.contains("gone"), "{why}");
    let refused = store.append(commit(1, ExpectedRevision::Any, "b")).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    let raw = server.raw().await;
    assert!(
        raw.get_stream(format!("{prefix}-log")).await.is_err(),
        "nothing is made in the place of a log that is gone"
    );
    // A node that starts now creates another log, which the first one does not touch.
    let other = server.store_of(&prefix).await;
    sleep(Duration::from_millis(200)).await;
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains("another log"), "{why}");
    assert!(store.append(commit(1, ExpectedRevision::Any, "b")).await.is_err());
    assert_eq!(other.head().await, Ok(Position(0)));
}

#[tokio::test]
async fn a_full_server_says_so_and_leaves_nothing_behind() {
    let mut server = NatsServer::start_with("jetstream { store_dir: FOLDER, max_file_store: 1MB }");
    let store = server.store().await;
    let large = "x".repeat(100_000);
    let mut kept = 0;
    let full = loop {
        match store.append(commit(1, ExpectedRevision::Any, &large)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 20, "it has to be full some time");
    };
    assert!(matches!(full, AppendError::Full(_)), "{full}");
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains("takes no more"), "{why}");
    let refused = store.append(create(2, "create-1", &large)).await;
    assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    assert_eq!(stream_texts(&store, 1).await.len(), kept, "what it has can be read");
    server.kill();
    server.start_again_with("jetstream { store_dir: FOLDER, max_file_store: 1GB }");
    let deadline = Instant::now() + Duration::from_secs(60);
    let appended = loop {
        match store.append(create(2, "create-1", "small")).await {
            Err(AppendError::Store(StoreError::Unavailable(_))) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            appended => break appended.unwrap(),
        }
    };
    assert!(!appended.replayed, "the request of a refused commit is free");
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_stream_at_its_own_bounds_is_a_full_store_and_nothing_of_a_command_is_unknown() {
    for server in [NatsServer::start(""), NatsServer::start_current("")] {
        let (prefix, raw) = (fresh_prefix(), server.raw().await);
        let bounded = |max_bytes| stream::Config {
            name: format!("{prefix}-log"),
            subjects: vec![format!("{prefix}.log.*")],
            max_bytes,
            discard: stream::DiscardPolicy::New,
            deny_delete: true,
            deny_purge: true,
            ..stream::Config::default()
        };
        raw.create_stream(bounded(1_000_000)).await.unwrap();
        let store = server.store_of(&prefix).await;
        let large = "x".repeat(100_000);
        let mut kept = 0;
        let full = loop {
            match store.append(commit(1, ExpectedRevision::Any, &large)).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 20, "it has to be full some time");
        };
        assert!(matches!(full, AppendError::Full(_)), "{full}");
        let head = store.head().await.unwrap();
        // Its request id has been reserved, in a stream that has room; that does not count as execution of the command.
        let refused = store.append(create(2, "create-1", &large)).await;
        assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("takes no more"), "{why}");
        assert_eq!((store.head().await.unwrap(), stream_texts(&store, 1).await.len()), (head, kept));
        raw.update_stream(bounded(10_000_000)).await.unwrap();
        store.append(create(2, "create-1", &large)).await.unwrap();
        assert_eq!(stream_texts(&store, 2).await.len(), 1, "the command is done once");
    }
}

#[tokio::test]
async fn a_commit_that_nats_does_not_take_is_refused_with_the_reason() {
    let server = shared();
    let store = server.store().await;
    let max_bytes = store.max_commit_bytes().expect("the server has said it");
    assert!((1_000_000..1_048_576).contains(&max_bytes), "{max_bytes}");
    for size in [max_bytes + 1, 2_000_000] {
        let text = "x".repeat(size);
        for large in [commit(7, ExpectedRevision::Any, &text), create(7, "large", &text)] {
            for refused in [
                store.append(large.clone()).await.err(),
                store.append_all(vec![Commit { expected: ExpectedRevision::NoStream, ..large }]).await.err(),
            ] {
                let Some(AppendError::TooLarge { stream, bytes, max_bytes: told, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!((stream, bytes, told), (StreamId(7), size, max_bytes));
            }
        }
    }
    let text = "x".repeat(max_bytes);
    let id: String = "i".repeat(128);
    store.append(create(7, &id, &text)).await.expect("what is just as large is taken, with the longest request id");
    let before = store.head().await.unwrap();
    let many = Commit { events: vec![Bytes::from_static(b"x"); 257], ..commit(1, ExpectedRevision::Any, "x") };
    let refused = store.append(many).await;
    let Err(AppendError::Store(StoreError::Corrupt(why))) = refused else { panic!("{refused:?}") };
    assert!(why.contains("257") && why.contains("256"), "{why}");
    assert_eq!(store.head().await, Ok(before));
    let most = Commit { events: vec![Bytes::from_static(b"x"); 256], ..commit(1, ExpectedRevision::Any, "x") };
    let appended = store.append(most).await.unwrap();
    let read = store.read_log(before, Direction::Forward, 1_000).await.unwrap();
    assert_eq!((read.len(), read[255].position), (256, appended.position));
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
            assert_eq!(again, Err(AppendError::RequestReused));
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
        assert_eq!(stream_texts(store, 2).await, texts);
        assert_eq!(stream_texts(store, 1).await.len() as u64, ROUNDS);
    }
    // Events appended by one are visible to the other at once.
    for round in 0..100 {
        let appended = stores[round % 2].append(commit(3, ExpectedRevision::Any, "x")).await.unwrap();
        let other = &stores[(round + 1) % 2];
        let newest = other.read_log(Position(appended.position.0 - 1), Direction::Forward, 10).await.unwrap();
        assert_eq!(newest.len(), 1, "round {round}");
    }
}

/// The number of messages that the client of a store has sent while `work` was done.
async fn sent(nats: &Nats, work: impl Future<Output = ()>) -> u64 {
    let count = || nats.client().statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    let before = count();
    work.await;
    count() - before
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
    // A node that starts now has none of it in memory.
    let nats = server.connect_to(&prefix).await;
    let fresh = NatsEventStore::new(nats.clone());
    fresh.first_admission().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while fresh.head().await.unwrap().0 >> 8 < LOG + 1 {
        assert!(Instant::now() < deadline, "the messages have to arrive some time");
        sleep(Duration::from_millis(100)).await;
    }
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
async fn what_nats_tools_see_is_what_the_documentation_says() {
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
async fn an_append_to_an_order_that_the_store_knows_is_one_message() {
    let nats = shared().connect_to(&crate::nats_server::fresh_prefix()).await;
    let store = NatsEventStore::new(nats.clone());
    store.first_admission().await.unwrap();
    for stream in 1..=10 {
        store.append(commit(stream, ExpectedRevision::NoStream, "first")).await.unwrap();
    }
    let sent = || nats.client().statistics().out_messages.load(std::sync::atomic::Ordering::Relaxed);
    let before = sent();
    for revision in 1..=20 {
        for stream in 1..=10 {
            let next = commit(stream, ExpectedRevision::Exactly(revision), "next");
            store.append(next).await.unwrap();
        }
    }
    // Two messages per append would be 400. In addition, the live tail and its checks send a message now and then.
    assert!((200..400).contains(&(sent() - before)), "{} messages for 200 appends", sent() - before);
}

#[test]
fn the_current_server_is_of_another_line_than_debians() {
    let server = NatsServer::start_current("");
    let log = std::fs::read_to_string(server.folder.path().join("nats.log")).unwrap();
    let version = log.lines().find_map(|line| line.split_once("Version:")).unwrap().1.trim();
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    assert!(version.starts_with("2.") && minor >= 11, "{version}");
}
