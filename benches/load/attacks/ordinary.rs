//! Two ordinary clients: each makes 50 calls per second, whether or not earlier ones have been answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ordersystem::proto::catga::orders::v1::{CreateOrderResponse, GetOrderRequest};
use prost::Message as _;

use super::target::{Connection, Target};
use crate::client;

const CLIENTS: usize = 2;
const INTERVAL: Duration = Duration::from_millis(20);
/// A call without a reply by then has failed.
const PATIENCE: Duration = Duration::from_secs(10);
pub const IN_TIME: Duration = Duration::from_millis(250);
const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
const GET: &str = "/catga.orders.v1.OrderQueryService/GetOrder";

/// The outcomes of their calls.
#[derive(Debug, Default)]
pub struct Outcome {
    /// The latencies of the calls that were answered OK, from the time at which they were due.
    took: Vec<Duration>,
    failed: Vec<String>,
}

impl Outcome {
    pub fn calls(&self) -> usize {
        self.took.len() + self.failed.len()
    }

    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    /// One of the failures.
    pub fn failure(&self) -> Option<&str> {
        self.failed.last().map(String::as_str)
    }

    /// The share of calls that were answered OK within [`IN_TIME`].
    pub fn in_time(&self) -> f64 {
        self.took.iter().filter(|took| **took <= IN_TIME).count() as f64 / self.calls().max(1) as f64
    }

    /// The maximum latency of that share of the answered calls.
    pub fn quantile(&mut self, share: f64) -> Duration {
        self.took.sort_unstable();
        let index = (self.took.len() as f64 * share) as usize;
        self.took.get(index.min(self.took.len().saturating_sub(1))).copied().unwrap_or(PATIENCE)
    }
}

/// Runs both for `unseen`, which does not count, and `time`, on their own thread: the computations of an attacker do not delay them more
/// than the machine does.
///
/// With `reconnects` each opens a new connection every second, like clients that have just been started.
pub fn run(target: &Arc<Target>, unseen: Duration, time: Duration, reconnects: bool) -> JoinHandle<Outcome> {
    let target = Arc::clone(target);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = Arc::new(Mutex::new(Outcome::default()));
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..CLIENTS {
                clients.spawn(client(Arc::clone(&target), Arc::clone(&outcome), [unseen, time], reconnects));
            }
            clients.join_all().await;
        });
        std::mem::take(&mut *outcome.lock().expect("no panic"))
    })
}

async fn client(target: Arc<Target>, outcome: Arc<Mutex<Outcome>>, times: [Duration; 2], reconnects: bool) {
    let (began, order) = (Instant::now(), Arc::new(Mutex::new(None)));
    let create = client::framed(&client::create_order());
    let mut connection: Option<Connection> = None;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0.. {
        let due = began + INTERVAL * number;
        if due >= began + times[0] + times[1] {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        let is_too_old = reconnects && number % 50 == 0;
        if is_too_old || connection.as_ref().is_none_or(Connection::is_closed) {
            connection = tokio::time::timeout(PATIENCE, target.connect()).await.ok().and_then(Result::ok);
        }
        let id: Option<String> = order.lock().expect("no panic").clone();
        let (path, body) = match id {
            Some(order_id) if number % 2 == 1 => {
                (GET, client::framed(&GetOrderRequest { order_id, ..Default::default() }))
            }
            _ => (CREATE, create.clone()),
        };
        let (connection, order, outcome) = (connection.clone(), Arc::clone(&order), Arc::clone(&outcome));
        calls.spawn(async move {
            let answer = tokio::time::timeout(PATIENCE, call(connection, path, body)).await;
            let took = due.elapsed();
            let answer = answer.unwrap_or_else(|_| Err("no answer in 10 s".to_owned()));
            if let (CREATE, Ok(message)) = (path, &answer)
                && let Ok(reply) = CreateOrderResponse::decode(message.clone())
            {
                *order.lock().expect("no panic") = reply.order.map(|order| order.order_id);
            }
            if due < began + times[0] {
                return;
            }
            let mut outcome = outcome.lock().expect("no panic");
            match answer {
                Ok(_) => outcome.took.push(took),
                Err(failure) => outcome.failed.push(failure),
            }
        });
    }
    calls.join_all().await;
}

async fn call(connection: Option<Connection>, path: &str, body: Bytes) -> Result<Bytes, String> {
    let mut connection = connection.ok_or("no connection")?;
    let mut answer = connection.begin(path, false, body, true).await?.0.await.map_err(|error| error.to_string())?;
    let status = |headers: &http::HeaderMap| {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
        headers.contains_key("grpc-status").then(|| (text("grpc-status"), text("grpc-message")))
    };
    let mut answered = status(answer.headers());
    let mut bytes = Vec::new();
    while let Some(data) = answer.body_mut().data().await {
        let data = data.map_err(|error| error.to_string())?;
        answer.body_mut().flow_control().release_capacity(data.len()).map_err(|error| error.to_string())?;
        bytes.extend_from_slice(&data);
    }
    if let Some(trailers) = answer.body_mut().trailers().await.map_err(|error| error.to_string())? {
        answered = status(&trailers).or(answered);
    }
    match answered {
        Some((status, _)) if status == "0" => Ok(Bytes::from(bytes).split_off(5)),
        Some((status, message)) => Err(format!("status {status}: {message}")),
        None => Err(format!("HTTP {}", answer.status())),
    }
}

/// Set when a connection has ended.
#[derive(Clone, Debug, Default)]
pub struct Ended(Arc<AtomicBool>);

impl Ended {
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
