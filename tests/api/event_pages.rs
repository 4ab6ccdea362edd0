//! Pages of events: bounded by what it takes to send them, and admitted as the calls that they are.

use std::sync::Arc;

use ordersystem::{ports::clock::SystemClock, proto::catga::orders::v1::CreateOrderRequest};
use tokio::task::JoinSet;

use crate::{
    faulty::{FaultyStore, Mode},
    rest::Rest,
    support::{TestServer, new_order, soon},
};

/// The JSON after which a page is full.
const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// An order of 1,000 items with names of 100 characters.
fn large_order(name: &str) -> CreateOrderRequest {
    let mut order = new_order("customer-1");
    order.items[0].name = name.repeat(100);
    order.items = vec![order.items[0].clone(); 1_000];
    order
}

/// The ids of the events of all pages from `path` on, and the number of pages.
async fn walk(rest: &Rest, path: &str) -> (Vec<String>, usize) {
    let (mut next, mut ids, mut pages) = (Some(path.to_owned()), Vec::new(), 0);
    while let Some(path) = next {
        let reply = rest.get(&path).await;
        assert_eq!(reply.status, 200, "{path}: {reply:?}");
        let events = reply.json();
        let events = events.as_array().expect("a list");
        assert!(reply.text.len() <= PAGE_BYTES, "{} bytes", reply.text.len());
        ids.extend(events.iter().map(|event| event["eventId"].as_str().expect("text").to_owned()));
        pages += 1;
        next = reply.next();
    }
    (ids, pages)
}

#[tokio::test]
async fn a_page_of_large_events_has_fewer_and_leads_to_the_next() {
    let rest = Rest::start().await;
    let mut commands = rest.server.commands().await;
    let mut expected = Vec::new();
    for _ in 0..40 {
        let order =
            commands.create_order(large_order("n")).await.expect("placed").into_inner().order.expect("an order");
        expected.push(format!("{}-1", order.order_id));
    }
    let (found, pages) = walk(&rest, "/events?pageSize=100").await;
    assert_eq!(found, expected);
    assert!((2..20).contains(&pages), "{pages} pages");
    // The largest text, and the one that takes the most when it is escaped.
    for name in ["😀", "\""] {
        let mut largest = large_order(name);
        for item in &mut largest.items {
            item.name = name.repeat(256);
            item.product_id = name.repeat(128);
        }
        let order = commands.create_order(largest).await.expect("placed").into_inner().order.expect("an order");
        let path = format!("/orders/{}/history?pageSize=100", order.order_id);
        assert_eq!(walk(&rest, &path).await.0, [format!("{}-1", order.order_id)]);
    }
}

#[tokio::test]
async fn pages_of_events_are_admitted_like_batches() {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("max-in-flight", "4")], backends, Arc::new(SystemClock)).await;
    let rest = Arc::new(Rest::of(server));
    let id = rest.order("c").await;
    for path in ["/events".to_owned(), format!("/orders/{id}/history")] {
        for switch in [&store.batches, &store.reads] {
            switch.set(Mode::Hangs);
        }
        // Half of the limit is for what reads many.
        let mut pages = JoinSet::new();
        for _ in 0..3 {
            let (rest, path) = (Arc::clone(&rest), path.clone());
            pages.spawn(async move { rest.get(&path).await });
        }
        let refused = soon("a refusal", pages.join_next()).await.expect("an answer").expect("no panic");
        refused.problem(429, "OVERLOADED");
        for switch in [&store.batches, &store.reads] {
            switch.set(Mode::Works);
        }
        for reply in pages.join_all().await {
            assert_eq!((reply.status.as_u16(), reply.json().as_array().map(Vec::len)), (200, Some(1)), "{path}");
        }
    }
}
