//! Calls beyond the limits are refused on their headers alone, and a call of which only the headers have arrived takes no capacity.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use ordersystem::{
    backends::embedded::{database::Database, event_store::EmbeddedEventStore},
    ports::{
        clock::SystemClock,
        deadline,
        event_store::{AppendError, Commit, CommitId, EventStore as _, ExpectedRevision, Position, StreamId},
    },
    proto::catga::{
        orders::v1::{
            ExecuteCommandsRequest, ExecuteCommandsResponse, ListOrdersRequest, execute_commands_request::Command,
            execute_commands_response::Outcome,
        },
        system::v1::GetServerInfoRequest,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    faulty::{FaultyStore, Mode},
    kept_connections::KeptConnection,
    support::{TestServer, new_order, soon, until},
};

const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";

async fn raw(server: &TestServer) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.expect("connects");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// Starts a call and sends only `bytes` of its body.
async fn begin(client: &SendRequest<Bytes>, bytes: &'static [u8]) -> (ResponseFuture, h2::SendStream<Bytes>) {
    let request = Request::post(format!("http://localhost{CREATE}")).header("content-type", "application/grpc");
    let request = request.header("te", "trailers").body(()).expect("a request");
    let mut client = client.clone().ready().await.expect("a stream");
    let (response, mut body) = client.send_request(request, false).expect("sent");
    body.send_data(Bytes::from_static(bytes), false).expect("sent");
    (response, body)
}

#[tokio::test]
async fn one_call_too_many_is_refused_by_its_head_and_vital_calls_are_answered() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "40")], backends, Arc::new(SystemClock)).await;
    store.appends.set(Mode::Hangs);
    let client = server.commands().await;
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let mut client = client.clone();
        waiting.spawn(async move { client.create_order(new_order("customer-1")).await });
    }
    until("forty appends hang", async || (*store.appending.borrow() == 40).then_some(())).await;
    let connection = raw(&server).await;
    let (response, _body) = begin(&connection, &[]).await;
    let refusal = soon("a refusal", response).await.expect("an answer");
    let headers = refusal.headers();
    assert_eq!(
        (&headers["grpc-status"], &headers["grpc-retry-pushback-ms"]),
        (&"8".parse().unwrap(), &"1000".parse().unwrap())
    );
    let status = tonic::Status::from_header_map(headers).expect("a status");
    crate::support::assert_retry_info(&status);
    assert_eq!(crate::support::reason(&status), "OVERLOADED");

    let mut rest = TcpStream::connect(server.address).await.expect("connects");
    let head =
        "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n";
    rest.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon("a refusal", rest.read_to_string(&mut answer)).await.expect("text");
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("\"reason\":\"OVERLOADED\""), "{answer}");

    server.system().await.get_server_info(GetServerInfoRequest {}).await.expect("answered");
    let ready = reqwest::get(server.url("/health/ready")).await.expect("answered");
    assert_eq!(ready.status(), 200);
    store.appends.set(Mode::Works);
    for outcome in waiting.join_all().await {
        outcome.expect("what was in flight finishes");
    }
    client.clone().create_order(new_order("customer-1")).await.expect("there is room again");
}

/// A server whose capacity is used up by commands that hang.
async fn full() -> (TestServer, Arc<FaultyStore>, JoinSet<bool>) {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "40")], backends, Arc::new(SystemClock)).await;
    store.appends.set(Mode::Hangs);
    let client = server.commands().await;
    let mut waiting = JoinSet::new();
    for _ in 0..40 {
        let mut client = client.clone();
        waiting.spawn(async move { client.create_order(new_order("customer-1")).await.is_ok() });
    }
    until("forty appends hang", async || (*store.appending.borrow() == 40).then_some(())).await;
    (server, store, waiting)
}

#[tokio::test]
async fn a_refusal_keeps_the_connection_where_the_body_is_small() {
    let (server, store, waiting) = full().await;
    let mut connection = KeptConnection::to(&server).await.expect("connects");
    for _ in 0..3 {
        let answer = connection.place_order().await.expect("an answer");
        assert_eq!((answer.status, answer.closes), (429, false));
    }
    let web = connection.post(CREATE, "application/grpc-web+proto", "\0\0\0\0\0").await.expect("an answer");
    assert_eq!((web.status, web.closes), (200, false), "its status is in a header");
    let large = "x".repeat(17 * 1024);
    let answer = KeptConnection::to(&server).await.expect("connects").post("/orders", "application/json", &large).await;
    assert!(answer.expect("an answer").closes, "there is more of it than is worth reading");
    let mut asking = KeptConnection::to(&server).await.expect("connects");
    let head = "POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n";
    asking.send(&format!("{head}Expect: 100-continue\r\n\r\n")).await.expect("sent");
    let answer = asking.answer().await.expect("an answer");
    assert_eq!((answer.status, answer.closes), (429, true), "it gets the refusal before it sends");
    store.appends.set(Mode::Works);
    assert!(waiting.join_all().await.into_iter().all(|is_done| is_done), "what was in flight finishes");
    assert_eq!(connection.place_order().await.expect("an answer").status, 201);
}

/// Hanging commands in calls to ExecuteCommands: the senders for more commands, and the replies.
async fn bulk(server: &TestServer, commands: usize) -> (mpsc::Sender<ExecuteCommandsRequest>, Replies) {
    let (sender, receiver) = mpsc::channel(1_000);
    for _ in 0..commands {
        sender.send(bulk_create()).await.expect("room");
    }
    let replies = server.commands().await.execute_commands(ReceiverStream::new(receiver)).await.expect("opens");
    (sender, replies.into_inner())
}

type Replies = tonic::Streaming<ExecuteCommandsResponse>;

fn bulk_create() -> ExecuteCommandsRequest {
    ExecuteCommandsRequest { command: Some(Command::CreateOrder(new_order("customer-1"))), ..Default::default() }
}

/// The limit of a node that has measured nothing yet, as in src/application/admission.rs.
const FIRST_LIMIT: usize = 2_048;

#[tokio::test]
async fn commands_of_bulk_calls_count_as_others_do_and_wait_a_moment_for_room() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "5000")], backends, Arc::new(SystemClock)).await;
    store.appends.set(Mode::Hangs);
    let mut calls = Vec::new();
    // More than the adaptive limit, and less than `--max-in-flight`. Replies to bulk calls have a budget, which is less.
    let mut others = JoinSet::new();
    for _ in 0..8 {
        let client = server.commands().await;
        for mut client in std::iter::repeat_n(client, 100) {
            others.spawn(async move { client.create_order(new_order("customer-1")).await });
        }
    }
    until("they are admitted", async || (*store.appending.borrow() == others.len()).then_some(())).await;
    for _ in 0..12 {
        calls.push(bulk(&server, 200).await);
    }
    until("no more are admitted", async || (*store.appending.borrow() >= FIRST_LIMIT).then_some(())).await;
    // A client with few calls is admitted beyond the limit.
    let mut few = server.commands().await;
    let few = tokio::spawn(async move { few.create_order(new_order("customer-1")).await });
    // Commands that have waited for a second are answered; the rest has not been read yet.
    let (_, replies) = calls.last_mut().expect("a call");
    let reply = soon("a refusal", replies.message()).await.expect("no error").expect("a reply");
    let Some(Outcome::Error(error)) = reply.outcome else { panic!("{reply:?}") };
    let details = prost::Message::encode_to_vec(&error);
    let status = tonic::Status::with_details(Code::from(error.code), error.message, details.into());
    assert_eq!(crate::support::code_and_reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    crate::support::assert_retry_info(&status);
    let most = FIRST_LIMIT + 1..FIRST_LIMIT + 1 + calls.len();
    assert!(most.contains(&*store.appending.borrow()), "its own, and as good as no more than there is room for");
    let metrics = reqwest::get(server.url("/metrics")).await.expect("answered").text().await.expect("text");
    let shed = metrics.lines().find(|line| line.starts_with("ordersystem_requests_shed_total{class=\"command\"}"));
    assert!(!shed.expect("a metric").ends_with(" 0"), "{shed:?}");

    store.appends.set(Mode::Works);
    let mut answered = 1;
    for (sender, mut replies) in calls {
        sender.send(bulk_create()).await.expect("open");
        drop(sender);
        let mut last = None;
        while let Some(reply) = soon("a reply", replies.message()).await.expect("no error") {
            (answered, last) = (answered + 1, reply.outcome);
        }
        assert!(matches!(last, Some(Outcome::Success(_))), "{last:?}");
    }
    assert_eq!(answered, 12 * 201, "each command is answered once");
    few.await.expect("no panic").expect("it was admitted");
    assert!(others.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_large_command_of_a_bulk_call_takes_the_room_of_many_small_ones() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "40")], backends, Arc::new(SystemClock)).await;
    store.appends.set(Mode::Hangs);
    let (sender, mut replies) = bulk(&server, 0).await;
    // More than 40 times 16 KiB.
    let mut large = new_order("customer-1");
    large.items[0].name = "😀".repeat(200);
    large.items = vec![large.items[0].clone(); 1_000];
    let command = Some(Command::CreateOrder(large));
    sender.send(ExecuteCommandsRequest { command, ..Default::default() }).await.expect("open");
    until("it is being appended", async || (*store.appending.borrow() == 1).then_some(())).await;
    let mut commands = server.commands().await;
    let refused = soon("a refusal", commands.create_order(new_order("customer-1"))).await.expect_err("no room");
    assert_eq!(crate::support::code_and_reason(&refused), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    store.appends.set(Mode::Works);
    let reply = soon("a reply", replies.message()).await.expect("no error").expect("a reply");
    assert!(matches!(reply.outcome, Some(Outcome::Success(_))), "{:?}", reply.outcome);
    commands.create_order(new_order("customer-1")).await.expect("there is room again");
}

#[tokio::test]
async fn clients_that_send_nothing_after_a_head_take_no_room() {
    let server = TestServer::start_with(&[("max-in-flight", "40")]).await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let connection = raw(&server).await;
        for _ in 0..30 {
            open.push(begin(&connection, &[0, 0, 0, 1, 0, 7]).await);
        }
        // They are set aside as soon as their headers have been inspected.
        until("an order is placed", async || {
            server.commands().await.create_order(new_order("customer-1")).await.ok().map(drop)
        })
        .await;
    }
    server.commands().await.create_order(new_order("customer-1")).await.expect("accepted");
    server.queries().await.list_orders(ListOrdersRequest::default()).await.expect("answered");
}

#[tokio::test]
async fn a_commit_whose_caller_has_gone_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = EmbeddedEventStore::new(Database::open(folder.path()).expect("opens"));
    let commit = || Commit {
        id: CommitId::random(),
        stream: StreamId(1),
        expected: ExpectedRevision::Any,
        request: None,
        events: vec![Bytes::from_static(b"event")],
    };
    let late = deadline::within(Instant::now(), store.append(commit())).await;
    assert_eq!(late, Err(AppendError::TooLate));
    assert_eq!(store.head().await, Ok(Position(0)));
    store.append(commit()).await.expect("written");
}
