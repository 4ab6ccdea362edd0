//! The conditions that must hold when all is quiet again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ordersystem::{
    ports::{
        event_store::{Direction, EventStore, Position},
        message_bus::{BusError, MessageBus},
    },
    proto::catga::orders::v1::{
        ConsistencyLevel, GetOrderStatsRequest, GetOrderStatsResponse, ListOrdersRequest, ReadConsistency,
    },
};
use tokio::time::{Instant, timeout};

use crate::{load::answered, support::Process};

/// The totals, as fresh as the log.
pub async fn stats(service: &Process) -> GetOrderStatsResponse {
    let consistency = ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() };
    let request = GetOrderStatsRequest { consistency: Some(consistency) };
    let queries = service.queries().await;
    answered(&queries, request, |mut client, request| async move { client.get_order_stats(request).await }).await
}

/// Checks that the list has exactly these orders, with these ids and revisions, and that the totals count each as a dollar.
pub async fn assert_list_and_stats(service: &Process, orders: &HashMap<String, i64>) {
    let stats = stats(service).await;
    assert_eq!(stats.total_orders, orders.len() as i64);
    assert_eq!(stats.total_revenue.iter().map(|sum| sum.units).sum::<i64>(), orders.len() as i64, "a dollar each");
    assert_eq!(&listed(service).await, orders);
}

/// Every order of the list with its revision.
pub async fn listed(service: &Process) -> HashMap<String, i64> {
    let queries = service.queries().await;
    let mut listed = HashMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListOrdersRequest { page_size: 100, page_token, ..Default::default() };
        let page =
            answered(&queries, request, |mut client, request| async move { client.list_orders(request).await }).await;
        for row in page.orders {
            assert_eq!(listed.insert(row.order_id, row.revision), None, "listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return listed;
        }
    }
}

/// Checks that the log itself, read without the service, contains these orders with revisions from 1 to theirs, and nothing else.
pub async fn assert_log(store: &dyn EventStore, orders: &HashMap<String, i64>) {
    let mut revisions: HashMap<String, i64> = HashMap::new();
    let mut from = Position(0);
    loop {
        let events = store.read_log(from, Direction::Forward, 1_000).await.unwrap();
        let Some(last) = events.last() else { break };
        from = last.position;
        for event in &events {
            let revision = revisions.entry(event.stream.to_string()).or_default();
            assert_eq!(event.revision as i64, *revision + 1);
            *revision += 1;
        }
    }
    assert_eq!(&revisions, orders);
}

/// Checks that the bus, read by a new consumer, has every event of these orders: in order for each order, once duplicates are dropped.
pub async fn assert_published(bus: Arc<dyn MessageBus>, orders: &HashMap<String, i64>) {
    let wanted: i64 = orders.values().sum();
    let consumer = bus.consumer("audit").await.unwrap();
    let mut last_seen: BTreeMap<u64, u64> = BTreeMap::new();
    let mut seen = 0;
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while seen < wanted {
        assert!(Instant::now() < give_up_at, "{seen} of {wanted} events are on the bus");
        let Ok(batch) = timeout(Duration::from_secs(5), consumer.next_batch(500)).await else { continue };
        let batch = match batch {
            Err(BusError::Unavailable(_)) => continue,
            batch => batch.unwrap(),
        };
        for delivery in &batch {
            let message = &delivery.message;
            let last = last_seen.entry(message.key).or_default();
            if message.sequence > *last {
                assert_eq!(message.sequence, *last + 1, "order {}: an event is missing or out of order", message.key);
                *last = message.sequence;
                seen += 1;
            }
        }
        let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
        // Messages that are not acknowledged are redelivered.
        if let Err(error) = consumer.ack(&receipts).await {
            assert!(matches!(error, BusError::Unavailable(_)), "{error}");
        }
    }
    let published: HashMap<String, i64> =
        last_seen.into_iter().map(|(key, revision)| (key.to_string(), revision as i64)).collect();
    assert_eq!(&published, orders);
}
