//! A message bus that loses all its data while the program runs.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;

use crate::{
    load::new_order,
    nats_server::{NatsServer, fresh_prefix},
    redis_server::{DURABLE, RedisServer},
    support::{Process, until},
};

/// The events that the handler has logged.
fn handled(program: &Process) -> BTreeSet<String> {
    let event = |line: &String| {
        let rest = line.split_once("order_events: order event event_id=")?.1;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    program.said().iter().filter_map(event).collect()
}

async fn place(program: &Process, count: usize) -> BTreeSet<String> {
    let mut client = program.commands().await;
    let mut placed = BTreeSet::new();
    for _ in 0..count {
        let order = new_order("customer", &format!("r-{}", fastrand::u128(..)));
        placed.insert(format!("{}-1", client.create_order(order).await.unwrap().into_inner().order.unwrap().order_id));
    }
    placed
}

/// The server returns without its streams and buckets, including leases and consumers, like one without a volume.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_do_not_stall_when_the_streams_of_their_bus_vanish_and_no_event_is_lost() {
    for server in [NatsServer::start(""), NatsServer::start_current("")] {
        let (dir, prefix) = (tempfile::tempdir().unwrap(), fresh_prefix());
        let settings = [
            "--persistence",
            "embedded",
            "--data-dir",
            dir.path().to_str().unwrap(),
            "--transport",
            "nats",
            "--nats",
            &server.url(),
            "--nats-prefix",
            &prefix,
            "--log-level",
            "info,order_events=debug",
        ];
        let program = Process::serve(&settings.map(str::to_owned)).await;
        let mut placed = place(&program, 50).await;
        until("all are handled", async || placed.is_subset(&handled(&program))).await;
        let raw = server.raw().await;
        let names: Vec<String> = raw.stream_names().try_collect().await.unwrap();
        assert!(names.len() >= 3, "the stream, leases and consumers: {names:?}");
        for name in names {
            raw.delete_stream(name).await.unwrap();
        }
        placed.extend(place(&program, 100).await);
        until("all are handled", async || placed.is_subset(&handled(&program))).await;
        until("it is ready", async || program.is_ready().await).await;
        program.stop().await;
    }
}

/// The stream is deleted while orders are placed, and right after them, when nothing follows that would reveal it.
#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_handled_although_the_stream_of_the_bus_in_redis_is_deleted_under_load() {
    let (dir, server) = (tempfile::tempdir().unwrap(), RedisServer::start(DURABLE));
    let settings =
        ["--persistence", "embedded", "--data-dir", dir.path().to_str().unwrap(), "--transport", "redis", "--redis"];
    let url = server.url();
    let rest = ["--log-level", "info,order_events=debug"];
    let settings: Vec<_> = settings.into_iter().chain([url.as_str()]).chain(rest).map(str::to_owned).collect();
    let program = Process::serve(&settings).await;
    let mut placed = BTreeSet::new();
    for _ in 0..8 {
        let deletes = async {
            for _ in 0..3 {
                until("there is a stream", async || server.cli(&["DEL", "{ordersystem}:events"]) == "1").await;
            }
        };
        let (first, second, ()) = tokio::join!(place(&program, 30), place(&program, 30), deletes);
        placed.extend(first);
        placed.extend(second);
        server.cli(&["DEL", "{ordersystem}:events"]);
        until("all are handled", async || placed.is_subset(&handled(&program))).await;
    }
    until("it is ready", async || program.is_ready().await).await;
    program.stop().await;
}
