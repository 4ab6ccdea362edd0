//! Two processes on one log.

use std::collections::HashMap;

use ordersystem::proto::catga::orders::v1::{
    CancelOrderRequest, GetOrderRequest, GetOrderResponse, OrderStatus,
    order_command_service_client::OrderCommandServiceClient,
};
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use crate::{
    audit::{assert_log, assert_published, listed, stats},
    durable::Durable,
    load::{create, get_order, new_order, pay, payment, settled},
    support::Process,
};

const ORDERS: usize = 200;

/// Each order is paid and cancelled from both nodes, all at the same time: one cancellation takes effect, and at most one payment before
/// it.
async fn one_winner_each(backend: Durable, more: &[&str]) {
    let settings = |worker: &str| {
        let own = [&["--worker-id", worker], more].concat();
        backend.settings().into_iter().chain(own.into_iter().map(str::to_owned)).collect::<Vec<_>>()
    };
    let (one, other) = (Process::serve(&settings("1")).await, Process::serve(&settings("2")).await);
    let mut tasks = JoinSet::new();
    for number in 0..ORDERS {
        let clients = [one.commands().await, other.commands().await];
        tasks.spawn(pay_and_cancel(clients, format!("order-{number}")));
    }
    let mut orders = HashMap::new();
    for (id, payments) in tasks.join_all().await {
        orders.insert(id, 2 + payments);
    }
    for node in [&one, &other] {
        assert_eq!(stats(node).await.total_orders, ORDERS as i64);
        assert_eq!(listed(node).await, orders);
        for id in orders.keys() {
            assert_eq!(get(node, id).await.order.unwrap().status(), OrderStatus::Cancelled);
        }
    }
    assert_published(backend.bus().await, &orders).await;
    for node in [one, other] {
        node.kill().await;
    }
    assert_log(&*backend.log().await, &orders).await;
}

/// The id of the order, and the number of payments that took effect.
async fn pay_and_cancel(clients: [OrderCommandServiceClient<Channel>; 2], name: String) -> (String, i64) {
    let [one, other] = clients;
    let created = create(&one, new_order("c", &name)).await;
    let id = created.order.unwrap().order_id;
    let payment_by = |node: &str| payment(&id, &format!("{name}-{node}"));
    let cancel = |node: &str| CancelOrderRequest {
        order_id: id.clone(),
        request_id: format!("cancel-{name}-{node}"),
        ..Default::default()
    };
    let (paid_by_one, paid_by_other, cancelled_by_one, cancelled_by_other) = tokio::join!(
        settled(&one, payment_by("one"), |mut client, request| async move { client.pay_order(request).await }),
        settled(&other, payment_by("other"), |mut client, request| async move { client.pay_order(request).await }),
        settled(&one, cancel("one"), |mut client, request| async move { client.cancel_order(request).await }),
        settled(&other, cancel("other"), |mut client, request| async move { client.cancel_order(request).await }),
    );
    let payments = winners([paid_by_one, paid_by_other]);
    assert_eq!(winners([cancelled_by_one, cancelled_by_other]), 1, "order {id} was cancelled twice, or never");
    assert!(payments <= 1, "order {id} was paid twice");
    (id, payments)
}

/// The number that took effect; the others were refused by the rules.
fn winners<T>(outcomes: [Result<T, Status>; 2]) -> i64 {
    let mut winners = 0;
    for outcome in outcomes {
        match outcome {
            Ok(_) => winners += 1,
            Err(status) => assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}"),
        }
    }
    winners
}

async fn get(node: &Process, id: &str) -> GetOrderResponse {
    let request = GetOrderRequest { order_id: id.to_owned(), ..Default::default() };
    let queries = node.queries().await;
    get_order(&queries, request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_an_order_paid_and_cancelled_from_two_nodes_at_once_has_one_legal_history() {
    one_winner_each(Durable::redis(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_an_order_paid_and_cancelled_from_two_nodes_at_once_has_one_legal_history() {
    one_winner_each(Durable::nats(), &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_shared_cache_an_order_paid_and_cancelled_from_two_nodes_at_once_has_one_legal_history() {
    one_winner_each(Durable::redis(), &["--redis-cache"]).await;
}

/// An order that one node has folded need not be read by the other: that one finds it in the shared cache, and is correct even if the entry
/// is stale.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_in_the_shared_cache_what_another_has_folded() {
    let backend = Durable::redis();
    let settings = |worker: &str| {
        let own = ["--redis-cache", "--worker-id", worker].map(str::to_owned);
        backend.settings().into_iter().chain(own).collect::<Vec<_>>()
    };
    let (one, other) = (Process::serve(&settings("1")).await, Process::serve(&settings("2")).await);
    let writing = one.commands().await;
    let mut ids = Vec::new();
    for number in 0..20 {
        let request_id = format!("order-{number}");
        let created = create(&writing, new_order("c", &request_id)).await;
        ids.push((created.order.unwrap().order_id, request_id));
    }
    for (id, request_id) in &ids {
        assert_eq!(get(&other, id).await.order.unwrap().revision, 1);
        // From now on the other node's own copy is stale; the log tells it so.
        pay(&writing, payment(id, request_id)).await;
        while get(&other, id).await.order.unwrap().revision < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let hits = other.metric("ordersystem_shared_cache_lookups_total{result=\"hit\"}").await;
    assert!(hits > 0.0, "nothing was found in the shared cache");
}
