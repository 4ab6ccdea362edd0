//! The rebuild of the read model on a running node: over gRPC, and with `ordersystem projections rebuild` from outside.

use std::process::Stdio;

use ordersystem::proto::catga::system::v1::{RebuildPhase, RebuildProjectionsRequest};
use tonic::Code;

use crate::{
    faulty::{FaultyStore, Mode},
    support::{TestServer, assert_retry_info, code_and_reason, soon, until},
};

/// The number of audited actions of operators with this outcome.
async fn audited(server: &TestServer, outcome: &str) -> u64 {
    let metrics = reqwest::get(server.url("/metrics")).await.expect("answers").text().await.expect("text");
    let name = format!("ordersystem_audit_total{{action=\"admin\",outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.expect("the metric").parse().expect("a number")
}

#[tokio::test]
async fn a_rebuild_is_audited_with_its_outcome() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, std::sync::Arc::new(ordersystem::ports::clock::SystemClock)).await;
    server.place_order("c").await;
    let mut admin = server.admin().await;
    let mut rebuild = async || admin.rebuild_projections(RebuildProjectionsRequest {}).await.unwrap().into_inner();
    store.log.set(Mode::Corrupt);
    let mut news = rebuild().await;
    while soon("news", news.message()).await.is_ok_and(|news| news.is_some()) {}
    let outcomes = async || {
        let [done, failed, cancelled] = ["done", "failed", "cancelled"].map(|outcome| audited(&server, outcome));
        (done.await, failed.await, cancelled.await)
    };
    assert_eq!(outcomes().await, (0, 1, 0));
    store.log.set(Mode::Hangs);
    let mut news = rebuild().await;
    assert!(soon("news", news.message()).await.expect("no error").is_some());
    assert_eq!(outcomes().await, (0, 1, 0), "it is not at its end");
    drop(news);
    until("its client has left", async || outcomes().await == (0, 1, 1)).await;
    let mut news = rebuild().await;
    store.log.set(Mode::Works);
    while soon("news", news.message()).await.expect("no error").is_some() {}
    assert_eq!(outcomes().await, (1, 1, 1));
}

async fn rebuild_from_outside(server: &TestServer, more: &[&str]) -> (Option<i32>, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_ordersystem"));
    command
        .env_clear()
        .stdin(Stdio::null())
        .args(["projections", "rebuild", "--address"])
        .arg(server.address.to_string());
    let output = command.args(more).output().await.expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn a_rebuild_reports_its_progress_until_it_is_done() {
    let server = TestServer::start().await;
    for _ in 0..20 {
        server.place_order("c").await;
    }
    let mut news = server.admin().await.rebuild_projections(RebuildProjectionsRequest {}).await.unwrap().into_inner();
    let mut last = None;
    while let Some(state) = soon("news", news.message()).await.unwrap() {
        assert!(last.is_none_or(|phase| phase != RebuildPhase::Done), "nothing comes after the end");
        last = Some(state.phase());
        if state.phase() == RebuildPhase::Done {
            assert_eq!((state.events, state.total_events, state.joined), (20, 20, false));
        }
    }
    assert_eq!(last, Some(RebuildPhase::Done));
    // It costs as much as reading the log.
    let again = server.admin().await.rebuild_projections(RebuildProjectionsRequest {}).await.expect_err("too soon");
    assert_eq!(code_and_reason(&again), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert_retry_info(&again);
}

#[tokio::test]
async fn a_running_rebuild_is_joined_and_ends_with_the_node() {
    let (backends, store) = FaultyStore::backends();
    let mut server =
        TestServer::start_on(&[], backends, std::sync::Arc::new(ordersystem::ports::clock::SystemClock)).await;
    server.place_order("c").await;
    store.log.set(Mode::Hangs);
    let mut first = server.admin().await.rebuild_projections(RebuildProjectionsRequest {}).await.unwrap().into_inner();
    let state = soon("news", first.message()).await.unwrap().expect("it continues");
    assert!(!state.joined && state.phase() == RebuildPhase::Reading);
    let mut second = server.admin().await.rebuild_projections(RebuildProjectionsRequest {}).await.unwrap().into_inner();
    assert!(soon("news", second.message()).await.unwrap().expect("it continues").joined);
    let stopping = server.stop();
    let ended = async {
        loop {
            match first.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    };
    let mut stopping = std::pin::pin!(stopping);
    let ended = tokio::select! {
        ended = soon("the end", ended) => ended,
        _ = &mut stopping => panic!("the outbox cannot have flushed yet"),
    };
    assert_eq!(code_and_reason(&ended.unwrap_err()), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    store.log.set(Mode::Works);
    stopping.await.expect("in time, though the rebuild was in the middle");
}

#[tokio::test]
async fn the_program_rebuilds_the_list_of_a_running_node_or_says_why_not() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, std::sync::Arc::new(ordersystem::ports::clock::SystemClock)).await;
    for _ in 0..7 {
        server.place_order("c").await;
    }
    store.log.set(Mode::Corrupt);
    let (code, said, error) = rebuild_from_outside(&server, &[]).await;
    assert_eq!((code, said.as_str()), (Some(1), ""), "{error}");
    assert!(error.lines().last().is_some_and(|line| line.starts_with("error: ")), "{error}");

    store.log.set(Mode::Works);
    let (code, said, progress) = rebuild_from_outside(&server, &[]).await;
    assert_eq!(code, Some(0), "{progress}");
    assert!(said.starts_with("rebuilt: 7 events, ") && said.lines().count() == 1, "{said}");
    let (code, _, error) = rebuild_from_outside(&server, &["--timeout-ms", "0"]).await;
    assert_eq!(code, Some(2), "{error}");
}
