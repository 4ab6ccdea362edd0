//! What only a cluster shows: replicas, and leaders that have been deposed and do not know it.

use crate::{
    nats_cluster::{NatsCluster, SERVERS, until},
    nats_server::fresh_prefix,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_cut_off_is_replaced_as_the_leader_and_comes_back() {
    let cluster = NatsCluster::start("");
    let prefix = fresh_prefix();
    let _store = cluster.store_at(0, &prefix).await;
    let stream = format!("{prefix}-log");
    let before = cluster.leader(&stream).await;
    cluster.isolate(before);
    let other = (before + 1) % SERVERS;
    let after = until("another leads", async || {
        cluster.leader_as_seen_by(other, &stream).await.filter(|leader| *leader != before)
    })
    .await;
    cluster.heal();
    until("the one that was cut off sees the new leader", async || {
        cluster.leader_as_seen_by(before, &stream).await.filter(|leader| *leader == after)
    })
    .await;
}
