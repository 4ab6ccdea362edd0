//! ExecuteCommands: many commands over one call.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use ordersystem::proto::catga::orders::v1::{
    CommandSuccess, CreateOrderRequest, ExecuteCommandsRequest, ExecuteCommandsResponse, OrderStatus,
    execute_commands_request::Command, execute_commands_response::Outcome,
    order_command_service_client::OrderCommandServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::{
    faulty::{FaultyStore, Mode},
    support::{
        CommandClient, TestServer, cancel, code_and_reason, deliver, facts, new_order, pay, raw_call, ship, soon,
        until, violated_fields,
    },
};

fn command(correlation_id: impl ToString, command: Command) -> ExecuteCommandsRequest {
    ExecuteCommandsRequest { correlation_id: correlation_id.to_string(), command: Some(command) }
}

fn create(correlation_id: impl ToString) -> ExecuteCommandsRequest {
    command(correlation_id, Command::CreateOrder(new_order("customer-1")))
}

/// Sends all commands, then half-closes; returns the replies by correlation id, in the order of arrival.
async fn execute(client: &CommandClient, commands: Vec<ExecuteCommandsRequest>) -> Vec<ExecuteCommandsResponse> {
    let mut replies = client.clone().execute_commands(stream::iter(commands)).await.expect("opens").into_inner();
    let mut all = Vec::new();
    while let Some(reply) = soon("a reply", replies.message()).await.expect("no error") {
        all.push(reply);
    }
    all
}

fn success(reply: ExecuteCommandsResponse) -> CommandSuccess {
    match reply.outcome.expect("an outcome") {
        Outcome::Success(success) => success,
        Outcome::Error(error) => panic!("refused: {error:?}"),
    }
}

/// The error as the status that a unary call would have returned.
fn refusal(reply: &ExecuteCommandsResponse) -> Status {
    match reply.outcome.as_ref().expect("an outcome") {
        Outcome::Success(success) => panic!("not refused: {success:?}"),
        Outcome::Error(error) => {
            let details = prost::Message::encode_to_vec(error);
            Status::with_details(Code::from(error.code), error.message.clone(), details.into())
        }
    }
}

/// A call that stays open: the sender of commands, and the replies.
async fn open(client: &CommandClient) -> (mpsc::Sender<ExecuteCommandsRequest>, Streaming<ExecuteCommandsResponse>) {
    let (sender, commands) = mpsc::channel(10_000);
    let replies = client.clone().execute_commands(ReceiverStream::new(commands)).await.expect("opens").into_inner();
    (sender, replies)
}

async fn next(replies: &mut Streaming<ExecuteCommandsResponse>) -> ExecuteCommandsResponse {
    soon("a reply", replies.message()).await.expect("no error").expect("not the end")
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_interleaved_commands_are_each_answered_and_keep_the_order_of_each_order() {
    const ORDERS: usize = 500;
    let server = TestServer::start().await;
    let client = server.commands().await;
    let placed = execute(&client, (0..ORDERS).map(create).collect()).await;
    assert_eq!(placed.iter().map(|reply| &reply.correlation_id).collect::<HashSet<_>>().len(), ORDERS);
    let ids: Vec<String> = placed.into_iter().map(|reply| success(reply).order.expect("order").order_id).collect();
    // They all succeed only in this order.
    let steps: [fn(&str) -> Command; 3] =
        [|id| Command::PayOrder(pay(id)), |id| Command::ShipOrder(ship(id)), |id| Command::DeliverOrder(deliver(id))];
    let commands = steps
        .iter()
        .enumerate()
        .flat_map(|(index, step)| ids.iter().map(move |id| command(format!("{id}/{index}"), step(id))))
        .collect();
    let replies = execute(&client, commands).await;
    assert_eq!(replies.len(), 3 * ORDERS);
    let mut last_step = HashMap::new();
    for reply in replies {
        let (id, index) =
            reply.correlation_id.split_once('/').map(|(id, index)| (id.to_owned(), index.to_owned())).expect("ours");
        let success = success(reply);
        assert_eq!(success.order.expect("order").order_id, id);
        assert!(!success.consistency_token.is_empty());
        let expected = last_step.entry(id).or_insert(0);
        assert_eq!(index, expected.to_string(), "replies of one order come in its order");
        *expected += 1;
        assert_eq!(success.revision, *expected + 1);
    }
    assert_eq!(server.head().await, 4 * ORDERS as u64);
}

#[tokio::test]
async fn a_command_waits_for_the_one_before_it_of_the_same_order() {
    let (backends, store) = FaultyStore::backends();
    let clock = std::sync::Arc::new(ordersystem::ports::clock::SystemClock);
    let server = TestServer::start_on(&[], backends, clock).await;
    let id = server.place_order("customer-1").await.order_id;
    let (sender, mut replies) = open(&server.commands().await).await;
    store.appends.set(Mode::Hangs);
    sender.send(command("pay", Command::PayOrder(pay(&id)))).await.expect("open");
    sender.send(command("ship", Command::ShipOrder(ship(&id)))).await.expect("open");
    sender.send(command("deliver", Command::DeliverOrder(deliver(&id)))).await.expect("open");
    // A refusal does not wait behind another order.
    sender.send(command("unknown", Command::PayOrder(pay("42")))).await.expect("open");
    assert_eq!(next(&mut replies).await.correlation_id, "unknown");
    assert_eq!(*store.appending.borrow(), 1, "only the payment is being written");
    store.appends.set(Mode::Works);
    for (correlation_id, revision) in [("pay", 2), ("ship", 3), ("deliver", 4)] {
        let reply = next(&mut replies).await;
        assert_eq!((reply.correlation_id.as_str(), success(reply.clone()).revision), (correlation_id, revision));
    }
}

#[tokio::test]
async fn a_refused_command_is_answered_with_its_details_and_the_call_continues() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    let bad = CreateOrderRequest { customer_id: String::new(), items: Vec::new(), ..Default::default() };
    let mut stale = pay(&id);
    stale.expected_revision = Some(7);
    let commands = vec![
        command("not yet", Command::ShipOrder(ship(&id))),
        command("unknown", Command::PayOrder(pay("42"))),
        command("bad", Command::CreateOrder(bad)),
        command("malformed id", Command::CancelOrder(cancel("x"))),
        command("stale", Command::PayOrder(stale)),
        ExecuteCommandsRequest { correlation_id: "nothing".to_owned(), command: None },
        command("good", Command::PayOrder(pay(&id))),
        command("x".repeat(129), Command::ShipOrder(ship(&id))),
        command("é".repeat(128), Command::ShipOrder(ship(&id))),
    ];
    let replies: HashMap<String, ExecuteCommandsResponse> =
        execute(&client, commands).await.into_iter().map(|reply| (reply.correlation_id.clone(), reply)).collect();
    assert_eq!(replies.len(), 9);
    let not_yet = refusal(&replies["not yet"]);
    assert_eq!(code_and_reason(&not_yet), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()));
    assert!(not_yet.get_details_precondition_failure().is_some());
    assert_eq!(code_and_reason(&refusal(&replies["unknown"])), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
    assert_eq!(violated_fields(&refusal(&replies["bad"])), ["customer_id", "items"]);
    assert_eq!(violated_fields(&refusal(&replies["malformed id"])), ["order_id"]);
    assert_eq!(facts(&refusal(&replies["stale"]))["actual_revision"], "1");
    assert_eq!(violated_fields(&refusal(&replies["nothing"])), ["command"]);
    assert_eq!(success(replies["good"].clone()).revision, 2);
    assert_eq!(violated_fields(&refusal(&replies[&"x".repeat(128)])), ["correlation_id"]);
    assert_eq!(success(replies[&"é".repeat(128)].clone()).order.expect("order").status(), OrderStatus::Shipped);
}

#[tokio::test]
async fn retries_and_their_refusals_work_within_one_call() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let mut first = new_order("customer-1");
    first.request_id = "create-1".to_owned();
    let other = CreateOrderRequest { customer_id: "customer-2".to_owned(), ..first.clone() };
    let (sender, mut replies) = open(&client).await;
    sender.send(command("first", Command::CreateOrder(first.clone()))).await.expect("open");
    let placed = success(next(&mut replies).await);
    sender.send(command("again", Command::CreateOrder(first))).await.expect("open");
    assert_eq!(success(next(&mut replies).await), placed);
    sender.send(command("other", Command::CreateOrder(other))).await.expect("open");
    assert_eq!(refusal(&next(&mut replies).await).code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_half_closed_call_answers_everything_and_ends_well() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    assert_eq!(execute(&client, Vec::new()).await, []);
    let (sender, mut replies) = open(&client).await;
    for n in 0..100 {
        sender.send(create(n)).await.expect("open");
    }
    drop(sender);
    for _ in 0..100 {
        success(next(&mut replies).await);
    }
    assert!(replies.message().await.expect("no error").is_none());
}

#[tokio::test]
async fn a_malformed_message_ends_the_call_with_a_reason() {
    let server = TestServer::start().await;
    let good = prost::Message::encode_to_vec(&create("good"));
    let messages = vec![good.into(), vec![0xFF; 20].into()];
    let path = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
    let refusal = raw_call(&server.channel().await, path, messages, 10).await.expect_err("malformed");
    assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(server.head().await, 1, "what came before it has taken effect");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_replies_is_held_up_and_takes_nothing_from_others() {
    let (backends, store) = FaultyStore::backends();
    let clock = std::sync::Arc::new(ordersystem::ports::clock::SystemClock);
    // As many commands as one call may have open, and a few more.
    let server = TestServer::start_on(&[("max-in-flight", "300")], backends, clock).await;
    let endpoint = server.endpoint().initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let client = OrderCommandServiceClient::new(endpoint.connect().await.expect("connects"));
    let (sender, mut replies) = open(&client).await;
    let sent = tokio::spawn(async move {
        for n in 0..5_000 {
            sender.send(create(n)).await.expect("open");
        }
    });
    // The replies are not read: the server stops reading commands.
    let mut before = 0;
    until("the log stops growing", async || {
        let head = server.head().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let stands = head > 0 && head == std::mem::replace(&mut before, head);
        stands.then_some(())
    })
    .await;
    let held_up = server.head().await;
    assert!(held_up < 4_000, "{held_up} commands ran although no client read their replies");
    // All work that this call has started is finished: it holds no permit of requests in flight.
    store.appends.set(Mode::Works);
    for _ in 0..3 {
        server.place_order("someone else").await;
    }
    for _ in 0..5_000 {
        success(next(&mut replies).await);
    }
    assert!(soon("the end", replies.message()).await.expect("no error").is_none());
    sent.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_executed_while_their_client_does_not_read() {
    let (backends, store) = FaultyStore::backends();
    let clock = std::sync::Arc::new(ordersystem::ports::clock::SystemClock);
    let server = TestServer::start_on(&[], backends, clock).await;
    let endpoint = server.endpoint().initial_stream_window_size(1_024).initial_connection_window_size(65_535);
    let client = OrderCommandServiceClient::new(endpoint.connect().await.expect("connects"));
    let (sender, mut replies) = open(&client).await;
    // Fill the window with replies, so that no more can be sent; then have commands in the middle of their appends.
    for n in 0..40 {
        sender.send(create(n)).await.expect("open");
    }
    until("the first commands are done", async || (server.head().await >= 40).then_some(())).await;
    store.appends.set(Mode::Hangs);
    for n in 40..60 {
        sender.send(create(n)).await.expect("open");
    }
    until("appends hang", async || (*store.appending.borrow() > 0).then_some(())).await;
    store.appends.set(Mode::Works);
    until("the appends end although the client does not read", async || (server.head().await == 60).then_some(()))
        .await;
    drop(sender);
    for _ in 0..60 {
        success(next(&mut replies).await);
    }
}

#[tokio::test]
async fn a_panic_in_one_command_is_answered_and_the_call_continues() {
    let (backends, store) = FaultyStore::backends();
    let clock = std::sync::Arc::new(ordersystem::ports::clock::SystemClock);
    let server = TestServer::start_on(&[], backends, clock).await;
    let (sender, mut replies) = open(&server.commands().await).await;
    store.appends.set(Mode::Panics);
    sender.send(create("bad")).await.expect("open");
    assert_eq!(code_and_reason(&refusal(&next(&mut replies).await)), (Code::Internal, "INTERNAL".to_owned()));
    store.appends.set(Mode::Works);
    sender.send(create("good")).await.expect("open");
    assert_eq!(success(next(&mut replies).await).revision, 1);
}

#[tokio::test]
async fn an_idle_call_ends_with_shutting_down_when_the_node_does() {
    let mut server = TestServer::start().await;
    let client = server.commands().await;
    let (sender, mut replies) = open(&client).await;
    sender.send(create(1)).await.expect("open");
    success(next(&mut replies).await);
    let (end, stopped) = tokio::join!(soon("the end of the call", replies.message()), server.stop());
    stopped.expect("within the grace period");
    let status = end.expect_err("the call is ended");
    assert_eq!(code_and_reason(&status), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    crate::support::assert_retry_info(&status);
    drop(sender);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_call_answers_the_commands_it_has_begun_before_it_ends_with_the_node() {
    let mut server = TestServer::start().await;
    let client = server.commands().await;
    let (sender, replies) = open(&client).await;
    let sending = tokio::spawn(async move {
        for n in 0.. {
            if sender.send(create(n)).await.is_err() {
                break;
            }
        }
    });
    let reading = tokio::spawn(async move {
        let replies = replies.collect::<Vec<_>>().await;
        let accepted = replies
            .iter()
            .filter(|reply| matches!(reply, Ok(ExecuteCommandsResponse { outcome: Some(Outcome::Success(_)), .. })));
        (accepted.count() as u64, replies.into_iter().next_back())
    });
    until("some commands are done", async || (server.head().await > 50).then_some(())).await;
    server.stop().await.expect("within the grace period");
    let (accepted, last) = soon("the end of the call", reading).await.expect("no panic");
    assert_eq!(accepted, server.head().await, "every command that took effect is answered");
    let last = last.expect("something").expect_err("the call is ended");
    assert_eq!(code_and_reason(&last), (Code::Unavailable, "SHUTTING_DOWN".to_owned()));
    sending.abort();
}
