//! Behaviour that only a real server shows: crashes, pauses, settings, and invalid data.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ordersystem::{
    backends::redis::{
        connection::{ConnectError, Redis, RedisOptions},
        event_store::RedisEventStore,
        message_bus::{RedisBusOptions, RedisMessageBus},
        permissions::Roles,
    },
    ports::{
        event_store::{
            AppendError, Commit, CommitId, Direction, Durability, EventStore, ExpectedRevision, Position, RequestKey,
            RequestScope, StoreError, StoredEvent, StreamId,
        },
        message_bus::{CloudEventAttributes, Message, MessageBus},
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    broker_log::{commit, stream_texts, under_harm},
    redis_server::{DURABLE, RedisServer, fresh_prefix, shared},
    support::until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_under_load_loses_nothing_acknowledged_and_keeps_nothing_twice() {
    let mut server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
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
    let server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
    let acknowledged = under_harm(Arc::new(store), async {
        server.signal("STOP");
        sleep(Duration::from_secs(4)).await;
        server.signal("CONT");
    })
    .await;
    assert!(acknowledged > 20, "the load was real: {acknowledged}");
}

#[tokio::test]
async fn durability_follows_from_the_settings_of_the_server() {
    let with = |more: &[&'static str]| DURABLE.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
    for (settings, expected) in [
        (with(&[]), Durability::Machine),
        (with(&["--appendfsync", "everysec"]), Durability::Process),
        (with(&["--no-appendfsync-on-rewrite", "yes"]), Durability::Process),
        (with(&["--rename-command", "CONFIG", ""]), Durability::Process),
        (vec!["--appendonly", "no"], Durability::Process),
    ] {
        let server = RedisServer::start(&settings);
        let store = RedisEventStore::new(server.connect().await);
        assert_eq!(store.durability(), expected, "{settings:?}");
    }
}

#[tokio::test]
async fn a_change_of_settings_is_seen_at_the_next_check() {
    let server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
    assert_eq!(store.durability(), Durability::Machine);
    server.cli(&["CONFIG", "SET", "appendfsync", "everysec"]);
    store.check().await.unwrap();
    assert_eq!(store.durability(), Durability::Process);
}

/// Why this server is refused.
async fn refusal(options: RedisOptions) -> String {
    match Redis::start(options, true).unwrap().first_connection().await {
        Err(ConnectError::Fatal(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_replica_and_a_wrong_password_are_refused_permanently_and_the_password_is_not_shown() {
    let server = RedisServer::start(&["--requirepass", "r/i@ght"]);
    let options = RedisOptions::new(format!("redis://:wr0ng@127.0.0.1:{}", server.port), fresh_prefix());
    let refused = refusal(options).await;
    assert!(refused.contains("WRONGPASS") || refused.contains("AuthenticationFailed"), "{refused}");
    assert!(!refused.contains("wr0ng"), "{refused}");
    let options = RedisOptions::new(format!("redis://:r/i@ght@127.0.0.1:{}/3", server.port), fresh_prefix());
    Redis::start(options, true).unwrap().first_connection().await.unwrap();

    let primary = RedisServer::start(&[]);
    let replica = RedisServer::start(&["--replicaof", &format!("127.0.0.1 {}", primary.port)]);
    let options = RedisOptions::new(replica.url(), fresh_prefix());
    let refused = refusal(options).await;
    assert!(refused.contains("replica"), "{refused}");
}

#[tokio::test]
async fn a_sentinel_instead_of_a_redis_and_the_reverse_are_refused_with_the_correct_address() {
    let sentinel = RedisServer::start_sentinel("");
    let refused = refusal(RedisOptions::new(sentinel.url(), fresh_prefix())).await;
    assert!(refused.contains("this is a Sentinel") && refused.contains("redis+sentinel://"), "{refused}");
    let server = RedisServer::start(DURABLE);
    let url = format!("redis+sentinel://127.0.0.1:{}/orders", server.port);
    let refused = refusal(RedisOptions::new(url, fresh_prefix())).await;
    let right = format!("is a Redis, not a Sentinel: write redis://127.0.0.1:{}", server.port);
    assert!(refused.contains(&right), "{refused}");
}

#[tokio::test]
async fn a_redis_that_served_and_was_killed_is_not_reported_to_speak_tls() {
    let mut server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
    for _ in 0..3 {
        server.kill();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let why = store.check().await.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(!why.contains("TLS"), "{why}");
            if why.contains("connection refused") {
                break;
            }
            assert!(Instant::now() < deadline, "{why}");
        }
        server.start_again();
        while let Err(error) = store.check().await {
            assert!(!error.to_string().contains("TLS") && Instant::now() < deadline, "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_evicts_data_is_refused_for_logs_and_transports() {
    for policy in ["allkeys-lru", "volatile-ttl"] {
        let server = RedisServer::start(&["--maxmemory-policy", policy]);
        let log = RedisOptions::new(server.url(), fresh_prefix());
        let nothing = Roles { reads_log: false, writes_log: false, bus: false, cache: false };
        let with = |roles| RedisOptions { roles, ..log.clone() };
        for (options, holds_log) in [(log.clone(), true), (with(Roles { bus: true, ..nothing }), false)] {
            let why = match Redis::start(options, holds_log).unwrap().first_connection().await {
                Err(ConnectError::Fatal(why)) => why,
                other => panic!("{other:?}"),
            };
            assert!(why.contains(policy) && why.contains("CONFIG SET maxmemory-policy noeviction"), "{why}");
        }
        let cache = Redis::start(with(Roles { cache: true, ..nothing }), false).unwrap();
        cache.first_connection().await.expect("what a cache holds is in the log as well");
        server.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
        let store = RedisEventStore::new(server.connect().await);
        store.check().await.unwrap();
        server.cli(&["CONFIG", "SET", "maxmemory-policy", policy]);
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains(policy), "{why}");
    }
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_not_ready_and_reports_why() {
    let server = RedisServer::start(&["--save", "3600 1", "--enable-protected-configs", "yes"]);
    let redis = server.connect().await;
    let store = RedisEventStore::new(redis.clone());
    let bus = RedisMessageBus::new(redis, RedisBusOptions::default());
    let keys = server.cli(&["DBSIZE"]);
    store.check().await.unwrap();
    bus.check().await.unwrap();
    assert_eq!(server.cli(&["DBSIZE"]), keys, "a check leaves nothing behind");
    let both = async |words: &[&str]| {
        for why in [
            until("the store says that it is not ready", async || store.check().await.err()).await.to_string(),
            until("the bus says that it is not ready", async || bus.check().await.err()).await.to_string(),
        ] {
            assert!(words.iter().any(|words| why.contains(words)), "{why}");
        }
        let refused = store.append(commit(1, ExpectedRevision::Any, "a")).await;
        assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    };

    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    both(&["min-replicas-to-write"]).await;
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    until("the store works", async || store.check().await).await;

    // A snapshot that fails, since its folder is gone.
    let gone = tempfile::tempdir().unwrap();
    server.cli(&["CONFIG", "SET", "dir", gone.path().to_str().unwrap()]);
    std::fs::remove_dir(gone.path()).unwrap();
    server.cli(&["BGSAVE"]);
    // Reported by its settings, or by the refusal of a write, whichever is checked first.
    both(&["last snapshot failed", "cannot write to its own disk"]).await;
    server.cli(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]);
    until("the store works", async || store.check().await).await;
    bus.check().await.unwrap();
}

#[tokio::test]
async fn a_store_whose_redis_is_down_serves_when_it_comes() {
    let mut server = RedisServer::start(DURABLE);
    server.kill();
    let redis = Redis::start(RedisOptions::new(server.url(), fresh_prefix()), true).unwrap();
    let store = RedisEventStore::new(redis.clone());
    assert!(matches!(redis.first_connection().await, Err(ConnectError::Retryable(_))), "time may mend it");
    assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
    assert_eq!(store.durability(), Durability::Unknown);
    let refused = store.append(commit(1, ExpectedRevision::Any, "a")).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "nothing was sent: {refused:?}");
    server.start_again();
    until("the store works", async || store.check().await).await;
    assert_ne!(store.log_id().unwrap().0, 0);
    store.append(commit(1, ExpectedRevision::NoStream, "b")).await.unwrap();
    assert_eq!(stream_texts(&store, 1).await, ["b"]);
}

#[tokio::test]
async fn a_server_that_returns_without_the_log_is_not_mistaken_for_it() {
    let mut server = RedisServer::start(&["--save", ""]);
    let store = RedisEventStore::new(server.connect().await);
    store.append(commit(1, ExpectedRevision::Any, "a")).await.unwrap();
    server.kill();
    server.start_again();
    let refused = store.append(commit(1, ExpectedRevision::Any, "b")).await;
    assert!(!matches!(refused, Ok(_) | Err(AppendError::Conflict { .. })), "{refused:?}");
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains("the log that this node uses is gone"), "{why}");
    assert_eq!(server.cli(&["DBSIZE"]), "0", "nothing is written beside a log that is gone");
}

#[tokio::test]
async fn a_full_server_is_reported_and_nothing_is_left_behind() {
    let server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
    let request = RequestKey { scope: RequestScope::Log, id: "create-1".into(), fingerprint: 7 };
    server.cli(&["CONFIG", "SET", "maxmemory", "1mb"]);
    let with_request = Commit { request: Some(request.clone()), ..commit(1, ExpectedRevision::NoStream, "a") };
    for commit in [commit(2, ExpectedRevision::Any, "b"), with_request.clone()] {
        let refused = store.append(commit).await;
        assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    }
    assert!(store.check().await.is_err());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.find_request(StreamId(1), &request).await, Ok(None));
    assert_eq!(store.head().await, Ok(Position(0)));
    assert!(!store.append(with_request).await.unwrap().replayed);
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_named_and_the_request_stays_free() {
    let server = shared();
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(server.connect_to(&prefix).await);
    server.cli(&["SET", &format!("{{{prefix}}}:log"), "not a stream"]);
    for scope in [RequestScope::Stream, RequestScope::Log] {
        let request = RequestKey { scope, id: "pay-1".into(), fingerprint: 7 };
        let refused =
            store.append(Commit { request: Some(request.clone()), ..commit(1, ExpectedRevision::Any, "a") }).await;
        let Err(AppendError::Store(StoreError::Corrupt(why))) = refused else { panic!("{refused:?}") };
        assert!(why.contains("WRONGTYPE") || why.contains("wrong kind of value"), "{why}");
        assert_eq!(store.find_request(StreamId(1), &request).await, Ok(None));
    }
    assert!(store.check().await.is_err());
    assert_eq!(server.cli(&["EXISTS", &format!("{{{prefix}}}:order:1")]), "0");
}

#[tokio::test]
async fn a_damaged_entry_is_named_and_never_returned() {
    let server = shared();
    let prefix = fresh_prefix();
    let store = RedisEventStore::new(server.connect_to(&prefix).await);
    store.append(commit(1, ExpectedRevision::Any, "good")).await.unwrap();
    let log = format!("{{{prefix}}}:log");
    server.cli(&["XADD", &log, "0-*", "r", "2", "e", &"x".repeat(50)]);
    server.cli(&["RPUSH", &format!("{{{prefix}}}:order:1"), "2"]);
    let corrupt = |read: Result<Vec<StoredEvent>, StoreError>| match read {
        Err(StoreError::Corrupt(what)) => assert!(what.contains("0-2") && what.contains("checksum"), "{what}"),
        other => panic!("{other:?}"),
    };
    corrupt(store.read_log(Position(0), Direction::Forward, 10).await);
    corrupt(store.read_stream(StreamId(1), 1, Direction::Forward, 10).await);
    assert_eq!(store.read_log(Position(0), Direction::Forward, 1).await.unwrap().len(), 1, "what is whole is read");
    // An index that points to another order's event.
    store.append(commit(3, ExpectedRevision::Any, "other")).await.unwrap();
    server.cli(&["RPUSH", &format!("{{{prefix}}}:order:3"), "1"]);
    let read = store.read_stream(StreamId(3), 1, Direction::Forward, 10).await;
    assert!(matches!(&read, Err(StoreError::Corrupt(what)) if what.contains("index of order 3")), "{read:?}");
}

#[tokio::test]
async fn keys_and_entries_are_as_documented() {
    let server = shared();
    let prefix = fresh_prefix();
    let redis = server.connect_to(&prefix).await;
    let store = RedisEventStore::new(redis.clone());
    let key = |name: &str| format!("{{{prefix}}}:{name}");
    let request = RequestKey { scope: RequestScope::Stream, id: "pay-1".into(), fingerprint: 7 };
    store.append(commit(9, ExpectedRevision::NoStream, "a")).await.unwrap();
    store.append(commit(8, ExpectedRevision::NoStream, "b")).await.unwrap();
    store.append(Commit { request: Some(request), ..commit(9, ExpectedRevision::Exactly(1), "c") }).await.unwrap();
    assert_eq!(server.cli(&["XLEN", &key("log")]), "3");
    assert_eq!(server.cli(&["LRANGE", &key("order:9"), "0", "-1"]), "1\n3");
    assert_eq!(server.cli(&["HGET", &key("requests:9"), "pay-1"]), format!("{:032x} 9 1 2", 7));
    assert_eq!(server.cli(&["GET", &key("log-id")]), store.log_id().unwrap().0.to_string());
    let bus = RedisMessageBus::new(redis.clone(), RedisBusOptions::default());
    bus.publish(&[message(5)]).await.unwrap();
    let event = server.cli(&["XRANGE", &key("events"), "-", "+"]);
    for part in
        ["specversion\n1.0", "id\n9-5", "type\nOrderPaid", "subject\n9", "datacontenttype\napplication/protobuf"]
    {
        assert!(event.contains(part), "{part:?} is not in {event}");
    }
    assert!(!event.contains("traceparent"), "no field without a value: {event}");
    let describe =
        |_: &Message| CloudEventAttributes { traceparent: "00-a-b-00".to_owned(), ..CloudEventAttributes::default() };
    let bus = RedisMessageBus::new(redis, RedisBusOptions { describe, ..RedisBusOptions::default() });
    bus.publish(&[message(6)]).await.unwrap();
    let event = server.cli(&["XRANGE", &key("events"), "-", "+"]);
    assert!(event.contains("traceparent\n00-a-b-00"), "{event}");
    for name in server.cli(&["KEYS", &key("*")]).lines() {
        assert_eq!(server.cli(&["TTL", name]), "-1", "{name} must not expire");
    }
}

fn message(sequence: u64) -> Message {
    Message { key: 9, sequence, position: sequence, kind: "OrderPaid".into(), payload: Bytes::from_static(b"paid") }
}

#[tokio::test]
async fn unacknowledged_messages_survive_a_crash_of_server_and_consumer() {
    let mut server = RedisServer::start(DURABLE);
    let prefix = fresh_prefix();
    {
        let bus = RedisMessageBus::new(server.connect_to(&prefix).await, RedisBusOptions::default());
        let consumer = bus.consumer("log").await.unwrap();
        bus.publish(&[message(1), message(2), message(3)]).await.unwrap();
        let mut received = Vec::new();
        while received.len() < 3 {
            received.extend(consumer.next_batch(3 - received.len()).await.unwrap());
        }
        consumer.ack(&[received[0].receipt]).await.unwrap();
        consumer.dead_letter(&received[1], "no luck").await.unwrap();
    }
    server.kill();
    server.start_again();
    let bus = RedisMessageBus::new(server.connect_to(&prefix).await, RedisBusOptions::default());
    let consumer = bus.consumer("log").await.unwrap();
    let again = timeout(Duration::from_secs(60), consumer.next_batch(10)).await.unwrap().unwrap();
    assert_eq!(again.iter().map(|delivery| delivery.message.sequence).collect::<Vec<_>>(), [3]);
    assert_eq!(bus.dead_letters("log", 10).await.unwrap()[0].message, message(2));
}

#[tokio::test]
async fn unacknowledged_messages_are_not_trimmed_and_publishing_waits() {
    let options = RedisBusOptions { capacity_messages: 8, ..RedisBusOptions::default() };
    let bus = Arc::new(RedisMessageBus::new(shared().connect().await, options));
    let consumer = bus.consumer("log").await.unwrap();
    let sent: Vec<_> = (1..=8).map(message).collect();
    bus.publish(&sent).await.unwrap();
    let mut held = 0;
    while held < 8 {
        held += consumer.next_batch(8).await.unwrap().len();
    }
    let waiting = tokio::spawn({
        let bus = Arc::clone(&bus);
        async move { bus.publish(&[message(9)]).await }
    });
    sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "the stream is full of what is not acknowledged");
    let full = bus.check().await.unwrap_err().to_string();
    assert!(full.contains("consumer log"), "{full}");
    let again = bus.consumer("log").await.unwrap();
    let mut received = Vec::new();
    while received.len() < 9 {
        let batch = timeout(Duration::from_secs(60), again.next_batch(8)).await.unwrap().unwrap();
        again.ack(&batch.iter().map(|delivery| delivery.receipt).collect::<Vec<_>>()).await.unwrap();
        received.extend(batch.into_iter().map(|delivery| delivery.message.sequence));
    }
    assert_eq!(received, (1..=9).collect::<Vec<_>>());
    waiting.await.unwrap().unwrap();
    bus.check().await.unwrap();
}

/// The counts of `INFO commandstats`, without the calls of scripts.
fn calls(server: &RedisServer) -> u64 {
    let stats = server.cli(&["INFO", "commandstats"]);
    let count = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_evalsha:")).filter_map(count).sum()
}

#[tokio::test]
async fn an_append_is_one_call() {
    let server = RedisServer::start(DURABLE);
    let store = RedisEventStore::new(server.connect().await);
    store.append(commit(1, ExpectedRevision::NoStream, "first")).await.unwrap();
    let before = calls(&server);
    for revision in 1..=100 {
        store.append(commit(1, ExpectedRevision::Exactly(revision), "next")).await.unwrap();
    }
    assert_eq!(calls(&server) - before, 100);
}

#[tokio::test]
async fn commits_of_a_log_written_without_request_keys_still_have_them() {
    let prefix = fresh_prefix();
    let server = shared();
    let store = RedisEventStore::new(server.connect_to(&prefix).await);
    let payloads: Vec<Bytes> = vec!["a".into(), "b".into()];
    let mut commits = Vec::new();
    for stream in 1..=40 {
        let key = |scope, id: String| RequestKey { scope, id: id.into(), fingerprint: u128::from(stream) << 64 | 5 };
        let requests = [
            Some(key(RequestScope::Log, format!("create-{stream}"))),
            Some(key(RequestScope::Stream, "pay".to_owned())),
            None,
        ];
        commits.extend(requests.map(|request| Commit {
            id: CommitId::random(),
            stream: StreamId(stream),
            expected: ExpectedRevision::Any,
            request,
            events: payloads.clone(),
        }));
    }
    for commit in &commits {
        store.append(commit.clone()).await.unwrap();
    }
    let expected = store.read_commits(Position(0), 500).await.unwrap();
    // In the format of the first version.
    let old = "local all = redis.call('XRANGE', KEYS[1], '-', '+') redis.call('DEL', KEYS[1]) \
               for _, entry in ipairs(all) do redis.call('XADD', KEYS[1], entry[1], 'r', entry[2][2], 'e', entry[2][4]) end";
    let log = format!("{{{prefix}}}:log");
    server.cli(&["EVAL", old, "1", &log]);
    assert_eq!(server.cli(&["XRANGE", &log, "0-1", "0-1"]).lines().filter(|line| *line == "q").count(), 0);

    let early = RedisEventStore::new(server.connect_to(&prefix).await);
    assert_eq!(early.read_commits(Position(0), 500).await.unwrap(), expected);
    assert_eq!(early.read_commits(expected[50].position(), 7).await.unwrap(), expected[51..54]);
    // And it continues in the current format.
    let next = Commit { id: CommitId::random(), ..commits[0].clone() };
    assert!(early.append(next.clone()).await.unwrap().replayed);
    early.append(Commit { request: None, ..next }).await.unwrap();
    assert_eq!(early.read_commits(Position(0), 500).await.unwrap()[..120], expected);
}
