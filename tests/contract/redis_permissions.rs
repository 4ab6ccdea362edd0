//! The permissions of a Redis user: the documented user can do everything; one that lacks a permission gets its name, and nothing is ever
//! half written.

use std::time::Duration;

use bytes::Bytes;
use ordersystem::{
    backends::redis::{
        cache::RedisOrderCache,
        checkpoint_store::RedisCheckpointStore,
        connection::{ConnectError, Redis, RedisOptions},
        event_store::RedisEventStore,
        lease::RedisLeaseStore,
        message_bus::{RedisBusOptions, RedisMessageBus},
        permissions::Roles,
    },
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::{
            AppendError, Commit, CommitId, Direction, EventStore, ExpectedRevision, Position, RequestKey, RequestScope,
            StoreError, StreamId,
        },
        lease_store::LeaseStore,
        message_bus::{Message, MessageBus},
        order_cache::{CacheKey, OrderCache},
    },
};
use tokio::time::{Instant, sleep, timeout};

use crate::redis_server::RedisServer;

/// The commands that the documentation tells an operator to type.
fn documented_user() -> Vec<&'static str> {
    let page = include_str!("../../docs/deploy.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER ordersystem "));
    line.expect("docs/deploy.md shows the user of Redis").split(' ').collect()
}

fn set_user(server: &RedisServer, rules: &[&str]) {
    let set = server.cli(&[&["ACL", "SETUSER", "ordersystem"], rules].concat());
    assert_eq!(set, "OK", "{rules:?}");
}

fn options(server: &RedisServer) -> RedisOptions {
    RedisOptions::new(format!("redis://ordersystem:PASSWORD@127.0.0.1:{}", server.port), "ordersystem")
}

/// A server with the documented user.
fn server() -> RedisServer {
    let server = RedisServer::start(&["--save", ""]);
    assert_eq!(server.cli(&documented_user()), "OK");
    server
}

async fn connect(server: &RedisServer) -> Redis {
    let redis = Redis::start(options(server), true).unwrap();
    redis.first_connection().await.expect("the documented user may do all that is needed");
    redis
}

fn request(scope: RequestScope, id: &str) -> Option<RequestKey> {
    Some(RequestKey { scope, id: id.into(), fingerprint: 7 })
}

fn commit(stream: u64, expected: ExpectedRevision, request: Option<RequestKey>) -> Commit {
    let events = vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")];
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request, events }
}

fn message(sequence: u64) -> Message {
    Message { key: 9, sequence, position: sequence, kind: "order.paid".into(), payload: Bytes::from_static(b"paid") }
}

#[tokio::test]
async fn the_documented_user_can_do_all_that_a_node_does() {
    let server = server();
    let redis = connect(&server).await;
    let store = RedisEventStore::new(redis.clone());
    for (stream, scope) in [(1, RequestScope::Log), (2, RequestScope::Stream)] {
        let made = commit(stream, ExpectedRevision::NoStream, request(scope, "one"));
        store.append(made.clone()).await.unwrap();
        assert!(store.append(made.clone()).await.unwrap().replayed);
        store.find_request(StreamId(stream), &made.request.unwrap()).await.unwrap().unwrap();
    }
    let more = [RequestScope::Log, RequestScope::Stream].map(|scope| (scope, request(scope, "two")));
    let more = more.into_iter().zip(3..).map(|((_, key), stream)| commit(stream, ExpectedRevision::NoStream, key));
    assert_eq!(store.append_all(more.collect()).await, Ok(Position(8)));
    assert_eq!(store.read_log(Position(0), Direction::Forward, 100).await.unwrap().len(), 8);
    assert_eq!(store.read_log(Position(9), Direction::Backward, 100).await.unwrap().len(), 8);
    assert_eq!(store.read_stream(StreamId(1), 1, Direction::Forward, 9).await.unwrap().len(), 2);
    assert_eq!(store.read_commits(Position(0), 100).await.unwrap().len(), 4);
    assert_eq!(store.check_indexes().await, Ok(Vec::new()));
    store.check().await.unwrap();

    let bus = RedisMessageBus::new(redis.clone(), RedisBusOptions::default());
    let consumer = bus.consumer("handler").await.unwrap();
    bus.publish(&[message(1), message(2)]).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 2 {
        received.extend(consumer.next_batch(2).await.unwrap());
    }
    consumer.ack(&[received[0].receipt]).await.unwrap();
    consumer.dead_letter(&received[1], "no").await.unwrap();
    assert_eq!(bus.dead_letters("handler", 9).await.unwrap().len(), 1);
    assert_eq!(bus.replay("handler", &[message(2).event_id()]).await, Ok(1));
    let again = consumer.next_batch(1).await.unwrap();
    consumer.dead_letter(&again[0], "no").await.unwrap();
    assert_eq!(bus.discard("handler", &[message(2).event_id()]).await, Ok(1));
    bus.check().await.unwrap();
    bus.remove_consumer("handler").await.unwrap();

    let leases = RedisLeaseStore::new(redis.clone());
    let lease = leases.acquire("relay", "node", Duration::from_secs(9)).await.unwrap().unwrap();
    let lease = leases.renew(&lease, Duration::from_secs(9)).await.unwrap();
    assert!(leases.holder("relay").await.unwrap().is_some());
    leases.release(&lease).await.unwrap();
    let checkpoints = RedisCheckpointStore::new(redis.clone());
    let checkpoint = Checkpoint::at(Position(3).into(), 1);
    checkpoints.save("outbox", checkpoint).await.unwrap();
    assert_eq!(checkpoints.load("outbox").await, Ok(Some(checkpoint)));
    let cache = RedisOrderCache::new(redis);
    let key = CacheKey { log: store.log_id().unwrap(), schema: 1, stream: StreamId(1) };
    cache.put(key, Bytes::from_static(b"order"));
    let deadline = Instant::now() + Duration::from_secs(30);
    while cache.get(key).await.unwrap().is_none() {
        assert!(Instant::now() < deadline, "what was put is never there");
        sleep(Duration::from_millis(10)).await;
    }
    cache.check().await.unwrap();
}

/// Why the user, with his current permissions, is refused.
async fn refusal(options: RedisOptions, holds_log: bool) -> String {
    match Redis::start(options, holds_log).unwrap().first_connection().await {
        Err(ConnectError::Fatal(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_user_who_lacks_one_documented_command_is_refused_with_its_name() {
    let server = server();
    let commands: Vec<_> = documented_user().into_iter().filter_map(|rule| rule.strip_prefix('+')).collect();
    assert!(commands.len() > 35, "{commands:?}");
    for command in commands.into_iter().filter(|&command| command != "config|get") {
        set_user(&server, &[&format!("-{command}")]);
        let why = refusal(options(&server), true).await;
        assert!(why.contains("the Redis user ordersystem") && why.contains(&format!("grant +{command} ")), "{why}");
        set_user(&server, &[&format!("+{command}")]);
    }
    set_user(&server, &["resetchannels"]);
    let why = refusal(options(&server), true).await;
    assert!(why.contains("publish") && why.contains("grant &ordersystem:events:* "), "{why}");
    set_user(&server, &["&ordersystem:events:*", "resetkeys", "~{ordersystem}:log*"]);
    let why = refusal(options(&server), true).await;
    assert!(why.contains("{ordersystem}:order:0") && why.contains("grant ~{ordersystem}:* "), "{why}");
    set_user(&server, &["~{ordersystem}:*", "-config|get"]);
    connect(&server).await;
}

#[tokio::test]
async fn a_user_needs_no_more_than_what_redis_is_used_for() {
    let server = server();
    let nothing = Roles { reads_log: false, writes_log: false, bus: false, cache: false };
    set_user(&server, &["-xadd", "-rpush", "resetchannels"]);
    for roles in [Roles { cache: true, ..nothing }, Roles { reads_log: true, ..nothing }] {
        let options = RedisOptions { roles, ..options(&server) };
        let redis = Redis::start(options.clone(), roles.reads_log).unwrap();
        redis.first_connection().await.unwrap_or_else(|why| panic!("{roles:?}: {why:?}"));
    }
    set_user(&server, &["+xadd"]);
    let why = refusal(RedisOptions { roles: Roles { bus: true, ..nothing }, ..options(&server) }, false).await;
    assert!(why.contains("publish") && !why.contains("RPUSH"), "{why}");
    let log = Roles { reads_log: true, writes_log: true, ..nothing };
    let why = refusal(RedisOptions { roles: log, ..options(&server) }, true).await;
    assert!(why.contains("RPUSH") && !why.contains("publish"), "{why}");
}

#[tokio::test]
async fn a_commit_that_is_refused_in_its_middle_leaves_nothing_and_the_node_is_not_ready() {
    let server = server();
    let store = RedisEventStore::new(connect(&server).await);
    for (command, scope) in [
        ("xadd", RequestScope::Log),
        ("rpush", RequestScope::Log),
        ("rpush", RequestScope::Stream),
        ("set", RequestScope::Log),
        ("hset", RequestScope::Stream),
    ] {
        set_user(&server, &[&format!("-{command}")]);
        let (one, more) = (
            commit(1, ExpectedRevision::NoStream, request(scope, "one")),
            commit(2, ExpectedRevision::NoStream, request(scope, "more")),
        );
        let refused = [store.append(one.clone()).await.map(drop), store.append_all(vec![more.clone()]).await.map(drop)];
        for refused in refused {
            let Err(AppendError::Store(StoreError::Unavailable(why))) = refused else { panic!("{refused:?}") };
            assert!(why.contains(&format!("grant +{command} ")), "{why}");
        }
        let check = store.check().await.unwrap_err().to_string();
        assert!(check.contains(&format!("grant +{command} ")), "{check}");
        assert_eq!(store.head().await, Ok(Position(0)), "-{command}");
        let kept = server.cli(&["KEYS", "*"]);
        let mut kept: Vec<_> = kept.lines().collect();
        kept.sort_unstable();
        assert_eq!(kept, ["{ordersystem}:log-id", "{ordersystem}:log-key"], "-{command}");
        set_user(&server, &[&format!("+{command}")]);
        store.check().await.unwrap();
    }
    assert!(
        !store.append(commit(1, ExpectedRevision::NoStream, request(RequestScope::Log, "one"))).await.unwrap().replayed
    );
}

#[tokio::test]
async fn a_publish_without_permission_for_the_channel_is_stored_once() {
    let server = server();
    let bus = RedisMessageBus::new(connect(&server).await, RedisBusOptions::default());
    set_user(&server, &["resetchannels"]);
    bus.publish(&[message(1), message(2)]).await.unwrap();
    assert_eq!(server.cli(&["XLEN", "{ordersystem}:events"]), "2");
    let check = bus.check().await.unwrap_err().to_string();
    assert!(check.contains("grant &ordersystem:events:* "), "{check}");
    set_user(&server, &["&ordersystem:events:*", "-xadd"]);
    bus.publish(&[message(3)]).await.unwrap_err();
    assert_eq!(server.cli(&["XLEN", "{ordersystem}:events"]), "2");
}

#[tokio::test]
async fn a_consumer_loses_nothing_to_a_command_that_is_refused_in_the_middle() {
    let server = server();
    let bus = RedisMessageBus::new(connect(&server).await, RedisBusOptions::default());
    let pending = || server.cli(&["XPENDING", "{ordersystem}:events", "handler"]).lines().next().map(str::to_owned);
    let dead = || server.cli(&["XLEN", "{ordersystem}:dead:handler"]);

    set_user(&server, &["-hset"]);
    bus.consumer("handler").await.unwrap_err();
    assert_eq!(server.cli(&["EXISTS", "{ordersystem}:events"]), "0", "a group without a handle");
    set_user(&server, &["+hset", "-xrange"]);
    let consumer = bus.consumer("handler").await.unwrap();
    bus.publish(&[message(1)]).await.unwrap();
    consumer.next_batch(1).await.unwrap_err();
    assert_eq!(pending().as_deref(), Some("0"), "delivered to no consumer");
    set_user(&server, &["+xrange"]);
    let delivery = loop {
        // The failure is reported once.
        if let Ok(batch) = timeout(Duration::from_secs(30), consumer.next_batch(1)).await.unwrap() {
            break batch.into_iter().next().unwrap();
        }
    };
    for command in ["xadd", "hset", "xdel", "xack"] {
        set_user(&server, &[&format!("-{command}")]);
        let why = consumer.dead_letter(&delivery, "no").await.unwrap_err().to_string();
        assert!(why.contains(&format!("grant +{command} ")), "{why}");
        assert_eq!((pending().as_deref(), dead().as_str()), (Some("1"), "0"), "-{command}");
        assert_eq!(server.cli(&["EXISTS", "{ordersystem}:dead-index:handler"]), "0", "-{command}");
        set_user(&server, &[&format!("+{command}")]);
    }
    consumer.dead_letter(&delivery, "no").await.unwrap();
    for command in ["xadd", "hdel", "xdel"] {
        set_user(&server, &[&format!("-{command}")]);
        bus.replay("handler", &[message(1).event_id()]).await.unwrap_err();
        assert_eq!(dead(), "1", "-{command}");
        assert_eq!(server.cli(&["HLEN", "{ordersystem}:dead-index:handler"]), "1", "-{command}");
        assert_eq!(server.cli(&["EXISTS", "{ordersystem}:replayed:handler"]), "0", "-{command}");
        set_user(&server, &[&format!("+{command}")]);
    }
    for command in ["hdel", "xgroup|destroy", "del"] {
        set_user(&server, &[&format!("-{command}")]);
        bus.remove_consumer("handler").await.unwrap_err();
        assert_eq!(server.cli(&["HEXISTS", "{ordersystem}:consumers", "handler"]), "1", "-{command}");
        assert!(server.cli(&["XINFO", "GROUPS", "{ordersystem}:events"]).contains("handler"), "-{command}");
        set_user(&server, &[&format!("+{command}")]);
    }
    assert_eq!(bus.replay("handler", &[message(1).event_id()]).await, Ok(1));
}

#[tokio::test]
async fn a_lease_that_cannot_be_written_uses_up_no_token() {
    let server = server();
    let leases = RedisLeaseStore::new(connect(&server).await);
    set_user(&server, &["-set"]);
    leases.acquire("relay", "node", Duration::from_secs(9)).await.unwrap_err();
    assert_eq!(server.cli(&["EXISTS", "{ordersystem}:lease-token:relay"]), "0");
}
