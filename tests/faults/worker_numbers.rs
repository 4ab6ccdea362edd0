//! Nodes on one log that were not told of each other, clocks that were ahead earlier, and nodes that return after a kill.

use std::{
    collections::HashSet,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ordersystem::{
    backends::{nats::checkpoint_store::NatsCheckpointStore, redis::checkpoint_store::RedisCheckpointStore},
    id_generator::{FileMark, HighWaterMark as _, parse},
    ports::{
        checkpoint_store::{Checkpoint, CheckpointStore},
        event_store::Position,
    },
    proto::catga::{
        ids::v1::{GenerateIdsRequest, id_service_client::IdServiceClient},
        orders::v1::GetOrderRequest,
        system::v1::{GetServerInfoRequest, GetServerInfoResponse, system_service_client::SystemServiceClient},
    },
};
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::{
    audit::{assert_log, assert_published},
    durable::{Broker, Durable},
    load::{self, Known, new_order, payment},
    support::{Process, refused, until},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const CLIENTS: usize = 6;
/// The log line of a node that has released the leases of a killed process.
const TAKEN_FROM_ENDED: &str = "a process of this host that has ended";

fn settings(backend: &Durable, more: &[&str]) -> Vec<String> {
    backend.settings().into_iter().chain(more.iter().map(|&setting| setting.to_owned())).collect()
}

async fn info(node: &Process) -> GetServerInfoResponse {
    let mut client = SystemServiceClient::new(node.channel().await);
    client.get_server_info(GetServerInfoRequest {}).await.unwrap().into_inner()
}

/// The result, or `None` for a "retry later" that a busy machine may have to reply; nothing else may go wrong.
fn answered<T>(reply: Result<Response<T>, Status>, give_up_at: Instant) -> Option<T> {
    match reply {
        Ok(reply) => Some(reply.into_inner()),
        Err(status) if status.code() == Code::Unavailable && Instant::now() < give_up_at => None,
        Err(status) => panic!("{status:?}"),
    }
}

/// Creates 2 400 orders and takes 60 000 ids from each node, on all nodes at the same time.
async fn assert_nothing_twice(backend: &Durable, nodes: &[&Process]) {
    let known = Known::default();
    let ids = Arc::new(Mutex::new(HashSet::new()));
    let (give_up_at, pause) = (Instant::now() + Duration::from_secs(60), Duration::from_millis(50));
    let mut tasks = JoinSet::new();
    for (index, node) in nodes.iter().enumerate() {
        for client in 0..CLIENTS {
            let (mut commands, known) = (node.commands().await, known.clone());
            tasks.spawn(async move {
                for number in 0..2_400 / CLIENTS {
                    let request_id = format!("{index}-{client}-{number}");
                    let reply = loop {
                        let reply = commands.create_order(new_order("c", &request_id)).await;
                        match answered(reply, give_up_at) {
                            Some(reply) => break reply,
                            None => tokio::time::sleep(pause).await,
                        }
                    };
                    known.note(&request_id, &reply.order.unwrap().order_id, 1);
                }
            });
        }
        let (mut client, ids) = (IdServiceClient::new(node.channel().await), Arc::clone(&ids));
        tasks.spawn(async move {
            for _ in 0..60 {
                let issued = loop {
                    let reply = client.generate_ids(GenerateIdsRequest { count: 1_000 }).await;
                    match answered(reply, give_up_at) {
                        Some(issued) => break issued,
                        None => tokio::time::sleep(pause).await,
                    }
                };
                let mut ids = ids.lock().unwrap();
                assert!(issued.ids.into_iter().all(|id| ids.insert(id)), "an id was issued twice");
            }
        });
    }
    tasks.join_all().await;
    let orders = known.orders();
    assert_eq!(orders.len(), 2_400 * nodes.len(), "each create made an order of its own");
    assert!(orders.keys().all(|id| !ids.lock().unwrap().contains(&id.parse::<i64>().unwrap())));
    assert_published(backend.bus().await, &orders).await;
    assert_log(&*backend.log().await, &orders).await;
    for node in nodes {
        assert_eq!(node.metric("ordersystem_taken_order_ids_total").await, 0.0, "every id was free");
    }
}

async fn two_without_cluster(backend: Durable) {
    let (one, other) = (Process::serve(&settings(&backend, &[])).await, Process::serve(&settings(&backend, &[])).await);
    let (info_of_one, info_of_other) = (info(&one).await, info(&other).await);
    assert_ne!(info_of_one.worker_id, info_of_other.worker_id);
    assert_ne!(info_of_one.node, info_of_other.node);
    assert_nothing_twice(&backend, &[&one, &other]).await;
    // An explicitly chosen number is refused while another node has it, with that node's name and address.
    let held = info_of_one.worker_id.to_string();
    let refusal = refused(&settings(&backend, &["--worker-id", &held])).await;
    let line = refusal.lines().last().unwrap();
    for part in ["error: ", &info_of_one.node, &one.address.to_string(), &format!("--worker-id {held}")] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    // In another datacenter it is another number.
    Process::serve(&settings(&backend, &["--worker-id", &held, "--datacenter-id", "9"])).await.stop().await;
    let worker = info_of_one.worker_id;
    one.stop().await;
    let next = Process::serve(&settings(&backend, &["--worker-id", &held])).await;
    assert_eq!(info(&next).await.worker_id, worker, "an orderly end gives the number up at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_two_nodes_not_configured_as_a_cluster_issue_nothing_twice() {
    two_without_cluster(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_two_nodes_not_configured_as_a_cluster_issue_nothing_twice() {
    two_without_cluster(Durable::nats()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_outside_of_the_cluster_issues_nothing_twice() {
    let backend = Durable::redis();
    let member = Process::serve(&settings(&backend, &["--cluster", "--node-id", "node1"])).await;
    let stray = Process::serve(&settings(&backend, &[])).await;
    assert_nothing_twice(&backend, &[&member, &stray]).await;
    let refusal = refused(&settings(&backend, &["--node-id", "node1"])).await;
    assert!(refusal.contains("has the same --node-id") && refusal.contains(&member.address.to_string()), "{refusal}");
}

/// A mark a day ahead of the clock.
fn ahead() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from((now + DAY).as_millis()).unwrap()
}

async fn worker_of_an_order(node: &Process, request_id: &str) -> u8 {
    let reply = node.commands().await.create_order(new_order("c", request_id)).await.expect("created").into_inner();
    parse(reply.order.unwrap().order_id.parse().unwrap()).unwrap().worker_id
}

/// The operations of a node whose new ids wait for its clock: everything that needs no new id.
async fn assert_only_new_ids_wait(node: &Process, order_id: &str) {
    let (status, detail) = node.health("ids").await;
    assert_eq!(status, "Degraded", "{detail}");
    assert!(detail.starts_with("new ids wait 23 h 5") || detail.starts_with("new ids wait 24 h"), "{detail}");
    assert!(detail.contains("the clock is behind ids that may have been issued"), "{detail}");
    assert!(node.is_ready().await, "it is of use");
    let get = GetOrderRequest { order_id: order_id.to_owned(), ..Default::default() };
    node.queries().await.get_order(get).await.expect("reads are served");
    let paid = node.commands().await.pay_order(payment(order_id, "r")).await.expect("commands are served").into_inner();
    assert_eq!(paid.revision, 2);
    let refused = node.commands().await.create_order(new_order("c", "late")).await.expect_err("no id");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("new ids wait "), "{refused:?}");
    let retry_after = refused.get_details_retry_info().and_then(|info| info.retry_delay).expect("a time to come back");
    assert!(retry_after > DAY - Duration::from_secs(600) && retry_after <= DAY, "{retry_after:?}");
    let mut ids = IdServiceClient::new(node.channel().await);
    let refused = ids.generate_ids(GenerateIdsRequest { count: 1 }).await.expect_err("no id");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.get_details_retry_info().is_some());
}

fn embedded(dir: &Path, more: &[&str]) -> Vec<String> {
    let own = ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()];
    own.iter().chain(more).map(|&setting| setting.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn on_embedded_a_clock_that_was_ahead_once_costs_no_outage() {
    let folder = tempfile::tempdir().unwrap();
    let node = Process::serve(&embedded(folder.path(), &[])).await;
    let order = node.commands().await.create_order(new_order("c", "first")).await.unwrap().into_inner().order.unwrap();
    node.stop().await;
    let mark = FileMark::new(folder.path().join("snowflake-0-0.mark"));
    mark.store(ahead()).unwrap();
    let node = Process::serve(&embedded(folder.path(), &[])).await;
    assert_eq!(worker_of_an_order(&node, "second").await, 1, "another number issues");
    assert_eq!(node.health("ids").await.0, "Healthy");
    node.kill().await;
    let node = Process::serve(&embedded(folder.path(), &["--worker-id", "0"])).await;
    assert_only_new_ids_wait(&node, &order.order_id).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_separate_logs_on_one_bus_have_different_names_and_keep_them() {
    let (backend, folder) = (Durable::embedded(), tempfile::tempdir().unwrap());
    let of_other = settings(&backend, &[]).into_iter().map(|setting| match setting {
        dir if Path::new(&dir).is_dir() => folder.path().to_str().unwrap().to_owned(),
        other => other,
    });
    let (one, other) =
        (Process::serve(&settings(&backend, &[])).await, Process::serve(&of_other.collect::<Vec<_>>()).await);
    let (name, of_other) = (info(&one).await.node, info(&other).await.node);
    assert_ne!(name, of_other);
    until("one of them handles and the other stands by", async || {
        let details = [one.health("subscriptions").await.1, other.health("subscriptions").await.1];
        details.iter().any(|detail| detail.contains("standing by"))
    })
    .await;
    one.kill().await;
    assert_eq!(info(&Process::serve(&settings(&backend, &[])).await).await.node, name);
}

impl Durable {
    /// The location of the nodes' marks.
    async fn checkpoints(&mut self) -> Arc<dyn CheckpointStore> {
        match self.broker() {
            Broker::Redis(server) => Arc::new(RedisCheckpointStore::new(server.connect_to("ordersystem").await)),
            Broker::Nats(server) => Arc::new(NatsCheckpointStore::new(server.connect_to("ordersystem").await)),
        }
    }
}

/// The marks are stored with the log, so a restart with a clock that was set back repeats no id, and one with a clock that was ahead costs
/// a number.
async fn marks_are_kept_with_the_log(mut backend: Durable) {
    let node = Process::serve(&settings(&backend, &[])).await;
    let order = node.commands().await.create_order(new_order("c", "first")).await.unwrap().into_inner().order.unwrap();
    node.kill().await;
    let checkpoints = backend.checkpoints().await;
    let mark = checkpoints.load("ids-0-0").await.unwrap().expect("a mark");
    let issued = parse(order.order_id.parse().unwrap()).unwrap();
    assert_eq!(issued.worker_id, 0);
    assert!(mark.position.0 > issued.timestamp_ms_unix, "it bounds what was issued");
    checkpoints.save("ids-0-0", Checkpoint { position: Position(ahead()), ..mark }).await.unwrap();

    let node = Process::serve(&settings(&backend, &[])).await;
    assert_eq!(worker_of_an_order(&node, "second").await, 1, "a number that is not ahead");
    node.stop().await;
    let node = Process::serve(&settings(&backend, &["--worker-id", "0"])).await;
    assert_only_new_ids_wait(&node, &order.order_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_the_mark_of_issued_ids_is_kept_with_the_log_and_one_that_is_ahead_is_skipped() {
    marks_are_kept_with_the_log(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_the_mark_of_issued_ids_is_kept_with_the_log_and_one_that_is_ahead_is_skipped() {
    marks_are_kept_with_the_log(Durable::nats()).await;
}

/// Kills a node under load, and restarts it under its old name: it does not wait for its own leases to expire.
async fn back_at_once(backend: Durable, own: &[&str]) {
    let own = settings(&backend, own);
    let other = Process::serve(&settings(&backend, &["--cluster", "--node-id", "other"])).await;
    let node = Process::serve(&own).await;
    let known = Known::default();
    let clients = load::until_gone(&node, CLIENTS, 0, &known).await;
    until("orders are acknowledged", async || known.acknowledged() > 100).await;
    let address = node.address;
    node.kill().await;
    clients.join_all().await;
    let again = [own, vec!["--port".to_owned(), address.port().to_string()]].concat();
    let node = Process::serve(&again).await;
    until("it is logged", async || node.said().iter().any(|line| line.contains(TAKEN_FROM_ENDED))).await;
    let said = node.said();
    assert!(!said.iter().any(|line| line.contains("waiting to join")), "{said:#?}");
    load::retry_all(&node, &known).await;
    let orders = known.orders();
    assert_published(backend.bus().await, &orders).await;
    for node in [node, other] {
        node.kill().await;
    }
    assert_log(&*backend.log().await, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_a_node_that_was_killed_takes_its_name_back_without_waiting_for_its_lease() {
    back_at_once(Durable::redis(), &["--cluster", "--node-id", "node1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_a_node_that_was_killed_takes_its_name_back_without_waiting_for_its_lease() {
    back_at_once(Durable::nats(), &["--cluster", "--node-id", "node1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_a_node_with_a_chosen_worker_number_takes_it_back_without_waiting_for_its_lease() {
    back_at_once(Durable::nats(), &["--worker-id", "5"]).await;
}
