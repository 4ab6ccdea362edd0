//! The rows of the table: what is measured, against what, and how rounds alternate.

mod calls;
mod followers;
mod growth;
mod latency;
mod process;
mod reading;
mod stores;
mod streamed;

use std::time::Duration;

use crate::{
    ROUND, ROUNDS,
    brokers::Store,
    client::{self, Call, WIDE, Width},
    in_process, median,
    report::{Goal, Report, Row, each_us},
    servers::{Limits, Server},
    spread, streams,
};

/// Measures every row, or only those with the id `only`; `size` is the number of events of those that depend on it.
pub async fn run(report: &mut Report, only: Option<&str>, size: Option<u64>) {
    let wants = |id: &str| only.is_none_or(|only| only == id);
    if wants("P1") {
        calls::create(report).await;
    }
    if wants("P2") {
        calls::post(report).await;
    }
    for kind in stores::KINDS.into_iter().filter(|kind| wants(kind.id)) {
        stores::create(report, kind).await;
    }
    if wants("P6") {
        report.add(streamed::bulk().await);
    }
    if wants("P7") {
        calls::get(report).await;
        calls::list(report).await;
    }
    if wants("P8") {
        report.add(streamed::catch_up("inmemory", 0.80).await);
        report.add(streamed::catch_up("embedded", 0.40).await);
        followers::fan_out(report).await;
    }
    if wants("P9") {
        report.add(streamed::ids().await);
    }
    if wants("P10") {
        in_process::measure(report);
    }
    if wants("P11") {
        latency::at_half_load(report).await;
    }
    if wants("P12") {
        report.add(process::memory_of_orders().await);
    }
    if wants("P13") {
        growth::rebuild_and_restart(report, size.unwrap_or(growth::REBUILT)).await;
    }
    if wants("P14") {
        process::start(report).await;
    }
    if wants("P15") {
        growth::with_many_events(report, size.unwrap_or(growth::STORED)).await;
    }
    if wants("P18") {
        reading::pay_while_all_is_read(report).await;
    }
}

/// A server under load, and the store that it writes to.
pub struct Side {
    pub server: Server,
    pub store: Option<Store>,
}

impl Side {
    pub const fn in_memory(server: Server) -> Self {
        Self { server, store: None }
    }

    /// The service on a new store of this kind.
    pub fn service_on(kind: &'static str) -> Self {
        let store = Store::start(kind);
        Self { server: quiet(store.flags()), store: Some(store) }
    }

    /// A bare server that writes to a new store of this kind.
    pub async fn ceiling_on(kind: &'static str) -> Self {
        let store = Store::start(kind);
        Self { server: Server::ceiling_on("grpc", Some((&store.url, store.replicas()))).await, store: Some(store) }
    }

    /// The user and system time of the server and its broker so far.
    pub fn cpu(&self) -> Duration {
        self.server.cpu() + self.store.as_ref().map_or(Duration::ZERO, Store::cpu)
    }
}

/// Calls a second, and microseconds of CPU a call.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    pub rate: f64,
    pub cpu_us: f64,
}

/// One round.
pub async fn measure(side: &Side, call: &Call, width: Width) -> Figure {
    let before = side.cpu();
    let calls = client::load(side.server.address, call, width, ROUND).await;
    Figure { rate: calls as f64 / ROUND.as_secs_f64(), cpu_us: each_us(side.cpu() - before, calls) }
}

/// Calls of CreateOrder a second, and microseconds of CPU of the server a call.
pub async fn create(server: &Server) -> (f64, f64) {
    let before = server.cpu();
    let calls = client::load(server.address, &Call::create_order(), WIDE, ROUND).await;
    (calls as f64 / ROUND.as_secs_f64(), each_us(server.cpu() - before, calls))
}

/// Alternates [`ROUNDS`] rounds of ours and theirs, and compares the medians. The first round of each is a warm-up.
pub async fn compare(ours: (&Side, &Call), theirs: (&Side, &Call), width: Width) -> Row {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let pair = (measure(ours.0, ours.1, width).await, measure(theirs.0, theirs.1, width).await);
        if round > 0 {
            a.push(pair.0);
            b.push(pair.1);
        }
    }
    let peak_mib = ours.0.server.peak_mib();
    Row { peak_mib, ..row_of(&a, &b) }
}

fn row_of(ours: &[Figure], theirs: &[Figure]) -> Row {
    let rate = |figures: &[Figure]| median(figures.iter().map(|figure| figure.rate));
    let cpu = |figures: &[Figure]| median(figures.iter().map(|figure| figure.cpu_us));
    Row {
        unit: "calls/s",
        ours: rate(ours),
        other: Some(rate(theirs)),
        spread: Some(spread(ours.iter().map(|figure| figure.rate))),
        cpu_us: Some((cpu(ours), Some(cpu(theirs)))),
        ..Row::default()
    }
}

/// The service with these flags, on a free port; it logs warnings only.
pub fn quiet(flags: Vec<String>) -> Server {
    let log = ["--log-level", "warn,ordersystem::node=info"].map(str::to_owned);
    Server::on_any_port(&[flags, log.to_vec()].concat(), Limits::default())
}

/// Creates at least `count` orders; returns how many.
pub async fn fill(server: &Server, count: u64) -> u64 {
    let mut made = 0;
    while made < count {
        made += streams::bulk(server.address, Duration::from_millis(500)).await;
    }
    made
}
