//! The service under load, each figure as a ratio to a bare ceiling taken in the same run.
//!
//! `cargo bench --bench load` starts the release binary and, in turn, a server that only accepts the same request and sends a reply of the
//! same size; both get the same load: 4 connections with 64 calls in flight each. Rounds alternate (A B A B …) and medians are compared,
//! since the speed of a shared machine drifts. Server CPU per call (user and system time of the server process, from /proc) is steadier
//! than throughput.
//!
//! S1 offers more than the service can handle, see [`overload`], on one store with `S1 STORE`; for Redis it needs `REDIS_URL`. `attacks
//! [NAME]` runs hostile clients alongside ordinary ones, see [`attacks`]. `beside BINARY` compares the service with another build of it.
//! `BENCH_BINARY` names the binary to measure instead of the one of this build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for developers: it may end where something is wrong"
)]
#![allow(missing_docs, reason = "a program, not a library")]

mod attacks;
mod ceilings;
mod client;
mod overload;
mod servers;

use std::time::Duration;

use servers::Server;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("--ceiling") => ceilings::serve(&args.next().expect("a kind of ceiling")).await,
        Some("attacks") => {
            let only = args.next();
            tokio::task::spawn_blocking(move || attacks::run(only.as_deref())).await.expect("no panic");
        }
        Some("beside") => beside(&args.next().expect("another binary of the service").into()).await,
        Some("S1") => overload::compare(args.next().as_deref()).await,
        None => {
            compare_all(None).await;
            overload::compare(None).await;
        }
        only => compare_all(only).await,
    }
}

/// One measurement: the same load on the service and on its ceiling.
struct Scenario {
    id: &'static str,
    what: &'static str,
    ceiling: &'static str,
    path: &'static str,
    content_type: &'static str,
    goal: f64,
}

const SCENARIOS: [Scenario; 3] = [
    Scenario {
        id: "P1",
        what: "CreateOrder over gRPC against a bare tonic service",
        ceiling: "grpc",
        path: "/catga.orders.v1.OrderCommandService/CreateOrder",
        content_type: "application/grpc",
        goal: 0.80,
    },
    Scenario {
        id: "P7",
        what: "GetOrder over gRPC against a bare tonic service",
        ceiling: "grpc",
        path: "/catga.orders.v1.OrderQueryService/GetOrder",
        content_type: "application/grpc",
        goal: 0.90,
    },
    Scenario {
        id: "P2",
        what: "POST /orders against a bare axum handler",
        ceiling: "rest",
        path: "/orders",
        content_type: "application/json",
        goal: 0.70,
    },
];

async fn compare_all(only: Option<&str>) {
    println!(
        "{:<4} {:<52} {:>10} {:>10} {:>7} {:>6} {:>9} {:>9} {:>7}",
        "id", "what", "calls/s", "ceiling", "ratio", "goal", "us/call", "ceiling", "factor"
    );
    for scenario in SCENARIOS.iter().filter(|scenario| only.is_none_or(|id| scenario.id == id)) {
        compare(scenario).await;
    }
}

async fn compare(scenario: &Scenario) {
    let service = Server::service().await;
    let ceiling = Server::ceiling(scenario.ceiling).await;
    let body = client::body(scenario.path, &service).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let a = measure(&service, scenario, &body).await;
        let b = measure(&ceiling, scenario, &body).await;
        // The first round is a warm-up.
        if round > 0 {
            ours.push(a);
            theirs.push(b);
        }
    }
    let (rate, ceiling_rate) = (median(ours.iter().map(|m| m.0)), median(theirs.iter().map(|m| m.0)));
    let (cpu, ceiling_cpu) = (median(ours.iter().map(|m| m.1)), median(theirs.iter().map(|m| m.1)));
    println!(
        "{:<4} {:<52} {rate:>10.0} {ceiling_rate:>10.0} {:>7.2} {:>6.2} {cpu:>9.1} {ceiling_cpu:>9.1} {:>7.2}",
        scenario.id,
        scenario.what,
        rate / ceiling_rate,
        scenario.goal,
        cpu / ceiling_cpu,
    );
}

/// CreateOrder on this service and on another binary of it: the cost of the changes in between.
async fn beside(other: &std::ffi::OsString) {
    let (scenario, this) = (&SCENARIOS[0], Server::service().await);
    let other = Server::service_of(other).await;
    let body = client::body(scenario.path, &this).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS * 2 {
        let a = measure(&this, scenario, &body).await;
        let b = measure(&other, scenario, &body).await;
        // The first round is a warm-up.
        if round > 0 {
            ours.push(a);
            theirs.push(b);
        }
    }
    println!("{:<10} {:>10} {:>10}", "CreateOrder", "calls/s", "us/call");
    for (name, figures) in [("this", &ours), ("other", &theirs)] {
        let (rate, cpu) = (median(figures.iter().map(|m| m.0)), median(figures.iter().map(|m| m.1)));
        println!("{name:<10} {rate:>10.0} {cpu:>10.1}");
    }
    let pairs = || ours.iter().zip(&theirs);
    let (rate, cpu) = (median(pairs().map(|(a, b)| a.0 / b.0)), median(pairs().map(|(a, b)| a.1 / b.1)));
    println!("{:<10} {rate:>10.3} {cpu:>10.3}", "ratio");
}

/// Calls per second, and microseconds of server CPU per call.
async fn measure(server: &Server, scenario: &Scenario, body: &bytes::Bytes) -> (f64, f64) {
    let cpu_before = server.cpu();
    let calls = client::load(server.address, scenario.path, scenario.content_type, body, ROUND).await;
    let cpu = server.cpu() - cpu_before;
    (calls as f64 / ROUND.as_secs_f64(), cpu.as_secs_f64() * 1e6 / calls as f64)
}

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
