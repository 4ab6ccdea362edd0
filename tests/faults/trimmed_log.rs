//! An operator trims the log in Redis, or deletes from it, under a running node: all of it was published, and health says that it is damaged. No client
//! continues past the cut.

use tonic::{Code, Status};

use crate::{
    log_gone::{end, events, read},
    redis_server::{DURABLE, RedisServer},
    shorter_log::{place, reason},
    support::{Process, until},
};

const LOG: &str = "{ordersystem}:log";
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
