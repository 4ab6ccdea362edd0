//! Which commands are sent again, and when.

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use ordersystem_client::{
    Channel, OrderError, SendOptions,
    catga::orders::v1::{
        CreateOrderRequest, PayOrderRequest, PayOrderResponse, order_command_service_client::OrderCommandServiceClient,
    },
    send, send_with,
};
use tonic::{Code, Request, Status};

use crate::fake::{Answer, FakeServer, failure, info, nothing, reply, retry_info};

fn paid() -> PayOrderResponse {
    PayOrderResponse { revision: 2, ..Default::default() }
}

fn commands(fake: &FakeServer) -> OrderCommandServiceClient<Channel> {
    OrderCommandServiceClient::new(fake.channel())
}

async fn pay(fake: &FakeServer, options: SendOptions) -> Result<PayOrderResponse, Status> {
    let commands = commands(fake);
    let sending = send_with(&commands, PayOrderRequest::default(), options);
    tokio::time::timeout(Duration::from_secs(20), sending).await.expect("an end in time")
}

async fn refusal(fake: &FakeServer, options: SendOptions) -> OrderError {
    OrderError::of(&pay(fake, options).await.unwrap_err())
}

/// The error of a broken connection: the service itself always gives a reason.
fn unavailable() -> Answer {
    nothing().unavailable()
}

fn shutting_down() -> Answer {
    nothing().fail(failure(Code::Unavailable, vec![info("SHUTTING_DOWN")]))
}

fn overloaded() -> Answer {
    nothing().fail(failure(Code::ResourceExhausted, vec![info("OVERLOADED"), retry_info(300)]))
}

#[tokio::test]
async fn a_command_is_never_retried_by_the_channel() {
    let fake = FakeServer::start([unavailable(), unavailable()]).await;
    let mut commands = commands(&fake);
    commands.create_order(CreateOrderRequest::default()).await.unwrap_err();
    let with_an_id = PayOrderRequest { request_id: "with an id as well".to_owned(), ..Default::default() };
    commands.pay_order(with_an_id).await.unwrap_err();
    assert_eq!(fake.asked().len(), 2);
}

#[tokio::test]
async fn send_retries_with_one_request_id() {
    let fake = FakeServer::start([unavailable(), unavailable(), reply(&paid())]).await;
    let commands = commands(&fake);
    let mut command = PayOrderRequest { order_id: "1".to_owned(), ..Default::default() };
    let answer = send(&commands, &mut command).await.unwrap();
    assert_eq!(answer, paid());
    assert!(!command.request_id.is_empty(), "the caller has the id for further retries");
    assert_eq!(fake.messages::<PayOrderRequest>(), [command.clone(), command.clone(), command]);
}

#[tokio::test]
async fn send_fills_in_another_id_for_another_command_and_keeps_a_given_one() {
    let fake = FakeServer::start([reply(&paid()), reply(&paid()), reply(&paid())]).await;
    let commands = commands(&fake);
    for request_id in ["", "", "mine"] {
        let mut command = PayOrderRequest { request_id: request_id.to_owned(), ..Default::default() };
        send(&commands, &mut command).await.unwrap();
    }
    let ids: Vec<String> = fake.messages::<PayOrderRequest>().into_iter().map(|asked| asked.request_id).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 3);
    assert_eq!(ids[2], "mine");
    assert!(ids.iter().all(|id| !id.is_empty()));
}

#[tokio::test]
async fn send_continues_after_a_connection_that_broke_whatever_the_library_reports() {
    let broken = [nothing().reset(), nothing().hang_up(), reply(&paid()).hang_up()];
    let fake = FakeServer::start(broken.into_iter().chain([reply(&paid())])).await;
    assert_eq!(pay(&fake, SendOptions::default()).await.unwrap(), paid());
    assert_eq!(fake.asked().len(), 4);
}

#[tokio::test]
async fn send_waits_as_long_as_the_service_asks_for() {
    let fake = FakeServer::start([overloaded(), reply(&paid())]).await;
    pay(&fake, SendOptions::default()).await.unwrap();
    assert!(fake.first_wait_ms() >= 300);
}

#[tokio::test]
async fn send_does_not_retry_errors_that_a_retry_does_not_fix() {
    for (code, reason) in
        [(Code::ResourceExhausted, "MESSAGE_TOO_LARGE"), (Code::FailedPrecondition, "ILLEGAL_TRANSITION")]
    {
        let fake = FakeServer::start([nothing().fail(failure(code, vec![info(reason)])), reply(&paid())]).await;
        assert_eq!(refusal(&fake, SendOptions::default()).await.reason, reason);
        assert_eq!(fake.asked().len(), 1);
    }
}

#[tokio::test]
async fn send_accepts_as_many_answers_as_allowed_and_a_broken_connection_is_not_one() {
    let script = [unavailable(), nothing().reset(), shutting_down(), unavailable(), overloaded(), reply(&paid())];
    let fake = FakeServer::start(script).await;
    let options = SendOptions { attempts: NonZeroU32::new(2), ..SendOptions::default() };
    assert_eq!(refusal(&fake, options).await.reason, "OVERLOADED");
    assert_eq!(fake.asked().len(), 5);
}

#[tokio::test]
async fn send_tries_until_its_time_is_up_and_not_only_so_many_times() {
    let fake = FakeServer::start((0..6).map(|_| shutting_down()).chain([reply(&paid())])).await;
    assert_eq!(pay(&fake, SendOptions::default()).await.unwrap(), paid());
    assert_eq!(fake.asked().len(), 7);
}

#[tokio::test]
async fn the_time_limit_ends_a_send_that_reaches_nobody_and_nothing_else_does() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let commands = OrderCommandServiceClient::new(ordersystem_client::connect(&address).unwrap());
    let options = SendOptions { timeout: Duration::from_secs(5), ..SendOptions::default() };
    let began = Instant::now();
    let error = OrderError::of(&send_with(&commands, PayOrderRequest::default(), options).await.unwrap_err());
    assert_eq!((error.code, error.reason.as_str()), (Code::Unavailable, ""));
    // It gives up if the next delay, of at most 2 s, would end too late.
    assert!((3..25).contains(&began.elapsed().as_secs()), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn an_interceptor_sends_headers_with_every_attempt_and_is_asked_for_each() {
    let fake = FakeServer::start([unavailable(), reply(&paid())]).await;
    let used = Arc::new(AtomicU32::new(0));
    let token = move |mut request: Request<()>| {
        let number = used.fetch_add(1, Ordering::Relaxed);
        request.metadata_mut().insert("authorization", format!("token {number}").parse().unwrap());
        Ok(request)
    };
    let commands = OrderCommandServiceClient::with_interceptor(fake.channel(), token);
    send(&commands, PayOrderRequest::default()).await.unwrap();
    let seen: Vec<_> = fake.asked().iter().map(|asked| asked.headers["authorization"].clone()).collect();
    assert_eq!(seen, ["token 0", "token 1"]);
}

#[tokio::test]
async fn send_takes_a_command_by_value_as_well() {
    let fake = FakeServer::start([reply(&paid()), reply(&paid())]).await;
    let mut commands = commands(&fake);
    send(&commands, PayOrderRequest { order_id: "1".to_owned(), ..Default::default() }).await.unwrap();
    // As the first attempt had to be sent.
    #[allow(clippy::unnecessary_mut_passed, reason = "it must compile")]
    send(&mut commands, &mut PayOrderRequest::default()).await.unwrap();
    assert!(fake.messages::<PayOrderRequest>().iter().all(|asked| !asked.request_id.is_empty()));
}

#[tokio::test]
async fn send_gives_up_at_once_when_the_wait_would_pass_the_deadline() {
    let full = failure(Code::ResourceExhausted, vec![info("STORE_FULL"), retry_info(600_000)]);
    let fake = FakeServer::start([nothing().fail(full), reply(&paid())]).await;
    let options = SendOptions { timeout: Duration::from_secs(60), ..SendOptions::default() };
    let refused = tokio::time::timeout(Duration::from_secs(10), refusal(&fake, options)).await.unwrap();
    assert_eq!(refused.reason, "STORE_FULL");
    assert_eq!(fake.asked().len(), 1);
}

#[tokio::test]
async fn a_send_that_is_not_answered_ends_with_the_time_of_the_caller_and_is_not_retried() {
    let fake = FakeServer::start([nothing().open(), reply(&paid())]).await;
    let options = SendOptions { timeout: Duration::from_millis(300), ..SendOptions::default() };
    assert_eq!(refusal(&fake, options).await.code, Code::DeadlineExceeded);
    assert_eq!(fake.asked().len(), 1);
    assert!(fake.asked()[0].headers.contains_key("grpc-timeout"), "the service is told as well");
}

#[tokio::test]
async fn send_can_run_in_its_own_task() {
    let fake = FakeServer::start([reply(&paid())]).await;
    let commands = commands(&fake);
    let task = tokio::spawn(async move { send(&commands, PayOrderRequest::default()).await });
    assert_eq!(task.await.unwrap().unwrap(), paid());
}
