//! The id of a call: given by the client or made, and returned on every reply of both APIs.

use ordersystem::proto::catga::orders::v1::StreamEventsRequest;
use reqwest::{Client, Response};
use tonic::{Request, metadata::MetadataMap};

use crate::support::{TestServer, new_order, pay};

const ID: &str = "x-request-id";

fn of_call(metadata: &MetadataMap) -> String {
    metadata.get(ID).expect("an id").to_str().expect("text").to_owned()
}

fn of_reply(reply: &Response) -> String {
    reply.headers().get(ID).expect("an id").to_str().expect("text").to_owned()
}

fn with_id<T>(message: T, id: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(ID, id.parse().expect("ASCII"));
    request
}

fn is_made(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[tokio::test]
async fn the_id_of_a_client_is_returned_and_others_are_made_over_grpc() {
    let server = TestServer::start().await;
    let mut commands = server.commands().await;
    let reply = commands.create_order(with_id(new_order("c"), "call-1")).await.expect("accepted");
    assert_eq!(of_call(reply.metadata()), "call-1");
    let refused = commands.pay_order(with_id(pay("7"), "call-2")).await.expect_err("there is no such order");
    assert_eq!(of_call(refused.metadata()), "call-2");
    let call = with_id(StreamEventsRequest::default(), "call-3");
    let stream = server.history().await.stream_events(call).await.expect("opens");
    assert_eq!(of_call(stream.metadata()), "call-3");
    let (first, second) = (commands.create_order(new_order("c")).await, commands.create_order(new_order("c")).await);
    let [first, second] = [first, second].map(|reply| of_call(reply.expect("accepted").metadata()));
    assert!(is_made(&first) && is_made(&second) && first != second, "{first} {second}");
    let last = "x".repeat(128);
    let reply = commands.create_order(with_id(new_order("c"), &last)).await.expect("accepted");
    assert_eq!(of_call(reply.metadata()), last);
    for bad in ["", "with space", &"x".repeat(129)] {
        let reply = commands.create_order(with_id(new_order("c"), bad)).await.expect("no reason to refuse it");
        assert!(is_made(&of_call(reply.metadata())), "{bad:?}");
    }
}

#[tokio::test]
async fn every_reply_over_rest_has_the_id_and_pages_may_read_it() {
    let server = TestServer::start_with(&[("cors-allowed-origins", "https://shop.example")]).await;
    let client = Client::new();
    for (path, status) in [("/", 200), ("/nothing", 404), ("/orders/7", 404), ("/health/ready", 200)] {
        let reply = client.get(server.url(path)).header(ID, "call-1").send().await.expect("answers");
        assert_eq!((reply.status().as_u16(), of_reply(&reply).as_str()), (status, "call-1"), "{path}");
        let reply = client.get(server.url(path)).send().await.expect("answers");
        assert!(is_made(&of_reply(&reply)), "{path}");
    }
    let twice = client.get(server.url("/")).header(ID, "call-1").header(ID, "call-2");
    assert!(is_made(&of_reply(&twice.send().await.expect("answers"))), "two are none");
    let foreign = client.post(server.url("/orders")).header("origin", "https://other.example").header(ID, "call-3");
    let refused = foreign.send().await.expect("answers");
    assert_eq!((refused.status().as_u16(), of_reply(&refused).as_str()), (403, "call-3"));
    let page = client.get(server.url("/stats")).header("origin", "https://shop.example").send().await.expect("answers");
    let exposed = page.headers()["access-control-expose-headers"].to_str().expect("text");
    assert!(exposed.contains(ID), "{exposed}");
}
