//! A customer sees and changes its own orders only, over REST, server-sent events and gRPC-Web.

use std::time::Duration;

use ordersystem::proto::catga::orders::v1::GetOrderRequest;
use prost::Message as _;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    customers::start,
    rest::{Reply, Sse},
    support::{TestServer, authorization, code_and_reason},
    web,
    wire::frame,
};

/// An id that no order has.
const MISSING: &str = "42";

/// A caller of REST.
struct Caller<'s> {
    server: &'s TestServer,
    client: Client,
    authorization: String,
}

impl<'s> Caller<'s> {
    fn new(server: &'s TestServer, name: &str) -> Self {
        Self { server, client: Client::new(), authorization: authorization(name) }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.server.url(path)).header("Authorization", &self.authorization)
    }

    async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        self.request(Method::POST, path).header("Content-Type", "application/json").body(body.to_string())
    }

    async fn place(&self, customer: &str, request_id: &str) -> Reply {
        let body = json!({ "customerId": customer, "items": [{ "productId": "p", "quantity": 1, "price": 10 }] });
        Reply::of(self.posting("/orders", &body).header("Idempotency-Key", request_id)).await
    }

    async fn listen(&self, path: &str) -> Sse {
        let request = self.request(Method::GET, path).header("Accept", "text/event-stream");
        Sse::of(request.send().await.expect("a reply"))
    }
}

/// A reply with everything that it tells, except for the id of the order and what is never the same.
fn told(reply: &Reply, order: &str) -> (u16, String, Vec<(String, String)>) {
    let without = |text: &str| text.replace(order, "<id>");
    let varies = |name: &str| matches!(name, "date" | "content-length" | "x-request-id");
    let headers = reply.headers.iter().filter(|(name, _)| !varies(name.as_str()));
    let mut headers: Vec<_> =
        headers.map(|(name, value)| (name.to_string(), without(value.to_str().expect("text")))).collect();
    headers.sort();
    (reply.status.as_u16(), without(&reply.text), headers)
}

#[track_caller]
fn assert_unknown(order: &str, reply: &Reply, missing: &Reply) {
    reply.problem(404, "ORDER_NOT_FOUND");
    assert_eq!(told(reply, order), told(missing, MISSING));
}

#[tokio::test]
async fn no_route_shows_or_changes_an_order_of_another_customer() {
    let (server, _callers) = start().await;
    let (alice, bob) = (Caller::new(&server, "alice"), Caller::new(&server, "bob"));
    let order = alice.place("alice", "create").await.string("orderId");
    let pay = json!({ "paymentMethod": "card" });
    let paid = Reply::of(alice.posting(&format!("/orders/{order}/pay"), &pay).header("Idempotency-Key", "pay")).await;
    assert_eq!(paid.status, 200, "{}", paid.text);
    for rest in ["", "?revision=1", "?revision=9", "?asOf=2100-01-01T00:00:00Z", "/history", "/history?fromRevision=9"]
    {
        let path = |id: &str| format!("/orders/{id}{rest}");
        assert_unknown(&order, &bob.get(&path(&order)).await, &bob.get(&path(MISSING)).await);
        let known = |id: &str| bob.request(Method::GET, &path(id)).header("If-None-Match", "\"2\"");
        assert_unknown(&order, &Reply::of(known(&order)).await, &Reply::of(known(MISSING)).await);
    }
    let sse = |id: &str| {
        let path = format!("/orders/{id}/history");
        bob.request(Method::GET, &path).header("Accept", "text/event-stream").header("Last-Event-ID", "1")
    };
    assert_unknown(&order, &Reply::of(sse(&order)).await, &Reply::of(sse(MISSING)).await);
    for (action, body) in [("pay", pay), ("cancel", json!({}))] {
        for (name, value) in
            [("Idempotency-Key", "pay"), ("If-Match", "\"2\""), ("If-Match", "\"7\""), ("If-Match", "\"1\", \"2\"")]
        {
            let send = |id: &str| bob.posting(&format!("/orders/{id}/{action}"), &body).header(name, value);
            assert_unknown(&order, &Reply::of(send(&order)).await, &Reply::of(send(MISSING)).await);
        }
    }
    bob.place("alice", "create").await.problem(403, "CUSTOMER_NOT_ALLOWED");
    assert_ne!(bob.place("bob", "create").await.string("orderId"), order);
    assert_eq!(alice.place("alice", "create").await.string("orderId"), order);
    let named = Reply::of(alice.posting(&format!("/orders/{order}/cancel"), &json!({})).header("X-Actor", "ann")).await;
    named.problem(403, "ACTOR_NOT_ALLOWED");
}

#[tokio::test]
async fn lists_totals_and_events_have_those_of_the_customer_only() {
    let (server, _callers) = start().await;
    let (alice, bob) = (Caller::new(&server, "alice"), Caller::new(&server, "bob"));
    let of_alice = alice.place("alice", "1").await.string("orderId");
    let placed = bob.place("bob", "1").await;
    let of_bob = placed.string("orderId");
    // Lists follow the log.
    let token = placed.header("x-consistency-token");
    let fresh = |path: &str| bob.request(Method::GET, path).header("X-Consistency-Token", token);
    let ids = |reply: &Reply, field: &str| -> Vec<String> {
        let rows = reply.json();
        rows.as_array().expect("rows").iter().map(|row| row[field].as_str().expect("text").to_owned()).collect()
    };
    assert_eq!(ids(&Reply::of(fresh("/orders")).await, "orderId"), [of_bob.as_str()]);
    let stats = Reply::of(fresh("/stats")).await.json();
    assert_eq!((&stats["totalOrders"], &stats["totalRevenue"]), (&json!(1), &json!(10.00)));
    assert_eq!(ids(&bob.get("/events").await, "eventId"), [format!("{of_bob}-1")]);
    for path in ["/orders?customerId=alice", "/events?customerId=alice"] {
        bob.get(path).await.problem(403, "CUSTOMER_NOT_ALLOWED");
    }
    let mut live = bob.listen("/events").await;
    assert_eq!(live.event().await.1["eventId"], format!("{of_bob}-1"));
    for (caller, order) in [(&alice, &of_alice), (&bob, &of_bob)] {
        let paid = caller.posting(&format!("/orders/{order}/pay"), &json!({ "paymentMethod": "card" }));
        assert_eq!(Reply::of(paid).await.status, 200);
    }
    let (_, event) = live.event().await;
    assert_eq!(event["eventId"], format!("{of_bob}-2"));
    assert_eq!((&event["actor"], event.get("onBehalfOf")), (&json!("bob"), None));
    let more = tokio::time::timeout(Duration::from_millis(300), live.event()).await;
    assert!(more.is_err(), "nothing of another customer follows: {more:?}");
}

#[tokio::test]
async fn grpc_web_shows_no_order_of_another_customer() {
    let (server, _callers) = start().await;
    let order = Caller::new(&server, "alice").place("alice", "1").await.string("orderId");
    let get = async |name: &str| {
        let body = frame(0, &GetOrderRequest { order_id: order.clone(), ..Default::default() }.encode_to_vec());
        let url = server.url("/catga.orders.v1.OrderQueryService/GetOrder");
        let request = Client::new().post(url).header("content-type", "application/grpc-web+proto");
        let request = request.header("x-grpc-web", "1").header("authorization", authorization(name)).body(body);
        web::status(request.send().await.expect("an answer")).await
    };
    assert_eq!(get("alice").await.code(), Code::Ok);
    assert_eq!(code_and_reason(&get("bob").await), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
}
