//! The log comes back shorter while a node runs: a broker was restored, or failed over to a server that lacks the last writes, at the same
//! address. No reader skips the events that follow, and no client is told that all is well.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use ordersystem::proto::catga::orders::v1::{
    ConsistencyLevel, GetOrderRequest, ListOrdersRequest, ReadConsistency, StreamEventsRequest, StreamStart,
    order_history_service_client::OrderHistoryServiceClient, stream_events_response::Item,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    audit::listed,
    load::new_order,
    nats_server::{NatsServer, current_program},
    redis_server::{DURABLE, RedisServer},
    support::{PATIENCE, Process, until},
};

/// A Redis that writes only the requested snapshots to disk.
const SNAPSHOTS: &[&str] = &["--appendonly", "no", "--save", ""];
const KEPT: u32 = 10;
const LOST: u32 = 20;
const NEW: u32 = 10;

/// An order that was acknowledged.
#[derive(Clone, Debug)]
pub struct Placed {
    pub id: String,
    token: String,
}

pub async fn place(node: &Process, what: &str, count: u32) -> Vec<Placed> {
    let mut placed = Vec::new();
    for index in 0..count {
        let request = new_order("c", &format!("{what}-{index}"));
        let give_up_at = Instant::now() + PATIENCE;
        // Each attempt finds the node on its way back to its broker, or reconnected; with the same request id there is only one order.
        let reply = loop {
            match node.commands().await.create_order(request.clone()).await {
                Ok(reply) => break reply.into_inner(),
                Err(error) => assert!(Instant::now() < give_up_at, "no order is taken: {error:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        };
        placed.push(Placed { id: reply.order.unwrap().order_id, token: reply.consistency_token });
    }
    placed
}

pub fn ids(orders: &[Placed]) -> BTreeSet<String> {
    orders.iter().map(|order| order.id.clone()).collect()
}

/// The orders whose creation the handler of the node has logged.
pub fn handled(node: &Process) -> BTreeSet<String> {
    let order = |line: &String| {
        let rest = line.split_once("order_events: order event event_id=")?.1;
        Some(rest.split_once('-')?.0.to_owned())
    };
    node.said().iter().filter_map(order).collect()
}

pub fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Follows all events from the beginning, like a client: it resumes at its cursor whenever the stream asks it to reconnect.
struct Follower {
    cursor: String,
    seen: BTreeSet<String>,
}

impl Follower {
    const fn new() -> Self {
        Self { cursor: String::new(), seen: BTreeSet::new() }
    }

    /// Follows until `enough` orders have been seen, or until it is told that it cannot resume from its cursor.
    async fn follow(&mut self, node: &Process, enough: usize) -> Result<(), String> {
        let give_up_at = Instant::now() + PATIENCE;
        while self.seen.len() < enough {
            assert!(Instant::now() < give_up_at, "it hears nothing: {} of {enough} orders seen", self.seen.len());
            match self.read(node, enough).await {
                Ok(()) => {}
                Err(status) if status.code() == Code::Unavailable => sleep(Duration::from_millis(100)).await,
                Err(status) => return Err(reason(&status)),
            }
        }
        Ok(())
    }

    async fn read(&mut self, node: &Process, enough: usize) -> Result<(), Status> {
        let start = if self.cursor.is_empty() { StreamStart::Earliest } else { StreamStart::After };
        let request = StreamEventsRequest {
            start: start.into(),
            cursor: self.cursor.clone(),
            follow: true,
            ..Default::default()
        };
        let mut stream =
            OrderHistoryServiceClient::new(node.channel().await).stream_events(request).await?.into_inner();
        // A silent stream is reopened, where a client would keep waiting.
        while let Ok(reply) = timeout(Duration::from_secs(5), stream.message()).await {
            let Some(reply) = reply? else { return Ok(()) };
            self.cursor = reply.cursor;
            if let Some(Item::Event(event)) = reply.item {
                let event = ordersystem::codec::decode(&event.0).unwrap();
                self.seen.insert(event.order_id.to_string());
            }
            if self.seen.len() >= enough {
                return Ok(());
            }
        }
        Ok(())
    }
}

pub async fn get(node: &Process, order: &Placed, level: ConsistencyLevel) -> Result<(), Status> {
    let token = if level == ConsistencyLevel::AtLeast { order.token.clone() } else { String::new() };
    let consistency = Some(ReadConsistency { level: level.into(), token });
    let request = GetOrderRequest { order_id: order.id.clone(), at: None, consistency };
    node.queries().await.get_order(request).await.map(drop)
}

/// Some orders are kept, others lost, and new ones placed; `keep` and `lose` do the necessary to the broker.
async fn the_loss_is_noticed(node: &Process, keep: impl AsyncFnOnce(), lose: impl AsyncFnOnce()) {
    let kept = place(node, "kept", KEPT).await;
    until("the kept ones are handled", async || handled(node).is_superset(&ids(&kept))).await;
    // The relay's progress is saved with it.
    until("the outbox has caught up", async || node.health("outbox").await.1.contains("lag: 0")).await;
    keep().await;
    until("it is ready", async || node.is_ready().await).await;
    let lost = place(node, "lost", LOST).await;
    until("the later ones are handled", async || handled(node).is_superset(&ids(&lost))).await;
    let mut follower = Follower::new();
    follower.follow(node, (KEPT + LOST) as usize).await.unwrap();
    lose().await;

    assert_eq!(follower.follow(node, usize::MAX).await, Err("CURSOR_OF_ANOTHER_LOG".to_owned()));
    let new = place(node, "new", NEW).await;
    let now: BTreeSet<_> = ids(&kept).union(&ids(&new)).cloned().collect();
    until("the list is that of the log as it is now", async || {
        listed(node).await.into_keys().collect::<BTreeSet<_>>() == now
    })
    .await;
    let mut again = Follower::new();
    again.follow(node, now.len()).await.unwrap();
    assert_eq!(again.seen, now);
    until("the new ones are handled", async || handled(node).is_superset(&ids(&new))).await;
    let first_lost = &lost[0];
    for level in [ConsistencyLevel::Eventual, ConsistencyLevel::Strong] {
        assert_eq!(reason(&get(node, first_lost, level).await.unwrap_err()), "ORDER_NOT_FOUND");
    }
    let last_lost = lost.last().unwrap();
    let begun = Instant::now();
    let refused = get(node, last_lost, ConsistencyLevel::AtLeast).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "CURSOR_OF_ANOTHER_LOG"));
    let list = ListOrdersRequest {
        consistency: Some(ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: last_lost.token.clone() }),
        ..Default::default()
    };
    let refused = node.queries().await.list_orders(list).await.unwrap_err();
    assert_eq!(reason(&refused), "CURSOR_OF_ANOTHER_LOG");
    assert!(begun.elapsed() < Duration::from_secs(15), "nothing is waited for that cannot come");

    let (status, detail) = node.health("projections").await;
    assert!(status == "Degraded" && detail.contains("the log has lost events"), "{status}: {detail}");
    assert!(node.metric("ordersystem_log_losses_total{reader=\"projection\"}").await >= 1.0);
    let is_loss = |line: &String| line.contains("ERROR") && line.contains("the log has lost events");
    until("the loss is logged", async || node.said().iter().any(is_loss)).await;
    until("it is ready", async || node.is_ready().await).await;
}

pub fn settings(settings: &[&str]) -> Vec<String> {
    let traced = ["--log-level", "info,order_events=debug"];
    settings.iter().chain(&traced).map(|&setting| setting.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_back_from_its_last_snapshot() {
    let server = RedisServer::start(SNAPSHOTS);
    let node = Process::serve(&settings(&["--persistence", "redis", "--redis", &server.url()])).await;
    let server = std::cell::RefCell::new(server);
    let keep = async || assert_eq!(server.borrow().cli(&["SAVE"]), "OK");
    let lose = async || {
        let mut server = server.borrow_mut();
        server.kill();
        server.start_again();
    };
    the_loss_is_noticed(&node, keep, lose).await;
}

/// Passes connections on to one of several servers, and switches all of them at once when told.
struct Switch {
    address: String,
    to: Arc<AtomicU16>,
    switched: watch::Sender<()>,
}

impl Switch {
    async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (to, switched) = (Arc::new(AtomicU16::new(port)), watch::Sender::new(()));
        let (target, changes) = (Arc::clone(&to), switched.clone());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, mut changed) = (target.load(Ordering::SeqCst), changes.subscribe());
                tokio::spawn(async move {
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = changed.changed() => {}
                    }
                });
            }
        });
        Self { address, to, switched }
    }

    fn switch_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
        self.switched.send_replace(());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_the_last_writes_takes_over_behind_the_same_address() {
    let (primary, replica) = (RedisServer::start(DURABLE), RedisServer::start(DURABLE));
    let switch = Switch::before(primary.port).await;
    let url = format!("redis://{}", switch.address);
    let node = Process::serve(&settings(&["--persistence", "redis", "--redis", &url])).await;
    assert_eq!(replica.cli(&["REPLICAOF", "127.0.0.1", &primary.port.to_string()]), "OK");
    let keep = async || {
        let length = || (primary.cli(&["XLEN", "{ordersystem}:log"]), replica.cli(&["XLEN", "{ordersystem}:log"]));
        until("the replica has all", async || {
            let (there, here) = length();
            there == here && primary.cli(&["WAIT", "1", "1000"]) == "1"
        })
        .await;
        assert_eq!(replica.cli(&["REPLICAOF", "NO", "ONE"]), "OK");
    };
    the_loss_is_noticed(&node, keep, async || switch.switch_to(replica.port)).await;
}

/// Copies a folder with all its content.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

async fn nats_back_with_an_earlier_folder(server: NatsServer) {
    let node = Process::serve(&settings(&["--persistence", "nats", "--nats", &server.url()])).await;
    let earlier = tempfile::tempdir().unwrap();
    let saved = earlier.path().join("jetstream");
    let store = server.folder.path().join("jetstream");
    let server = std::cell::RefCell::new(server);
    let keep = async || {
        let mut server = server.borrow_mut();
        server.kill();
        copy(&store, &saved);
        server.start_again();
    };
    let lose = async || {
        let mut server = server.borrow_mut();
        server.kill();
        std::fs::remove_dir_all(&store).unwrap();
        copy(&saved, &store);
        server.start_again();
    };
    the_loss_is_noticed(&node, keep, lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_of_debian_back_with_an_earlier_folder() {
    nats_back_with_an_earlier_folder(NatsServer::start("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_nats_back_with_an_earlier_folder() {
    current_program();
    nats_back_with_an_earlier_folder(NatsServer::start_current("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_folder_replaced_by_an_earlier_copy_refuses_the_cursors_of_lost_events() {
    let (folder, earlier) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (dir, saved) = (folder.path().join("data"), earlier.path().join("data"));
    let settings = settings(&["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()]);
    let node = Process::serve(&settings).await;
    let kept = place(&node, "kept", KEPT).await;
    node.stop().await;
    copy(&dir, &saved);
    let node = Process::serve(&settings).await;
    place(&node, "lost", LOST).await;
    let mut follower = Follower::new();
    follower.follow(&node, (KEPT + LOST) as usize).await.unwrap();
    node.stop().await;
    std::fs::remove_dir_all(&dir).unwrap();
    copy(&saved, &dir);

    let node = Process::serve(&settings).await;
    assert_eq!(follower.follow(&node, usize::MAX).await, Err("CURSOR_OF_ANOTHER_LOG".to_owned()));
    // As many as were lost and more: the position of the cursor is reached again, with another event there.
    let new = place(&node, "new", LOST + NEW).await;
    assert_eq!(follower.follow(&node, usize::MAX).await, Err("CURSOR_OF_ANOTHER_LOG".to_owned()));
    let now: BTreeSet<_> = ids(&kept).union(&ids(&new)).cloned().collect();
    let mut again = Follower::new();
    again.follow(&node, now.len()).await.unwrap();
    assert_eq!(again.seen, now);
    until("all are listed", async || listed(&node).await.into_keys().collect::<BTreeSet<_>>() == now).await;
    until("the new ones are handled", async || handled(&node).is_superset(&ids(&new))).await;
}
