//! What many stored events cost: the rebuild of the read model and a restart, and commands on a store that is full against one that is empty.

use std::time::{Duration, Instant};

use super::{Goal, Report, Row, Side, compare, fill, median, quiet, spread};
use crate::{
    brokers::Store,
    client::{Call, WIDE},
    servers::Server,
    streams,
};

/// The events of P13 and P15, unless the command line says otherwise. The goals are for 15 and 10 million.
pub const REBUILT: u64 = 200_000;
pub const STORED: u64 = 200_000;
const REBUILDS: usize = 5;
const RESTARTS: usize = 5;
/// How long a restart may take at the most.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// P13.
pub async fn rebuild_and_restart(report: &mut Report, events: u64) {
    let mut side = Side::service_on("embedded");
    let events = fill(&side.server, events).await;
    let mut rates = Vec::new();
    for _ in 0..REBUILDS {
        let began = Instant::now();
        let read = streams::rebuild(side.server.address).await;
        assert!(read >= events, "{read} of {events} events");
        rates.push(read as f64 / began.elapsed().as_secs_f64());
    }
    let peak_mib = side.server.peak_mib();
    let flags = side.store.as_ref().map(Store::flags).unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..RESTARTS {
        // Killed: it has not tidied up.
        drop(side.server);
        let began = Instant::now();
        side.server = quiet(flags.clone());
        until_ready(&side.server).await;
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    drop(side);
    let row = |what: String, unit, figures: &[f64], goal| Row {
        id: "P13",
        what,
        unit,
        ours: median(figures.iter().copied()),
        spread: Some(spread(figures.iter().copied())),
        goals: vec![goal],
        ..Row::default()
    };
    let what = format!("rebuild of the read model, embedded, {events} events");
    report.add(Row { peak_mib, ..row(what, "events/s", &rates, Goal::AtLeast(500_000.0)) });
    let what = format!("from the start after kill -9 until ready, embedded, {events} events");
    report.add(row(what, "ms", &times, Goal::AtMost(2_000.0)));
}

async fn until_ready(server: &Server) {
    let url = format!("http://{}/health/ready", server.address);
    let began = Instant::now();
    while began.elapsed() < READY_WITHIN {
        if reqwest::get(&url).await.is_ok_and(|reply| reply.status().is_success()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("not ready after {READY_WITHIN:?}");
}

/// P15, on every store.
pub async fn with_many_events(report: &mut Report, events: u64) {
    for store in ["inmemory", "embedded", "redis", "nats", "nats-r3"] {
        if let Err(why) = Store::is_available(store) {
            report.miss("P15", &format!("CreateOrder on a full store, {store}"), &why);
            continue;
        }
        let (full, empty) = (Side::service_on(store), Side::service_on(store));
        let stored = fill(&full.server, events).await;
        let call = Call::create_order();
        let row = compare((&full, &call), (&empty, &call), WIDE).await;
        drop((full, empty));
        let what = format!("CreateOrder, {store}, {stored} events stored, to an empty store");
        report.add(Row { id: "P15", what, goals: vec![Goal::RatioAtLeast(0.9)], ..row });
    }
}
