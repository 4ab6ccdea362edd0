//! Every place where money is multiplied or added, at its bounds and beyond them, through both APIs: each reply is exact or a refusal.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use ordersystem::{
    codec::{self, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money as Amount},
        order::{Change, Item, Items, OrderEvent, Quantity, item::MAX_TOTAL_MINOR},
        text::Text,
        timestamp::Timestamp,
    },
    node::Backends,
    ports::{
        clock::SystemClock,
        event_store::{Commit, CommitId, ExpectedRevision, StreamId},
    },
    proto::{
        Money,
        catga::orders::v1::{
            ConsistencyLevel, CreateOrderRequest, GetOrderRequest, GetOrderStatsRequest, ListOrdersRequest,
            NewOrderItem, Order, ReadConsistency,
        },
    },
};
use serde_json::Value;
use tonic::{Code, Status};

use crate::{
    rest::{Reply, Rest},
    support::{CommandClient, Meta, Step, TestServer, code_and_reason, give},
};

/// A currency for each number of decimals.
const CURRENCIES: [(&str, u32); 4] = [("JPY", 0), ("USD", 2), ("KWD", 3), ("UYW", 4)];
const MOST: i128 = MAX_TOTAL_MINOR as i128;
const MAX_64: i128 = i64::MAX as i128;

/// Lines of an order: the number of pieces, and the price of one in minor units.
type Lines = Vec<(i64, i128)>;

/// The total of an order, if the order is valid.
fn total(lines: &Lines) -> Option<i128> {
    let is_valid = |(pieces, price): &(i64, i128)| (1..=1_000_000).contains(pieces) && (0..=MAX_64).contains(price);
    let total: i128 = lines.iter().map(|(pieces, price)| i128::from(*pieces) * price).sum();
    (lines.iter().all(is_valid) && (1..=1_000).contains(&lines.len()) && total <= MOST).then_some(total)
}

fn all_lines() -> Vec<Lines> {
    let prices = [-1, 0, 1, MOST / 1_000_000, MOST / 1_000_000 + 1, MOST / 2, MOST / 2 + 1, MOST - 1, MOST, MOST + 1];
    let prices = prices.into_iter().chain([MAX_64 / 1_000_000, MAX_64 / 1_000_000 + 1, MAX_64 - 1, MAX_64]);
    let pieces = [i64::MIN, -1, 0, 1, 2, 999_999, 1_000_000, 1_000_001, u32::MAX.into(), 1 << 32, i64::MAX];
    let mut lines: Vec<Lines> = prices.flat_map(|price| pieces.map(|pieces| vec![(pieces, price)])).collect();
    let share = MOST / 1_000;
    lines.push(vec![(1, share); 1_000]);
    lines.push([vec![(1, share); 999], vec![(1, share + 1)]].concat());
    lines.push(vec![(1_000_000, share / 1_000_000); 1_000]);
    lines.push(vec![(1_000_000, share / 1_000_000 + 1); 1_000]);
    // Sums beyond 64 bits: of two amounts, and of as many as possible.
    lines.push(vec![(1, MAX_64); 2]);
    lines.push(vec![(1_000_000, MAX_64); 1_000]);
    lines.push(vec![(1, MOST), (1, 0)]);
    lines.push(vec![(1, MOST), (1, 1)]);
    lines
}

/// Minor units as the proto represents them; amounts that it cannot hold as its largest number.
fn money(code: &str, decimals: u32, minor: i128) -> Money {
    let per_unit = 10_i128.pow(decimals);
    let nanos = (minor % per_unit) * 10_i128.pow(9 - decimals);
    let parts = i64::try_from(minor / per_unit).map(|units| (units, i32::try_from(nanos).expect("below 10^9")));
    let (units, nanos) = parts.unwrap_or((i64::MAX, 0));
    Money { currency_code: code.to_owned(), units, nanos }
}

/// Minor units as decimal text.
fn decimal(decimals: u32, minor: i128) -> String {
    let (sign, minor) = if minor < 0 { ("-", -minor) } else { ("", minor) };
    let per_unit = 10_i128.pow(decimals);
    let (whole, fraction) = (minor / per_unit, minor % per_unit);
    if decimals == 0 {
        return format!("{sign}{whole}");
    }
    format!("{sign}{whole}.{fraction:0width$}", width = decimals as usize)
}

fn order(items: Vec<NewOrderItem>) -> CreateOrderRequest {
    CreateOrderRequest { customer_id: "c".to_owned(), items, ..Default::default() }
}

fn item(quantity: i64, unit_price: Money) -> NewOrderItem {
    NewOrderItem { product_id: "p".to_owned(), quantity, unit_price: Some(unit_price), ..Default::default() }
}

async fn place(client: &CommandClient, request: CreateOrderRequest) -> Result<Order, Status> {
    let placed = client.clone().create_order(request).await?.into_inner();
    Ok(placed.order.expect("an order"))
}

async fn post(rest: &Rest, currency: &str, lines: &[(String, String)]) -> Reply {
    let items =
        lines.iter().map(|(pieces, price)| format!(r#"{{"productId":"p","quantity":{pieces},"price":{price}}}"#));
    let items = items.collect::<Vec<_>>().join(",");
    let body = format!(r#"{{"customerId":"c","currency":"{currency}","items":[{items}]}}"#);
    Reply::of(rest.posting("/orders", body)).await
}

/// The number after `key`, digit by digit.
fn number<'a>(text: &'a str, key: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key}: {text}"));
    rest.split([',', '}']).next().expect("a number")
}

#[track_caller]
fn assert_refused(what: &str, refused: &Status) {
    assert_eq!(code_and_reason(refused), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()), "{what}");
}

/// Places all lines through both APIs; returns the accepted totals by currency.
async fn place_all(rest: &Rest) -> BTreeMap<&'static str, Vec<i128>> {
    let (client, mut taken) = (rest.server.commands().await, BTreeMap::<_, Vec<i128>>::new());
    for ((code, decimals), lines) in CURRENCIES.into_iter().flat_map(|of| all_lines().into_iter().map(move |l| (of, l)))
    {
        let what = format!("{code}: {} lines, first {:?}", lines.len(), lines[0]);
        let total = total(&lines);
        let items = lines.iter().map(|(pieces, price)| item(*pieces, money(code, decimals, *price))).collect();
        match (place(&client, order(items)).await, total) {
            (Ok(order), Some(total)) => assert_eq!(order.total, Some(money(code, decimals, total)), "{what}"),
            (Err(refused), None) => assert_refused(&what, &refused),
            (answer, _) => panic!("{what}: {answer:?}"),
        }
        let texts: Vec<_> =
            lines.iter().map(|(pieces, price)| (pieces.to_string(), decimal(decimals, *price))).collect();
        let reply = post(rest, code, &texts).await;
        match total {
            Some(total) => {
                assert_eq!(reply.status, 201, "{what}: {reply:?}");
                assert_eq!(number(&reply.text, "total"), decimal(decimals, total), "{what}");
                taken.entry(code).or_default().extend([total; 2]);
            }
            None => assert!(!reply.violations().is_empty(), "{what}"),
        }
    }
    taken
}

fn strong() -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() })
}

/// Both APIs must report these sums as revenue.
async fn assert_revenue(rest: &Rest, sums: &BTreeMap<&'static str, i128>) {
    let stats = GetOrderStatsRequest { consistency: strong() };
    let stats = rest.server.queries().await.get_order_stats(stats).await.expect("stats").into_inner();
    let decimals: BTreeMap<_, _> = CURRENCIES.into_iter().collect();
    let expected: Vec<_> = sums.iter().map(|(code, sum)| money(code, decimals[code], *sum)).collect();
    assert_eq!(stats.total_revenue, expected);
    let by_token = rest.request(reqwest::Method::GET, "/stats").header("X-Consistency-Token", &stats.consistency_token);
    let reply = Reply::of(by_token).await;
    assert_eq!(reply.status, 200);
    assert_eq!(number(&reply.text, "totalRevenue"), decimal(2, sums.get("USD").copied().unwrap_or_default()));
    let (_, by_currency) = reply.text.split_once("\"revenueByCurrency\":").expect("sums");
    for (code, sum) in sums {
        assert_eq!(number(by_currency, code), decimal(decimals[code], *sum), "{code}");
    }
}

/// Every page of the list, from both APIs: its totals, added up by currency.
async fn listed(rest: &Rest) -> BTreeMap<String, i128> {
    let (mut sums, mut page_token) = (BTreeMap::new(), String::new());
    let (mut rest_sums, mut path) = (BTreeMap::new(), "/orders?pageSize=100".to_owned());
    let decimals: BTreeMap<_, _> = CURRENCIES.into_iter().collect();
    loop {
        let request = ListOrdersRequest { page_size: 100, page_token, consistency: strong(), ..Default::default() };
        let page = rest.server.queries().await.list_orders(request).await.expect("a page").into_inner();
        for total in page.orders.into_iter().map(|order| order.total.expect("a total")) {
            let decimals = decimals[total.currency_code.as_str()];
            let minor =
                i128::from(total.units) * 10_i128.pow(decimals) + i128::from(total.nanos) / 10_i128.pow(9 - decimals);
            *sums.entry(total.currency_code).or_insert(0) += minor;
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    loop {
        let reply = rest.get(&path).await;
        let rows: Vec<Box<serde_json::value::RawValue>> = serde_json::from_str(&reply.text).expect("rows");
        for row in rows {
            let code = serde_json::from_str::<Value>(row.get()).expect("a row")["currency"]
                .as_str()
                .expect("a code")
                .to_owned();
            let minor: i128 = number(row.get(), "total").replace('.', "").parse().expect("a number");
            *rest_sums.entry(code).or_insert(0) += minor;
        }
        match reply.next() {
            Some(next) => path = next,
            None => break,
        }
    }
    assert_eq!(sums, rest_sums);
    sums
}

fn sums_of(taken: &BTreeMap<&'static str, Vec<i128>>) -> BTreeMap<&'static str, i128> {
    taken.iter().map(|(code, totals)| (*code, totals.iter().sum())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn orders_at_the_bounds_are_exact_or_refused_and_so_are_their_sums() {
    let rest = Rest::start().await;
    let mut taken = place_all(&rest).await;
    assert_eq!(taken.len(), CURRENCIES.len());
    assert!(taken.values().all(|totals| totals.contains(&MOST) && totals.contains(&0)), "{taken:?}");
    assert_revenue(&rest, &sums_of(&taken)).await;
    let listed = listed(&rest).await;
    assert_eq!(listed, sums_of(&taken).into_iter().map(|(code, sum)| (code.to_owned(), sum)).collect());
    // Cancelled orders are subtracted again, down to the last one.
    let client = rest.server.commands().await;
    let first = rest.get("/orders?pageSize=500").await.json();
    for row in first.as_array().expect("rows").iter().filter(|row| row["currency"] == "UYW") {
        let id = row["orderId"].as_str().expect("an id");
        give(&client, Step::Cancel, id, Meta::default()).await.unwrap_or_else(|status| panic!("{status:?}"));
    }
    taken.remove("UYW");
    assert_revenue(&rest, &sums_of(&taken)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_that_no_currency_can_express_are_refused_by_both_apis() {
    let rest = Rest::start().await;
    let client = rest.server.commands().await;
    for (code, decimals) in CURRENCIES {
        for (units, nanos) in [
            (i64::MAX, 0),
            (i64::MAX, 999_999_999),
            (i64::MAX, i32::MAX),
            (i64::MIN, 0),
            (i64::MIN, i32::MIN),
            (0, i32::MIN),
            (0, 1_000_000_000),
            (1, -1),
            (-1, 1),
            (0, 1),
            (0, -1),
            (-1, 0),
        ] {
            let price = Money { currency_code: code.to_owned(), units, nanos };
            let refused = place(&client, order(vec![item(1, price)])).await.expect_err("refused");
            assert_refused(&format!("{code} {units} {nanos}"), &refused);
        }
        let finer = format!("0.{}1", "0".repeat(decimals as usize));
        let digits = "9".repeat(400);
        for price in [
            "9223372036854775808",
            "18446744073709551616",
            "170141183460469231731687303715884105728",
            &digits,
            "1e19",
            "1e38",
            "1e39",
            "1e400",
            "1e9223372036854775807",
            "1e99999999999999999999",
            "1e-400",
            "1e-99999999999999999999",
            &finer,
            "-1",
            "-9223372036854775808",
            "-1e400",
        ] {
            let reply = post(&rest, code, &[("1".to_owned(), price.to_owned())]).await;
            assert_eq!(reply.violations(), ["items[0].price"], "{code} {price}");
        }
        for pieces in ["0", "-1", "1000001", "9223372036854775808", "1e400", "1.5", "-9223372036854775809"] {
            let reply = post(&rest, code, &[(pieces.to_owned(), "1".to_owned())]).await;
            assert_eq!(reply.violations(), ["items[0].quantity"], "{code} {pieces}");
        }
        for zero in ["0", "-0", "0.0", "0e400", "0e-400"] {
            let reply = post(&rest, code, &[("1".to_owned(), zero.to_owned())]).await;
            assert_eq!(
                (reply.status.as_u16(), number(&reply.text, "total")),
                (201, decimal(decimals, 0).as_str()),
                "{zero}"
            );
        }
    }
    assert_eq!(rest.get("/stats").await.status, 200);
}

/// An order as earlier versions accepted it, with a total of up to 64 bits.
fn stored(number: u64, code: &str, minor: i64) -> Commit {
    let price = Amount::from_minor(minor, Currency::parse(code).expect("a currency")).expect("an amount");
    let (product_id, quantity) = (Text::parse("p").expect("an id"), Quantity::new(1).expect("one"));
    let items = Items::new(vec![Item { product_id, name: None, quantity, unit_price: price }]).expect("items");
    let event = OrderEvent {
        order_id: OrderId::new(number).expect("an id"),
        customer_id: Text::parse("c").expect("an id"),
        at: Timestamp::from_micros(1_700_000_000_000_000),
        change: Change::Created { items, shipping_address: None },
    };
    let bytes: Bytes = codec::encode(
        &event,
        Record { revision: 1, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
    );
    let expected = ExpectedRevision::NoStream;
    Commit { id: CommitId::random(), stream: StreamId(number), expected, request: None, events: vec![bytes] }
}

async fn totals_of_earlier_versions_are_exact(backends: Backends) {
    let rest = Rest::of(TestServer::start_on(&[], backends, Arc::new(SystemClock)).await);
    let mut sums = BTreeMap::new();
    for (index, (code, decimals)) in CURRENCIES.into_iter().enumerate() {
        for copy in 0..3 {
            let number = 1_000 + 10 * index as u64 + copy;
            rest.server.store().append(stored(number, code, i64::MAX)).await.expect("stored");
            *sums.entry(code).or_insert(0) += MAX_64;
            let get = GetOrderRequest { order_id: number.to_string(), at: None, consistency: strong() };
            let order = rest.server.queries().await.get_order(get).await.expect("an order").into_inner().order;
            assert_eq!(order.expect("an order").total, Some(money(code, decimals, MAX_64)));
            let reply = rest.get(&format!("/orders/{number}")).await;
            assert_eq!(self::number(&reply.text, "total"), decimal(decimals, MAX_64));
            // Two of them no longer fit into 64 bits of minor units, three no longer into 64 bits of whole units.
            assert_revenue(&rest, &sums).await;
        }
    }
    listed(&rest).await;
    let events = rest.get("/events?pageSize=500").await;
    assert_eq!((events.status.as_u16(), events.json().as_array().map(Vec::len)), (200, Some(12)));
    assert_eq!(self::number(&events.text, "total"), decimal(0, MAX_64));
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_of_earlier_versions_are_exact_in_memory() {
    totals_of_earlier_versions_are_exact(Backends::memory()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn totals_of_earlier_versions_are_exact_in_a_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().to_str().expect("text").to_owned();
    let config = crate::support::config(&[("persistence", "embedded"), ("data-dir", &dir)]);
    totals_of_earlier_versions_are_exact(Backends::of(&config).await.expect("opens")).await;
}
