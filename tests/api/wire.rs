//! The gRPC wire: compression, deadlines in headers, sizes, malformed messages, unknown methods.

use bytes::Bytes;
use ordersystem::proto::catga::{
    ids::v1::{GenerateIdRequest, GenerateIdsRequest, StreamIdsRequest, id_service_client::IdServiceClient},
    orders::v1::{
        BatchGetOrdersRequest, ExecuteCommandsRequest, StreamEventsRequest, StreamOrderHistoryRequest,
        execute_commands_request::Command,
    },
};
use prost::Message;
use tonic::{Code, codec::CompressionEncoding};

use crate::support::{
    PlainConnection, TestServer, code_and_reason, facts, new_order, raw_call, reason, soon, violated_fields, within,
};

const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";

#[tokio::test]
async fn messages_are_compressed_both_ways_where_that_is_worth_it() {
    let server = TestServer::start().await;
    let gzip = CompressionEncoding::Gzip;
    let id = server.place_order("customer-1").await.order_id;
    let mut queries = server.queries().await.send_compressed(gzip).accept_compressed(gzip);
    let large = BatchGetOrdersRequest { order_ids: vec![id.clone(); 400], consistency: None };
    let reply = queries.batch_get_orders(large.clone()).await.expect("answered");
    assert_eq!(reply.metadata().get("grpc-encoding").expect("an encoding"), "gzip");
    assert_eq!(reply.into_inner().orders.len(), 400);
    let small = BatchGetOrdersRequest { order_ids: vec![id], consistency: None };
    assert_eq!(queries.batch_get_orders(small).await.expect("answered").into_inner().orders.len(), 1);
    // A client that does not ask for it does not get it.
    let reply = server.queries().await.batch_get_orders(large).await.expect("answered");
    assert!(reply.metadata().get("grpc-encoding").is_none());
    let mut history = server.history().await.accept_compressed(gzip);
    let mut stream = history.stream_events(StreamEventsRequest::default()).await.expect("opens").into_inner();
    assert!(stream.message().await.expect("no error").is_some());
}

#[tokio::test]
async fn a_large_reply_is_compressed_on_the_wire_and_a_small_one_is_not() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    for (count, compressed) in [(1, false), (400, true)] {
        let request = BatchGetOrdersRequest { order_ids: vec![id.clone(); count], consistency: None };
        let reply = reqwest::Client::new()
            .post(server.url("/catga.orders.v1.OrderQueryService/BatchGetOrders"))
            .header("content-type", "application/grpc-web+proto")
            .header("grpc-accept-encoding", "gzip")
            .body(frame(0, &request.encode_to_vec()))
            .send()
            .await
            .expect("an answer");
        let body = reply.bytes().await.expect("a body");
        assert_eq!(body[0], u8::from(compressed), "the flag of the first frame");
        assert!(body.len() < 20 * 1024, "{} bytes", body.len());
    }
}

/// The flags of the messages of a reply to a client that accepts gzip.
async fn flags(server: &TestServer, method: &str, request: &[u8]) -> Vec<u8> {
    let reply = reqwest::Client::new()
        .post(server.url(method))
        .header("content-type", "application/grpc-web+proto")
        .header("grpc-accept-encoding", "gzip")
        .body(frame(0, request))
        .send()
        .await
        .expect("an answer");
    assert!(reply.headers().get("grpc-encoding").is_none(), "{method}");
    let body = reply.bytes().await.expect("a body");
    let (mut rest, mut flags) = (&body[..], Vec::new());
    while let Some((head, after)) = rest.split_at_checked(5) {
        flags.push(head[0]);
        rest = &after[u32::from_be_bytes(head[1..].try_into().expect("four")) as usize..];
    }
    flags
}

#[tokio::test]
async fn messages_of_streams_are_not_compressed() {
    let server = TestServer::start().await;
    let order_id = server.place_order("customer-1").await.order_id;
    let command =
        ExecuteCommandsRequest { command: Some(Command::CreateOrder(new_order("customer-1"))), ..Default::default() };
    let history = StreamOrderHistoryRequest { order_id, ..Default::default() };
    let streams = [
        ("catga.ids.v1.IdService/StreamIds", StreamIdsRequest { count: 10_000, batch_size: 5_000 }.encode_to_vec()),
        ("catga.orders.v1.OrderCommandService/ExecuteCommands", command.encode_to_vec()),
        ("catga.orders.v1.OrderHistoryService/StreamEvents", StreamEventsRequest::default().encode_to_vec()),
        ("catga.orders.v1.OrderHistoryService/StreamOrderHistory", history.encode_to_vec()),
    ];
    for (method, request) in streams {
        let flags = flags(&server, &format!("/{method}"), &request).await;
        // The last frame contains the trailers.
        assert_eq!(flags.last(), Some(&0x80), "{method}");
        assert!(flags.len() > 1 && flags[..flags.len() - 1].iter().all(|flag| *flag == 0), "{method}: {flags:?}");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_with_the_limit_compressed_or_not() {
    let server = TestServer::start_with(&[("max-message-bytes", "10000")]).await;
    let mut request = new_order("customer-1");
    request.shipping_address = "a".repeat(10_001);
    let plain = server.commands().await.create_order(request.clone()).await.expect_err("too large");
    // Eight million bytes sent as eight thousand: decompressed only up to the limit.
    request.shipping_address = "a".repeat(1 << 23);
    let mut zipped = server.commands().await.send_compressed(CompressionEncoding::Gzip);
    let bomb = zipped.create_order(request.clone()).await.expect_err("too large");
    for refusal in [plain, bomb] {
        assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
        assert_eq!(facts(&refusal)["max_message_bytes"], "10000");
        assert!(refusal.message().contains("10000"), "{refusal:?}");
    }
    request.shipping_address = String::new();
    zipped.create_order(request).await.expect("the same connection works");
}

#[tokio::test]
async fn a_message_over_the_limit_in_a_stream_of_commands_is_refused_with_the_limit() {
    let server = TestServer::start_with(&[("max-message-bytes", "10000")]).await;
    let path = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
    let refusal =
        raw_call(&server.channel().await, path, vec![vec![0; 10_001].into()], 1).await.expect_err("too large");
    assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
}

#[tokio::test]
async fn bytes_that_are_not_a_message_are_invalid() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut not_utf8 = vec![0x22, 4];
    not_utf8.extend([0xC3, 0x28, 0xFF, 0xFE]);
    for body in [vec![0xFF; 10], vec![0x0A, 200, 1, 2], not_utf8, vec![0x22]] {
        let refusal = raw_call(&channel, CREATE, vec![body.into()], 1).await.expect_err("malformed");
        assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
        assert_eq!(violated_fields(&refusal), ["request"]);
    }
    // No message at all.
    let refusal = raw_call(&channel, CREATE, Vec::new(), 1).await.expect_err("nothing");
    assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    server.place_order("customer-1").await;
}

#[tokio::test]
async fn an_unknown_service_or_method_is_unimplemented_with_a_reason() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    for path in ["/no.such.Service/Method", "/catga.orders.v1.OrderCommandService/NoSuchMethod", "/", "/x"] {
        let refusal = raw_call(&channel, path, vec![Bytes::new()], 1).await.expect_err("unknown");
        assert_eq!(code_and_reason(&refusal), (Code::Unimplemented, "ROUTE_NOT_FOUND".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_invalid() {
    let server = TestServer::start().await;
    let mut ids = IdServiceClient::new(PlainConnection::to(&server).await);
    for timeout in ["", "5", "S", "-1S", "1.5S", "123456789S", "5s", "abc", "1 S"] {
        let refusal = ids.generate_id(within(timeout, GenerateIdRequest {})).await.expect_err("malformed");
        assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
        assert_eq!(violated_fields(&refusal), ["grpc-timeout"], "{timeout:?}");
    }
    for timeout in ["1H", "99999999H", "5000000u", "10S", "1M", "5000m"] {
        ids.generate_id(within(timeout, GenerateIdRequest {})).await.expect("a valid timeout");
    }
    let request = within("0m", GenerateIdsRequest { count: 100_000 });
    let refusal = soon("an answer", ids.generate_ids(request)).await.expect_err("no time at all");
    assert_eq!(code_and_reason(&refusal), (Code::DeadlineExceeded, "DEADLINE_EXCEEDED".to_owned()));
}

#[tokio::test]
async fn an_unsupported_compression_is_distinguished_from_an_unknown_method() {
    let server = TestServer::start().await;
    let body = frame(1, &new_order("customer-1").encode_to_vec());
    let reply = reqwest::Client::new()
        .post(server.url(CREATE))
        .header("content-type", "application/grpc-web+proto")
        .header("grpc-encoding", "deflate")
        .body(body)
        .send()
        .await
        .expect("an answer");
    let status = crate::web::status(reply).await;
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "COMPRESSION_NOT_SUPPORTED"));
    assert!(
        status
            .metadata()
            .get("grpc-accept-encoding")
            .is_some_and(|known| known.to_str().is_ok_and(|known| known.contains("gzip")))
    );
}

/// A length-prefixed message.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let mut framed = vec![flag];
    framed.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend(message);
    framed
}

#[tokio::test]
async fn broken_frames_are_invalid() {
    let server = TestServer::start().await;
    let message = new_order("customer-1").encode_to_vec();
    let whole = frame(0, &message);
    let broken = [
        frame(7, &message),
        frame(1, &message),
        whole[..whole.len() - 3].to_vec(),
        whole[..3].to_vec(),
        Vec::new(),
        frame(0, &message[..message.len() - 1]),
    ];
    for body in broken {
        let reply = reqwest::Client::new()
            .post(server.url(CREATE))
            .header("content-type", "application/grpc-web+proto")
            .header("grpc-encoding", "gzip")
            .body(body.clone())
            .send()
            .await
            .expect("an answer");
        let status = crate::web::status(reply).await;
        assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{body:?}");
    }
    assert_eq!(server.head().await, 0);
}

/// A token of this many bytes. Behind a proxy, calls of many clients share a connection.
fn with_token<T>(bytes: usize, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("authorization", "x".repeat(bytes).parse().expect("a value"));
    request
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_and_touches_no_other_call_of_the_connection() {
    let server = TestServer::start().await;
    let channel = server.channel().await;
    let mut history =
        ordersystem::proto::catga::orders::v1::order_history_service_client::OrderHistoryServiceClient::new(
            channel.clone(),
        );
    let mut ids = IdServiceClient::new(channel);
    let follow = StreamEventsRequest { follow: true, ..Default::default() };
    let mut neighbour = history.stream_events(follow).await.expect("opens").into_inner();
    neighbour.message().await.expect("no error").expect("caught up");
    ids.generate_id(with_token(60_000, GenerateIdRequest {})).await.expect("within the limit");
    for bytes in [66_000, 200_000, 1_000_000] {
        let refused = ids.generate_id(with_token(bytes, GenerateIdRequest {})).await.expect_err("over the limit");
        assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "METADATA_TOO_LARGE".to_owned()), "{bytes}");
        assert_eq!(facts(&refused)["max_metadata_bytes"], "65536");
    }
    // Beyond the limit that is read at all, HTTP/2 itself answers, still for this call only.
    ids.generate_id(with_token(1_150_000, GenerateIdRequest {})).await.expect_err("over the limit");
    server.place_order("customer-1").await;
    soon("an event", neighbour.message()).await.expect("the neighbour is not touched").expect("an event");
}

#[tokio::test]
async fn metadata_over_the_limit_is_refused_by_the_other_protocols_as_well() {
    let server = TestServer::start().await;
    let token = "x".repeat(66_000);
    let rest = reqwest::Client::new()
        .get(server.url("/stats"))
        .header("authorization", &token)
        .send()
        .await
        .expect("answered");
    assert_eq!(rest.status(), 431);
    assert_eq!(rest.headers()["content-type"], "application/problem+json");
    assert_eq!(rest.headers()["connection"], "close");
    let problem: serde_json::Value = rest.json().await.expect("a problem");
    assert_eq!(problem["reason"], "METADATA_TOO_LARGE");
    let web = reqwest::Client::new().post(server.url(CREATE)).header("content-type", "application/grpc-web+proto");
    let web = web
        .header("authorization", &token)
        .body(frame(0, &new_order("c").encode_to_vec()))
        .send()
        .await
        .expect("answered");
    let refused = crate::web::status(web).await;
    assert_eq!(code_and_reason(&refused), (Code::ResourceExhausted, "METADATA_TOO_LARGE".to_owned()));
}

/// One frame of HTTP/2.
fn http2_frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test]
async fn cancelling_a_batch_of_calls_at_once_does_not_end_the_connection_for_others() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const HEADERS: u8 = 1;
    const RST_STREAM: u8 = 3;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let server = TestServer::start().await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.expect("connects");
    // GET, scheme http, the path /health/live, encoded by HPACK without its dynamic table.
    let head = [&[0x82, 0x86, 0x04, 12][..], b"/health/live", &[0x01, 1, b't']].concat();
    let mut bytes = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &http2_frame(SETTINGS, 0, 0, &[])].concat();
    for id in (1..1_001).step_by(2) {
        bytes.extend(http2_frame(HEADERS, 0x04, id, &head));
        bytes.extend(http2_frame(RST_STREAM, 0, id, &8_u32.to_be_bytes()));
    }
    bytes.extend(http2_frame(HEADERS, 0x05, 1_001, &head));
    stream.write_all(&bytes).await.expect("sent");
    loop {
        let mut head = [0; 9];
        soon("a frame", stream.read_exact(&mut head)).await.expect("the connection continues");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.expect("the connection continues");
        assert_ne!(head[3], GOAWAY, "{}", String::from_utf8_lossy(&payload));
        if head[3] == HEADERS && u32::from_be_bytes([head[5], head[6], head[7], head[8]]) == 1_001 {
            break;
        }
    }
}
