//! Queries: one order at any point in time, many by id, lists and counts.

use std::{collections::HashMap, sync::Arc};

use ordersystem::{
    node::Backends,
    ports::clock::ManualClock,
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, GetOrderRequest, GetOrderStatsRequest, GetOrderStatsResponse,
        ListOrdersRequest, NewOrderItem, Order, OrderBy, OrderStatus, OrderSummary, ReadConsistency,
        get_order_request::At, order_query_service_client::OrderQueryServiceClient,
    },
};
use prost_types::Timestamp;
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use crate::support::{Meta, Step, TestServer, code_and_reason, give, new_order, order_after, usd, violated_fields};

type Queries = OrderQueryServiceClient<Channel>;

/// 2026-01-01T00:00:00Z.
const START_SECONDS: i64 = 1_767_225_600;

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: START_SECONDS + seconds, nanos: 0 }
}

/// A server whose clock is frozen at [`START_SECONDS`].
async fn server_with_clock() -> (TestServer, Arc<ManualClock>) {
    // The id generator starts a little ahead of its clock: let some time pass.
    let clock = Arc::new(ManualClock::new((START_SECONDS - 60) * 1_000_000));
    let server = TestServer::start_on(&[], Backends::memory(), Arc::<ManualClock>::clone(&clock)).await;
    clock.set_micros(START_SECONDS * 1_000_000);
    (server, clock)
}

fn strong() -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() })
}

fn at_least(token: &str) -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: token.to_owned() })
}

async fn get_at(client: &Queries, order_id: &str, moment: Option<At>) -> Result<Order, Status> {
    let request = GetOrderRequest { order_id: order_id.to_owned(), at: moment, consistency: None };
    Ok(client.clone().get_order(request).await?.into_inner().order.expect("order"))
}

/// All pages of a list.
async fn list_all(client: &Queries, mut request: ListOrdersRequest) -> Vec<OrderSummary> {
    let mut rows = Vec::new();
    loop {
        let page = client.clone().list_orders(request.clone()).await.expect("a page").into_inner();
        assert!(page.orders.len() <= if request.page_size == 0 { 50 } else { request.page_size as usize });
        rows.extend(page.orders);
        if page.next_page_token.is_empty() {
            return rows;
        }
        assert!(rows.len() < 10_000, "the pages have no end");
        request.page_token = page.next_page_token;
    }
}

fn ids(rows: &[OrderSummary]) -> Vec<&str> {
    rows.iter().map(|row| row.order_id.as_str()).collect()
}

#[tokio::test]
async fn an_order_can_be_seen_at_every_revision_and_time() {
    let (server, clock) = server_with_clock().await;
    let client = server.commands().await;
    let mut orders = vec![server.place_order("customer-1").await];
    let id = orders[0].order_id.clone();
    for step in [Step::Pay, Step::Ship, Step::Deliver] {
        clock.advance_ms(10_000);
        orders.push(give(&client, step, &id, Meta::default()).await.expect("accepted").order.expect("order"));
    }
    let queries = server.queries().await;
    assert_eq!(&get_at(&queries, &id, None).await.expect("found"), &orders[3]);
    for (index, order) in (0_i64..).zip(&orders) {
        assert_eq!(&get_at(&queries, &id, Some(At::Revision(index + 1))).await.expect("found"), order);
        // At that very moment, just before the next change, and nothing earlier.
        let late = Timestamp { nanos: 999_999_999, ..at(index * 10 + 9) };
        for moment in [at(index * 10), at(index * 10 + 5), late] {
            assert_eq!(&get_at(&queries, &id, Some(At::AsOf(moment))).await.expect("found"), order, "{moment:?}");
        }
    }
    let never = at(1_000_000);
    assert_eq!(&get_at(&queries, &id, Some(At::AsOf(never))).await.expect("found"), &orders[3]);
}

#[tokio::test]
async fn a_moment_before_the_order_existed_is_not_found() {
    let (server, _clock) = server_with_clock().await;
    let id = server.place_order("customer-1").await.order_id;
    let queries = server.queries().await;
    let before = Timestamp { seconds: START_SECONDS - 1, nanos: 999_999_999 };
    for moment in [At::AsOf(before), At::Revision(2), At::Revision(i64::MAX)] {
        let refusal = get_at(&queries, &id, Some(moment)).await.expect_err("not yet");
        assert_eq!(code_and_reason(&refusal), (Code::NotFound, "NOT_YET_THEN".to_owned()));
    }
    for moment in [None, Some(At::Revision(1)), Some(At::AsOf(at(5)))] {
        let refusal = get_at(&queries, "42", moment).await.expect_err("unknown");
        assert_eq!(code_and_reason(&refusal), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
    }
}

#[tokio::test]
async fn many_orders_come_in_the_requested_sequence() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let first = order_after(&client, "customer-1", &[Step::Pay]).await;
    let second = order_after(&client, "customer-2", &[]).await;
    let wanted = [&second.order_id, "42", &first.order_id, &second.order_id, "43"];
    let order_ids = wanted.iter().map(ToString::to_string).collect();
    let request = BatchGetOrdersRequest { order_ids, consistency: None };
    let reply = server.queries().await.batch_get_orders(request).await.expect("answered").into_inner();
    assert_eq!(reply.orders, [second.clone(), first, second]);
    assert_eq!(reply.not_found_order_ids, ["42", "43"]);
}

#[tokio::test]
async fn up_to_500_orders_come_in_one_reply() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    let mut queries = server.queries().await;
    let request = BatchGetOrdersRequest { order_ids: vec![id.clone(); 500], consistency: None };
    assert_eq!(queries.batch_get_orders(request).await.expect("answered").into_inner().orders.len(), 500);
    let request = BatchGetOrdersRequest { order_ids: vec![id; 501], consistency: None };
    let refusal = queries.batch_get_orders(request).await.expect_err("one too many");
    assert_eq!(violated_fields(&refusal), ["order_ids"]);
}

/// How often the store was asked for the events of an order.
async fn reads_of_orders(server: &TestServer) -> f64 {
    let text = reqwest::get(server.url("/metrics")).await.expect("answered").text().await.expect("text");
    let name =
        "db_client_operation_duration_seconds_count{db_system_name=\"inmemory\",db_operation_name=\"read_stream\"} ";
    text.lines().find_map(|line| line.strip_prefix(name)).expect("a metric").parse().expect("a number")
}

#[tokio::test]
async fn a_batch_reads_each_order_once_and_no_more_than_its_reply_can_have() {
    let server = TestServer::start().await;
    let (mut commands, mut queries) = (server.commands().await, server.queries().await);
    let mut order_ids = Vec::new();
    for _ in 0..60 {
        // Too large to be cached: each read goes to the store.
        let mut order = new_order("customer-1");
        order.items[0].name = "n".repeat(256);
        order.items = vec![order.items[0].clone(); 1_000];
        order_ids
            .push(commands.create_order(order).await.expect("placed").into_inner().order.expect("an order").order_id);
    }
    let before = reads_of_orders(&server).await;
    let request = BatchGetOrdersRequest { order_ids: vec![order_ids[0].clone(); 10], consistency: None };
    assert_eq!(queries.batch_get_orders(request).await.expect("answered").into_inner().orders.len(), 10);
    let once = reads_of_orders(&server).await - before;
    assert!(once <= 2.0, "{once} reads of one order");
    let request = BatchGetOrdersRequest { order_ids, consistency: None };
    let refusal = queries.batch_get_orders(request).await.expect_err("four times as large as a reply may be");
    assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
    let read = reads_of_orders(&server).await - before - once;
    assert!(read < 50.0 * once, "{read} reads of 60 orders");
}

/// 60 orders of 3 customers over 20 seconds, three per second, every tenth one paid; returns the ids in the order of creation.
async fn shop(server: &TestServer, clock: &ManualClock) -> Vec<Order> {
    let client = server.commands().await;
    let mut orders = Vec::new();
    for n in 0..60 {
        if n > 0 && n % 3 == 0 {
            clock.advance_ms(1_000);
        }
        let steps: &[Step] = if n % 10 == 0 { &[Step::Pay] } else { &[] };
        orders.push(order_after(&client, &format!("customer-{}", n % 4), steps).await);
    }
    orders
}

#[tokio::test]
async fn pages_have_neither_gaps_nor_repeats_in_both_orders() {
    let (server, clock) = server_with_clock().await;
    let orders = shop(&server, &clock).await;
    let queries = server.queries().await;
    let oldest_first: Vec<&str> = orders.iter().map(|order| order.order_id.as_str()).collect();
    let newest_first: Vec<&str> = oldest_first.iter().rev().copied().collect();
    for page_size in [0, 1, 7, 59, 60, 61, 500] {
        for (order_by, expected) in [
            (OrderBy::Unspecified, &newest_first),
            (OrderBy::CreatedDesc, &newest_first),
            (OrderBy::CreatedAsc, &oldest_first),
        ] {
            let request =
                ListOrdersRequest { page_size, order_by: order_by.into(), consistency: strong(), ..Default::default() };
            let rows = list_all(&queries, request).await;
            assert_eq!(&ids(&rows), expected, "page size {page_size}, {order_by:?}");
        }
    }
}

#[tokio::test]
async fn orders_placed_between_two_pages_neither_shift_nor_repeat_rows() {
    let (server, clock) = server_with_clock().await;
    let orders = shop(&server, &clock).await;
    let queries = server.queries().await;
    let mut request = ListOrdersRequest { page_size: 20, consistency: strong(), ..Default::default() };
    let first = queries.clone().list_orders(request.clone()).await.expect("a page").into_inner();
    clock.advance_ms(1_000);
    server.place_order("customer-late").await;
    request.page_token = first.next_page_token;
    let rest = list_all(&queries, request).await;
    let seen: Vec<&str> = ids(&first.orders).into_iter().chain(ids(&rest)).collect();
    let newest_first: Vec<&str> = orders.iter().rev().map(|order| order.order_id.as_str()).collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn every_filter_lists_exactly_the_orders_that_match() {
    let (server, clock) = server_with_clock().await;
    let orders = shop(&server, &clock).await;
    let queries = server.queries().await;
    let created = |order: &Order| order.created_at.expect("a time").seconds;
    let base = || ListOrdersRequest {
        order_by: OrderBy::CreatedAsc.into(),
        page_size: 7,
        consistency: strong(),
        ..Default::default()
    };
    type Passes = Box<dyn Fn(&Order) -> bool>;
    let cases: Vec<(ListOrdersRequest, Passes)> = vec![
        (
            ListOrdersRequest { customer_id: "customer-1".to_owned(), ..base() },
            Box::new(|order| order.customer_id == "customer-1"),
        ),
        (ListOrdersRequest { customer_id: "nobody".to_owned(), ..base() }, Box::new(|_| false)),
        (
            ListOrdersRequest { status: OrderStatus::Paid.into(), ..base() },
            Box::new(|order| order.status() == OrderStatus::Paid),
        ),
        (
            ListOrdersRequest { status: OrderStatus::Pending.into(), ..base() },
            Box::new(|order| order.status() == OrderStatus::Pending),
        ),
        (ListOrdersRequest { status: OrderStatus::Shipped.into(), ..base() }, Box::new(|_| false)),
        (
            ListOrdersRequest { created_after: Some(at(5)), ..base() },
            Box::new(move |order| created(order) >= START_SECONDS + 5),
        ),
        (
            ListOrdersRequest { created_before: Some(at(5)), ..base() },
            Box::new(move |order| created(order) < START_SECONDS + 5),
        ),
        (
            // A bound between two microseconds still counts.
            ListOrdersRequest { created_after: Some(Timestamp { nanos: 1, ..at(5) }), ..base() },
            Box::new(move |order| created(order) > START_SECONDS + 5),
        ),
        (
            ListOrdersRequest { created_before: Some(Timestamp { nanos: 1, ..at(5) }), ..base() },
            Box::new(move |order| created(order) <= START_SECONDS + 5),
        ),
        (
            ListOrdersRequest {
                customer_id: "customer-2".to_owned(),
                status: OrderStatus::Paid.into(),
                created_after: Some(at(2)),
                created_before: Some(at(15)),
                ..base()
            },
            Box::new(move |order| {
                order.customer_id == "customer-2"
                    && order.status() == OrderStatus::Paid
                    && (START_SECONDS + 2..START_SECONDS + 15).contains(&created(order))
            }),
        ),
    ];
    for (request, passes) in cases {
        let expected: Vec<&str> =
            orders.iter().filter(|order| passes(order)).map(|order| order.order_id.as_str()).collect();
        let rows = list_all(&queries, request.clone()).await;
        assert_eq!(ids(&rows), expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_row_shows_the_state_of_its_order() {
    let (server, clock) = server_with_clock().await;
    let client = server.commands().await;
    let placed = server.place_order("customer-1").await;
    clock.advance_ms(1_000);
    let paid = give(&client, Step::Pay, &placed.order_id, Meta::default()).await.expect("accepted").order;
    let paid = paid.expect("order");
    let request = ListOrdersRequest { consistency: strong(), ..Default::default() };
    let rows = list_all(&server.queries().await, request).await;
    let expected = OrderSummary {
        order_id: paid.order_id,
        customer_id: paid.customer_id,
        status: paid.status,
        total: paid.total,
        item_count: 1,
        revision: 2,
        created_at: paid.created_at,
        updated_at: paid.updated_at,
    };
    assert_eq!(rows, [expected]);
}

#[tokio::test]
async fn a_page_token_is_refused_by_any_other_query() {
    let (server, clock) = server_with_clock().await;
    shop(&server, &clock).await;
    let mut queries = server.queries().await;
    let request = ListOrdersRequest {
        page_size: 3,
        customer_id: "customer-1".to_owned(),
        consistency: strong(),
        ..Default::default()
    };
    let page_token = queries.list_orders(request.clone()).await.expect("a page").into_inner().next_page_token;
    assert!(!page_token.is_empty());
    let request = ListOrdersRequest { page_token, ..request };
    queries.list_orders(request.clone()).await.expect("the next page");
    // The page size may change between pages.
    queries.list_orders(ListOrdersRequest { page_size: 5, ..request.clone() }).await.expect("the next page");
    let others = [
        ListOrdersRequest { customer_id: "customer-2".to_owned(), ..request.clone() },
        ListOrdersRequest { customer_id: String::new(), ..request.clone() },
        ListOrdersRequest { status: OrderStatus::Paid.into(), ..request.clone() },
        ListOrdersRequest { created_after: Some(at(1)), ..request.clone() },
        ListOrdersRequest { created_before: Some(at(1)), ..request.clone() },
        ListOrdersRequest { order_by: OrderBy::CreatedAsc.into(), ..request.clone() },
    ];
    for other in others {
        let refusal = queries.list_orders(other).await.expect_err("another query");
        assert_eq!((refusal.code(), violated_fields(&refusal)), (Code::InvalidArgument, vec!["page_token".to_owned()]));
    }
}

async fn stats(server: &TestServer, consistency: Option<ReadConsistency>) -> GetOrderStatsResponse {
    let request = GetOrderStatsRequest { consistency };
    server.queries().await.get_order_stats(request).await.expect("answered").into_inner()
}

#[tokio::test]
async fn stats_of_an_empty_log_name_every_status_at_zero() {
    let server = TestServer::start().await;
    let stats = stats(&server, strong()).await;
    assert_eq!(stats.total_orders, 0);
    assert_eq!(stats.by_status.iter().map(|entry| entry.count).collect::<Vec<_>>(), [0; 5]);
    assert_eq!(stats.total_revenue, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_equal_the_log_after_a_storm_of_commands() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let mut work = JoinSet::new();
    for n in 0..200_i64 {
        let mut client = client.clone();
        work.spawn(async move {
            let mut request = new_order("customer-1");
            request.items[0].quantity = n + 1;
            let (currency, units, nanos) = [("USD", 1, 10_000_000), ("EUR", 2, 0), ("JPY", 7, 0)][n as usize % 3];
            let price = ordersystem::proto::Money { currency_code: currency.to_owned(), units, nanos };
            request.items[0].unit_price = Some(price);
            let placed = client.create_order(request).await.expect("accepted").into_inner().order.expect("order");
            let steps: &[Step] =
                [&[][..], &[Step::Pay], &[Step::Cancel], &[Step::Pay, Step::Ship], &[Step::Pay, Step::Cancel]]
                    [n as usize % 5];
            let mut last = placed;
            for step in steps {
                let id = last.order_id;
                last = give(&client, *step, &id, Meta::default()).await.expect("accepted").order.expect("order");
            }
            last
        });
    }
    let orders = work.join_all().await;
    let stats = stats(&server, strong()).await;
    assert_eq!(stats.total_orders, 200);
    let counts: HashMap<i32, i64> = stats.by_status.iter().map(|entry| (entry.status, entry.count)).collect();
    assert_eq!(counts.len(), 5);
    for status in 1..=5 {
        let expected = orders.iter().filter(|order| order.status == status).count();
        assert_eq!(counts[&status], i64::try_from(expected).expect("few"), "status {status}");
    }
    let mut nanos_by_currency = std::collections::BTreeMap::<String, i128>::new();
    for order in orders.iter().filter(|order| order.status() != OrderStatus::Cancelled) {
        let total = order.total.clone().expect("a total");
        *nanos_by_currency.entry(total.currency_code).or_default() +=
            i128::from(total.units) * 1_000_000_000 + i128::from(total.nanos);
    }
    let revenue: Vec<(String, i128)> = stats
        .total_revenue
        .into_iter()
        .map(|sum| (sum.currency_code, i128::from(sum.units) * 1_000_000_000 + i128::from(sum.nanos)))
        .collect();
    assert_eq!(revenue, nanos_by_currency.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn revenue_larger_than_any_order_is_still_exact() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    // Twice the largest total that an order can have.
    for _ in 0..2 {
        let mut request = new_order("customer-1");
        request.items[0].quantity = 1;
        request.items[0].unit_price = Some(usd(100_000_000_000_000, 0));
        client.create_order(request).await.expect("accepted");
    }
    let stats = stats(&server, strong()).await;
    assert_eq!(stats.total_revenue, [usd(200_000_000_000_000, 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_own_writes_at_once_under_load() {
    let server = TestServer::start().await;
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let (client, mut queries) = (server.commands().await, server.queries().await);
        writers.spawn(async move {
            let customer = format!("writer-{writer}");
            for n in 1..=25 {
                let placed = client.clone().create_order(new_order(&customer)).await.expect("accepted").into_inner();
                let id = placed.order.expect("order").order_id;
                let paid = give(&client, Step::Pay, &id, Meta::default()).await.expect("accepted");
                let consistency = if n % 2 == 0 { strong() } else { at_least(&paid.consistency_token) };
                let list = ListOrdersRequest {
                    customer_id: customer.clone(),
                    page_size: 500,
                    consistency: consistency.clone(),
                    ..Default::default()
                };
                let rows = queries.list_orders(list).await.expect("a page").into_inner().orders;
                assert_eq!(rows.len(), n, "every order so far");
                assert_eq!((rows[0].order_id.as_str(), rows[0].revision), (id.as_str(), 2));
                let get = GetOrderRequest { order_id: id.clone(), at: None, consistency: consistency.clone() };
                let order = queries.get_order(get).await.expect("found").into_inner().order.expect("order");
                assert_eq!(order.revision, 2);
                let batch = BatchGetOrdersRequest { order_ids: vec![id], consistency };
                let orders = queries.batch_get_orders(batch).await.expect("answered").into_inner().orders;
                assert_eq!(orders[0].revision, 2);
            }
        });
    }
    writers.join_all().await;
}

#[tokio::test]
async fn every_reply_carries_a_token_that_a_query_accepts() {
    let server = TestServer::start().await;
    let id = server.place_order("customer-1").await.order_id;
    let mut queries = server.queries().await;
    let get = GetOrderRequest { order_id: id.clone(), at: None, consistency: strong() };
    let from_get = queries.get_order(get).await.expect("found").into_inner().consistency_token;
    let batch = BatchGetOrdersRequest { order_ids: vec![id.clone()], consistency: at_least(&from_get) };
    let from_batch = queries.batch_get_orders(batch).await.expect("found").into_inner().consistency_token;
    let list = ListOrdersRequest { consistency: at_least(&from_batch), ..Default::default() };
    let from_list = queries.list_orders(list).await.expect("found").into_inner().consistency_token;
    let from_stats = stats(&server, at_least(&from_list)).await.consistency_token;
    let get = GetOrderRequest { order_id: id, at: None, consistency: at_least(&from_stats) };
    queries.get_order(get).await.expect("found");
}

#[tokio::test]
async fn a_token_of_another_log_is_refused() {
    let (one, other) = (TestServer::start().await, TestServer::start().await);
    let placed = one.commands().await.create_order(new_order("customer-1")).await.expect("accepted").into_inner();
    let request = ListOrdersRequest { consistency: at_least(&placed.consistency_token), ..Default::default() };
    let refusal = other.queries().await.list_orders(request).await.expect_err("another log");
    assert_eq!(code_and_reason(&refusal), (Code::InvalidArgument, "CURSOR_OF_ANOTHER_LOG".to_owned()));
    assert_eq!(violated_fields(&refusal), ["consistency.token"]);
}

#[tokio::test]
async fn a_batch_whose_reply_no_client_would_take_is_refused_with_the_limit() {
    let server = TestServer::start().await;
    let mut order = new_order("customer-1");
    let item = NewOrderItem { product_id: "p".repeat(100), name: "n".repeat(200), ..order.items[0].clone() };
    order.items = vec![item; 1_000];
    let mut order_ids = Vec::new();
    for _ in 0..20 {
        let placed = server.commands().await.create_order(order.clone()).await.expect("accepted").into_inner();
        order_ids.push(placed.order.expect("order").order_id);
    }
    let mut queries = server.queries().await;
    let batch = BatchGetOrdersRequest { order_ids: order_ids.clone(), consistency: None };
    let refusal = queries.batch_get_orders(batch).await.expect_err("too large");
    assert_eq!(code_and_reason(&refusal), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE".to_owned()));
    let fewer = BatchGetOrdersRequest { order_ids: order_ids[..10].to_vec(), consistency: None };
    assert_eq!(queries.batch_get_orders(fewer).await.expect("fits").into_inner().orders.len(), 10);
}
