//! The process itself: its start, its size, its memory.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{Goal, Report, Row, fill, median, quiet, spread};
use crate::servers::{self, Server};

/// How often the service is started.
const STARTS: usize = 10;
const MIB: f64 = 1024.0 * 1024.0;

pub async fn memory_of_orders() -> Row {
    let server = Server::service().await;
    // The cache of folded orders, and what else is reserved once, is full by then.
    fill(&server, 300_000).await;
    let before = server.held_bytes();
    let orders = fill(&server, 300_000).await;
    Row {
        id: "P12",
        what: "resident memory an order of 2 items with 1 event, in memory, listed".to_owned(),
        unit: "B",
        ours: (server.held_bytes() - before) / orders as f64,
        peak_mib: server.peak_mib(),
        goals: vec![Goal::AtMost(700.0)],
        ..Row::default()
    }
}

/// The time from the start of the program until it answers, its memory then, and its size.
pub async fn start(report: &mut Report) {
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = quiet(Vec::new());
        times.push(began.elapsed().as_secs_f64() * 1e3);
        tokio::time::sleep(Duration::from_millis(200)).await;
        memory.push(server.held_bytes() / MIB);
    }
    let row = |what: &str, unit, figures: &[f64], goal| Row {
        id: "P14",
        what: what.to_owned(),
        unit,
        ours: median(figures.iter().copied()),
        spread: Some(spread(figures.iter().copied())),
        goals: vec![Goal::AtMost(goal)],
        ..Row::default()
    };
    report.add(row("from the start of the program until it listens", "ms", &times, 50.0));
    report.add(row("resident memory when idle", "MiB", &memory, 25.0));
    let size = fs::metadata(servers::binary()).expect("the binary").len() as f64 / 1e6;
    report.add(row("size of the binary", "MB", &[size], 25.0));
}
