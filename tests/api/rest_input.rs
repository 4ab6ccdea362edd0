//! Bad input: all violations are reported at once, and it never does harm.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::rest::{Reply, Rest};

#[tokio::test]
async fn every_violation_of_a_request_is_named_at_once() {
    let rest = Rest::start().await;
    let body = r#"{"customerId": "", "shippingAddress": "a\u0000b", "note": 1, "items": [
        {"productId": 1.5, "quantity": 0, "price": 29.991}, {"productId": "p", "quantity": 2.0, "price": -1, "name": 5}]}"#;
    let request = rest.posting("/orders?x=1", body);
    let request = request.header("Idempotency-Key", "a b").header("If-Match", "3").header("X-Actor", "x".repeat(200));
    let mut fields = Reply::of(request).await.violations();
    fields.sort();
    assert_eq!(
        fields,
        [
            "Idempotency-Key",
            "If-Match",
            "X-Actor",
            "customerId",
            "items[0].price",
            "items[0].productId",
            "items[0].quantity",
            "items[1].name",
            "items[1].price",
            "items[1].quantity",
            "note",
            "shippingAddress",
            "x",
        ]
    );
    let pay = Reply::of(rest.posting("/orders/abc/pay", r#"{"paymentMethod": 5, "paymentMethod": ""}"#)).await;
    assert_eq!(pay.violations(), ["paymentMethod", "id", "paymentMethod"]);
}

#[tokio::test]
async fn a_price_is_exact_or_refused() {
    let rest = Rest::start().await;
    let place = async |price: &str, currency: &str| {
        let body = format!(
            r#"{{"customerId":"c","currency":"{currency}","items":[{{"productId":"p","quantity":1,"price":{price}}}]}}"#
        );
        Reply::of(rest.posting("/orders", body)).await
    };
    for (price, currency, total) in [
        ("29.990", "USD", "29.99"),
        ("1e2", "USD", "100.00"),
        ("\"0.10\"", "USD", "0.10"),
        ("0", "USD", "0.00"),
        ("90071992547409.93", "USD", "90071992547409.93"),
        ("\"1e-2\"", "USD", "0.01"),
        ("1500", "JPY", "1500"),
        ("1.234", "KWD", "1.234"),
    ] {
        let reply = place(price, currency).await;
        assert!(reply.text.contains(&format!("\"total\":{total},\"currency\":\"{currency}\"")), "{price}: {reply:?}");
    }
    for (price, currency) in [
        ("29.991", "USD"),
        ("-0.01", "USD"),
        ("\"NaN\"", "USD"),
        ("\"Infinity\"", "USD"),
        ("\" 1\"", "USD"),
        ("\"1,5\"", "USD"),
        ("1.5", "JPY"),
        ("1e400", "USD"),
        ("true", "USD"),
        ("null", "USD"),
        ("92233720368547758.08", "USD"),
    ] {
        assert_eq!(place(price, currency).await.violations(), ["items[0].price"], "{price}");
    }
    assert_eq!(place("NaN", "USD").await.violations(), ["body"]);
    assert_eq!(place("1", "usd").await.violations(), ["currency"]);
    let mixed = r#"{"customerId":"c","items":[{"productId":"p","quantity":1,"price":1},{"productId":"p","quantity":1,"price":1,"currency":"EUR"}]}"#;
    assert_eq!(Reply::of(rest.posting("/orders", mixed)).await.violations(), ["items[1].price"]);
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_in_utf_8_is_refused() {
    let rest = Rest::start().await;
    for body in ["", "{", "[]", "null", "\"x\"", "{} x", "{\"a\":1,}", "{\"customerId\":\"c\"", "\u{feff}{}"] {
        assert_eq!(Reply::of(rest.posting("/orders", body)).await.violations(), ["body"], "{body:?}");
    }
    let invalid = rest
        .request(Method::POST, "/orders")
        .header("Content-Type", "application/json")
        .body(b"{\"customerId\":\"\xff\"}".to_vec());
    assert_eq!(Reply::of(invalid).await.violations(), ["body"]);
    let deep = format!("{{\"customerId\":{}", "[".repeat(200_000));
    assert_eq!(Reply::of(rest.posting("/orders", deep)).await.violations(), ["body"]);
    let deep = format!("{{\"customerId\":\"c\",\"items\":{}1{}}}", "[".repeat(50_000), "]".repeat(50_000));
    assert_eq!(Reply::of(rest.posting("/orders", deep)).await.violations(), ["items[0]"]);
    let many = format!("{{\"customerId\":\"c\",\"items\":[{}0]}}", "0,".repeat(100_000));
    assert_eq!(Reply::of(rest.posting("/orders", many)).await.violations(), ["items"]);
}

#[tokio::test]
async fn the_media_type_and_the_size_of_a_body_are_checked() {
    let rest = Rest::start_with(&[("max-message-bytes", "65536")]).await;
    let id = rest.order("c").await;
    let path = format!("/orders/{id}/pay");
    let send = async |content_type: Option<&str>, body: String| {
        let mut request = rest.request(Method::POST, &path).body(body);
        if let Some(content_type) = content_type {
            request = request.header("Content-Type", content_type);
        }
        Reply::of(request).await
    };
    let pay = || r#"{"paymentMethod":"card"}"#.to_owned();
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("application/json; charset=latin1"),
        Some("application/xml"),
    ] {
        send(content_type, pay()).await.problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let problem = send(Some("application/json"), " ".repeat(65_537)).await.problem(413, "MESSAGE_TOO_LARGE");
    assert_eq!(problem["maxMessageBytes"], 65_536);
    assert_eq!(send(Some("application/json"), String::new()).await.violations(), ["body"]);
    for encoding in ["gzip", "br", "gzip, identity"] {
        let request = rest.request(Method::POST, &path).header("Content-Type", "application/json").body(pay());
        let reply = Reply::of(request.header("Content-Encoding", encoding)).await;
        reply.problem(415, "COMPRESSION_NOT_SUPPORTED");
    }
    assert_eq!(send(Some("Application/JSON; Charset=UTF-8"), pay()).await.status, 200);
}

/// A client that reads the reply only after it has sent everything must get one, not a broken connection.
#[tokio::test]
async fn a_client_that_sends_far_too_much_still_gets_its_answer() {
    let rest = Rest::start().await;
    let address = rest.server.address;
    let lengths = ["Content-Length: 16000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\nF42400\r\n"];
    let work = tokio::task::spawn_blocking(move || {
        use std::io::{Read, Write};
        lengths.map(|length| {
            let mut stream = std::net::TcpStream::connect(address).expect("connects");
            let head =
                format!("POST /orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}");
            stream.write_all(head.as_bytes()).expect("sent");
            stream.write_all(&vec![b' '; 16_000_000]).expect("sent to the end");
            if length.starts_with("Transfer") {
                stream.write_all(b"\r\n0\r\n\r\n").expect("sent to the end");
            }
            let mut reply = [0; 12];
            stream.read_exact(&mut reply).expect("a reply");
            String::from_utf8_lossy(&reply).into_owned()
        })
    });
    assert_eq!(work.await.expect("no panic"), ["HTTP/1.1 413"; 2]);
}

#[tokio::test]
async fn deliver_and_cancel_need_no_body_and_take_an_empty_one() {
    let rest = Rest::start().await;
    for (headers, body) in [(false, ""), (true, ""), (true, "{}"), (true, " {} ")] {
        let id = rest.order("c").await;
        assert_eq!(rest.post(&format!("/orders/{id}/pay"), &json!({ "paymentMethod": "card" })).await.status, 200);
        assert_eq!(rest.post(&format!("/orders/{id}/ship"), &json!({ "trackingNumber": "T" })).await.status, 200);
        let mut deliver = rest.request(Method::POST, &format!("/orders/{id}/deliver")).body(body);
        if headers {
            deliver = deliver.header("Content-Type", "application/json");
        }
        assert_eq!(Reply::of(deliver).await.string("status"), "Delivered");
    }
    let id = rest.order("c").await;
    assert_eq!(rest.post(&format!("/orders/{id}/deliver"), &json!({ "x": 1 })).await.violations(), ["x"]);
    let cancelled =
        rest.post(&format!("/orders/{id}/cancel"), &json!({ "reason": "changed \"my\" mind\u{1F600}" })).await;
    assert_eq!(cancelled.string("cancelReason"), "changed \"my\" mind\u{1F600}");
}

#[tokio::test]
async fn every_query_parameter_must_be_known_unique_and_valid() {
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    let order = format!("/orders/{id}");
    for (path, fields) in [
        (
            "/orders?pageSize=501&pageToken=x&status=pending&createdAfter=today&createdBefore=2025-02-30T00:00:00Z&orderBy=total&foo=1",
            &["foo", "pageSize", "status", "orderBy", "createdAfter", "createdBefore", "pageToken"][..],
        ),
        ("/orders?pageSize=1&pageSize=1", &["pageSize"]),
        ("/orders?customerId=", &["customerId"]),
        ("/orders?pageSize=-1", &["pageSize"]),
        ("/stats?x", &["x"]),
        (&format!("{order}?revision=0"), &["revision"]),
        (&format!("{order}?revision=1&asOf=2025-01-15T10:30:00Z"), &["asOf"]),
        (&format!("{order}/history?fromRevision=x&pageSize=9999"), &["fromRevision", "pageSize"]),
        ("/events?cursor=x&type=Created&status=Sent", &["status", "type", "cursor"]),
        ("/events?type=OrderPaid&status=Pending", &["status"]),
        ("/api/id?count=0", &["count"]),
        ("/api/id?count=100001", &["count"]),
        ("/api/id/0", &["id"]),
        ("/orders/%FF", &["id"]),
        ("/orders/01", &["id"]),
        ("/health?verbose=1", &["verbose"]),
    ] {
        let mut found = rest.get(path).await.violations();
        found.sort();
        let mut fields = fields.to_vec();
        fields.sort_unstable();
        assert_eq!(found, fields, "{path}");
    }
    let token = Reply::of(rest.request(Method::GET, &order).header("X-Consistency-Token", "nonsense")).await;
    assert_eq!(token.violations(), ["X-Consistency-Token"]);
}

/// Bytes that no real client sends must not affect anyone else: no 5xx, and the next request works.
#[tokio::test]
async fn random_bytes_to_every_route_never_harm_the_service() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let rest = Rest::start().await;
    let id = rest.order("c").await;
    for round in 0..20 {
        for path in ordersystem::server::paths() {
            let mut path = path.replace("{id}", if random.bool() { &id } else { "%00%F0x" }).replace("{file}", "..%2f");
            if random.bool() {
                path.push_str(
                    [
                        "?cursor=%",
                        "?pageSize=99999999999999999999",
                        "?status=%00&status=%00",
                        "?count=1e9",
                        "?a=b&&=&%=%",
                    ][random.usize(..5)],
                );
            }
            let length = random.usize(..200);
            let mut body: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
            if random.bool() {
                // Closer to valid input: a valid body with one byte changed.
                body = br#"{"customerId":1,"items":[{"productId":"\u00e9","quantity":1,"price":1.5e1}]}"#.to_vec();
                let at = random.usize(..body.len());
                body[at] = random.u8(..);
            }
            let method =
                [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::DELETE][random.usize(..5)].clone();
            let request = rest.request(method.clone(), &path).header("Content-Type", "application/json").body(body);
            let reply = Reply::of(request).await;
            assert!(reply.status < StatusCode::INTERNAL_SERVER_ERROR, "round {round}: {method} {path}: {reply:?}");
        }
        assert_eq!(rest.get(&format!("/orders/{id}")).await.status, 200);
    }
}
