//! The behaviour of the channel.

use std::time::Duration;

use ordersystem_client::{
    OrderError,
    catga::orders::v1::{
        GetOrderRequest, GetOrderResponse, StreamEventsRequest, StreamEventsResponse,
        order_history_service_client::OrderHistoryServiceClient, order_query_service_client::OrderQueryServiceClient,
    },
    connect,
};
use tokio::time::timeout;
use tonic::{Code, Request, Response, Status};

use crate::fake::{Answer, FakeServer, failure, messages, nothing, reply, retry_info};

fn order() -> GetOrderResponse {
    GetOrderResponse { consistency_token: "t".to_owned(), ..Default::default() }
}

async fn get(fake: &FakeServer, limit: Duration) -> Result<GetOrderResponse, Status> {
    let mut request = Request::new(GetOrderRequest { order_id: "1".to_owned(), ..Default::default() });
    request.set_timeout(limit);
    let mut queries = OrderQueryServiceClient::new(fake.channel());
    timeout(GIVE_UP, queries.get_order(request)).await.expect("an end in time").map(Response::into_inner)
}

fn unavailable() -> Answer {
    nothing().unavailable()
}

const LONG: Duration = Duration::from_secs(10);
/// The deadline for anything that must happen.
const GIVE_UP: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_query_is_retried_while_the_service_is_unavailable() {
    let fake = FakeServer::start([unavailable(), unavailable(), reply(&order())]).await;
    assert_eq!(get(&fake, LONG).await.unwrap(), order());
    let asked = fake.asked();
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|asked| asked.message::<GetOrderRequest>().order_id == "1"));
    assert!(asked.iter().all(|asked| asked.path == "/catga.orders.v1.OrderQueryService/GetOrder"));
    let before: Vec<_> = asked.iter().map(|asked| asked.headers.get("grpc-previous-rpc-attempts").cloned()).collect();
    assert_eq!(before, [None, Some("1".parse().unwrap()), Some("2".parse().unwrap())]);
    assert_ne!(asked[0].headers["grpc-timeout"], asked[2].headers["grpc-timeout"], "what is left of the time");
}

#[tokio::test]
async fn a_query_is_tried_four_times_and_not_more() {
    let fake = FakeServer::start(vec![unavailable(); 9]).await;
    assert_eq!(get(&fake, LONG).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn a_query_is_not_retried_on_another_error_or_once_it_is_being_answered() {
    let overloaded = failure(Code::ResourceExhausted, vec![retry_info(1)]);
    let fake = FakeServer::start([nothing().fail(overloaded), reply(&order()).unavailable(), nothing().open()]).await;
    assert_eq!(get(&fake, LONG).await.unwrap_err().code(), Code::ResourceExhausted);
    assert_eq!(get(&fake, LONG).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn a_query_without_an_answer_ends_when_its_time_is_up() {
    let fake = FakeServer::start([nothing().open()]).await;
    assert_eq!(get(&fake, Duration::from_millis(200)).await.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_query_gives_up_with_its_last_error_when_a_wait_would_pass_its_time() {
    // The waits before the second, third and fourth attempt are 560 ms in all at the least. On a busy machine an attempt may be under way
    // when the time is up, though not in every round.
    for _ in 0..10 {
        let fake = FakeServer::start(vec![unavailable(); 9]).await;
        let error = get(&fake, Duration::from_millis(550)).await.unwrap_err();
        assert!(fake.asked().len() < 4);
        if error.code() == Code::Unavailable {
            return;
        }
    }
    panic!("it has always waited until its time was up");
}

#[tokio::test]
async fn a_stream_that_falls_silent_ends_when_its_time_is_up() {
    let event = StreamEventsResponse { cursor: "a".to_owned(), item: None };
    let fake = FakeServer::start([messages(std::slice::from_ref(&event)).open()]).await;
    let mut request = Request::new(StreamEventsRequest::default());
    request.set_timeout(Duration::from_secs(1));
    let mut stream = OrderHistoryServiceClient::new(fake.channel()).stream_events(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap(), Some(event));
    let end = timeout(GIVE_UP, stream.message()).await.expect("an end in time");
    assert_eq!(end.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_connection_that_breaks_or_cannot_be_opened_is_unavailable() {
    for broken in [nothing().reset(), nothing().hang_up()] {
        let fake = FakeServer::start([broken]).await;
        let mut history = OrderHistoryServiceClient::new(fake.channel());
        let error = match history.stream_events(StreamEventsRequest::default()).await {
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(OrderError::of(&error).code, Code::Unavailable, "{error}");
    }
    let nobody = connect("127.0.0.1:1").unwrap();
    let error = OrderQueryServiceClient::new(nobody).get_order(GetOrderRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}

#[tokio::test]
async fn an_invalid_address_is_refused() {
    assert!(connect("not an address").is_err());
}
