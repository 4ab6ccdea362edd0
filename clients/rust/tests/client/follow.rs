//! Followed streams resume where they broke off.

use std::{slice, time::Duration};

use ordersystem_client::{
    Channel, Follow, OrderError,
    catga::{
        events::v1::OrderEvent,
        orders::v1::{
            CaughtUp, Heartbeat, StreamEventsRequest, StreamEventsResponse, StreamOrderHistoryRequest,
            StreamOrderHistoryResponse, StreamStart, order_history_service_client::OrderHistoryServiceClient,
            stream_events_response::Item, stream_order_history_response::Item as OrderItem,
        },
    },
    follow_events, follow_order,
};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::fake::{FakeServer, failure, info, messages, nothing, retry_info};

fn message(cursor: &str, item: Item) -> StreamEventsResponse {
    StreamEventsResponse { cursor: cursor.to_owned(), item: Some(item) }
}

fn event(cursor: &str) -> StreamEventsResponse {
    message(cursor, Item::Event(OrderEvent { event_id: format!("of {cursor}"), ..Default::default() }))
}

fn caught_up(cursor: &str) -> StreamEventsResponse {
    message(cursor, Item::CaughtUp(CaughtUp::default()))
}

fn heartbeat(cursor: &str) -> StreamEventsResponse {
    message(cursor, Item::Heartbeat(Heartbeat {}))
}

fn step(revision: i64) -> StreamOrderHistoryResponse {
    let event = OrderEvent { revision, ..Default::default() };
    StreamOrderHistoryResponse { cursor: format!("c{revision}"), item: Some(OrderItem::Event(event)) }
}

fn request() -> StreamEventsRequest {
    StreamEventsRequest { follow: true, ..Default::default() }
}

fn history(fake: &FakeServer) -> OrderHistoryServiceClient<Channel> {
    OrderHistoryServiceClient::new(fake.channel())
}

async fn take<M>(follow: &mut Follow<M>, count: usize) -> Vec<M> {
    timeout(Duration::from_secs(60), follow.take(count).map(Result::unwrap).collect()).await.unwrap()
}

#[tokio::test]
async fn events_continue_after_the_last_cursor_whatever_message_it_came_with() {
    let fake = FakeServer::start([
        messages(&[event("a")]).unavailable(),
        messages(&[heartbeat("b")]).unavailable(),
        messages(&[caught_up("c")]).unavailable(),
        nothing().unavailable(),
        messages(&[event("d")]).open(),
    ])
    .await;
    let mut asked = StreamEventsRequest { customer_ids: vec!["c".to_owned()], ..request() };
    asked.set_start(StreamStart::Latest);
    let mut follow = follow_events(&history(&fake), asked);
    assert_eq!(follow.cursor(), "");
    assert_eq!(take(&mut follow, 4).await, [event("a"), heartbeat("b"), caught_up("c"), event("d")]);
    assert_eq!(follow.cursor(), "d");
    let asked = fake.messages::<StreamEventsRequest>();
    let places: Vec<_> = asked.iter().map(|asked| (asked.start(), asked.cursor.as_str())).collect();
    let after = StreamStart::After;
    assert_eq!(places, [(StreamStart::Latest, ""), (after, "a"), (after, "b"), (after, "c"), (after, "c")]);
    assert!(asked.iter().all(|asked| asked.customer_ids == ["c"] && asked.follow));
}

#[tokio::test]
async fn caught_up_comes_once() {
    let fake = FakeServer::start([
        messages(&[caught_up("a")]).unavailable(),
        messages(&[caught_up("b"), event("c")]).unavailable(),
        messages(&[event("d"), caught_up("e")]).open(),
    ])
    .await;
    let mut follow = follow_events(&history(&fake), request());
    assert_eq!(take(&mut follow, 3).await, [caught_up("a"), event("c"), event("d")]);
    let asked = fake.messages::<StreamEventsRequest>();
    assert_eq!(asked.iter().map(|asked| asked.cursor.as_str()).collect::<Vec<_>>(), ["", "a", "c"]);
}

#[tokio::test]
async fn the_history_of_an_order_continues_after_its_last_revision() {
    let caught_up = CaughtUp { revision: 4 };
    let up = StreamOrderHistoryResponse { cursor: "x".to_owned(), item: Some(OrderItem::CaughtUp(caught_up)) };
    let fake = FakeServer::start([
        messages(&[step(3), step(4), up.clone()]).unavailable(),
        messages(slice::from_ref(&up)).unavailable(),
        messages(&[step(5)]).open(),
    ])
    .await;
    let asked = StreamOrderHistoryRequest { order_id: "1".to_owned(), from_revision: 3, follow: true };
    let mut follow = follow_order(&history(&fake), asked);
    assert_eq!(take(&mut follow, 4).await, [step(3), step(4), up, step(5)]);
    assert_eq!(follow.cursor(), "c5");
    let asked = fake.messages::<StreamOrderHistoryRequest>();
    assert_eq!(asked.iter().map(|asked| asked.from_revision).collect::<Vec<_>>(), [3, 5, 5]);
}

#[tokio::test]
async fn it_continues_after_a_connection_that_broke_whatever_the_library_reports() {
    let fake = FakeServer::start([
        messages(&[event("a")]).reset(),
        messages(&[event("b")]).hang_up(),
        nothing().hang_up(),
        messages(&[event("c")]).open(),
    ])
    .await;
    let mut follow = follow_events(&history(&fake), request());
    assert_eq!(take(&mut follow, 3).await, [event("a"), event("b"), event("c")]);
}

#[tokio::test]
async fn a_stream_that_ends_well_ends_it() {
    let fake = FakeServer::start([messages(&[event("a")])]).await;
    let mut follow = follow_events(&history(&fake), request());
    assert_eq!(follow.message().await.unwrap(), Some(event("a")));
    assert_eq!(follow.message().await.unwrap(), None);
    assert_eq!(follow.message().await.unwrap(), None);
}

#[tokio::test]
async fn an_error_that_a_retry_does_not_fix_is_returned_and_ends_it() {
    let lost = failure(Code::InvalidArgument, vec![info("CURSOR_OF_ANOTHER_LOG")]);
    let fake = FakeServer::start([messages(&[event("a")]).unavailable(), nothing().fail(lost)]).await;
    let mut follow = follow_events(&history(&fake), request());
    assert_eq!(take(&mut follow, 1).await, [event("a")]);
    assert_eq!(OrderError::of(&follow.message().await.unwrap_err()).reason, "CURSOR_OF_ANOTHER_LOG");
    assert_eq!(follow.message().await.unwrap(), None);
}

#[tokio::test]
async fn a_reopening_waits_as_long_as_the_service_asks_for() {
    let draining = failure(Code::Unavailable, vec![info("SHUTTING_DOWN"), retry_info(400)]);
    let fake = FakeServer::start([nothing().fail(draining), messages(&[event("a")]).open()]).await;
    take(&mut follow_events(&history(&fake), request()), 1).await;
    assert!(fake.first_wait_ms() >= 400);
}

#[tokio::test]
async fn it_gives_up_with_the_last_error_when_nothing_comes_for_too_long() {
    let script = [messages(&[event("a")]).unavailable()].into_iter().chain(vec![nothing().unavailable(); 99]);
    let fake = FakeServer::start(script).await;
    let mut follow = follow_events(&history(&fake), request()).give_up_after(Duration::from_millis(1_500));
    assert_eq!(take(&mut follow, 1).await, [event("a")]);
    let error = timeout(Duration::from_secs(20), follow.message()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!((2..12).contains(&fake.asked().len()));
}

#[tokio::test]
async fn a_message_ends_the_period_of_failures() {
    // All delays together exceed the allowed time of failure, and each is much shorter.
    let later = failure(Code::Unavailable, vec![retry_info(3_000)]);
    let rounds = (0..3).map(|_| messages(&[event("a")]).fail(later.clone()));
    let fake = FakeServer::start(rounds.chain([messages(&[event("b")]).open()])).await;
    let mut follow = follow_events(&history(&fake), request()).give_up_after(Duration::from_secs(8));
    assert_eq!(take(&mut follow, 4).await, [event("a"), event("a"), event("a"), event("b")]);
}

#[tokio::test]
async fn a_dropped_one_sends_no_more_calls_whether_it_reads_or_waits() {
    let draining = failure(Code::Unavailable, vec![retry_info(1_000)]);
    for answer in [nothing().open(), nothing().fail(draining)] {
        let fake = FakeServer::start([answer]).await;
        let mut follow = follow_events(&history(&fake), request());
        while fake.asked().is_empty() {
            assert!(timeout(Duration::from_millis(10), follow.message()).await.is_err(), "nothing comes");
        }
        drop(follow);
        sleep(Duration::from_millis(1_300)).await;
        assert_eq!(fake.asked().len(), 1);
    }
}

#[tokio::test]
async fn nothing_is_lost_when_a_wait_for_a_message_is_given_up() {
    let draining = failure(Code::Unavailable, vec![retry_info(300)]);
    let fake = FakeServer::start([messages(&[event("a")]).fail(draining), messages(&[event("b")]).open()]).await;
    let mut follow = follow_events(&history(&fake), request());
    let mut received = Vec::new();
    while received.len() < 2 {
        if let Ok(message) = timeout(Duration::from_millis(20), follow.message()).await {
            received.extend(message.unwrap());
        }
    }
    assert_eq!(received, [event("a"), event("b")]);
}

#[tokio::test]
async fn it_can_run_in_its_own_task() {
    let fake = FakeServer::start([messages(&[event("a")])]).await;
    let mut follow = follow_events(&history(&fake), request());
    let task = tokio::spawn(async move { follow.message().await });
    assert_eq!(task.await.unwrap().unwrap(), Some(event("a")));
}

#[tokio::test]
async fn an_interceptor_sends_headers_with_each_opening_of_the_stream() {
    let fake = FakeServer::start([messages(&[event("a")]).unavailable(), messages(&[event("b")]).open()]).await;
    let token = |mut request: tonic::Request<()>| {
        request.metadata_mut().insert("authorization", "fixed".parse().unwrap());
        Ok(request)
    };
    let history = OrderHistoryServiceClient::with_interceptor(fake.channel(), token);
    let mut follow = follow_events(&history, request());
    assert_eq!(take(&mut follow, 2).await, [event("a"), event("b")]);
    assert!(fake.asked().iter().all(|asked| asked.headers["authorization"] == "fixed"));
    assert_eq!(fake.asked().len(), 2);
}
