//! kill -9 of the service at random moments under load: every acknowledged command is there exactly once, and everything was published.

use std::time::Duration;

use ordersystem::proto::catga::orders::v1::GetOrderRequest;

use crate::{
    audit::{assert_list_and_stats, assert_log, assert_published},
    durable::Durable,
    load::{self, Known, create, get_order, new_order},
    support::Process,
};

const CLIENTS: usize = 24;
/// The minimum number of acknowledged orders, and of kills.
const ORDERS: usize = 2_000;
const KILLS: usize = 4;

async fn killed_at_random(backend: Durable) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let known = Known::default();
    let settings = backend.settings();
    let mut kills = 0;
    while kills < KILLS || known.acknowledged() < ORDERS {
        assert!(kills < 60, "seed {seed}: only {} orders were acknowledged", known.acknowledged());
        let service = Process::serve(&settings).await;
        let clients = load::until_gone(&service, CLIENTS, kills, &known).await;
        tokio::time::sleep(Duration::from_millis(random.u64(100..1_500))).await;
        service.kill().await;
        clients.join_all().await;
        kills += 1;
    }
    let service = Process::serve(&settings).await;
    load::retry_all(&service, &known).await;
    let orders = known.orders();
    println!("{} orders, {kills} kills", orders.len());
    assert_list_and_stats(&service, &orders).await;
    assert_published(backend.bus().await, &orders).await;
    service.kill().await;
    assert_log(&*backend.log().await, &orders).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_embedded_every_acknowledged_command_survives_kills_at_random_moments() {
    killed_at_random(Durable::embedded()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_redis_every_acknowledged_command_survives_kills_at_random_moments() {
    killed_at_random(Durable::redis()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_nats_every_acknowledged_command_survives_kills_at_random_moments() {
    killed_at_random(Durable::nats()).await;
}

/// Under load the next commit would soon persist one that was acknowledged too early. Here nothing follows it.
async fn killed_when_it_has_acknowledged(backend: Durable) {
    let settings = backend.settings();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let service = Process::serve(&settings).await;
        let queries = service.queries().await;
        for order_id in acknowledged.clone() {
            // It was acknowledged.
            let get = GetOrderRequest { order_id, ..Default::default() };
            get_order(&queries, get).await;
        }
        let client = service.commands().await;
        let last = new_order("c", &format!("last-{round}"));
        let reply = create(&client, last).await;
        service.kill().await;
        acknowledged.push(reply.order.unwrap().order_id);
    }
    assert_log(&*backend.log().await, &acknowledged.into_iter().map(|order_id| (order_id, 1)).collect()).await;
}

#[tokio::test]
async fn on_embedded_commands_acknowledged_at_the_moment_of_the_kill_survive() {
    killed_when_it_has_acknowledged(Durable::embedded()).await;
}

#[tokio::test]
async fn on_redis_commands_acknowledged_at_the_moment_of_the_kill_survive() {
    killed_when_it_has_acknowledged(Durable::redis()).await;
}

#[tokio::test]
async fn on_nats_commands_acknowledged_at_the_moment_of_the_kill_survive() {
    killed_when_it_has_acknowledged(Durable::nats()).await;
}
