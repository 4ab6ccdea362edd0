//! An operator trims the log in Redis, or deletes from it, under a running node: all of it was published, and health says that it is damaged. No client
//! continues past the cut.

use tonic::{Code, Status};

use crate::{
    log_gone::{end, events, read},
    redis_server::{DURABLE, RedisServer},
    shorter_log::{Placed, place, reason},
    support::{Process, until},
};

const LOG: &str = "{ordersystem}:log";
const COPY: &str = "{ordersystem}:copy";
const LOSSES: &str = "ordersystem_log_losses_total{reader=\"check\"}";
const LACKS_ENTRIES: &str = "the log in Redis lacks entries";
const ORDERS: u32 = 10;

/// How a stream of all events after `cursor` ends.
async fn ended(node: &Process, cursor: &str) -> Status {
    match events(node, cursor).await {
        Ok(stream) => end(stream).await,
        Err(status) => status,
    }
}

async fn the_cut_is_damage(server: &RedisServer, cut: &[&str], missing: &str) {
    let node = Process::serve(&["--persistence", "redis", "--redis", &server.url()]).await;
    place(&node, "before", ORDERS).await;
    let mut stream = events(&node, "").await.unwrap();
    let early = read(&mut stream, 2).await;
    let late = read(&mut stream, ORDERS - 2).await;
    until("all of it is published", async || {
        let (status, detail) = node.health("outbox").await;
        status == "Healthy" && detail.contains("lag: 0")
    })
    .await;
    assert_eq!(node.metric(LOSSES).await, 0.0);
    assert_ne!(server.cli(cut), "0");

    for (component, condition) in [("store", "Unhealthy"), ("outbox", "Degraded")] {
        until(&format!("{component} is {condition}"), async || {
            let (status, detail) = node.health(component).await;
            status == condition && detail.contains(missing)
        })
        .await;
    }
    until("the node is not ready", async || !node.is_ready().await).await;
    for cursor in ["", early.as_str()] {
        until("a reader of what is missing is told", async || {
            let status = ended(&node, cursor).await;
            // While the node connects again, to verify what it has read.
            assert!([Code::DataLoss, Code::Unavailable].contains(&status.code()), "{status:?}");
            reason(&status) == "DATA_CORRUPT"
        })
        .await;
    }
    place(&node, "after", 1).await;
    let mut later = until("a reader of what follows is served", async || events(&node, &late).await).await;
    read(&mut later, 1).await;
    // The monitor counts what was found, once in a second.
    until("the loss is counted", async || node.metric(LOSSES).await > 0.0).await;
    assert_eq!(node.metric(LOSSES).await, 1.0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_published_part_of_the_log_that_is_trimmed_is_damage() {
    let server = RedisServer::start(DURABLE);
    the_cut_is_damage(&server, &["XTRIM", LOG, "MAXLEN", "5"], "the entries 0-1 to 0-5 of the log are missing").await;
    server.cli(&["FLUSHALL"]);
    let missing = "1 of the 10 entries of the log are missing, between its first and its last one";
    the_cut_is_damage(&server, &["XDEL", LOG, "0-3"], missing).await;
}

/// How many lines with `what` were logged at once, and not as a reminder.
fn lines(node: &Process, what: &str) -> usize {
    node.said().iter().filter(|line| line.contains(what) && !line.contains("unsaid=")).count()
}

/// Reads the orders and the health, while others are placed.
async fn use_it(node: &Process, orders: &[Placed]) {
    for round in 0..5 {
        for order in orders {
            node.get(&format!("/orders/{}", order.id)).await;
        }
        node.get("/health").await;
        place(node, &format!("more-{round}"), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_counted_once_and_logged_once_however_often_it_is_met() {
    let server = RedisServer::start(DURABLE);
    let settings = ["--persistence", "redis", "--redis", &server.url()];
    let before = Process::serve(&settings).await;
    let orders = place(&before, "before", ORDERS).await;
    before.stop().await;
    // It has no order in memory.
    let node = Process::serve(&settings).await;
    server.cli(&["COPY", LOG, COPY]);
    server.cli(&["XDEL", LOG, "0-3"]);
    until("it is noticed", async || node.metric(LOSSES).await == 1.0).await;
    use_it(&node, &orders).await;
    assert_eq!(node.metric(LOSSES).await, 1.0);
    assert_eq!(lines(&node, LACKS_ENTRIES), 1);
    assert_eq!(lines(&node, "error=stored data is damaged"), 1);
    assert_eq!(lines(&node, "connected to Redis"), 2, "at the start, and to verify what was read");
    // Another one.
    server.cli(&["XDEL", LOG, "0-5"]);
    until("it is noticed", async || node.metric(LOSSES).await == 2.0).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_its_entries_again_is_logged_and_served() {
    let server = RedisServer::start(DURABLE);
    let node = Process::serve(&["--persistence", "redis", "--redis", &server.url()]).await;
    place(&node, "before", ORDERS).await;
    server.cli(&["COPY", LOG, COPY]);
    server.cli(&["XTRIM", LOG, "MAXLEN", "4"]);
    until("the node is not ready", async || !node.is_ready().await).await;
    server.cli(&["COPY", COPY, LOG, "REPLACE"]);
    node.until_ready().await;
    assert_eq!(lines(&node, LACKS_ENTRIES), 1);
    assert_eq!(lines(&node, "the log in Redis has all its entries again"), 1);
    until("the loss is counted", async || node.metric(LOSSES).await > 0.0).await;
    assert_eq!(node.metric(LOSSES).await, 1.0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_entries_are_lost_once_to_a_reader_that_waits_for_more() {
    let server = RedisServer::start(DURABLE);
    let node = Process::serve(&["--persistence", "redis", "--redis", &server.url()]).await;
    place(&node, "before", ORDERS).await;
    until("all of it is listed", async || node.get("/stats").await.contains("\"totalOrders\":10")).await;
    let metric = "ordersystem_log_losses_total{reader=\"projection\"}";
    server.cli(&["XDEL", LOG, "0-9", "0-10"]);
    // First the other one, and after the node has connected again the one that was read last.
    let missing = "the entry 0-10 of the log is missing";
    until("its reader knows that", async || node.health("projections").await.1.contains(missing)).await;
    assert_eq!(node.metric(metric).await, 1.0);
    node.stop().await;
}
