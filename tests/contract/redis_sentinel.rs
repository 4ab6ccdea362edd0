//! A Redis primary with replicas and Sentinels, all real, and how a node handles a fail-over.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use ordersystem::{
    backends::redis::{
        connection::{ConnectError, Redis, RedisOptions},
        event_store::RedisEventStore,
        lease::RedisLeaseStore,
        message_bus::{RedisBusOptions, RedisMessageBus},
    },
    ports::{
        event_store::{
            AppendError, Commit, CommitId, Direction, Durability, EventStore, ExpectedRevision, LogPoint, Position,
            StoreError, StreamId,
        },
        lease_store::LeaseStore,
        message_bus::{Message, MessageBus},
    },
};
use tokio::time::sleep;

use crate::{
    proxy::{Proxy, Way},
    redis_server::{DURABLE, RedisServer, fresh_prefix},
    support::{PATIENCE, blocking_until, until},
};

/// The name of the service.
const SERVICE: &str = "orders";
/// The time without an answer after which a Sentinel considers the primary down.
const DOWN_AFTER_MS: u64 = 1_000;
/// A primary, its replicas, and the Sentinels that watch them.
pub struct Sentinels {
    /// The first one starts as the primary.
    pub servers: Vec<RedisServer>,
    pub sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Three servers and three Sentinels that know each other. All servers, but not the Sentinels, require `password` if it is set.
    pub fn start(password: Option<&str>) -> Self {
        let mut settings = [DURABLE, &["--repl-diskless-sync-delay", "0"]].concat();
        if let Some(password) = password {
            settings.extend(["--requirepass", password, "--masterauth", password]);
        }
        let primary = RedisServer::start(&settings);
        let of = format!("127.0.0.1 {}", primary.port);
        let mut servers = vec![primary];
        for _ in 0..2 {
            servers.push(RedisServer::start(&[&settings[..], &["--replicaof", &of]].concat()));
        }
        let mut lines = format!(
            "sentinel monitor {SERVICE} {of} 2\nsentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}\n\
             sentinel failover-timeout {SERVICE} 5000"
        );
        if let Some(password) = password {
            lines.push_str(&format!("\nsentinel auth-pass {SERVICE} {password}"));
        }
        let sentinels: Vec<_> = (0..3).map(|_| RedisServer::start_sentinel(&lines)).collect();
        let all = Self { servers, sentinels };
        // To a Sentinel a replica that has never had the log is as good a primary as any.
        all.wait_until("the replicas follow, and the Sentinels know all servers and each other", |all| {
            let password = password.map_or_else(Vec::new, |password| vec!["--no-auth-warning", "-a", password]);
            let replication = all.servers[0].cli(&[&password[..], &["INFO", "replication"]].concat());
            let follow = replication.matches("state=online").count() == 2;
            follow
                && all.sentinels.iter().all(|sentinel| {
                    let about = sentinel.cli(&["SENTINEL", "MASTER", SERVICE]);
                    let lines: Vec<_> = about.lines().collect();
                    let field =
                        |name| lines.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1).copied());
                    field("num-slaves") == Some("2") && field("num-other-sentinels") == Some("2")
                })
        });
        all
    }

    /// The address for a node.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    /// Proxies to the Sentinels, and the address for a node that uses them.
    pub fn proxies(&self) -> (Vec<Proxy>, String) {
        let proxies: Vec<_> = self.sentinels.iter().map(|sentinel| Proxy::to(sentinel.port)).collect();
        let hosts: Vec<_> = proxies.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port())).collect();
        (proxies, format!("redis+sentinel://{}/{SERVICE}", hosts.join(",")))
    }

    /// Waits until all Sentinels name the same primary, which is not `before`.
    pub fn until_replaced(&self, before: usize) {
        self.wait_until("all Sentinels name another primary", |all| {
            let named = |sentinel: &RedisServer| sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
            let first = named(&all.sentinels[0]);
            all.primary() != before && all.sentinels.iter().all(|sentinel| named(sentinel) == first)
        });
    }

    /// The server that is the primary, according to the first Sentinel.
    pub fn primary(&self) -> usize {
        let address = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        let port: u16 = address.lines().last().and_then(|port| port.parse().ok()).expect("a port");
        self.servers.iter().position(|server| server.port == port).expect("one of the servers")
    }

    /// Waits, blocking, until a condition holds.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        blocking_until(what, || holds(self));
    }
}

async fn connect(url: String, prefix: &str) -> Redis {
    connect_with(RedisOptions::new(url, prefix)).await
}

async fn connect_with(options: RedisOptions) -> Redis {
    let redis = Redis::start(options, true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = redis.first_connection().await {
        assert!(matches!(why, ConnectError::Retryable(_)) && Instant::now() < deadline, "{why:?}");
    }
    redis
}

fn commit(stream: u64) -> Commit {
    let (expected, events) = (ExpectedRevision::NoStream, vec![Bytes::copy_from_slice(&stream.to_be_bytes())]);
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

async fn is_there(store: &RedisEventStore, stream: u64) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match store.read_stream(StreamId(stream), 1, Direction::Forward, 1).await {
            Ok(events) => return !events.is_empty(),
            Err(StoreError::Unavailable(why)) => assert!(Instant::now() < deadline, "{why}"),
            Err(other) => panic!("{other}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Orders that writers create until they are told to stop: the acknowledged ones, in this order.
struct Load {
    acknowledged: Arc<Mutex<Vec<u64>>>,
    is_over: Arc<AtomicBool>,
    writers: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(store: &Arc<RedisEventStore>) -> Self {
        let (acknowledged, is_over) = (Arc::<Mutex<Vec<u64>>>::default(), Arc::<AtomicBool>::default());
        let next = Arc::new(AtomicUsize::new(1));
        let writers = (0..8).map(|_| {
            let (store, acknowledged, is_over) = (Arc::clone(store), Arc::clone(&acknowledged), Arc::clone(&is_over));
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let order = next.fetch_add(1, Ordering::Relaxed) as u64;
                    match store.append(commit(order)).await {
                        Ok(_) => acknowledged.lock().unwrap().push(order),
                        Err(AppendError::Store(StoreError::Unavailable(_)) | AppendError::OutcomeUnknown(_)) => {
                            sleep(Duration::from_millis(5)).await;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            })
        });
        let writers = writers.collect();
        Self { acknowledged, is_over, writers }
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    async fn until(&self, count: usize) {
        until("enough is acknowledged", async || match self.acknowledged() {
            acknowledged if acknowledged < count => Err(format!("{acknowledged} of {count}")),
            _ => Ok(()),
        })
        .await;
    }

    async fn end(self) -> Vec<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        for writer in self.writers {
            writer.await.unwrap();
        }
        Arc::try_unwrap(self.acknowledged).unwrap().into_inner().unwrap()
    }
}

/// Harms the primary under load; orders that are acknowledged before and after it must be served, except for those that the new primary
/// never had.
async fn fail_over(harm: impl FnOnce(&mut Sentinels, usize)) {
    let mut all = Sentinels::start(None);
    let redis = connect(all.url(), &fresh_prefix()).await;
    let store = Arc::new(RedisEventStore::new(redis.clone()));
    let connections = *store.connections().borrow();
    let load = Load::begin(&store);
    load.until(200).await;
    let before = all.primary();
    let harmed_at = Instant::now();
    harm(&mut all, before);
    all.wait_until("another primary", |all| all.primary() != before);
    let primary = Some(format!("127.0.0.1:{}", all.servers[all.primary()].port));
    let deadline = Instant::now() + PATIENCE;
    while redis.server() != primary {
        let (server, why) = (redis.server(), redis.first_connection().await);
        assert!(Instant::now() < deadline, "the node is connected to {server:?}, and not to {primary:?}: {why:?}");
        sleep(Duration::from_millis(5)).await;
    }
    // Some may still come from the previous one.
    load.until(load.acknowledged() + 300).await;
    println!("writes are back {:?} after the harm", harmed_at.elapsed());
    let acknowledged = load.end().await;

    until("the store works", async || store.check().await).await;
    assert!(*store.connections().borrow() > connections, "a fail-over is another connection");
    let mut lost = Vec::new();
    for &order in &acknowledged {
        if !is_there(&store, order).await {
            lost.push(order);
        }
    }
    println!("{} acknowledged, {} of them lost with the primary", acknowledged.len(), lost.len());
    let after = &acknowledged[acknowledged.len() - 200..];
    assert!(lost.iter().all(|order| !after.contains(order)), "acknowledged by the new primary, and not there");
    // The log of the new primary is intact, whatever it lacks, and each order is in it once.
    let head = store.head().await.unwrap();
    let (mut last, mut orders) = (Position(0), Vec::new());
    while last < head {
        let page = store.read_log(last, Direction::Forward, 4_096).await.unwrap();
        last = page.last().expect("the log is whole").position;
        orders.extend(page.iter().map(|event| event.stream.0));
    }
    let count = orders.len();
    orders.sort_unstable();
    orders.dedup();
    assert_eq!(orders.len(), count, "an order is in the log twice");
    assert!(acknowledged.iter().all(|order| orders.binary_search(order).is_ok() || lost.contains(order)));
    assert_eq!(store.check_indexes().await, Ok(Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_under_load_is_replaced_and_no_missing_data_is_served() {
    fail_over(|all, primary| all.servers[primary].kill()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_primary_is_abandoned_for_the_new_one() {
    fail_over(|all, primary| {
        all.servers[primary].signal("STOP");
        all.wait_until("another primary", |all| all.primary() != primary);
        all.servers[primary].signal("CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_replaced_while_it_answers_is_abandoned_as_well() {
    fail_over(|all, _| {
        assert_eq!(all.sentinels[1].cli(&["SENTINEL", "FAILOVER", SERVICE]), "OK");
    })
    .await;
}

/// Waits until the node has reconnected, to the primary that its Sentinels name.
async fn until_connected_to(redis: &Redis, server: &RedisServer) {
    let wanted = Some(format!("127.0.0.1:{}", server.port));
    until("it is connected to the new primary", async || match redis.server() {
        server if server == wanted => Ok(()),
        other => Err(format!("{other:?} and not {wanted:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_from_a_replaced_primary_are_not_confirmed() {
    let all = Sentinels::start(None);
    let (proxies, url) = all.proxies();
    let prefix = fresh_prefix();
    // One node loses contact with the Sentinels, and stays with the old primary; the other one switches to the new one.
    let patient = RedisOptions { response_timeout: PATIENCE, ..RedisOptions::new(url, &prefix) };
    let (late, early) = (connect_with(patient).await, connect(all.url(), &prefix).await);
    let (late_store, early_store) = (RedisEventStore::new(late.clone()), RedisEventStore::new(early.clone()));
    early_store.append(commit(1)).await.unwrap();
    let connection = *late_store.connections().borrow();
    assert!(is_there(&late_store, 1).await);
    late_store.confirm_connection(connection).await.expect("all Sentinels name this primary");

    proxies.iter().for_each(|proxy| proxy.hold(Way::There));
    let before = all.primary();
    all.servers[before].signal("STOP");
    all.until_replaced(before);
    all.servers[before].signal("CONT");
    until_connected_to(&early, &all.servers[all.primary()]).await;
    until("the store works", async || early_store.check().await).await;
    let added = early_store.append(commit(2)).await.expect("the new primary takes it");
    // For some seconds the old primary does not know that it has been replaced.
    assert!(!is_there(&late_store, 2).await);
    assert_eq!(*late_store.connections().borrow(), connection, "the node is still connected to the old primary");
    let silent = late_store.confirm_connection(connection).await;
    assert!(matches!(&silent, Err(StoreError::Unavailable(why)) if why.contains("0 of 3 Sentinels")), "{silent:?}");
    let gone = LogPoint::from(added.position).verify(&late_store).await;
    assert!(matches!(gone, Err(StoreError::Unavailable(_))), "not there where it was looked for: {gone:?}");

    // One Sentinel that names another primary is enough for doubt, and the old one is left.
    proxies[0].heal();
    let deadline = Instant::now() + PATIENCE;
    while late.server().is_some() {
        let doubted = late_store.confirm_connection(connection).await;
        assert!(matches!(doubted, Err(StoreError::Unavailable(_))), "{doubted:?}");
        assert!(Instant::now() < deadline, "it is still used");
        sleep(Duration::from_millis(5)).await;
    }
    proxies[1].heal();
    until_connected_to(&late, &all.servers[all.primary()]).await;
    late_store.confirm_connection(connection).await.expect_err("what was read before is not confirmed by it");
    let connection = *late_store.connections().borrow();
    assert!(is_there(&late_store, 2).await);
    late_store.confirm_connection(connection).await.expect("two of three Sentinels name this primary");
    LogPoint::from(added.position).verify(&late_store).await.expect("it is there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minority_of_the_sentinels_confirms_nothing_and_starts_no_node() {
    let mut all = Sentinels::start(None);
    let redis = connect(all.url(), &fresh_prefix()).await;
    let store = RedisEventStore::new(redis);
    let connection = *store.connections().borrow();
    all.sentinels[0].kill();
    store.confirm_connection(connection).await.expect("two of three are enough");
    all.sentinels[1].kill();
    let alone = store.confirm_connection(connection).await;
    assert!(matches!(&alone, Err(StoreError::Unavailable(why)) if why.contains("1 of 3 Sentinels")), "{alone:?}");
    store.append(commit(1)).await.expect("what is connected stays connected");
    let new = Redis::start(RedisOptions::new(all.url(), fresh_prefix()), true).unwrap().first_connection().await;
    let Err(ConnectError::Retryable(why)) = new else { panic!("{new:?}") };
    assert!(why.contains("1 of 3 Sentinels name 127.0.0.1:"), "{why}");
    // A Sentinel that returns is asked on a new connection.
    all.sentinels[1].start_again();
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = store.confirm_connection(connection).await {
        assert!(Instant::now() < deadline, "{why}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_leases_and_passwords_go_through_sentinels_too() {
    let mut all = Sentinels::start(Some("s3cret"));
    // One Sentinel less changes nothing.
    all.sentinels[0].kill();
    let url = all.url().replace("://", "://:s3cret@");
    let redis = connect(url, &fresh_prefix()).await;
    let store = RedisEventStore::new(redis.clone());
    assert_eq!(store.durability(), Durability::Process, "a replica may lack what the primary has synced");
    let summary = redis.facts().unwrap().summary();
    assert!(summary.contains("a fail-over may lose acknowledged writes"), "{summary}");
    let bus = RedisMessageBus::new(redis.clone(), RedisBusOptions::default());
    let consumer = bus.consumer("handler").await.unwrap();
    let message =
        |sequence| Message { key: 1, sequence, position: sequence, kind: "order.paid".into(), payload: Bytes::new() };
    bus.publish(&[message(1)]).await.unwrap();
    assert_eq!(consumer.next_batch(1).await.unwrap()[0].message, message(1));
    let leases = RedisLeaseStore::new(redis);
    assert!(leases.acquire("relay", "node", Duration::from_secs(9)).await.unwrap().is_some());
    store.check().await.unwrap();
    bus.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_no_sentinel_knows_is_refused_by_name() {
    let sentinel = RedisServer::start_sentinel("");
    let url = format!("redis+sentinel://127.0.0.1:{}/elsewhere", sentinel.port);
    let refused = Redis::start(RedisOptions::new(url, fresh_prefix()), true).unwrap().first_connection().await;
    let Err(ConnectError::Fatal(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains(&format!("127.0.0.1:{} knows no service elsewhere", sentinel.port)), "{why}");
}
