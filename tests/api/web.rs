//! gRPC-Web over raw HTTP/1.1, as browsers use it.

use data_encoding::BASE64;
use http::HeaderMap;
use ordersystem::proto::catga::orders::v1::{CreateOrderResponse, StreamEventsRequest};
use prost::Message;
use reqwest::{Client, Response};
use tonic::{Code, Status};

use crate::{
    support::{TestServer, code_and_reason, new_order, violated_fields},
    wire::frame,
};

const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
const STREAM: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";

/// The messages of a binary body, and its trailers.
fn parse(mut body: &[u8]) -> (Vec<Vec<u8>>, HeaderMap) {
    let (mut messages, mut trailers) = (Vec::new(), HeaderMap::new());
    while let [flag, a, b, c, d, rest @ ..] = body {
        let (content, after) = rest.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if flag & 0x80 == 0 {
            messages.push(content.to_vec());
        } else {
            for line in std::str::from_utf8(content).expect("text").lines() {
                let (name, value) = line.split_once(':').expect("a header");
                let name: http::HeaderName = name.trim().parse().expect("a name");
                trailers.insert(name, value.trim().parse().expect("a value"));
            }
        }
        body = after;
    }
    assert!(body.is_empty(), "a frame is cut off");
    (messages, trailers)
}

/// The status of a reply, in its headers or trailers.
pub async fn status(reply: Response) -> Status {
    assert_eq!(reply.status(), 200);
    let headers = reply.headers().clone();
    let (_, trailers) = parse(&reply.bytes().await.expect("a body"));
    Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&headers)).expect("a status")
}

async fn call(server: &TestServer, path: &str, content_type: &str, body: Vec<u8>) -> Response {
    let request = Client::new().post(server.url(path)).header("content-type", content_type);
    request.header("accept", content_type).header("x-grpc-web", "1").body(body).send().await.expect("an answer")
}

#[tokio::test]
async fn a_browser_places_an_order_with_binary_bodies() {
    let server = TestServer::start().await;
    let body = frame(0, &new_order("customer-1").encode_to_vec());
    for content_type in ["application/grpc-web+proto", "application/grpc-web"] {
        let reply = call(&server, CREATE, content_type, body.clone()).await;
        assert_eq!(reply.status(), 200);
        assert!(reply.headers()["content-type"].to_str().expect("text").starts_with("application/grpc-web"));
        let (messages, trailers) = parse(&reply.bytes().await.expect("a body"));
        assert_eq!(trailers["grpc-status"], "0");
        let placed = CreateOrderResponse::decode(&messages[0][..]).expect("a reply");
        assert_eq!(placed.order.expect("order").customer_id, "customer-1");
    }
    assert_eq!(server.head().await, 2);
}

#[tokio::test]
async fn a_browser_places_an_order_with_text_bodies() {
    let server = TestServer::start().await;
    let body = BASE64.encode(&frame(0, &new_order("customer-1").encode_to_vec()));
    let reply = call(&server, CREATE, "application/grpc-web-text+proto", body.into_bytes()).await;
    assert!(reply.headers()["content-type"].to_str().expect("text").starts_with("application/grpc-web-text"));
    let text = reply.text().await.expect("a body");
    let body = decode_parts(&text);
    let (messages, trailers) = parse(&body);
    assert_eq!(trailers["grpc-status"], "0");
    CreateOrderResponse::decode(&messages[0][..]).expect("a reply");
    assert_eq!(server.head().await, 1);
}

/// Base64 of several parts in sequence, each with its padding: four characters at a time.
fn decode_parts(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(4).flat_map(|four| BASE64.decode(four).expect("base64")).collect()
}

#[tokio::test]
async fn a_browser_gets_every_violation() {
    let server = TestServer::start().await;
    let reply = call(&server, CREATE, "application/grpc-web+proto", frame(0, b"")).await;
    let status = status(reply).await;
    assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    assert_eq!(violated_fields(&status), ["customer_id", "items"]);
}

#[tokio::test]
async fn text_that_is_not_base64_is_invalid() {
    let server = TestServer::start().await;
    let reply = call(&server, CREATE, "application/grpc-web-text+proto", b"&&&&".to_vec()).await;
    let headers = reply.headers().clone();
    let status = Status::from_header_map(&headers).unwrap_or_else(|| panic!("no status in {headers:?}"));
    assert_eq!(code_and_reason(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
}

#[tokio::test]
async fn a_browser_streams_events() {
    let server = TestServer::start().await;
    for _ in 0..3 {
        server.place_order("customer-1").await;
    }
    let body = frame(0, &StreamEventsRequest::default().encode_to_vec());
    let reply = call(&server, STREAM, "application/grpc-web+proto", body).await;
    let (messages, trailers) = parse(&reply.bytes().await.expect("a body"));
    assert_eq!((messages.len(), &trailers["grpc-status"]), (3, &http::HeaderValue::from_static("0")));
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_may_call_and_others_may_not() {
    let body = frame(0, &new_order("customer-1").encode_to_vec());
    for (allowed, origin, passes) in [
        ("https://shop.example", "https://shop.example", true),
        ("https://shop.example", "https://evil.example", false),
        ("", "https://shop.example", false),
        ("*", "https://anyone.example", true),
    ] {
        let server = TestServer::start_with(&[("cors-allowed-origins", allowed)]).await;
        let preflight = Client::new()
            .request(reqwest::Method::OPTIONS, server.url(CREATE))
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type,x-grpc-web,grpc-timeout,authorization")
            .send()
            .await
            .expect("an answer");
        let call = Client::new()
            .post(server.url(CREATE))
            .header("content-type", "application/grpc-web+proto")
            .header("origin", origin)
            .body(body.clone())
            .send()
            .await
            .expect("an answer");
        for reply in [&preflight, &call] {
            let answer = reply.headers().get("access-control-allow-origin");
            let is_allowed = answer.is_some_and(|value| value == origin || value == "*");
            assert_eq!(is_allowed, passes, "{allowed:?} {origin:?}: {:?}", reply.headers());
        }
        if passes {
            // By name: for browsers `*` covers all headers except this one.
            let allowed = preflight.headers()["access-control-allow-headers"].to_str().expect("text");
            assert!(allowed.split(',').any(|name| name.trim() == "authorization"), "{allowed}");
            let exposed = call.headers()["access-control-expose-headers"].to_str().expect("text");
            assert!(exposed.contains("grpc-status") && exposed.contains("grpc-status-details-bin"), "{exposed}");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_leaves_the_body_unread_announces_the_end_of_the_connection() {
    let server = TestServer::start_with(&[("max-message-bytes", "65536")]).await;
    let mut large = new_order("customer-1");
    large.shipping_address = "x".repeat(70_000);
    let content_type = "application/grpc-web+proto";
    let refused = call(&server, CREATE, content_type, frame(0, &large.encode_to_vec())).await;
    assert_eq!(refused.headers().get("connection").expect("told"), "close");
    assert_eq!(code_and_reason(&status(refused).await), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
    // For any other refusal the request has been read, and the connection stays open.
    let invalid = call(&server, CREATE, content_type, frame(0, &new_order("").encode_to_vec())).await;
    assert_eq!(invalid.headers().get("connection"), None);
    assert_eq!(status(invalid).await.code(), Code::InvalidArgument);
}
