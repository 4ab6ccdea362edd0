//! Every curl line of the two documents that describe the original system, one to one.

use reqwest::Method;
use serde_json::{Value, json};

use crate::rest::{Reply, Rest};

const LAPTOP_AND_MICE: &str = r#"{
    "customerId": "customer-123",
    "items": [
      {
        "productId": "prod-1",
        "name": "Laptop",
        "quantity": 1,
        "price": 999.99
      },
      {
        "productId": "prod-2",
        "name": "Mouse",
        "quantity": 2,
        "price": 29.99
      }
    ]
  }"#;

fn has(value: &Value, expected: Value) {
    for (name, expected) in expected.as_object().expect("object") {
        assert_eq!(&value[name], expected, "{name} of {value}");
    }
}

#[tokio::test]
async fn the_examples_of_the_order_system_work_as_written() {
    let rest = Rest::start().await;
    let placed = Reply::of(rest.posting("/orders", LAPTOP_AND_MICE)).await;
    assert_eq!(placed.status, 201);
    assert!(placed.text.contains("\"total\":1059.97,"), "{}", placed.text);
    let id = placed.string("orderId");
    assert_eq!(placed.header("location"), format!("/orders/{id}"));
    has(&placed.json(), json!({ "customerId": "customer-123", "status": "Pending", "revision": 1 }));

    let paid = Reply::of(rest.posting(&format!("/orders/{id}/pay"), r#"{"paymentMethod": "credit_card"}"#)).await;
    assert_eq!(paid.status, 200);
    has(&paid.json(), json!({ "status": "Paid", "paymentMethod": "credit_card", "revision": 2 }));

    let shipped = Reply::of(rest.posting(&format!("/orders/{id}/ship"), r#"{"trackingNumber": "TRACK-12345"}"#)).await;
    assert_eq!(shipped.status, 200);
    has(&shipped.json(), json!({ "status": "Shipped", "trackingNumber": "TRACK-12345", "revision": 3 }));

    let history = rest.get(&format!("/orders/{id}/history")).await;
    assert_eq!(history.status, 200);
    assert!(history.text.contains("\"total\":1059.97,"), "{}", history.text);
    let events = history.json();
    assert_eq!(events.as_array().map(Vec::len), Some(3));
    has(&events[0], json!({ "orderId": id, "customerId": "customer-123", "type": "OrderCreated", "revision": 1 }));
    has(
        &events[1],
        json!({ "orderId": id, "paymentMethod": "credit_card", "type": "OrderPaid", "eventId": format!("{id}-2") }),
    );
    has(&events[2], json!({ "orderId": id, "trackingNumber": "TRACK-12345", "type": "OrderShipped", "revision": 3 }));
    for (event, at) in [(0, "createdAt"), (1, "paidAt"), (2, "shippedAt")] {
        assert!(events[event][at].as_str().is_some_and(|at| at.ends_with('Z')), "{}", events[event]);
        assert!(events[event]["cursor"].is_string());
    }

    let stats = rest.get("/stats").await.json();
    for status in ["Pending", "Paid", "Shipped", "Delivered", "Cancelled"] {
        assert!(stats["byStatus"][status].is_number(), "{stats}");
    }
    assert!(stats["totalOrders"].is_number() && stats["totalRevenue"].is_number() && stats["timestamp"].is_string());
}

#[tokio::test]
async fn the_examples_of_catga_distributed_work_as_written() {
    let rest = Rest::start().await;
    let health = rest.get("/health").await;
    assert_eq!((health.status.as_u16(), health.string("status").as_str()), (200, "Healthy"));

    let body = r#"{
    "customerId": 123,
    "items": [
      {"productId": 1, "quantity": 2, "price": 29.99}
    ],
    "shippingAddress": "123 Main St"
  }"#;
    let placed = Reply::of(rest.posting("/api/orders", body)).await;
    assert_eq!(placed.status, 201);
    let id = placed.string("orderId");
    assert_eq!(placed.header("location"), format!("/api/orders/{id}"));
    has(&placed.json(), json!({ "customerId": "123", "shippingAddress": "123 Main St", "currency": "USD" }));
    assert!(placed.text.contains("\"total\":59.98,"), "{}", placed.text);
    assert_eq!(placed.json()["items"][0]["productId"], "1");
    assert_eq!(rest.get(&format!("/api/orders/{id}")).await.text, placed.text);

    let ids = rest.get("/api/id").await.json();
    assert_eq!(ids["id"].to_string(), ids["idString"].as_str().expect("text"));

    let metrics = rest.get("/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert!(metrics.text.contains("ordersystem_requests_total{operation=\"CreateOrder\",outcome=\"success\"} 1"));

    for path in ["/swagger", "/swagger/"] {
        assert_eq!(rest.get(path).await.header("location"), "/swagger/index.html", "{path}");
    }
    assert_eq!(rest.get("/dashboard/").await.text, rest.get("/dashboard").await.text);
    let page = rest.get("/swagger/index.html").await;
    assert!(page.status == 200 && page.header("content-type").starts_with("text/html"), "{page:?}");
    assert!(!page.text.contains("http://") && !page.text.contains("https://"), "{}", page.text);
    assert!(rest.get("/swagger/swagger-initializer.js").await.text.contains("/openapi.json"));
    assert!(rest.get("/swagger/swagger-ui-bundle.js").await.text.len() > 100_000);
}

#[tokio::test]
async fn every_other_route_of_the_seeds_answers() {
    let rest = Rest::start().await;
    let root = rest.get("/").await.json();
    has(
        &root,
        json!({ "service": "Catga OrderSystem", "mode": "Standalone", "status": "running", "persistence": "inmemory",
        "transport": "inmemory", "durability": "none" }),
    );
    assert_eq!(rest.get("/health/ready").await.status, 200);
    assert_eq!(rest.get("/health/live").await.status, 200);
    let id = rest.order("customer-1").await;
    assert_eq!(rest.get(&format!("/orders/{id}")).await.json()["orderId"], id.as_str());
    let cancelled = Reply::of(rest.request(Method::POST, &format!("/orders/{id}/cancel"))).await;
    assert_eq!((cancelled.status.as_u16(), cancelled.string("status").as_str()), (200, "Cancelled"));
    let token = cancelled.header("x-consistency-token");
    let list = Reply::of(rest.request(Method::GET, "/orders").header("X-Consistency-Token", token)).await;
    assert_eq!(list.json()[0]["status"], "Cancelled", "{list:?}");
}
