//! The conventions of the HTTP contract.

use std::sync::Arc;

use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::rest::{Reply, Rest};

fn pay() -> serde_json::Value {
    json!({ "paymentMethod": "card" })
}

#[tokio::test]
async fn every_error_about_an_order_has_its_own_status_and_reason() {
    let rest = Rest::start().await;
    rest.get("/orders/1").await.problem(404, "ORDER_NOT_FOUND");
    rest.post("/orders/1/pay", &pay()).await.problem(404, "ORDER_NOT_FOUND");
    rest.get("/orders/1/history").await.problem(404, "ORDER_NOT_FOUND");
    let id = rest.order("c").await;
    let path = format!("/orders/{id}/ship");
    let problem = rest.post(&path, &json!({ "trackingNumber": "T" })).await.problem(409, "ILLEGAL_TRANSITION");
    assert_eq!(problem["instance"], path.as_str());
    assert_eq!(
        (&problem["orderId"], &problem["orderStatus"], &problem["actualRevision"]),
        (&json!(id), &json!("Pending"), &json!(1))
    );
    rest.get(&format!("/orders/{id}?revision=2")).await.problem(404, "NOT_YET_THEN");
    rest.get(&format!("/orders/{id}?asOf=2001-01-01T00:00:00Z")).await.problem(404, "NOT_YET_THEN");
}

#[tokio::test]
async fn an_unknown_route_is_404_and_an_unknown_method_405_with_those_allowed() {
    let rest = Rest::start().await;
    for path in ["/nothing", "/orders/", "/orders/1/refund", "/api", "/swagger/nothing.js", "/dashboard/../x"] {
        rest.get(path).await.problem(404, "ROUTE_NOT_FOUND");
    }
    let reply = Reply::of(rest.request(Method::DELETE, "/orders/1")).await;
    reply.problem(405, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), "GET,HEAD");
    let head = Reply::of(rest.request(Method::HEAD, "/nothing")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (404, ""));
}

#[tokio::test]
async fn a_head_request_is_a_get_without_its_body() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let head = Reply::of(rest.request(Method::HEAD, &format!("/orders/{id}"))).await;
    assert_eq!((head.status.as_u16(), head.header("etag"), head.text.as_str()), (200, "\"1\"", ""));
    assert_eq!(head.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn a_retried_command_gets_the_very_same_reply() {
    let rest = Rest::start().await;
    let body =
        json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 3, "price": "19.99" }] }).to_string();
    let create = async |body: &str| Reply::of(rest.posting("/orders", body).header("Idempotency-Key", "key-1")).await;
    let first = create(&body).await;
    let id = first.string("orderId");
    let pay = async |method: &str| {
        let body = json!({ "paymentMethod": method }).to_string();
        Reply::of(
            rest.posting(&format!("/orders/{id}/pay"), body)
                .header("Idempotency-Key", "key-1")
                .header("If-Match", "\"1\""),
        )
        .await
    };
    let paid = pay("card").await;
    assert_eq!(paid.status, 200, "{paid:?}");
    rest.post(&format!("/orders/{id}/ship"), &json!({ "trackingNumber": "T" })).await;
    for (first, again) in [(first, create(&body).await), (paid, pay("card").await)] {
        assert_eq!(
            (first.status, first.text.as_str(), first.header("etag")),
            (again.status, again.text.as_str(), again.header("etag"))
        );
        assert_eq!(first.header("x-consistency-token"), again.header("x-consistency-token"));
    }
    let problem = pay("cash").await.problem(422, "REQUEST_ID_REUSED");
    assert_eq!(problem["requestId"], "key-1");
    assert_eq!(rest.get(&format!("/orders/{id}/history")).await.json().as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_command_with_if_match_takes_effect_on_that_revision_only() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let pay = async |tag: &str| {
        let request = rest.posting(&format!("/orders/{id}/pay"), pay().to_string());
        Reply::of(request.header("If-Match", tag)).await
    };
    let problem = pay("\"7\"").await.problem(412, "IF_MATCH_FAILED");
    assert_eq!((&problem["expectedRevision"], &problem["actualRevision"]), (&json!(7), &json!(1)));
    for never in ["W/\"1\"", "\"abc\"", "\"2\", \"3\"", "\"01\"", "\"0\""] {
        assert_eq!(pay(never).await.problem(412, "IF_MATCH_FAILED")["actualRevision"], 1, "{never}");
    }
    for never in ["\"abc\"", "W/\"1\"", "\"0\""] {
        let request = rest.posting(&format!("/orders/{id}/pay"), self::pay().to_string());
        let request = request.header("If-Match", never).header("Idempotency-Key", "retry-safe");
        Reply::of(request).await.problem(412, "IF_MATCH_FAILED");
    }
    assert_eq!(pay("\"1").await.violations(), ["If-Match"]);
    let list = rest
        .posting(&format!("/orders/{id}/pay"), "{}")
        .header("If-Match", "\"1\", \"2\"")
        .header("Idempotency-Key", "k");
    assert_eq!(Reply::of(list).await.violations(), ["If-Match", "paymentMethod"]);
    let paid = pay("\"7\", \"1\"").await;
    assert_eq!((paid.status.as_u16(), paid.header("etag")), (200, "\"2\""));
    let any = Reply::of(rest.request(Method::POST, &format!("/orders/{id}/cancel")).header("If-Match", "*")).await;
    assert_eq!(any.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_writers_with_the_same_if_match_exactly_one_wins() {
    let rest = Arc::new(Rest::start().await);
    let id = rest.order("c").await;
    let mut writers = JoinSet::new();
    for n in 0..100 {
        let (rest, path) = (Arc::clone(&rest), format!("/orders/{id}/{}", if n % 2 == 0 { "pay" } else { "cancel" }));
        writers.spawn(async move {
            let body = if n % 2 == 0 { pay() } else { json!({ "reason": "no" }) };
            Reply::of(rest.posting(&path, body.to_string()).header("If-Match", "\"1\"")).await
        });
    }
    let replies = writers.join_all().await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 200).count(), 1);
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.problem(412, "IF_MATCH_FAILED");
    }
}

#[tokio::test]
async fn a_read_with_if_none_match_is_304_until_the_order_changes() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let read = async |tag: &str| {
        Reply::of(rest.request(Method::GET, &format!("/orders/{id}")).header("If-None-Match", tag)).await
    };
    for tag in ["\"1\"", "W/\"1\"", "\"9\", \"1\"", "*"] {
        let reply = read(tag).await;
        assert_eq!((reply.status.as_u16(), reply.text.as_str(), reply.header("etag")), (304, "", "\"1\""), "{tag}");
    }
    rest.post(&format!("/orders/{id}/pay"), &pay()).await;
    assert_eq!(read("\"1\"").await.string("status"), "Paid");
    assert_eq!(rest.get(&format!("/orders/{id}?revision=1")).await.string("status"), "Pending");
    assert_eq!(read("1").await.violations(), ["If-None-Match"]);
}

#[tokio::test]
async fn a_consistency_token_makes_lists_and_counts_as_fresh_as_the_command() {
    let rest = Rest::start().await;
    for n in 1..=20 {
        let body = json!({ "customerId": "c", "items": [{ "productId": "p", "quantity": 1, "price": 1 }] });
        let placed = rest.post("/orders", &body).await;
        let token = placed.header("x-consistency-token");
        let read =
            async |path: &str| Reply::of(rest.request(Method::GET, path).header("X-Consistency-Token", token)).await;
        let list = read("/orders?pageSize=500").await;
        assert_eq!(list.json().as_array().map(Vec::len), Some(n));
        assert_eq!(list.header("x-consistency-token"), token);
        assert_eq!(read("/stats").await.header("x-consistency-token"), token);
        assert_eq!(read(&format!("/orders/{}", placed.string("orderId"))).await.text, placed.text);
    }
}

#[tokio::test]
async fn the_actor_of_a_command_is_in_the_history() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let request = rest.posting(&format!("/orders/{id}/pay"), pay().to_string());
    Reply::of(request.header("X-Actor", "Zoë".as_bytes()).header("Idempotency-Key", "k-1")).await;
    let event = &rest.get(&format!("/orders/{id}/history?fromRevision=2")).await.json()[0];
    assert_eq!((&event["actor"], &event["requestId"], &event["revision"]), (&json!("Zoë"), &json!("k-1"), &json!(2)));
}

#[tokio::test]
async fn ids_come_one_or_many_and_can_be_parsed() {
    let rest = Rest::start_with(&[("datacenter-id", "3"), ("worker-id", "7")]).await;
    let ids = rest.get("/api/id?count=1000").await.json();
    assert_eq!(
        (ids["ids"].as_array().map(Vec::len), ids["idStrings"].as_array().map(Vec::len)),
        (Some(1_000), Some(1_000))
    );
    let id = ids["idStrings"][0].as_str().expect("text").to_owned();
    assert_eq!(ids["ids"][0].to_string(), id);
    let parts = rest.get(&format!("/api/id/{id}")).await;
    assert!(parts.text.starts_with(&format!("{{\"id\":{id},\"idString\":\"{id}\"")), "{parts:?}");
    assert_eq!((&parts.json()["datacenter"], &parts.json()["worker"]), (&json!(3), &json!(7)));
}

#[tokio::test]
async fn a_browser_is_sent_to_the_dashboard_which_loads_nothing_from_outside() {
    let rest = Rest::start().await;
    let root =
        Reply::of(rest.request(Method::GET, "/").header("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"))
            .await;
    assert_eq!((root.status.as_u16(), root.header("location")), (302, "/dashboard"));
    for (path, kind) in
        [("/dashboard", "text/html"), ("/dashboard/main.js", "text/javascript"), ("/dashboard/console.css", "text/css")]
    {
        let file = rest.get(path).await;
        assert!(file.status == 200 && file.header("content-type").starts_with(kind), "{path}");
        let policy = file.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!file.text.contains("src=\"http") && !file.text.contains("url("), "{path}");
    }
}

#[tokio::test]
async fn a_browser_that_has_a_file_of_the_console_is_not_sent_it_again() {
    let rest = Rest::start().await;
    let file = rest.get("/dashboard/main.js").await;
    let tag = file.header("etag");
    let again = Reply::of(rest.request(Method::GET, "/dashboard/main.js").header("If-None-Match", tag)).await;
    assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
    assert_eq!(again.header("etag"), tag);
    let other = Reply::of(rest.request(Method::GET, "/dashboard/text.js").header("If-None-Match", tag)).await;
    assert_eq!(other.status, 200);
    let compressed = Reply::of(rest.request(Method::GET, "/dashboard/main.js").header("Accept-Encoding", "gzip")).await;
    assert_eq!(compressed.header("content-encoding"), "gzip");
    assert_eq!(file.header("vary"), "accept-encoding");
}

#[tokio::test]
async fn a_draining_node_reports_it_with_a_retry_delay() {
    let mut rest = Rest::start().await;
    let id = rest.order("c").await;
    rest.server.shutdown.cancel();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let reply = rest.get(&format!("/orders/{id}")).await;
    reply.problem(503, "SHUTTING_DOWN");
    assert_eq!(reply.header("retry-after"), "1");
    assert_eq!(rest.get("/health/ready").await.status, 503);
    assert_eq!(rest.get("/health/live").await.status, 200);
    rest.server.stop().await.expect("an orderly end");
}

#[tokio::test]
async fn pages_of_orders_follow_each_other_with_the_filters_of_the_first() {
    let rest = Rest::start().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        rest.order("someone else").await;
        let id = rest.order("a & b=ü").await;
        if n % 2 == 0 {
            rest.post(&format!("/orders/{id}/pay"), &pay()).await;
            expected.push(id);
        }
    }
    let token = rest.get(&format!("/orders/{}", expected[3])).await.header("x-consistency-token").to_owned();
    let read = async |path: &str| {
        let reply = Reply::of(rest.request(Method::GET, path).header("X-Consistency-Token", &token)).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply
    };
    let mut next = Some("/orders?status=Paid&customerId=a%20%26+b%3D%C3%BC&orderBy=createdAsc&pageSize=3".to_owned());
    let mut pages = Vec::new();
    while let Some(path) = next {
        let page = read(&path).await;
        let ids = page
            .json()
            .as_array()
            .expect("array")
            .iter()
            .map(|row| row["orderId"].as_str().expect("text").to_owned())
            .collect::<Vec<_>>();
        pages.push(ids);
        next = page.next();
    }
    assert_eq!(pages, [&expected[..3], &expected[3..]]);
    let first = read("/orders?pageSize=1").await.next().expect("more");
    assert_eq!(rest.get(&format!("{first}&status=Paid")).await.violations(), ["pageToken"]);
    assert_eq!(read("/orders?createdBefore=2001-01-01T00:00:00Z").await.text, "[]");
    assert_eq!(
        read("/orders?createdAfter=2001-01-01T00:00:00%2B01:00").await.json().as_array().map(Vec::len),
        Some(14)
    );
}

#[tokio::test]
async fn revenue_is_exact_by_currency_and_leaves_out_cancelled_orders() {
    let rest = Rest::start().await;
    for (price, currency) in [("0.1", "USD"), ("0.2", "USD"), ("1500", "JPY"), ("7", "EUR")] {
        let body = format!(
            r#"{{"customerId":"c","items":[{{"productId":"p","quantity":1,"price":{price},"currency":"{currency}"}}]}}"#
        );
        assert_eq!(Reply::of(rest.posting("/orders", body)).await.status, 201);
    }
    let id = rest.order("c").await;
    let cancelled = rest.post(&format!("/orders/{id}/cancel"), &json!({})).await;
    let token = cancelled.header("x-consistency-token");
    let stats = Reply::of(rest.request(Method::GET, "/stats").header("X-Consistency-Token", token)).await;
    let expected = r#"{"totalOrders":5,"byStatus":{"Pending":4,"Paid":0,"Shipped":0,"Delivered":0,"Cancelled":1},"totalRevenue":0.30,"revenueByCurrency":{"EUR":7.00,"JPY":1500,"USD":0.30},"timestamp":""#;
    assert!(stats.text.starts_with(expected), "{stats:?}");
}
