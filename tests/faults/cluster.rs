//! Three nodes on one broker.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use ordersystem::proto::catga::{
    ids::v1::{GenerateIdsRequest, id_service_client::IdServiceClient},
    system::v1::{Cluster, GetClusterRequest, WatchClusterRequest, system_service_client::SystemServiceClient},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{assert_log, assert_published, listed, stats},
    durable::{Broker, Durable},
    load::{self, Known},
    support::{Process, refused, until},
};

const CLIENTS: usize = 6;

fn settings(backend: &Durable, node: &str) -> Vec<String> {
    let own = ["--cluster", "--node-id", node].map(str::to_owned);
    backend.settings().into_iter().chain(own).collect()
}

async fn start(backend: &Durable, node: &str) -> Process {
    Process::serve(&settings(backend, node)).await
}

async fn cluster(node: &Process) -> Cluster {
    let client = SystemServiceClient::new(node.channel().await);
    // A busy machine may take too long for one of the node's own calls to the broker.
    let reply = until("the node shows the cluster", async || client.clone().get_cluster(GetClusterRequest {}).await);
    reply.await.into_inner().cluster.unwrap()
}

fn names(cluster: &Cluster) -> Vec<String> {
    let mut names: Vec<_> = cluster.nodes.iter().map(|node| node.node.clone()).collect();
    names.sort();
    names
}

/// The name of the node that relays.
fn relaying(cluster: &Cluster) -> Option<String> {
    let relaying = |roles: &[String]| roles.iter().any(|role| role == "outbox");
    cluster.nodes.iter().find(|node| relaying(&node.roles)).map(|node| node.node.clone())
}

/// Takes ids from a node until `stop`, through all errors, and checks that no other client has received one of them.
async fn take_ids(
    node: &Process,
    all: Arc<Mutex<HashSet<i64>>>,
    stop: CancellationToken,
) -> impl Future<Output = ()> + use<> {
    let mut client = IdServiceClient::new(node.channel().await);
    async move {
        while !stop.is_cancelled() {
            match client.generate_ids(GenerateIdsRequest { count: 50 }).await {
                Ok(reply) => {
                    let mut all = all.lock().unwrap();
                    for id in reply.into_inner().ids {
                        assert!(all.insert(id), "the id {id} was issued twice");
                    }
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

async fn three_nodes(backend: Durable) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut nodes = Vec::new();
    for name in ["node1", "node2", "node3"] {
        nodes.push(start(&backend, name).await);
    }
    until("all know all", async || {
        let seen = [cluster(&nodes[0]).await, cluster(&nodes[1]).await, cluster(&nodes[2]).await];
        seen.iter().all(|seen| names(seen) == ["node1", "node2", "node3"] && relaying(seen).is_some())
    })
    .await;
    let workers: HashSet<_> = cluster(&nodes[0]).await.nodes.iter().map(|node| node.worker_id).collect();
    assert_eq!(workers.len(), 3, "each has a worker number of its own");

    let (known, stop, ids) = (Known::default(), CancellationToken::new(), Arc::default());
    let (mut clients, mut takers) = (JoinSet::new(), JoinSet::new());
    for (index, node) in nodes.iter().enumerate() {
        load::through_all_as(node, index, CLIENTS, &known, &stop, &mut clients).await;
        takers.spawn(take_ids(node, Arc::clone(&ids), stop.clone()).await);
    }
    let assert_commands_continue = async |known: &Known| {
        let before = known.acknowledged();
        until("commands are acknowledged", async || known.acknowledged() > before + 20).await;
    };
    assert_commands_continue(&known).await;

    // The node that relays is killed: another one takes over, and it comes back under its old name.
    let victim = relaying(&cluster(&nodes[0]).await).unwrap();
    let at = ["node1", "node2", "node3"].iter().position(|name| *name == victim).unwrap();
    let address = nodes[at].address;
    nodes.remove(at).kill().await;
    let witness = &nodes[random.usize(0..2)];
    until("another node relays", async || relaying(&cluster(witness).await).is_some_and(|name| name != victim)).await;
    let mut again = settings(&backend, &victim);
    again.extend(["--port".to_owned(), address.port().to_string()]);
    nodes.insert(at, Process::serve(&again).await);
    assert_commands_continue(&known).await;

    // One is paused for longer than its leases last, and wakes up believing that it still holds them.
    let sleeper = random.usize(0..3);
    let witness = (sleeper + 1) % 3;
    let name = ["node1", "node2", "node3"][sleeper];
    nodes[sleeper].signal("STOP");
    until("the sleeper's place is free", async || !names(&cluster(&nodes[witness]).await).contains(&name.to_owned()))
        .await;
    assert_commands_continue(&known).await;
    nodes[sleeper].signal("CONT");
    until("the sleeper has a place again", async || {
        names(&cluster(&nodes[witness]).await).len() == 3 && nodes[sleeper].is_ready().await
    })
    .await;
    assert_commands_continue(&known).await;

    stop.cancel();
    clients.join_all().await;
    takers.join_all().await;
    let orders = known.orders();
    println!("{} orders, {} other ids", orders.len(), ids.lock().unwrap().len());
    let order_ids: HashSet<i64> = orders.keys().map(|id| id.parse().unwrap()).collect();
    assert_eq!(order_ids.len(), orders.len());
    assert!(order_ids.is_disjoint(&ids.lock().unwrap()), "an order has the id of something else");
    for node in &nodes {
        assert_eq!(stats(node).await.total_orders, orders.len() as i64);
        assert_eq!(listed(node).await, orders);
    }
    assert_published(backend.bus().await, &orders).await;
    for node in nodes {
        node.kill().await;
    }
    assert_log(&*backend.log().await, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_three_nodes_under_load_survive_a_kill_and_a_pause_past_a_lease() {
    three_nodes(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_three_nodes_under_load_survive_a_kill_and_a_pause_past_a_lease() {
    three_nodes(Durable::nats()).await;
}

#[tokio::test]
async fn two_nodes_cannot_share_a_name_and_watchers_see_nodes_join_and_leave() {
    let backend = Durable::redis();
    let first = start(&backend, "node1").await;
    let mut watching = SystemServiceClient::new(first.channel().await);
    let mut watch = watching.watch_cluster(WatchClusterRequest {}).await.unwrap().into_inner();
    let error = refused(&settings(&backend, "node1")).await;
    assert!(error.contains("has the same --node-id") && error.contains(&first.address.to_string()), "{error}");

    let second = start(&backend, "node2").await;
    let mut told = async |wanted: &[&str]| {
        let told = async {
            loop {
                let cluster = watch.message().await.unwrap().unwrap().cluster.unwrap();
                if names(&cluster) == wanted {
                    return cluster;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(60), told).await.expect("told in time")
    };
    let both = told(&["node1", "node2"]).await;
    let this: Vec<_> = both.nodes.iter().filter(|node| node.is_this_node).map(|node| node.node.as_str()).collect();
    assert_eq!(this, ["node1"]);
    assert!(both.nodes.iter().any(|node| node.address == second.address.to_string()));
    // An orderly stop releases the role at once, not only when the lease expires. The first node's view may be half a second old.
    second.stop().await;
    let Durable::Broker(Broker::Redis(redis)) = &backend else { unreachable!("it is on Redis") };
    let numbers = redis.cli(&["--scan", "--pattern", "*:lease:worker-*"]);
    assert_eq!(numbers.lines().count(), 1, "{numbers}");
    told(&["node1"]).await;
}
