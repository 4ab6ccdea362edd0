//! One writer, and many that follow the whole log: every new event reaches every follower.

use std::time::Instant;

use super::{ROUND, ROUNDS, Report, Row, each_us, median, spread};
use crate::{
    client,
    servers::Server,
    streams::{self, Follower},
};

/// How many orders are created between two moments at which every follower has every event.
const BATCH: u64 = 64;

/// P8: 1, 100 and 1 000 followers, each on a stream of its own, a hundred on a connection.
pub async fn fan_out(report: &mut Report) {
    for followers in [1, 100, 1_000] {
        let row = on_followers(followers).await;
        report.add(row);
    }
}

async fn on_followers(count: usize) -> Row {
    let server = Server::service().await;
    let mut followers = streams::follow(server.address, count).await;
    let writer = client::connect(server.address).await;
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (before, began, mut events) = (server.cpu(), Instant::now(), 0);
        while began.elapsed() < ROUND {
            streams::create(&writer, server.address, BATCH).await;
            events += BATCH;
            for follower in &mut followers {
                Follower::take(follower, BATCH).await;
            }
        }
        let delivered = events * count as u64;
        if round > 0 {
            rates.push(delivered as f64 / began.elapsed().as_secs_f64());
            cpu.push(each_us(server.cpu() - before, delivered));
        }
    }
    Row {
        id: "P8",
        what: format!("events to {count} followers of all orders, {BATCH} new orders at a time"),
        unit: "events/s",
        ours: median(rates.iter().copied()),
        spread: Some(spread(rates.iter().copied())),
        cpu_us: Some((median(cpu.into_iter()), None)),
        peak_mib: server.peak_mib(),
        ..Row::default()
    }
}
