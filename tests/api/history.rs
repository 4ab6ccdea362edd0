//! Event streams: complete, in order and resumable, however the reader behaves.

use std::{collections::HashMap, time::Duration};

use ordersystem::{
    codec,
    node::{Backends, NodeBuilder},
    proto::catga::{
        events::v1::OrderEvent,
        orders::v1::{
            OrderEventType, StreamEventsRequest, StreamEventsResponse, StreamOrderHistoryRequest,
            StreamOrderHistoryResponse, StreamStart, order_history_service_client::OrderHistoryServiceClient,
            stream_events_response::Item, stream_order_history_response::Item as OrderItem,
        },
    },
    server::paced::Pace,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt;

use crate::support::{
    Meta, Step, TestServer, assert_retry_info, code_and_reason, facts, give, order_after, soon, violated_fields,
};

type History = OrderHistoryServiceClient<Channel>;

fn decoded(item: &ordersystem::codec::EncodedEvent) -> OrderEvent {
    codec::decode_message(&item.0).expect("an event")
}

async fn open_events(history: &History, request: StreamEventsRequest) -> Streaming<StreamEventsResponse> {
    history.clone().stream_events(request).await.expect("opens").into_inner()
}

async fn open_order(history: &History, request: StreamOrderHistoryRequest) -> Streaming<StreamOrderHistoryResponse> {
    history.clone().stream_order_history(request).await.expect("opens").into_inner()
}

async fn next(stream: &mut Streaming<StreamEventsResponse>) -> StreamEventsResponse {
    soon("a message of the stream", stream.message()).await.expect("no error").expect("not the end")
}

/// The next event; skips other messages.
async fn next_event(stream: &mut Streaming<StreamEventsResponse>) -> (OrderEvent, String) {
    loop {
        let reply = next(stream).await;
        if let Some(Item::Event(event)) = &reply.item {
            return (decoded(event), reply.cursor);
        }
    }
}

async fn all_events(history: &History, request: StreamEventsRequest) -> Vec<(OrderEvent, String)> {
    let mut stream = open_events(history, request).await;
    let mut events = Vec::new();
    while let Some(reply) = soon("the end of the stream", stream.message()).await.expect("no error") {
        let Some(Item::Event(event)) = reply.item else { panic!("only events without follow") };
        events.push((decoded(&event), reply.cursor));
    }
    events
}

fn event_ids(events: &[(OrderEvent, String)]) -> Vec<&str> {
    events.iter().map(|(event, _)| event.event_id.as_str()).collect()
}

fn follow() -> StreamEventsRequest {
    StreamEventsRequest { follow: true, ..Default::default() }
}

#[tokio::test]
async fn the_history_of_an_order_has_every_event_in_order() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let order = order_after(&client, "customer-1", &[Step::Pay, Step::Ship, Step::Deliver]).await;
    order_after(&client, "customer-2", &[Step::Cancel]).await;
    let history = server.history().await;
    for (from_revision, expected) in [(0, 1..=4), (1, 1..=4), (3, 3..=4), (4, 4..=4)] {
        let request = StreamOrderHistoryRequest { order_id: order.order_id.clone(), from_revision, follow: false };
        let mut stream = open_order(&history, request).await;
        let mut revisions = Vec::new();
        while let Some(reply) = stream.message().await.expect("no error") {
            let Some(OrderItem::Event(event)) = reply.item else { panic!("only events without follow") };
            let event = decoded(&event);
            assert_eq!(event.event_id, format!("{}-{}", order.order_id, event.revision));
            assert_eq!((&event.order_id, event.customer_id.as_str()), (&order.order_id, "customer-1"));
            revisions.push(event.revision);
        }
        assert_eq!(revisions, expected.collect::<Vec<_>>());
    }
    let request = StreamOrderHistoryRequest { order_id: order.order_id, from_revision: 5, follow: false };
    assert!(open_order(&history, request).await.message().await.expect("no error").is_none());
}

/// Otherwise nothing would arrive for long, and then not the events that the reader missed: the case after a log was restored to an earlier
/// state.
#[tokio::test]
async fn a_history_does_not_resume_after_a_revision_that_the_order_has_not_reached() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let order = order_after(&client, "customer-1", &[Step::Pay]).await.order_id;
    for (from_revision, follow) in [(4, true), (4, false), (i64::MAX, true)] {
        let request = StreamOrderHistoryRequest { order_id: order.clone(), from_revision, follow };
        let refusal = server.history().await.stream_order_history(request).await.expect_err("past the end");
        assert_eq!(code_and_reason(&refusal), (Code::NotFound, "NOT_YET_THEN".to_owned()));
        assert_eq!(refusal.get_details_error_info().expect("info").metadata["actual_revision"], "2");
    }
    let request = StreamOrderHistoryRequest { order_id: order.clone(), from_revision: 3, follow: true };
    let mut stream = open_order(&server.history().await, request).await;
    give(&client, Step::Ship, &order, Meta::default()).await.expect("accepted");
    let item = loop {
        let reply = soon("an event", stream.message()).await.expect("no error").expect("not the end");
        if let Some(OrderItem::Event(event)) = reply.item {
            break event;
        }
    };
    assert_eq!(decoded(&item).revision, 3);
}

#[tokio::test]
async fn a_follower_of_an_order_gets_one_caught_up_message_and_then_new_events() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let order = order_after(&client, "customer-1", &[Step::Pay]).await;
    let history = server.history().await;
    let request = StreamOrderHistoryRequest { order_id: order.order_id.clone(), from_revision: 2, follow: true };
    let mut stream = open_order(&history, request).await;
    give(&client, Step::Ship, &order.order_id, Meta::default()).await.expect("accepted");
    give(&client, Step::Deliver, &order.order_id, Meta::default()).await.expect("accepted");
    let (mut revisions, mut caught_up) = (Vec::new(), Vec::new());
    while revisions.last() != Some(&4) || caught_up.is_empty() {
        let reply = soon("a message", stream.message()).await.expect("no error").expect("not the end");
        assert!(!reply.cursor.is_empty());
        match reply.item.expect("an item") {
            OrderItem::Event(event) => revisions.push(decoded(&event).revision),
            OrderItem::CaughtUp(note) => caught_up.push(note.revision),
        }
    }
    assert_eq!(revisions, [2, 3, 4]);
    assert_eq!(caught_up.len(), 1);
    assert!((2..=4).contains(&caught_up[0]));
}

#[tokio::test]
async fn the_history_of_an_unknown_order_is_not_found() {
    let server = TestServer::start().await;
    for follow in [false, true] {
        let request = StreamOrderHistoryRequest { order_id: "42".to_owned(), from_revision: 0, follow };
        let refusal = server.history().await.stream_order_history(request).await.expect_err("unknown");
        assert_eq!(code_and_reason(&refusal), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn the_events_of_all_orders_come_in_commit_order_from_any_start() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        let order = order_after(&client, "customer-1", &[Step::Pay, Step::Ship]).await;
        expected.extend((1..=3).map(|revision| format!("{}-{revision}", order.order_id)));
    }
    let history = server.history().await;
    let all = all_events(&history, StreamEventsRequest::default()).await;
    assert_eq!(event_ids(&all), expected);
    let earliest = StreamEventsRequest { start: StreamStart::Earliest.into(), ..Default::default() };
    assert_eq!(all_events(&history, earliest).await, all);
    let latest = StreamEventsRequest { start: StreamStart::Latest.into(), ..Default::default() };
    assert_eq!(all_events(&history, latest).await, []);
    for (index, (_, cursor)) in all.iter().enumerate() {
        let after =
            StreamEventsRequest { start: StreamStart::After.into(), cursor: cursor.clone(), ..Default::default() };
        assert_eq!(all_events(&history, after).await, all[index + 1..]);
    }
}

#[tokio::test]
async fn a_follower_from_now_sees_only_later_events() {
    let server = TestServer::start().await;
    server.place_order("customer-1").await;
    let request = StreamEventsRequest { start: StreamStart::Latest.into(), ..follow() };
    let mut stream = open_events(&server.history().await, request).await;
    assert!(matches!(next(&mut stream).await.item, Some(Item::CaughtUp(_))));
    let order = server.place_order("customer-2").await;
    assert_eq!(next_event(&mut stream).await.0.order_id, order.order_id);
}

#[tokio::test]
async fn a_follower_gets_one_caught_up_message() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        server.place_order("customer-1").await;
    }
    let mut stream = open_events(&server.history().await, follow()).await;
    for _ in 0..3 {
        assert!(matches!(next(&mut stream).await.item, Some(Item::Event(_))));
    }
    assert!(matches!(next(&mut stream).await.item, Some(Item::CaughtUp(_))));
    for _ in 0..3 {
        server.place_order("customer-1").await;
        assert!(matches!(next(&mut stream).await.item, Some(Item::Event(_))));
    }
}

#[tokio::test]
async fn filters_pass_exactly_the_events_that_match() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    for n in 0..12 {
        let steps: &[Step] = [&[][..], &[Step::Pay], &[Step::Pay, Step::Ship, Step::Deliver], &[Step::Cancel]][n % 4];
        order_after(&client, &format!("customer-{}", n % 3), steps).await;
    }
    let history = server.history().await;
    let all = all_events(&history, StreamEventsRequest::default()).await;
    let some_order = all[3].0.order_id.clone();
    let kind = |event: &OrderEvent| {
        use ordersystem::proto::catga::events::v1::order_event::Event;
        match event.event.as_ref().expect("a change") {
            Event::OrderCreated(_) => OrderEventType::OrderCreated,
            Event::OrderPaid(_) => OrderEventType::OrderPaid,
            Event::OrderShipped(_) => OrderEventType::OrderShipped,
            Event::OrderDelivered(_) => OrderEventType::OrderDelivered,
            Event::OrderCancelled(_) => OrderEventType::OrderCancelled,
        }
    };
    let base = StreamEventsRequest::default;
    let (paid, created) = (OrderEventType::OrderPaid, OrderEventType::OrderCreated);
    let customers = || vec!["customer-0".to_owned(), "customer-2".to_owned()];
    type Passes = Box<dyn Fn(&OrderEvent) -> bool>;
    let cases: Vec<(StreamEventsRequest, Passes)> = vec![
        (
            StreamEventsRequest { customer_ids: customers(), ..base() },
            Box::new(|event| event.customer_id != "customer-1"),
        ),
        (StreamEventsRequest { customer_ids: vec!["nobody".to_owned()], ..base() }, Box::new(|_| false)),
        (
            StreamEventsRequest { types: vec![paid.into(), created.into(), paid.into()], ..base() },
            Box::new(move |event| [paid, created].contains(&kind(event))),
        ),
        (
            StreamEventsRequest { types: vec![OrderEventType::OrderDelivered.into()], ..base() },
            Box::new(move |event| kind(event) == OrderEventType::OrderDelivered),
        ),
        (
            StreamEventsRequest { order_ids: vec![some_order.clone(), "42".to_owned()], ..base() },
            Box::new(move |event| event.order_id == some_order),
        ),
        (
            StreamEventsRequest { customer_ids: customers(), types: vec![paid.into()], ..base() },
            Box::new(move |event| event.customer_id != "customer-1" && kind(event) == paid),
        ),
    ];
    for (request, passes) in cases {
        let expected: Vec<&str> =
            all.iter().filter(|(event, _)| passes(event)).map(|(event, _)| event.event_id.as_str()).collect();
        let streamed = all_events(&history, request.clone()).await;
        assert_eq!(event_ids(&streamed), expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_heartbeat_carries_a_cursor_past_filtered_events() {
    let server = TestServer::start().await;
    let request = StreamEventsRequest {
        customer_ids: vec!["nobody".to_owned()],
        heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 }),
        ..follow()
    };
    let history = server.history().await;
    let mut stream = open_events(&history, request.clone()).await;
    assert!(matches!(next(&mut stream).await.item, Some(Item::CaughtUp(_))));
    for _ in 0..300 {
        server.place_order("customer-1").await;
    }
    server.place_order("nobody").await;
    // Heartbeats are also sent while events are filtered out: the log is busy, this stream is not.
    let mut heartbeats = Vec::new();
    loop {
        let reply = next(&mut stream).await;
        match reply.item {
            Some(Item::Event(_)) => break,
            Some(Item::Heartbeat(_)) => heartbeats.push(reply.cursor),
            other => panic!("{other:?}"),
        }
    }
    for _ in 0..5 {
        server.place_order("customer-1").await;
    }
    // At some point a heartbeat covers everything: no event comes after it.
    crate::support::until("a heartbeat past all filtered events", async || {
        let reply = next(&mut stream).await;
        assert!(matches!(reply.item, Some(Item::Heartbeat(_))), "{reply:?}");
        let rest = StreamEventsRequest { start: StreamStart::After.into(), cursor: reply.cursor, ..Default::default() };
        all_events(&history, rest).await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cursor_of_another_log_has_its_own_reason() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    one.place_order("customer-1").await;
    let cursor = all_events(&one.history().await, StreamEventsRequest::default()).await[0].1.clone();
    let request = StreamEventsRequest { start: StreamStart::After.into(), cursor, ..Default::default() };
    let refusal = other.history().await.stream_events(request).await.expect_err("another log");
    assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "CURSOR_OF_ANOTHER_LOG".to_owned()));
    assert_eq!(violated_fields(&refusal), ["cursor"]);
}

#[tokio::test]
async fn resuming_by_cursor_neither_skips_nor_repeats_events() {
    let server = TestServer::start().await;
    let history = server.history().await;
    let writer = {
        let client = server.commands().await;
        tokio::spawn(async move {
            for _ in 0..100 {
                order_after(&client, "customer-1", &[Step::Pay]).await;
            }
        })
    };
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    while seen.len() < 200 {
        let start = if cursor.is_empty() { StreamStart::Earliest } else { StreamStart::After };
        let request = StreamEventsRequest { start: start.into(), cursor: cursor.clone(), ..follow() };
        let mut stream = open_events(&history, request).await;
        for _ in 0..7.min(200 - seen.len()) {
            let (event, reached) = next_event(&mut stream).await;
            seen.push((event, reached.clone()));
            cursor = reached;
        }
    }
    writer.await.expect("no panic");
    assert_eq!(seen, all_events(&history, StreamEventsRequest::default()).await);
}

/// Reads events of orders and checks that each order's revisions have no gaps; returns their number.
fn assert_complete(events: &[OrderEvent]) {
    let mut last = HashMap::new();
    for event in events {
        let before = last.insert(event.order_id.clone(), event.revision).unwrap_or(0);
        assert_eq!(event.revision, before + 1, "order {}", event.order_id);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_stalls_while_thousands_of_events_are_written_loses_nothing() {
    const ORDERS: usize = 2_000;
    // However long the other writers take.
    let pace = Pace { taken_within: Duration::from_secs(3_600), reset_after: Duration::from_secs(3_600) };
    let server = TestServer::start_as(&[], NodeBuilder::new(Backends::memory()).with_pace(pace)).await;
    // A window of 64 KiB: the server can send some hundred events, then it has to wait for the reader.
    let endpoint = server.endpoint().initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut history = OrderHistoryServiceClient::new(endpoint.connect().await.expect("connects"));
    let mut stalled = history.stream_events(follow()).await.expect("opens").into_inner();
    assert!(matches!(next(&mut stalled).await.item, Some(Item::CaughtUp(_))));
    let mut lively = open_events(&server.history().await, follow()).await;
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let client = server.commands().await;
        writers.spawn(async move {
            for _ in 0..ORDERS / 8 {
                order_after(&client, &format!("customer-{writer}"), &[Step::Pay]).await;
            }
        });
    }
    // The fast reader is not delayed by the stalled one.
    let mut seen = Vec::new();
    while seen.len() < 2 * ORDERS {
        seen.push(next_event(&mut lively).await.0);
    }
    writers.join_all().await;
    assert_complete(&seen);
    let mut late = Vec::new();
    while late.len() < 2 * ORDERS {
        late.push(next_event(&mut stalled).await.0);
    }
    assert!(late == seen, "both have seen the same events in the same order");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_followers_at_once_all_see_everything() {
    const FOLLOWERS: usize = 1_000;
    const CONNECTIONS: usize = 4;
    const EVENTS: usize = 100;
    let server = TestServer::start_with(&[("max-event-streams-per-connection", "250")]).await;
    let mut histories = Vec::new();
    for _ in 0..CONNECTIONS {
        histories.push(server.history().await);
    }
    let mut followers = JoinSet::new();
    for follower in 0..FOLLOWERS {
        let history = histories[follower % CONNECTIONS].clone();
        followers.spawn(async move {
            let mut stream = open_events(&history, follow()).await;
            let mut seen = Vec::new();
            while seen.len() < EVENTS {
                seen.push(next_event(&mut stream).await.0.event_id);
            }
            seen
        });
    }
    let client = server.commands().await;
    for _ in 0..EVENTS / 2 {
        order_after(&client, "customer-1", &[Step::Pay]).await;
    }
    let mut seen = followers.join_all().await;
    seen.dedup();
    assert_eq!(seen.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_without_follow_ends_even_while_others_write() {
    let server = TestServer::start().await;
    let first = server.place_order("customer-1").await;
    let writer = {
        let client = server.commands().await;
        tokio::spawn(async move {
            loop {
                order_after(&client, "customer-1", &[]).await;
            }
        })
    };
    for _ in 0..20 {
        let events = all_events(&server.history().await, StreamEventsRequest::default()).await;
        assert_eq!(events[0].0.order_id, first.order_id);
    }
    writer.abort();
}

async fn last_words<M>(stream: &mut Streaming<M>) -> Status {
    loop {
        match soon("the end of the stream", stream.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a word"),
            Err(status) => return status,
        }
    }
}

#[tokio::test]
async fn streams_end_with_shutting_down_when_the_node_does() {
    let mut server = TestServer::start().await;
    let order = server.place_order("customer-1").await;
    let history = server.history().await;
    let mut events = open_events(&history, follow()).await;
    let request = StreamOrderHistoryRequest { order_id: order.order_id, from_revision: 0, follow: true };
    let mut of_order = open_order(&history, request).await;
    next_event(&mut events).await;
    let (words, stopped) =
        tokio::join!(async { [last_words(&mut events).await, last_words(&mut of_order).await] }, server.stop());
    stopped.expect("within the grace period");
    for status in words {
        assert_eq!(code_and_reason(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
        assert_retry_info(&status);
        assert!(facts(&status).is_empty());
    }
}
