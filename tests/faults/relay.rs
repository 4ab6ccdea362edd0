//! From the log to the handlers with kill -9 in between: the handler is the OrderEventLogger, and its log lines are the record of its work.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use ordersystem::proto::{
    Money,
    catga::orders::v1::{
        CreateOrderRequest, NewOrderItem, PayOrderRequest, order_command_service_client::OrderCommandServiceClient,
    },
};
use tokio::{task::JoinSet, time::sleep};
use tonic::transport::Channel;

use crate::{
    redis_server::{DURABLE, RedisServer},
    support::{Process, until},
};

const ROUNDS: usize = 6;
const CLIENTS: usize = 16;
/// So that the handler logs each event.
const TRACED: [&str; 2] = ["--log-level", "info,order_events=debug"];

/// The events of acknowledged commands, by id.
type Acknowledged = Arc<Mutex<HashSet<String>>>;

fn new_order() -> CreateOrderRequest {
    let price = Money { currency_code: "USD".to_owned(), units: 1, nanos: 0 };
    let item =
        NewOrderItem { product_id: "prod-1".to_owned(), quantity: 1, unit_price: Some(price), ..Default::default() };
    // Long, so that few events fill the pipe of the log.
    let request_id = format!("{:0>120}", fastrand::u64(..));
    CreateOrderRequest { customer_id: "c".repeat(100), request_id, items: vec![item], ..Default::default() }
}

/// Places orders and pays them until the service is gone.
async fn work(mut client: OrderCommandServiceClient<Channel>, acknowledged: Acknowledged) {
    loop {
        let Ok(reply) = client.create_order(new_order()).await else { return };
        let order_id = reply.into_inner().order.unwrap().order_id;
        acknowledged.lock().unwrap().insert(format!("{order_id}-1"));
        let request_id = format!("{:0>120}", fastrand::u64(..));
        let payment = PayOrderRequest {
            order_id: order_id.clone(),
            payment_method: "card".to_owned(),
            request_id,
            ..Default::default()
        };
        let Ok(_) = client.pay_order(payment).await else { return };
        acknowledged.lock().unwrap().insert(format!("{order_id}-2"));
    }
}

/// The events that the handler has logged, in its order.
fn handled(lines: &[String]) -> Vec<String> {
    let event = |line: &String| {
        let rest = line.split_once("order_events: order event event_id=")?.1;
        Some(rest.split_whitespace().next()?.to_owned())
    };
    lines.iter().filter_map(event).collect()
}

/// Within the log of each process no event of an order precedes its predecessors.
fn assert_in_order(trace: &[String], seed: u64) {
    let mut last: HashMap<&str, u64> = HashMap::new();
    for event in trace {
        let (order, revision) = event.split_once('-').unwrap();
        let revision: u64 = revision.parse().unwrap();
        let last = last.entry(order).or_default();
        assert!(revision <= *last + 1, "seed {seed}: {event} was handled after {last}");
        *last = revision.max(*last);
    }
}

/// Kills the service, with these settings, at random moments under load: every acknowledged event is handled in the end.
async fn kill_again_and_again(settings: &[String]) {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let acknowledged = Acknowledged::default();
    let mut trace = Vec::new();
    for _ in 0..ROUNDS {
        let service = Process::serve(settings).await;
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            clients.spawn(work(service.commands().await, Arc::clone(&acknowledged)));
        }
        sleep(Duration::from_millis(random.u64(20..900))).await;
        // Half of the time the handler, which logs, is far behind at the kill.
        let unread = Duration::from_millis(random.u64(300..1_200));
        let lines = if random.bool() { service.kill().await } else { service.kill_unread(unread).await };
        trace.extend(handled(&lines));
        clients.join_all().await;
    }
    let service = Process::serve(settings).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() > 200, "seed {seed}: too little was done: {}", acknowledged.len());
    let before: HashSet<_> = trace.iter().cloned().collect();
    let missing = |lines: &[String]| {
        let now: HashSet<_> = handled(lines).into_iter().collect();
        acknowledged.iter().filter(|event| !before.contains(*event) && !now.contains(*event)).count()
    };
    until("every acknowledged event is handled", async || match missing(&service.said()) {
        0 => Ok(()),
        missing => Err(format!("seed {seed}: {missing} of {} events are missing", acknowledged.len())),
    })
    .await;
    let lines = service.kill().await;
    assert_eq!(missing(&lines), 0, "seed {seed}: of {} events", acknowledged.len());
    trace.extend(handled(&lines));
    assert_in_order(&trace, seed);
}

fn embedded(dir: &Path, more: &[&str]) -> Vec<String> {
    let own = ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()];
    [&own[..], &TRACED, more].concat().into_iter().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_no_event_for_the_handlers_of_its_own_bus() {
    let folder = tempfile::tempdir().unwrap();
    kill_again_and_again(&embedded(folder.path(), &[])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_it_loses_no_event_for_the_handlers_of_a_broker() {
    let folder = tempfile::tempdir().unwrap();
    let redis = RedisServer::start(DURABLE);
    let url = redis.url();
    kill_again_and_again(&embedded(folder.path(), &["--transport", "redis", "--redis", &url])).await;
}

async fn place_order(node: &Process) -> String {
    let reply = node.commands().await.create_order(new_order()).await.unwrap().into_inner();
    format!("{}-1", reply.order.unwrap().order_id)
}

/// Two nodes on one bus, the first of which runs the handler; then it is killed, and then Redis, for a while.
async fn one_handles_for_both(persistence: &str) {
    let mut redis = RedisServer::start(DURABLE);
    let url = redis.url();
    let start = async |name: &str, worker: &str| {
        let settings = ["--persistence", persistence, "--transport", "redis", "--redis", &url];
        let node = ["--node-id", name, "--worker-id", worker];
        Process::serve(&[&settings[..], &node, &TRACED].concat().into_iter().map(str::to_owned).collect::<Vec<_>>())
            .await
    };
    let first = start("first", "1").await;
    until("the first handles", async || first.health("subscriptions").await.1.contains("handled: 0")).await;
    let second = start("second", "2").await;
    let standing_by = "order-event-logger standing by: first handles";
    until("the second stands by", async || {
        second.health("subscriptions").await == ("Healthy".to_owned(), standing_by.to_owned())
    })
    .await;
    let (here, there) = (place_order(&first).await, place_order(&second).await);
    until("both are handled by the first", async || {
        let trace = handled(&first.said());
        trace.contains(&here) && trace.contains(&there)
    })
    .await;
    assert_eq!(handled(&second.said()), Vec::<String>::new());

    first.kill().await;
    let event = place_order(&second).await;
    until("handled by the second", async || handled(&second.said()).contains(&event)).await;
    until("the second is well", async || second.health("subscriptions").await.0 == "Healthy").await;

    redis.kill();
    until("health reports it", async || second.health("subscriptions").await.0 == "Unhealthy").await;
    redis.start_again();
    until("it works again", async || second.health("subscriptions").await.0 == "Healthy").await;
    until("and takes orders", async || second.commands().await.create_order(new_order()).await.is_ok()).await;
    let event = place_order(&second).await;
    until("handled after the outage", async || handled(&second.said()).contains(&event)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_on_one_log_one_handles_and_the_other_takes_over_when_it_is_killed() {
    one_handles_for_both("redis").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_with_separate_logs_share_the_handlers_of_their_bus() {
    one_handles_for_both("inmemory").await;
}
