//! Seeded runs: the program and its brokers as they run in production, under load, with faults chosen by a seed, and a checker that knows
//! every reply. The short form is one run of each topology; `tests/faults/seeded.sh 200` does as many runs as requested.
//!
//! A run is repeated by its seed and its topology: the faults come in the same order, after the same numbers of acknowledged commands. The
//! timing on the machine may differ.

mod board;
mod calls;
mod check;
mod client;
mod figures;
mod follower;
mod history;
mod node;
mod plan;
mod run;
mod sentinel;
mod topology;
mod world;

use std::{collections::BTreeMap, fs::OpenOptions, io::Write as _, path::Path};

use self::{
    check::Finding,
    plan::Plan,
    topology::{Backend, Topology},
};

/// Another seed than that of the short form.
const SEED: &str = "SEEDED_SEED";
/// The number of faults, if different from the short form.
const FAULTS: &str = "SEEDED_FAULTS";
/// A file to which figures are appended.
const FIGURES: &str = "SEEDED_FIGURES";

const FAULTS_OF_SHORT_FORM: usize = 3;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// One run, with the seed of the short form or that of the environment.
async fn seeded(name: &'static str, backend: Backend, nodes: usize, seed: u64) {
    let plan = Plan::new(
        number(SEED, seed),
        Topology { name, backend, nodes },
        number(FAULTS, FAULTS_OF_SHORT_FORM as u64) as usize,
    );
    println!("{plan}");
    let again = format!(
        "{SEED}={} {FAULTS}={} cargo test --locked --test faults seeded::{name} -- --exact --nocapture",
        plan.seed,
        plan.faults.len()
    );
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/seeded/{name}-{}", plan.seed));
    let _ = std::fs::remove_dir_all(&folder);
    let outcome = run::run(plan, &folder).await;
    let lines = outcome.figures.lines();
    print!("{lines}");
    if let Ok(file) = std::env::var(FIGURES) {
        OpenOptions::new().create(true).append(true).open(file).unwrap().write_all(lines.as_bytes()).unwrap();
    }
    assert!(
        outcome.findings.is_empty(),
        "{}\nThe history and the logs of the nodes are in {}. Again:\n{again}",
        by_kind(&outcome.findings),
        outcome.folder.display()
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The number of findings of each kind, and the first of each.
fn by_kind(findings: &[Finding]) -> String {
    let mut kinds: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in findings {
        kinds.entry(finding.kind).or_default().push(finding);
    }
    let kinds = kinds.values().map(|same| format!("{} times {}", same.len(), same[0]));
    format!("{} findings:\n{}", findings.len(), kinds.collect::<Vec<_>>().join("\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded() {
    seeded("embedded", Backend::Embedded, 1, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_one_node() {
    seeded("redis_one_node", Backend::Redis, 1, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_three_nodes() {
    seeded("redis_three_nodes", Backend::Redis, 3, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_one_node() {
    seeded("sentinel_one_node", Backend::Sentinel, 1, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinel_three_nodes() {
    seeded("sentinel_three_nodes", Backend::Sentinel, 3, 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_nats_one_node() {
    seeded("old_nats_one_node", Backend::OldNats, 1, 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_nats_three_nodes() {
    seeded("old_nats_three_nodes", Backend::OldNats, 3, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_one_node() {
    seeded("nats_one_node", Backend::Nats, 1, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_three_nodes() {
    seeded("nats_three_nodes", Backend::Nats, 3, 7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_cluster_one_node() {
    seeded("nats_cluster_one_node", Backend::NatsCluster, 1, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_cluster_three_nodes() {
    seeded("nats_cluster_three_nodes", Backend::NatsCluster, 3, 41).await;
}

/// Each node knows one server, and sees only that server's state.
#[tokio::test(flavor = "multi_thread")]
async fn nats_cluster_three_pinned_nodes() {
    seeded("nats_cluster_three_pinned_nodes", Backend::PinnedNatsCluster, 3, 42).await;
}
