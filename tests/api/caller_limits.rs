//! The limits of single callers: rate, commands in flight, and open streams.

use std::time::{Duration, Instant};

use futures_util::stream;
use http::Method;
use ordersystem::{
    identity::Role,
    proto::catga::orders::v1::{
        ExecuteCommandsRequest, StreamEventsRequest, execute_commands_request::Command,
        execute_commands_response::Outcome,
    },
};
use serde_json::json;
use tonic::Code;

use crate::{
    faulty::{FaultyStore, Mode},
    guarded::{Caller, Guarded},
    rest::Reply,
    support::{Issuer, assert_retry_info, code_and_reason, facts, new_order, soon, until},
};

const READER: Caller = Caller::Known(Role::Reader);
const WRITER: Caller = Caller::Known(Role::Writer);
const EVENTS: Caller = Caller::Known(Role::Events);

#[tokio::test]
async fn a_caller_above_its_rate_is_refused_with_a_retry_delay_and_others_are_not() {
    let guarded = Guarded::start_with("[limits.role.reader]\nrate = 1\nburst = 2\n", &[]).await;
    let stats = async |caller| Reply::of(guarded.rest(caller, Method::GET, "/stats")).await;
    let first = stats(READER).await;
    assert_eq!(first.status, 200);
    assert_eq!(
        (first.header("ratelimit"), first.header("ratelimit-policy")),
        ("\"caller\";r=1;t=1", "\"caller\";q=2;w=2")
    );
    assert_eq!(stats(READER).await.status, 200);
    let refused = stats(READER).await;
    let problem = refused.problem(429, "CALLER_LIMIT");
    assert_eq!(
        (&problem["limit"], &problem["limitValue"], &problem["limitScope"]),
        (&json!("rate"), &json!(1), &json!("role:reader"))
    );
    assert_eq!(refused.header("retry-after"), "1");
    assert!(refused.header("ratelimit").starts_with("\"caller\";r=0;t="), "{refused:?}");
    let mut system = guarded.server().system().await;
    let info = || guarded.request(READER, ordersystem::proto::catga::system::v1::GetServerInfoRequest {});
    let status = system.get_server_info(info()).await.expect_err("over all protocols");
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "CALLER_LIMIT".to_owned()));
    assert_retry_info(&status);
    assert_eq!(facts(&status)["scope"], "role:reader");
    for _ in 0..5 {
        let reply = Reply::of(guarded.rest(WRITER, Method::GET, "/api/id")).await;
        assert_eq!(reply.status, 200);
        assert!(!reply.headers.contains_key("ratelimit"), "it has no rate");
    }
    let health = Reply::of(guarded.rest(READER, Method::GET, "/health/live")).await;
    assert_eq!(health.status, 200, "public pages have no caller");
    until("it may call again", async || (stats(READER).await.status == 200).then_some(())).await;
}

#[tokio::test]
async fn a_caller_is_limited_to_its_commands_in_flight_over_all_connections_and_others_are_not() {
    let (backends, store) = FaultyStore::backends();
    let limits = "[limits.name.writer]\ncommands_in_flight = 2\n";
    let guarded = Guarded::start_on(limits, backends).await;
    store.appends.set(Mode::Hangs);
    let mut running = Vec::new();
    for _ in 0..2 {
        let (mut commands, request) =
            (guarded.server().commands().await, guarded.request(WRITER, new_order("customer-1")));
        running.push(tokio::spawn(async move { commands.create_order(request).await }));
    }
    let mut commands = guarded.server().commands().await;
    let status = until("both are running", async || {
        let request = guarded.request(WRITER, new_order("customer-1"));
        let answer = tokio::time::timeout(Duration::from_millis(200), commands.create_order(request)).await;
        answer.ok().and_then(Result::err)
    })
    .await;
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "CALLER_LIMIT".to_owned()));
    assert_eq!((&*facts(&status)["limit"], &*facts(&status)["scope"]), ("commands_in_flight", "name:writer"));
    let stats = Reply::of(guarded.rest(READER, Method::GET, "/stats")).await;
    assert_eq!(stats.status, 200);
    store.appends.set(Mode::Works);
    for command in running {
        soon("an answer", command).await.expect("no panic").expect("accepted");
    }
    let request = guarded.request(WRITER, new_order("customer-1"));
    commands.create_order(request).await.expect("its permits are free again");
}

#[tokio::test]
async fn the_single_commands_of_a_stream_wait_for_the_limits_of_their_caller() {
    let limits = "[limits.name.writer]\nrate = 50\nburst = 10\ncommands_in_flight = 1\n";
    let guarded = Guarded::start_with(limits, &[]).await;
    let commands = (0..40).map(|id| ExecuteCommandsRequest {
        correlation_id: format!("{id}"),
        command: Some(Command::CreateOrder(new_order("customer-1"))),
    });
    let begun = Instant::now();
    let request = guarded.request(WRITER, stream::iter(commands));
    let mut replies = guarded.server().commands().await.execute_commands(request).await.expect("opens").into_inner();
    let mut answered = 0;
    while let Some(reply) = soon("a reply", replies.message()).await.expect("no error") {
        assert!(matches!(reply.outcome, Some(Outcome::Success(_))), "{reply:?}");
        answered += 1;
    }
    assert_eq!(answered, 40);
    // Ten at once, of which the call itself is one; the rest at 50 a second.
    assert!(begun.elapsed() >= Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_command_of_a_stream_that_waits_too_long_for_its_caller_is_refused() {
    let (backends, store) = FaultyStore::backends();
    let guarded = Guarded::start_on("[limits.name.writer]\ncommands_in_flight = 1\n", backends).await;
    store.appends.set(Mode::Hangs);
    let commands = (0..2).map(|id| ExecuteCommandsRequest {
        correlation_id: format!("{id}"),
        command: Some(Command::CreateOrder(new_order("customer-1"))),
    });
    let request = guarded.request(WRITER, stream::iter(commands));
    let mut replies = guarded.server().commands().await.execute_commands(request).await.expect("opens").into_inner();
    let reply = soon("a reply", replies.message()).await.expect("no error").expect("not the end");
    assert_eq!(reply.correlation_id, "1");
    match reply.outcome {
        Some(Outcome::Error(error)) => assert!(error.message.contains("commands_in_flight 1"), "{}", error.message),
        other => panic!("{other:?}"),
    }
    let metrics = Reply::of(guarded.rest(Caller::Known(Role::Operator), Method::GET, "/metrics")).await.text;
    let audited = "ordersystem_audit_total{action=\"stream\",outcome=\"refused\"} 1";
    assert!(metrics.contains(audited), "{metrics}");
    store.appends.set(Mode::Works);
    let reply = soon("a reply", replies.message()).await.expect("no error").expect("not the end");
    assert!(matches!(reply.outcome, Some(Outcome::Success(_))), "{reply:?}");
}

#[tokio::test]
async fn open_streams_of_a_caller_are_counted_until_they_end() {
    let guarded = Guarded::start_with("[limits.name.events]\nstreams = 1\n", &[]).await;
    let mut history = guarded.server().history().await;
    let follow = || guarded.request(EVENTS, StreamEventsRequest { follow: true, ..Default::default() });
    let open = history.stream_events(follow()).await.expect("opens");
    let status = history.stream_events(follow()).await.expect_err("one too many");
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "CALLER_LIMIT".to_owned()));
    assert_eq!(facts(&status)["limit"], "streams");
    let sse = guarded.rest(EVENTS, Method::GET, "/events").header("accept", "text/event-stream");
    Reply::of(sse).await.problem(429, "CALLER_LIMIT");
    drop(open);
    until("the place is free", async || history.stream_events(follow()).await.map(drop)).await;
}

#[tokio::test]
async fn a_key_and_tokens_of_one_name_share_its_rate_whatever_their_roles() {
    let limits = "[limits.role.reader]\nrate = 1\nburst = 4\n[limits.role.events]\nrate = 1\nburst = 3\n";
    let guarded = Guarded::start_with(&format!("{}{limits}", Issuer::section()), &[]).await;
    let key = guarded.bearer(READER).expect("a key");
    let mut accepted = 0;
    for round in 0..8 {
        // Each token is another one, as those of an issuer are.
        let token = |roles: &[&str]| {
            let claims = Issuer::claims("reader", roles, 600 + round);
            format!("Bearer {}", guarded.issuer.token(&claims))
        };
        for authorization in [key.clone(), token(&["reader"]), token(&["reader", "events"])] {
            let request = guarded.rest.request(Method::GET, "/stats").header("authorization", authorization);
            accepted += u32::from(Reply::of(request).await.status == 200);
        }
    }
    // A burst of 4; the rest is what the time of the test has paid for.
    assert!((4..10).contains(&accepted), "{accepted} of 24");
}

#[tokio::test]
async fn a_call_without_the_role_costs_as_much_as_another() {
    let guarded = Guarded::start_with("[limits.name.writer]\nrate = 1\nburst = 2\n", &[]).await;
    let stats = async || Reply::of(guarded.rest(WRITER, Method::GET, "/stats")).await;
    for _ in 0..2 {
        stats().await.problem(403, "ROLE_MISSING");
    }
    until("the rate is used up", async || (stats().await.status == 429).then_some(())).await;
}
