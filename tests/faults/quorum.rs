//! Nodes on three NATS servers, one or two of which are unavailable.

use ordersystem::proto::catga::orders::v1::CreateOrderRequest;
use tokio::time::{Duration, timeout};

use crate::{
    load::new_order,
    nats_cluster::{NatsCluster, SERVERS},
    nats_server::{NatsServer, free_port, fresh_prefix},
    support::{Process, program, refused, spawn, until},
};

/// Longer than any shutdown takes, on a busy machine too.
const ENDS_WITHIN: Duration = Duration::from_secs(60);

fn settings(cluster: &NatsCluster, prefix: &str, more: &[&str]) -> Vec<String> {
    let own = ["--persistence", "nats", "--transport", "nats", "--nats-replicas", "3", "--nats", &cluster.url()];
    let own = [&own[..], &["--nats-prefix", prefix], more].concat();
    own.iter().map(|setting| (*setting).to_owned()).collect()
}

async fn takes(node: &Process, order: CreateOrderRequest) -> bool {
    node.commands().await.create_order(order).await.is_ok()
}

/// Starts a node while there is no quorum, and checks its behaviour meanwhile.
async fn waits(settings: &[String], what: &str) -> Process {
    let node = Process::listening(settings).await;
    assert!(!node.is_ready().await, "{what}");
    let (status, detail) = node.health("store").await;
    assert_eq!(status, "Unhealthy", "{what}: {detail}");
    let before = &node.before;
    let lines: Vec<_> = before.lines().filter(|line| line.contains("NATS cannot be used yet")).collect();
    assert_eq!(lines.len(), 1, "{what}: it is logged once: {before}");
    assert!(lines[0].contains("why=") && lines[0].contains("nats://127.0.0.1:"), "{what}: {}", lines[0]);
    assert!(!before.contains("the log in NATS cannot be used"), "{what}: in other words as well: {before}");
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_without_a_quorum_serves_once_there_is_one() {
    for has_log in [false, true] {
        let what = format!("has_log: {has_log}");
        let mut cluster = NatsCluster::start("");
        let prefix = fresh_prefix();
        let settings = settings(&cluster, &prefix, &[]);
        if has_log {
            let node = Process::serve(&settings).await;
            assert!(takes(&node, new_order("c", "before")).await);
            node.stop().await;
        }
        cluster.kill(0);
        cluster.kill(1);
        // One of the three that has just lost the others, and one that has just started and knows none.
        let nodes = [waits(&settings, &what).await, {
            cluster.kill(2);
            cluster.start_again(2);
            waits(&settings, &what).await
        }];
        cluster.start_again(0);
        // With a quorum, a stream of three replicas cannot be created before the third server is available.
        let third = Process::listening(&settings).await;
        cluster.start_again(1);
        for node in nodes.into_iter().chain([third]) {
            until("it is ready", async || node.is_ready().await).await;
            until("it takes an order", async || takes(&node, new_order("c", "after")).await).await;
            node.stop().await;
        }
    }
}

/// One fault has many symptoms, and a relay, a mark and a subscription that fail because of it say so once, not with each of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_lost_its_quorum_says_so_once_for_each_part_of_it() {
    let mut cluster = NatsCluster::start("");
    let mut node = Process::serve(&settings(&cluster, &fresh_prefix(), &[])).await;
    assert!(takes(&node, new_order("c", "before")).await);
    let lost_at = std::time::Instant::now();
    cluster.kill(0);
    cluster.kill(1);
    for name in ["store", "transport", "outbox", "projections", "subscriptions", "ids", "worker_number"] {
        until(&format!("{name} has failed"), async || {
            // Commands need ids.
            let _ = takes(&node, new_order("c", "meanwhile")).await;
            node.health(name).await.0 == "Unhealthy"
        })
        .await;
    }
    let said = node.said();
    let loud: Vec<_> = said.iter().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")).collect();
    let addresses = (0..SERVERS).map(|server| cluster.url_of(server).replace("nats://", ""));
    let addresses: Vec<_> = addresses.collect();
    let reminders = lost_at.elapsed().as_secs() as usize / 30;
    for part in
        ["the outbox is stalled", "id mark", "the subscription failed", "worker number", "projection is stalled"]
    {
        let lines: Vec<_> = loud.iter().filter(|line| line.contains(part)).collect();
        assert!(lines.len() <= 1 + reminders, "{part}: {lines:#?}");
    }
    for line in loud {
        assert!(addresses.iter().any(|address| line.contains(address)), "{line}");
    }
    cluster.start_again(0);
    cluster.start_again(1);
    until("it is ready", async || node.is_ready().await).await;
    node.signal("TERM");
    assert_eq!(node.end().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_ends_at_once_and_in_order_while_it_looks_for_a_quorum() {
    let mut cluster = NatsCluster::start("");
    cluster.kill(0);
    cluster.kill(1);
    for signal in ["TERM", "INT"] {
        let (mut child, mut log) =
            spawn(program().args(["--port", "0"]).args(settings(&cluster, &fresh_prefix(), &[])));
        log.line_with("connected to NATS").await;
        let pid = child.id().unwrap().to_string();
        std::process::Command::new("kill").args([format!("-{signal}"), pid]).status().unwrap();
        let ended = timeout(ENDS_WITHIN, child.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(0), "{signal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_and_copy_wait_a_while_for_a_quorum() {
    let mut cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let node = Process::serve(&settings(&cluster, &prefix, &[])).await;
    assert!(takes(&node, new_order("c", "one")).await);
    node.stop().await;
    let (url, folder) = (cluster.url(), tempfile::tempdir().unwrap());
    let target = format!("embedded:{}", folder.path().display());
    for tool in [
        &["verify", &url, "--prefix", &prefix][..],
        &["copy", "--from", &url, "--from-prefix", &prefix, "--to", &target],
    ] {
        cluster.kill(0);
        cluster.kill(1);
        let (mut running, mut log) = spawn(program().args(tool));
        log.line_with("retrying").await;
        cluster.start_again(0);
        cluster.start_again(1);
        let ended = timeout(ENDS_WITHIN, running.wait()).await.expect("it ends").unwrap();
        assert_eq!(ended.code(), Some(0), "{tool:?}");
    }
}

/// The durability that the node reports at `GET /`.
async fn durability(node: &Process) -> String {
    let said: serde_json::Value = serde_json::from_str(&node.get("/").await).unwrap();
    said["durability"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_require_durability_serve_and_start_while_one_of_three_servers_is_dead() {
    let monitors: Vec<_> = (0..SERVERS).map(|_| format!("127.0.0.1:{}", free_port())).collect();
    let mut cluster = NatsCluster::start_each(|server| {
        let monitor = &monitors[server];
        format!("http: \"{monitor}\"\njetstream {{ store_dir: FOLDER, max_file_store: 1TB, sync_interval: always }}")
    });
    let more = ["--require-durable", "--nats-monitor", &monitors.join(",")].map(str::to_owned);
    let settings = [settings(&cluster, &fresh_prefix(), &[]), more.to_vec()].concat();
    let nodes = [Process::serve(&settings).await, Process::serve(&settings).await];
    for node in &nodes {
        assert_eq!(durability(node).await, "quorum");
    }
    cluster.kill(1);
    for (number, node) in nodes.iter().enumerate() {
        let order = || new_order("c", &format!("one-is-dead-{number}"));
        until("it takes an order", async || takes(node, order()).await).await;
        assert_eq!(durability(node).await, "quorum");
    }
    let third = Process::serve(&settings).await;
    until("it takes an order", async || takes(&third, new_order("c", "started-meanwhile")).await).await;
    assert_eq!(durability(&third).await, "quorum");
    cluster.start_again(1);
    for node in nodes.into_iter().chain([third]) {
        until("it is ready", async || node.is_ready().await).await;
        assert_eq!(durability(&node).await, "quorum");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn permanent_errors_of_nats_are_refused_at_the_start() {
    let server = NatsServer::start("");
    let one = |more: &[&str]| -> Vec<String> {
        let own = ["--persistence", "nats", "--transport", "nats", "--nats", &server.url()];
        own.iter().chain(more).map(|setting| (*setting).to_owned()).collect()
    };
    let said = refused(&one(&["--nats-replicas", "3"])).await;
    assert!(said.contains("replicas > 1 not supported in non-clustered mode"), "{said}");
    assert!(
        said.contains("--nats-replicas 3 needs a cluster of at least 3 servers; with one server omit it"),
        "{said}"
    );
    let plain = NatsServer::start_with("");
    let of_plain = ["--transport", "nats", "--nats", &plain.url()].map(str::to_owned);
    let said = refused(&of_plain).await;
    assert!(said.contains("start it with -js"), "{said}");
    let accounts = "jetstream { store_dir: FOLDER, max_file_store: 1TB }\naccounts { A { users: [{user: a, password: a}] }, \
                    J { jetstream: enabled, users: [{user: j, password: j}] } }";
    let other = NatsServer::start_with(accounts);
    let url = format!("nats://a:a@127.0.0.1:{}", other.port);
    for part in ["--persistence", "--transport"] {
        let said = refused(&[part, "nats", "--nats", &url].map(str::to_owned)).await;
        assert!(said.contains("JetStream is not enabled for this account"), "{part}: {said}");
    }
}
