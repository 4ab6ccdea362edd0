//! Streams whose clients stop reading: they end, release their resources, and are resumed without a gap.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, client::SendRequest};
use http::{HeaderMap, Request};
use ordersystem::{
    node::{Backends, NodeBuilder},
    proto::catga::orders::v1::{
        CreateOrderRequest, StreamEventsRequest, StreamEventsResponse, StreamStart, stream_events_response::Item,
    },
    server::paced::Pace,
};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};
use tonic::{Code, Status};

use crate::support::{TestServer, code_and_reason, new_order, soon, until};

const STREAM_EVENTS: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";
const ORDERS: usize = 30;

/// A node with a permit for one stream, whose clients have a short deadline; and more events than all buffers on the way can hold.
async fn server(pace: Pace) -> TestServer {
    let server =
        TestServer::start_as(&[("max-event-streams", "1")], NodeBuilder::new(Backends::memory()).with_pace(pace)).await;
    let mut commands = server.commands().await;
    for _ in 0..ORDERS {
        commands.create_order(large_order()).await.expect("placed");
    }
    server
}

/// An event of about 400 KB, which is larger as JSON.
fn large_order() -> CreateOrderRequest {
    let mut order = new_order("customer-1");
    order.items[0].product_id = "p".repeat(128);
    order.items[0].name = "n".repeat(256);
    order.items = vec![order.items[0].clone(); 1_000];
    order
}

/// Ends a stream long before the limit that resets it.
fn pace() -> Pace {
    Pace { taken_within: Duration::from_millis(300), reset_after: Duration::from_secs(3_600) }
}

async fn raw(server: &TestServer) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(server.address).await.expect("connects");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    // Data is read from the connection and pings are answered, but the window of the stream stays closed.
    tokio::spawn(connection);
    client
}

fn follow() -> Request<()> {
    let request = Request::post(format!("http://localhost{STREAM_EVENTS}")).header("content-type", "application/grpc");
    request.header("te", "trailers").body(()).expect("a request")
}

fn listen() -> Request<()> {
    Request::get("http://localhost/events").header("accept", "text/event-stream").body(()).expect("a request")
}

/// Opens a stream whose body is not read.
async fn open(client: &SendRequest<Bytes>, request: Request<()>) -> RecvStream {
    let mut client = client.clone().ready().await.expect("a stream");
    let message = StreamEventsRequest { follow: true, ..Default::default() }.encode_to_vec();
    let is_grpc = request.method() == http::Method::POST;
    let (response, mut body) = client.send_request(request, !is_grpc).expect("sent");
    if is_grpc {
        let framed = [&[0][..], &u32::try_from(message.len()).expect("short").to_be_bytes(), &message].concat();
        body.send_data(framed.into(), true).expect("sent");
    }
    let response = soon("an answer", response).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body()
}

/// Waits until the only permit is released, while the stream that held it is not read.
async fn is_given_back(server: &TestServer) {
    until("the place is given back", async || {
        let request = StreamEventsRequest { follow: true, start: StreamStart::Latest.into(), ..Default::default() };
        match server.history().await.stream_events(request).await {
            Ok(_) => Some(()),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                None
            }
        }
    })
    .await;
}

/// Reads a stream to its end; returns its bytes, and its trailers if there are any.
async fn rest_of(mut body: RecvStream) -> Result<(Bytes, Option<HeaderMap>), h2::Error> {
    let mut all = BytesMut::new();
    while let Some(data) = soon("the end", body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok((all.freeze(), soon("trailers", body.trailers()).await?))
}

fn messages(mut bytes: Bytes) -> Vec<StreamEventsResponse> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let head = bytes.split_to(5);
        let length = u32::from_be_bytes(head[1..].try_into().expect("four bytes"));
        messages.push(StreamEventsResponse::decode(bytes.split_to(length as usize)).expect("a whole message"));
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_client_stops_reading_ends_with_its_reason_and_is_resumed_after_its_last_cursor() {
    let server = server(pace()).await;
    let body = open(&raw(&server).await, follow()).await;
    is_given_back(&server).await;
    let (bytes, trailers) = rest_of(body).await.expect("no reset");
    let status = Status::from_header_map(&trailers.expect("trailers")).expect("a status");
    assert_eq!(code_and_reason(&status), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    let mut seen = messages(bytes);
    assert!(seen.len() < ORDERS, "unread events were not sent");
    let resume = match seen.last() {
        Some(last) => {
            StreamEventsRequest { start: StreamStart::After.into(), cursor: last.cursor.clone(), ..Default::default() }
        }
        None => StreamEventsRequest::default(),
    };
    // The check itself took the released permit for a moment.
    let opened =
        until("the stream is resumed", async || server.history().await.stream_events(resume.clone()).await.ok());
    let mut events = opened.await.into_inner();
    while let Some(event) = soon("an event", events.message()).await.expect("no error") {
        seen.push(event);
    }
    let ids = seen.iter().map(|message| match &message.item {
        Some(Item::Event(event)) => ordersystem::codec::decode_message(&event.0).expect("an event").event_id,
        other => panic!("{other:?}"),
    });
    let mut ids: Vec<_> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((ids.len(), seen.len()), (ORDERS, ORDERS), "nothing is missing and nothing came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_server_sent_events_end_with_a_problem() {
    let server = server(pace()).await;
    let body = open(&raw(&server).await, listen()).await;
    is_given_back(&server).await;
    let (bytes, _) = rest_of(body).await.expect("no reset");
    let text = String::from_utf8(bytes.to_vec()).expect("text");
    let last = text.trim_end().rsplit("\n\n").next().expect("an event");
    assert!(last.starts_with("event: problem\n") && last.contains("\"reason\":\"OVERLOADED\""), "{last:.300}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_end_is_not_read_either_is_reset() {
    let pace = Pace { taken_within: Duration::from_millis(100), reset_after: Duration::from_millis(600) };
    let server = server(pace).await;
    let mut body = open(&raw(&server).await, follow()).await;
    let reset = async {
        // Capacity that is not released keeps the window closed.
        loop {
            if let Err(error) = body.data().await.expect("not the end of a reply") {
                return error;
            }
        }
    };
    let error = soon("a reset", reset).await;
    assert!(error.is_reset() && error.is_remote(), "{error:?}");
    is_given_back(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_client_stops_reading_is_closed() {
    let server = server(pace()).await;
    let socket = TcpSocket::new_v4().expect("a socket");
    // So that little fits into the buffers on the way.
    socket.set_recv_buffer_size(4_096).expect("a size");
    let mut stream = socket.connect(server.address).await.expect("connects");
    let head = "GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut begin = [0; 12];
    soon("an answer", stream.read_exact(&mut begin)).await.expect("an answer");
    assert_eq!(&begin, b"HTTP/1.1 200");
    is_given_back(&server).await;
    let mut rest = Vec::new();
    // Reset or not: it has ended, and not like a complete reply.
    let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a reply that was cut off does not look whole");
}
