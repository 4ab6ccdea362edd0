//! kill -9 at random moments under load.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use ordersystem::{
    backends::embedded::{database::Database, event_store::EmbeddedEventStore},
    event_store::{Direction, EventStore, Position},
    proto::catga::orders::v1::{
        ConsistencyLevel, GetOrderStatsRequest, PayOrderRequest, ReadConsistency,
        order_command_service_client::OrderCommandServiceClient,
    },
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::*;

const ROUNDS: usize = 4;
const CLIENTS: usize = 24;

/// What the clients know.
#[derive(Clone, Default)]
struct Known(Arc<Mutex<Notes>>);

#[derive(Default)]
struct Notes {
    /// The orders of acknowledged creations, and the revision that the last acknowledged command left, by request id.
    acknowledged: HashMap<String, (String, i64)>,
    /// Creations that were asked for and never answered.
    in_doubt: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn whenever_it_is_killed_every_acknowledged_command_is_there_and_none_twice() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let known = Known::default();
    for round in 0..ROUNDS {
        let service = Program::start(folder.path()).await;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(work(service.commands().await, known.clone(), format!("{round}-{client}")));
        }
        tokio::time::sleep(Duration::from_millis(random.u64(100..1_200))).await;
        service.kill().await;
        clients.join_all().await;
    }
    let service = Program::start(folder.path()).await;
    retry_all(&service, &known).await;
    let orders = known.0.lock().unwrap().acknowledged.values().cloned().collect::<HashMap<String, i64>>();
    assert!(orders.len() > 100, "seed {seed}: too little was done: {}", orders.len());
    assert_list_and_stats(&service, &orders).await;
    service.kill().await;
    assert_log(folder.path(), &orders).await;
}

/// Under load the next commit would soon take along one that was acknowledged too early. Here nothing comes after it.
#[tokio::test]
async fn killed_at_the_moment_of_an_acknowledgement_it_has_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let service = Program::start(folder.path()).await;
        let mut queries = service.queries().await;
        for order_id in acknowledged.clone() {
            queries.get_order(GetOrderRequest { order_id, ..Default::default() }).await.expect("it was acknowledged");
        }
        let mut client = service.commands().await;
        let reply = client.create_order(new_order("c", &format!("last-{round}"))).await.unwrap();
        service.kill().await;
        acknowledged.push(reply.into_inner().order.unwrap().order_id);
    }
    assert_log(folder.path(), &acknowledged.into_iter().map(|order_id| (order_id, 1)).collect()).await;
}

/// Places orders and pays them until the service is gone.
async fn work(mut client: OrderCommandServiceClient<Channel>, known: Known, name: String) {
    for index in 0.. {
        let request_id = format!("{name}-{index}");
        let Ok(reply) = client.create_order(new_order(&name, &request_id)).await else {
            known.0.lock().unwrap().in_doubt.push(request_id);
            return;
        };
        let order_id = reply.into_inner().order.unwrap().order_id;
        known.0.lock().unwrap().acknowledged.insert(request_id.clone(), (order_id.clone(), 1));
        let Ok(reply) = client.pay_order(payment(&order_id, &request_id)).await else { return };
        let revision = reply.into_inner().order.unwrap().revision;
        known.0.lock().unwrap().acknowledged.insert(request_id, (order_id, revision));
    }
}

fn payment(order_id: &str, request_id: &str) -> PayOrderRequest {
    PayOrderRequest {
        order_id: order_id.to_owned(),
        payment_method: "card".to_owned(),
        request_id: format!("pay-{request_id}"),
        ..Default::default()
    }
}

/// Every command once more under its request id: what was acknowledged gives the same answer, what was in doubt takes effect now
/// at the latest. In the end all orders are paid.
async fn retry_all(service: &Program, known: &Known) {
    let mut client = service.commands().await;
    let (acknowledged, in_doubt) = {
        let mut notes = known.0.lock().unwrap();
        (notes.acknowledged.clone(), std::mem::take(&mut notes.in_doubt))
    };
    let all = acknowledged.keys().cloned().chain(in_doubt);
    for request_id in all {
        let name = request_id.rsplit_once('-').unwrap().0.to_owned();
        let reply = client.create_order(new_order(&name, &request_id)).await.unwrap().into_inner();
        let order_id = reply.order.unwrap().order_id;
        if let Some((first, _)) = acknowledged.get(&request_id) {
            assert_eq!(&order_id, first, "an acknowledged order is lost, or made twice");
        }
        let paid = client.pay_order(payment(&order_id, &request_id)).await.unwrap().into_inner().order.unwrap();
        assert_eq!(paid.revision, 2);
        known.0.lock().unwrap().acknowledged.insert(request_id, (order_id, paid.revision));
    }
}

pub async fn total_orders(service: &Program) -> i64 {
    service.queries().await.get_order_stats(caught_up()).await.unwrap().into_inner().total_orders
}

fn caught_up() -> GetOrderStatsRequest {
    let consistency = ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() };
    GetOrderStatsRequest { consistency: Some(consistency) }
}

async fn assert_list_and_stats(service: &Program, orders: &HashMap<String, i64>) {
    let mut queries = service.queries().await;
    let stats = queries.get_order_stats(caught_up()).await.unwrap().into_inner();
    assert_eq!(stats.total_orders, orders.len() as i64);
    assert_eq!(stats.total_revenue.iter().map(|sum| sum.units).sum::<i64>(), orders.len() as i64, "a dollar each");
    let mut listed = HashMap::new();
    let mut page_token = String::new();
    loop {
        let request = ListOrdersRequest { page_size: 100, page_token, ..Default::default() };
        let page = queries.list_orders(request).await.unwrap().into_inner();
        for row in page.orders {
            assert_eq!(listed.insert(row.order_id, row.revision), None, "listed twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(&listed, orders);
}

/// The log itself, read without the service: one creation and one payment an order, and nothing else.
async fn assert_log(dir: &Path, orders: &HashMap<String, i64>) {
    let store = EmbeddedEventStore::new(Database::open(dir).unwrap());
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
