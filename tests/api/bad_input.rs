//! Bad input to every call: refused with every violation reported, and nothing is written.

use std::fmt::Debug;

use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        BatchGetOrdersRequest, CancelOrderRequest, CreateOrderRequest, DeliverOrderRequest, GetOrderRequest,
        GetOrderStatsRequest, ListOrdersRequest, NewOrderItem, PayOrderRequest, ReadConsistency, ShipOrderRequest,
        StreamEventsRequest, StreamOrderHistoryRequest, get_order_request::At,
    },
};
use prost_types::Timestamp;
use tonic::{Code, Status};

use crate::support::{TestServer, cancel, code_and_reason, deliver, facts, new_order, pay, ship, usd, violated_fields};

/// Text that is not a valid id, cursor or token.
const MALFORMED_IDS: [&str; 10] =
    ["", "0", "-1", "+1", "01", "1.0", " 1", "abc", "9223372036854775808", "99999999999999999999999"];

#[track_caller]
fn assert_violates(refusal: &Status, fields: &[&str], what: &dyn Debug) {
    let expected = (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned());
    assert_eq!(code_and_reason(refusal), expected, "{what:?}");
    assert_eq!(violated_fields(refusal), fields, "{what:?}");
    assert!(refusal.message().contains(fields[0]), "{refusal:?}");
}

fn long(characters: usize) -> String {
    "é".repeat(characters)
}

fn item(change: impl FnOnce(&mut NewOrderItem)) -> CreateOrderRequest {
    let mut request = new_order("customer-1");
    change(&mut request.items[0]);
    request
}

fn order(change: impl FnOnce(&mut CreateOrderRequest)) -> CreateOrderRequest {
    let mut request = new_order("customer-1");
    change(&mut request);
    request
}

fn price(currency_code: &str, units: i64, nanos: i32) -> CreateOrderRequest {
    item(|item| item.unit_price = Some(Money { currency_code: currency_code.to_owned(), units, nanos }))
}

fn bad_orders() -> Vec<(CreateOrderRequest, Vec<&'static str>)> {
    let mut cases = vec![
        (CreateOrderRequest::default(), vec!["customer_id", "items"]),
        (order(|order| order.customer_id = " ".to_owned()), vec!["customer_id"]),
        (order(|order| order.customer_id = long(129)), vec!["customer_id"]),
        (order(|order| order.customer_id = "a\0b".to_owned()), vec!["customer_id"]),
        (order(|order| order.shipping_address = long(1_025)), vec!["shipping_address"]),
        (order(|order| order.shipping_address = "a\nb".to_owned()), vec!["shipping_address"]),
        (order(|order| order.request_id = "x".repeat(129)), vec!["request_id"]),
        (order(|order| order.request_id = "a b".to_owned()), vec!["request_id"]),
        (order(|order| order.request_id = "é".to_owned()), vec!["request_id"]),
        (order(|order| order.actor = long(129)), vec!["actor"]),
        (order(|order| order.actor = "\u{85}".to_owned()), vec!["actor"]),
        (order(|order| order.expected_revision = Some(-1)), vec!["expected_revision"]),
        (order(|order| order.expected_revision = Some(1)), vec!["expected_revision"]),
        (order(|order| order.items.clear()), vec!["items"]),
        (order(|order| order.items = vec![order.items[0].clone(); 1_001]), vec!["items"]),
        (order(|order| order.items = vec![NewOrderItem::default(); 1_001]), vec!["items"]),
        (
            order(|order| {
                order.items.push(NewOrderItem {
                    unit_price: Some(Money { currency_code: "EUR".to_owned(), units: 1, nanos: 0 }),
                    ..order.items[0].clone()
                })
            }),
            vec!["items[1].unit_price"],
        ),
        (
            order(|order| order.items[0] = NewOrderItem::default()),
            vec!["items[0].unit_price", "items[0].product_id", "items[0].quantity"],
        ),
        (item(|item| item.product_id = long(129)), vec!["items[0].product_id"]),
        (item(|item| item.product_id = "\u{7f}".to_owned()), vec!["items[0].product_id"]),
        (item(|item| item.name = long(257)), vec!["items[0].name"]),
        (item(|item| item.name = "\t".to_owned()), vec!["items[0].name"]),
        (item(|item| item.unit_price = None), vec!["items[0].unit_price"]),
        // The total: too large for one line, and too large only as a sum.
        (
            item(|item| {
                item.quantity = 1_000_000;
                item.unit_price = Some(usd(92_233_720_368_547_758, 0));
            }),
            vec!["items"],
        ),
        (
            order(|order| {
                order.items[0].quantity = 1;
                order.items[0].unit_price = Some(usd(100_000_000_000_000, 0));
                order.items.push(NewOrderItem { unit_price: Some(usd(0, 10_000_000)), ..order.items[0].clone() });
            }),
            vec!["items"],
        ),
        (
            // Everything at once.
            CreateOrderRequest {
                request_id: "a b".to_owned(),
                expected_revision: Some(5),
                actor: "\n".to_owned(),
                customer_id: String::new(),
                items: vec![NewOrderItem { quantity: -1, unit_price: Some(usd(-1, 0)), ..Default::default() }; 2],
                shipping_address: long(2_000),
            },
            vec![
                "request_id",
                "actor",
                "expected_revision",
                "customer_id",
                "shipping_address",
                "items[0].product_id",
                "items[0].quantity",
                "items[0].unit_price",
                "items[1].product_id",
                "items[1].quantity",
                "items[1].unit_price",
            ],
        ),
    ];
    for quantity in [0, -1, 1_000_001, i64::MAX, i64::MIN, 1 << 32, (1 << 32) + 1] {
        cases.push((item(|item| item.quantity = quantity), vec!["items[0].quantity"]));
    }
    for currency in ["", "usd", "US", "USDX", "XXX", "ABC", "U$D", "Ü"] {
        cases.push((price(currency, 1, 0), vec!["items[0].unit_price"]));
    }
    let amounts = [
        ("USD", -1, 0),
        ("USD", 0, -10_000_000),
        ("USD", 0, 1),
        ("USD", 1, 5_000_000),
        ("JPY", 1, 500_000_000),
        ("KWD", 1, 100_000),
        ("USD", 1, -10_000_000),
        ("USD", -1, 10_000_000),
        ("USD", 1, 1_000_000_000),
        ("USD", 1, i32::MAX),
        ("USD", -1, i32::MIN),
        ("USD", i64::MAX, 0),
        ("USD", i64::MIN, 0),
        ("USD", i64::MIN, i32::MIN),
        ("USD", 92_233_720_368_547_758, 80_000_000),
    ];
    for (currency, units, nanos) in amounts {
        cases.push((price(currency, units, nanos), vec!["items[0].unit_price"]));
    }
    // A valid price for one piece, but not for the order.
    cases.push((price("USD", 100_000_000_000_000, 10_000_000), vec!["items"]));
    for text in ["ev\u{202E}il", "a\u{200B}b", "\u{3164}"] {
        cases.push((order(|order| order.customer_id = text.to_owned()), vec!["customer_id"]));
        cases.push((order(|order| order.shipping_address = text.to_owned()), vec!["shipping_address"]));
    }
    cases
}

#[tokio::test]
async fn a_bad_order_is_refused_with_every_violation_and_nothing_is_written() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    for (request, mut fields) in bad_orders() {
        let refusal = client.create_order(request.clone()).await.expect_err("bad");
        let mut named = violated_fields(&refusal);
        let too_many = request.items.len() > 1_000;
        if too_many && request.items[0].unit_price.is_none() {
            // Missing prices may be reported together with the number of items.
            named.retain(|field| !field.starts_with("items["));
        }
        named.sort();
        fields.sort_unstable();
        assert_eq!(named, fields, "{:.300}", format!("{request:?}"));
        assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
        assert!(refusal.details().len() < 6_000, "trailers that clients take: {}", refusal.details().len());
    }
    assert_eq!(server.head().await, 0, "nothing is written");
    client.create_order(new_order("customer-1")).await.expect("the next request works");
}

#[tokio::test]
async fn requests_just_within_the_bounds_are_accepted() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    let good = [
        order(|order| order.customer_id = "😀".repeat(128)),
        order(|order| order.shipping_address = long(1_024)),
        order(|order| order.request_id = "~".repeat(128)),
        order(|order| order.actor = long(128)),
        order(|order| order.expected_revision = Some(0)),
        order(|order| order.items = vec![order.items[0].clone(); 1_000]),
        item(|item| item.quantity = 1_000_000),
        item(|item| item.name = String::new()),
        price("USD", 0, 0),
        price("USD", 0, 10_000_000),
        price("JPY", 5, 0),
        price("KWD", 1, 1_000_000),
        item(|item| {
            item.quantity = 1;
            item.unit_price = Some(usd(100_000_000_000_000, 0));
        }),
    ];
    for request in good {
        let reply = client.create_order(request.clone()).await;
        let placed = reply.unwrap_or_else(|error| panic!("{error:?}: {:.300}", format!("{request:?}"))).into_inner();
        assert_eq!(placed.order.expect("order").customer_id, request.customer_id, "nothing is cut or trimmed");
    }
}

#[tokio::test]
async fn of_very_many_violations_the_first_are_named_and_all_are_counted() {
    let server = TestServer::start().await;
    let request = order(|order| order.items = vec![NewOrderItem { quantity: 0, ..order.items[0].clone() }; 1_000]);
    let refusal = server.commands().await.create_order(request).await.expect_err("bad");
    assert_eq!(facts(&refusal)["violation_count"], "1000");
    assert_eq!(violated_fields(&refusal).len(), 40);
    assert!(refusal.message().len() < 500);
}

#[tokio::test]
async fn a_bad_command_for_an_order_is_refused_and_writes_nothing() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    let mut client = server.commands().await;
    let head = server.head().await;
    let pays = [
        (PayOrderRequest::default(), vec!["order_id", "payment_method"]),
        (PayOrderRequest { payment_method: String::new(), ..pay(&id) }, vec!["payment_method"]),
        (PayOrderRequest { payment_method: long(65), ..pay(&id) }, vec!["payment_method"]),
        (PayOrderRequest { payment_method: "a\rb".to_owned(), ..pay(&id) }, vec!["payment_method"]),
        (PayOrderRequest { payment_reference: long(129), ..pay(&id) }, vec!["payment_reference"]),
        (PayOrderRequest { request_id: "\t".to_owned(), ..pay(&id) }, vec!["request_id"]),
        (PayOrderRequest { expected_revision: Some(0), ..pay(&id) }, vec!["expected_revision"]),
        (PayOrderRequest { expected_revision: Some(i64::MIN), ..pay(&id) }, vec!["expected_revision"]),
        (
            PayOrderRequest {
                request_id: " ".to_owned(),
                expected_revision: Some(-1),
                actor: long(129),
                order_id: "x".to_owned(),
                payment_method: " ".to_owned(),
                payment_reference: "\0".to_owned(),
            },
            vec!["request_id", "actor", "expected_revision", "order_id", "payment_method", "payment_reference"],
        ),
    ];
    for (request, fields) in pays {
        let refusal = client.pay_order(request.clone()).await.expect_err("bad");
        assert_violates(&refusal, &fields, &request);
    }
    let ships = [
        (ShipOrderRequest::default(), vec!["order_id", "tracking_number"]),
        (ShipOrderRequest { tracking_number: long(129), ..ship(&id) }, vec!["tracking_number"]),
        (ShipOrderRequest { carrier: long(65), ..ship(&id) }, vec!["carrier"]),
        (ShipOrderRequest { actor: "\u{1b}".to_owned(), ..ship(&id) }, vec!["actor"]),
    ];
    for (request, fields) in ships {
        let refusal = client.ship_order(request.clone()).await.expect_err("bad");
        assert_violates(&refusal, &fields, &request);
    }
    let cancels = [
        (CancelOrderRequest::default(), vec!["order_id"]),
        (CancelOrderRequest { reason: long(513), ..cancel(&id) }, vec!["reason"]),
        (CancelOrderRequest { reason: " ".to_owned(), ..cancel(&id) }, vec!["reason"]),
    ];
    for (request, fields) in cancels {
        let refusal = client.cancel_order(request.clone()).await.expect_err("bad");
        assert_violates(&refusal, &fields, &request);
    }
    for malformed in MALFORMED_IDS {
        let refusals = [
            client.pay_order(pay(malformed)).await.expect_err("bad"),
            client.ship_order(ship(malformed)).await.expect_err("bad"),
            client.deliver_order(deliver(malformed)).await.expect_err("bad"),
            client.cancel_order(cancel(malformed)).await.expect_err("bad"),
        ];
        for refusal in refusals {
            assert_violates(&refusal, &["order_id"], &malformed);
        }
    }
    let request = DeliverOrderRequest { actor: long(129), ..DeliverOrderRequest::default() };
    assert_violates(&client.deliver_order(request).await.expect_err("bad"), &["actor", "order_id"], &"deliver");
    assert_eq!(server.head().await, head, "nothing is written");
    client.pay_order(pay(&id)).await.expect("the next request works");
}

/// Invalid levels and tokens, with the fields that they violate.
fn bad_consistencies() -> Vec<(ReadConsistency, Vec<&'static str>)> {
    let token = || "x".repeat(60_000);
    vec![
        (ReadConsistency { level: 4, token: String::new() }, vec!["consistency.level"]),
        (ReadConsistency { level: -1, token: token() }, vec!["consistency.token", "consistency.level"]),
        (ReadConsistency { level: 2, token: String::new() }, vec!["consistency.token"]),
        (ReadConsistency { level: 2, token: token() }, vec!["consistency.token"]),
        (ReadConsistency { level: 3, token: "x".to_owned() }, vec!["consistency.token"]),
        (ReadConsistency { level: 0, token: "x".to_owned() }, vec!["consistency.token"]),
    ]
}

/// Invalid times.
fn bad_times() -> [Timestamp; 6] {
    [
        Timestamp { seconds: i64::MAX, nanos: 0 },
        Timestamp { seconds: i64::MIN, nanos: 0 },
        Timestamp { seconds: 253_402_300_800, nanos: 0 },
        Timestamp { seconds: -62_135_596_801, nanos: 0 },
        Timestamp { seconds: 0, nanos: -1 },
        Timestamp { seconds: 0, nanos: 1_000_000_000 },
    ]
}

#[tokio::test]
async fn an_invalid_query_for_orders_is_refused_with_every_violation() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    let mut client = server.queries().await;
    let get = |order_id: &str, at| GetOrderRequest { order_id: order_id.to_owned(), at, consistency: None };
    let mut cases = vec![(get("x", Some(At::Revision(-1))), vec!["order_id", "revision"])];
    cases.extend(MALFORMED_IDS.map(|malformed| (get(malformed, None), vec!["order_id"])));
    cases.extend([0, -1, i64::MIN].map(|revision| (get(&id, Some(At::Revision(revision))), vec!["revision"])));
    cases.extend(bad_times().map(|time| (get(&id, Some(At::AsOf(time))), vec!["as_of"])));
    for (consistency, fields) in bad_consistencies() {
        cases.push((GetOrderRequest { consistency: Some(consistency), ..get(&id, None) }, fields));
    }
    for (request, fields) in cases {
        assert_violates(&client.get_order(request.clone()).await.expect_err("bad"), &fields, &request);
    }

    let batch = |order_ids: &[&str]| BatchGetOrdersRequest {
        order_ids: order_ids.iter().map(ToString::to_string).collect(),
        consistency: None,
    };
    let mut cases = vec![
        (batch(&[]), vec!["order_ids"]),
        (batch(&["1"; 501]), vec!["order_ids"]),
        (batch(&[&id, "x", "2", ""]), vec!["order_ids[1]", "order_ids[3]"]),
    ];
    for (consistency, fields) in bad_consistencies() {
        cases.push((BatchGetOrdersRequest { consistency: Some(consistency), ..batch(&[&id]) }, fields));
    }
    for (request, fields) in cases {
        assert_violates(&client.batch_get_orders(request).await.expect_err("bad"), &fields, &fields);
    }
    for (consistency, fields) in bad_consistencies() {
        let request = GetOrderStatsRequest { consistency: Some(consistency) };
        assert_violates(&client.get_order_stats(request).await.expect_err("bad"), &fields, &fields);
    }
    client.get_order(get(&id, None)).await.expect("the next request works");
}

#[tokio::test]
async fn an_invalid_query_for_a_list_is_refused_with_every_violation() {
    let server = TestServer::start().await;
    let mut client = server.queries().await;
    let base = ListOrdersRequest::default;
    let mut cases = vec![
        (ListOrdersRequest { page_size: -1, ..base() }, vec!["page_size"]),
        (ListOrdersRequest { page_size: 501, ..base() }, vec!["page_size"]),
        (ListOrdersRequest { page_size: i32::MAX, ..base() }, vec!["page_size"]),
        (ListOrdersRequest { page_token: "x".to_owned(), ..base() }, vec!["page_token"]),
        (ListOrdersRequest { page_token: "A".repeat(60_000), ..base() }, vec!["page_token"]),
        (ListOrdersRequest { customer_id: long(129), ..base() }, vec!["customer_id"]),
        (ListOrdersRequest { customer_id: " ".to_owned(), ..base() }, vec!["customer_id"]),
        (ListOrdersRequest { status: 6, ..base() }, vec!["status"]),
        (ListOrdersRequest { status: -1, ..base() }, vec!["status"]),
        (ListOrdersRequest { order_by: 3, ..base() }, vec!["order_by"]),
        (
            ListOrdersRequest {
                page_size: -5,
                page_token: "?".to_owned(),
                customer_id: "\n".to_owned(),
                status: 99,
                created_after: Some(bad_times()[0]),
                created_before: Some(bad_times()[1]),
                order_by: -1,
                consistency: Some(ReadConsistency { level: 9, token: "x".to_owned() }),
            },
            vec![
                "page_size",
                "customer_id",
                "status",
                "created_after",
                "created_before",
                "order_by",
                "page_token",
                "consistency.token",
                "consistency.level",
            ],
        ),
    ];
    for time in bad_times() {
        cases.push((ListOrdersRequest { created_after: Some(time), ..base() }, vec!["created_after"]));
        cases.push((ListOrdersRequest { created_before: Some(time), ..base() }, vec!["created_before"]));
    }
    for (consistency, fields) in bad_consistencies() {
        cases.push((ListOrdersRequest { consistency: Some(consistency), ..base() }, fields));
    }
    for (request, fields) in cases {
        assert_violates(&client.list_orders(request).await.expect_err("bad"), &fields, &fields);
    }
    client.list_orders(base()).await.expect("the next request works");
}

#[tokio::test]
async fn an_invalid_query_for_events_is_refused_with_every_violation() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    let mut client = server.history().await;
    let of_order = |order_id: &str, from_revision| StreamOrderHistoryRequest {
        order_id: order_id.to_owned(),
        from_revision,
        follow: false,
    };
    let mut cases = vec![
        (of_order(&id, -1), vec!["from_revision"]),
        (of_order(&id, i64::MIN), vec!["from_revision"]),
        (of_order("x", -1), vec!["order_id", "from_revision"]),
    ];
    cases.extend(MALFORMED_IDS.map(|malformed| (of_order(malformed, 0), vec!["order_id"])));
    for (request, fields) in cases {
        assert_violates(&client.stream_order_history(request.clone()).await.expect_err("bad"), &fields, &request);
    }

    let base = StreamEventsRequest::default;
    let heartbeat = |seconds, nanos| StreamEventsRequest {
        heartbeat_interval: Some(prost_types::Duration { seconds, nanos }),
        follow: true,
        ..base()
    };
    let mut cases = vec![
        (StreamEventsRequest { start: 4, ..base() }, vec!["start"]),
        (StreamEventsRequest { start: -1, cursor: "x".to_owned(), ..base() }, vec!["cursor", "start"]),
        (StreamEventsRequest { start: 3, ..base() }, vec!["cursor"]),
        (StreamEventsRequest { start: 3, cursor: "x".to_owned(), ..base() }, vec!["cursor"]),
        (StreamEventsRequest { start: 3, cursor: "A".repeat(60_000), ..base() }, vec!["cursor"]),
        (StreamEventsRequest { start: 1, cursor: "x".to_owned(), ..base() }, vec!["cursor"]),
        (
            StreamEventsRequest { customer_ids: vec![String::new(), long(129)], ..base() },
            vec!["customer_ids[0]", "customer_ids[1]"],
        ),
        (StreamEventsRequest { customer_ids: vec!["c".to_owned(); 101], ..base() }, vec!["customer_ids"]),
        (StreamEventsRequest { order_ids: vec!["1".to_owned(), "x".to_owned()], ..base() }, vec!["order_ids[1]"]),
        (StreamEventsRequest { order_ids: vec!["1".to_owned(); 101], ..base() }, vec!["order_ids"]),
        (StreamEventsRequest { types: vec![1, 0, 6, -1], ..base() }, vec!["types[1]", "types[2]", "types[3]"]),
        (
            StreamEventsRequest {
                start: 3,
                cursor: "x".to_owned(),
                follow: true,
                customer_ids: vec![String::new()],
                types: vec![77],
                order_ids: vec!["x".to_owned()],
                heartbeat_interval: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
            },
            vec!["cursor", "customer_ids[0]", "order_ids[0]", "types[0]", "heartbeat_interval"],
        ),
    ];
    for (seconds, nanos) in
        [(0, 0), (0, 99_999_999), (3_600, 1), (-1, 0), (0, -1), (i64::MAX, i32::MAX), (i64::MIN, i32::MIN), (1, -1)]
    {
        cases.push((heartbeat(seconds, nanos), vec!["heartbeat_interval"]));
    }
    for (request, fields) in cases {
        assert_violates(&client.stream_events(request).await.expect_err("bad"), &fields, &fields);
    }
    client.stream_events(base()).await.expect("the next request works");
}
