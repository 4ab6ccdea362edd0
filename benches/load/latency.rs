//! Latency at a rate that does not wait for replies, counted from the moment when each call was due.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::client;

const CONNECTIONS: usize = 16;
const TICK: Duration = Duration::from_millis(1);

/// Percentiles, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// Makes `rate` calls a second for `time`; `body` makes the body of each, which it is given the number of. A call that fails ends the program.
pub async fn at_rate(
    address: SocketAddr,
    path: &'static str,
    body: impl Fn(usize) -> Bytes,
    rate: f64,
    time: Duration,
) -> Latency {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client::connect(address).await);
    }
    let (answers, mut answered) = mpsc::unbounded_channel();
    let (began, mut made) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        let due = (began.elapsed().as_secs_f64() * rate) as u32;
        while made < due {
            let (connection, body) = (connections[made as usize % CONNECTIONS].clone(), body(made as usize));
            let (answers, due_at) = (answers.clone(), began + Duration::from_secs_f64(f64::from(made) / rate));
            tokio::spawn(async move {
                let reply = client::try_call(connection, address, path, None, body).await;
                if reply == Some(true) {
                    let _ = answers.send(due_at.elapsed());
                }
            });
            made += 1;
        }
        tokio::time::sleep(TICK).await;
    }
    drop(answers);
    let mut took = Vec::with_capacity(made as usize);
    while let Some(one) = answered.recv().await {
        took.push(one.as_secs_f64() * 1e3);
    }
    assert_eq!(took.len(), made as usize, "every call is answered, unless the machine is busy with something else");
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
}
