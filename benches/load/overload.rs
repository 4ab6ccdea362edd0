//! More load than the service can handle: calls come at a rate that does not wait for replies, and those count as good that are answered OK
//! within a second.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    client,
    servers::{Limits, Server},
};

/// The share of the capacity that must be served under any load.
const GOAL: f64 = 0.80;
/// The node's limit of the machine: the load generator, which offers four times as much, needs the rest.
const LIMITS: Limits = Limits { files: None, memory_mib: None, cpu_percent: Some(30) };
const CONNECTIONS: usize = 24;
/// The items of an order. To refuse a small order costs half as much as to accept it, mostly within the HTTP/2 library: no admission control could
/// serve the goal with four times as many of them.
const ITEMS: usize = 100;
/// Callers that wait for their replies, and how many of them share a connection.
const CALLERS: usize = 256;
const CALLERS_EACH: usize = 64;
/// How long each rate is offered.
const TIME: Duration = Duration::from_secs(8);
/// Not measured: its beginning.
const WARM_UP: Duration = Duration::from_secs(2);
const GOOD_WITHIN: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(2);
const PATH: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";

#[derive(Debug, Default)]
struct Counts {
    good: AtomicU64,
    late: AtomicU64,
    refused: AtomicU64,
}

/// Offers each store its capacity, half of it, and two and four times as much.
pub async fn compare(only: Option<&str>) {
    println!(
        "S1   CreateOrder of {ITEMS} items at a rate, answered OK within 1 s; goal: {GOAL:.2} of the capacity at any rate; the node has 0.3 processors"
    );
    println!(
        "{:<10} {:>6} {:>10} {:>10} {:>7} {:>10} {:>10} {:>9}",
        "store", "times", "offered/s", "good/s", "ratio", "refused/s", "late/s", "us/call"
    );
    for store in ["inmemory", "embedded", "redis"].into_iter().filter(|store| only.is_none_or(|only| only == *store)) {
        let folder = std::env::temp_dir().join(format!("ordersystem-bench-{}", std::process::id()));
        let Some(service) = Server::service_on(store, &folder, LIMITS) else {
            println!("{store:<10} no REDIS_URL: left out");
            continue;
        };
        if !service.is_confined() {
            println!("this program may not bound the processors of the node: it may find the limit of itself instead");
        }
        let body = client::large_order(ITEMS);
        capacity(service.address, &body, WARM_UP).await;
        let capacity = capacity(service.address, &body, TIME).await;
        for times in [0.5, 1.0, 2.0, 4.0] {
            let offered = capacity * times;
            let before = service.cpu();
            let counts = offer(&service, &body, offered).await;
            let cpu = (service.cpu() - before).as_secs_f64() * 1e6 / (offered * TIME.as_secs_f64());
            let rate = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / (TIME - WARM_UP).as_secs_f64();
            println!(
                "{store:<10} {times:>6.1} {offered:>10.0} {:>10.0} {:>7.2} {:>10.0} {:>10.0} {cpu:>9.1}",
                rate(&counts.good),
                rate(&counts.good) / capacity,
                rate(&counts.refused),
                rate(&counts.late),
            );
            // The rest of it must not affect the next one.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        drop(service);
        let _ = std::fs::remove_dir_all(&folder);
    }
}

/// The calls per second that are answered OK with enough waiting callers to keep the service busy.
pub async fn capacity(address: SocketAddr, body: &Bytes, time: Duration) -> f64 {
    let (answered, end) = (Arc::new(AtomicU64::new(0)), Instant::now() + time);
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS / CALLERS_EACH {
        let connection = client::connect(address).await;
        for _ in 0..CALLERS_EACH {
            let (connection, body) = (connection.clone(), body.clone());
            let answered = Arc::clone(&answered);
            callers.spawn(async move {
                while Instant::now() < end {
                    match client::try_call(connection.clone(), address, PATH, None, body.clone()).await {
                        Some(true) => _ = answered.fetch_add(1, Ordering::Relaxed),
                        // It is saturated.
                        _ => tokio::time::sleep(TICK).await,
                    }
                }
            });
        }
    }
    callers.join_all().await;
    answered.load(Ordering::Relaxed) as f64 / time.as_secs_f64()
}

/// Makes calls at `rate` per second, whatever their outcome.
async fn offer(service: &Server, body: &Bytes, rate: f64) -> Arc<Counts> {
    let counts = Arc::new(Counts::default());
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client::connect(service.address).await);
    }
    let (began, address) = (Instant::now(), service.address);
    let mut made = 0;
    while began.elapsed() < TIME {
        let due = (began.elapsed().as_secs_f64() * rate) as u64;
        for call in made..due {
            let (connection, body) = (connections[call as usize % CONNECTIONS].clone(), body.clone());
            let counts = (began.elapsed() >= WARM_UP).then(|| Arc::clone(&counts));
            tokio::spawn(async move {
                let began = Instant::now();
                let answered = client::try_call(connection, address, PATH, None, body).await;
                let Some(counts) = counts else { return };
                let count = match answered {
                    Some(true) if began.elapsed() <= GOOD_WITHIN => &counts.good,
                    Some(true) => &counts.late,
                    Some(false) => &counts.refused,
                    None => return,
                };
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        made = made.max(due);
        tokio::time::sleep(TICK).await;
    }
    tokio::time::sleep(GOOD_WITHIN).await;
    counts
}
