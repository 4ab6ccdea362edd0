//! The log is deleted while nodes work on it (`FLUSHALL`, streams deleted by an operator), and another node then begins a new one in its place: every
//! running node notices and reports it, and serves nothing of the previous log.

use std::time::Duration;

use ordersystem::proto::catga::orders::v1::{
    ConsistencyLevel, GetOrderStatsRequest, ListOrdersRequest, StreamEventsRequest, StreamStart,
    order_history_service_client::OrderHistoryServiceClient, stream_events_response::Item,
};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::{
    audit::listed,
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    shorter_log::{get, place, reason},
    support::{Process, until},
};

const LOSSES: &str = "ordersystem_log_losses_total{reader=\"projection\"}";

type Events = Streaming<ordersystem::proto::catga::orders::v1::StreamEventsResponse>;

pub async fn events(node: &Process, cursor: &str) -> Result<Events, Status> {
    let start = if cursor.is_empty() { StreamStart::Earliest } else { StreamStart::After };
    let request =
        StreamEventsRequest { start: start.into(), cursor: cursor.to_owned(), follow: true, ..Default::default() };
    let opened = OrderHistoryServiceClient::new(node.channel().await).stream_events(request).await?;
    Ok(opened.into_inner())
}

/// Reads `count` events; the last cursor.
pub async fn read(stream: &mut Events, mut count: u32) -> String {
    let mut cursor = String::new();
    while count > 0 {
        let reply = timeout(Duration::from_secs(60), stream.message()).await.unwrap().unwrap().unwrap();
        count -= u32::from(matches!(reply.item, Some(Item::Event(_))));
        cursor = reply.cursor;
    }
    cursor
}

/// How the stream ends.
pub async fn end(mut stream: Events) -> Status {
    let ended = async {
        loop {
            if let Err(status) = stream.message().await {
                return status;
            }
        }
    };
    timeout(Duration::from_secs(60), ended).await.expect("it ends")
}

async fn is_refused(node: &Process, order: &crate::shorter_log::Placed) -> bool {
    let mut queries = node.queries().await;
    let list = queries.list_orders(ListOrdersRequest::default()).await.map(drop);
    let stats = queries.get_order_stats(GetOrderStatsRequest::default()).await.map(drop);
    let got = get(node, order, ConsistencyLevel::Eventual).await;
    [list, stats, got].into_iter().all(|answer| answer.is_err_and(|status| reason(&status) == "UNAVAILABLE"))
}

fn errors(node: &Process, words: &str) -> usize {
    node.said().iter().filter(|line| line.contains("ERROR") && line.contains(words)).count()
}

async fn every_node_notices(settings: &[String], lose: impl AsyncFnOnce()) {
    let also = |more: &[&str]| -> Vec<String> {
        settings.iter().cloned().chain(more.iter().map(|&setting| setting.to_owned())).collect()
    };
    let (node, other) =
        (Process::serve(&also(&["--worker-id", "1"])).await, Process::serve(&also(&["--worker-id", "2"])).await);
    let placed = place(&node, "before", 10).await;
    let first = &placed[0];
    for node in [&node, &other] {
        get(node, first, ConsistencyLevel::Eventual).await.unwrap();
    }
    let (mut stream, mut others) = (events(&node, "").await.unwrap(), events(&other, "").await.unwrap());
    let cursor = read(&mut stream, 10).await;
    read(&mut others, 10).await;

    lose().await;
    for (node, stream) in [(&node, stream), (&other, others)] {
        until("the loss is counted", async || node.metric(LOSSES).await > 0.0).await;
        let ended = end(stream).await;
        assert_eq!((ended.code(), reason(&ended).as_str()), (Code::Unavailable, "UNAVAILABLE"));
        assert!(is_refused(node, first).await);
        until("it is not ready", async || !node.is_ready().await).await;
        let refused = events(node, &cursor).await.map(drop).unwrap_err();
        assert_eq!(reason(&refused), "UNAVAILABLE", "that it is another log is not known yet");
    }

    // Its start begins a new log.
    other.stop().await;
    let other = Process::serve(&also(&["--worker-id", "2"])).await;
    let new = place(&other, "after", 3).await;
    until("the node knows that it is another log", async || {
        let (status, detail) = node.health("store").await;
        status == "Unhealthy" && detail.contains("another log") && detail.contains("restart the node")
    })
    .await;
    for node in [&node, &other] {
        let refused = events(node, &cursor).await.map(drop).unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "CURSOR_OF_ANOTHER_LOG"));
    }
    assert!(is_refused(&node, first).await && is_refused(&node, &new[0]).await);
    assert_eq!(node.metric(LOSSES).await, 1.0, "one loss");
    // The log is read by another task.
    until("it is logged", async || errors(&node, "is no longer in its store") > 0).await;
    assert_eq!(errors(&node, "is no longer in its store"), 1, "{:#?}", node.said());
    until("what to do is logged", async || errors(&node, "restart this node") > 0).await;
    assert_eq!(errors(&node, "restart this node"), 1, "{:#?}", node.said());
    assert_eq!(listed(&other).await.len(), 3);

    node.kill().await;
    let node = Process::serve(&also(&["--worker-id", "1"])).await;
    until("it serves the new log", async || listed(&node).await.len() == 3).await;
    place(&node, "again", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_emptied_under_running_nodes() {
    let server = RedisServer::start(DURABLE);
    let settings = ["--persistence", "redis", "--redis", &server.url()].map(str::to_owned);
    every_node_notices(&settings, async || assert_eq!(server.cli(&["FLUSHALL"]), "OK")).await;
}

async fn streams_deleted(server: NatsServer) {
    let settings = ["--persistence", "nats", "--nats", &server.url()].map(str::to_owned);
    let lose = async || {
        let raw = server.raw().await;
        for stream in ["ordersystem-log", "ordersystem-requests"] {
            raw.delete_stream(stream).await.unwrap();
        }
    };
    every_node_notices(&settings, lose).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nats_of_debian_whose_streams_are_deleted_under_running_nodes() {
    streams_deleted(NatsServer::start("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_nats_whose_streams_are_deleted_under_running_nodes() {
    streams_deleted(NatsServer::start_current("")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_embedded_file_that_is_moved_away_under_a_running_node() {
    let (folder, aside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let node = Process::serve_from(folder.path()).await;
    let placed = place(&node, "before", 10).await;
    get(&node, &placed[0], ConsistencyLevel::Eventual).await.unwrap();
    let stream = events(&node, "").await.unwrap();
    let names = || ["orders.db", "orders.db-wal", "orders.db-shm"].into_iter();
    let moved = |from: &std::path::Path, to: &std::path::Path| {
        names().for_each(|name| std::fs::rename(from.join(name), to.join(name)).unwrap());
    };
    moved(folder.path(), aside.path());
    let refused = node.commands().await.create_order(crate::load::new_order("c", "lost")).await.map(drop).unwrap_err();
    assert_eq!(reason(&refused), "UNAVAILABLE", "nothing is acknowledged: {refused:?}");
    assert!(is_refused(&node, &placed[0]).await);
    assert_eq!(reason(&end(stream).await), "UNAVAILABLE");
    until("it is not ready", async || !node.is_ready().await).await;
    until("the loss is counted", async || node.metric(LOSSES).await > 0.0).await;
    until("health says why", async || {
        let (status, detail) = node.health("store").await;
        status == "Unhealthy" && detail.contains("orders.db was removed or moved")
    })
    .await;
    // The log is read by another task.
    until("it is logged", async || errors(&node, "is no longer in its store") > 0).await;
    assert_eq!(errors(&node, "is no longer in its store"), 1, "{:#?}", node.said());

    moved(aside.path(), folder.path());
    node.until_ready().await;
    place(&node, "after", 1).await;
    until("all of it is listed", async || listed(&node).await.len() == 11).await;
    assert_eq!(node.metric(LOSSES).await, 1.0, "one loss");
}
