//! The service under load, each figure as a ratio to a bare ceiling taken in the same run.
//!
//! `cargo bench --bench load` starts the release binary and, in turn, a server that only accepts the same request, has a store write its bytes
//! where the service does, and sends a reply of the same size; both get the same load: 4 connections with 64 calls in flight each. Rounds
//! alternate (A B A B …) and medians are compared, since the speed of a shared machine drifts. CPU per call (user and system time of the
//! server and its broker, from /proc) is steadier than throughput. It starts redis-server and nats-server itself, and prints a table, which is
//! also written to target/bench/load.json; an id as its argument, for example P3, measures only that row, and `peer` the programs of others that
//! `benches/peers/build.sh` has built. `P13 EVENTS` and `P15 EVENTS` say how many events are stored. A call that fails ends the run.
//!
//! S1 offers more than the service can handle, see [`overload`], on one store with `S1 STORE`; for Redis it needs `REDIS_URL`. `attacks
//! [NAME]` runs hostile clients alongside ordinary ones, see [`attacks`]. `beside BINARY` compares the service with another build of it, and
//! `identities` a node that identifies its callers with one that does not; `traces [BINARY]` nodes that make spans with one that makes none, and with
//! another build. `greedy` shows what a caller notices of another one that calls at ten
//! times its limit.
//! `BENCH_BINARY` names the binary to measure instead of the one of this build.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for developers: it may end where something is wrong"
)]
#![allow(missing_docs, reason = "a program, not a library")]

mod attacks;
mod brokers;
mod ceilings;
mod client;
mod identities;
mod in_process;
#[path = "../../tests/support/issuer.rs"]
#[allow(dead_code, reason = "tests use more of it")]
mod issuer;
mod latency;
mod machine;
mod overload;
mod peers;
mod report;
mod rows;
mod servers;
mod streams;
mod traces;
mod variants;

use std::time::Duration;

use report::Report;
use servers::Server;

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

#[tokio::main]
async fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    match args.next().as_deref() {
        Some("--in-process") => std::thread::spawn(in_process::serve).join().expect("no panic"),
        Some("--ceiling") => ceilings::serve(&args.next().expect("a kind of ceiling")).await,
        Some("attacks") => {
            let only = args.next();
            tokio::task::spawn_blocking(move || attacks::run(only.as_deref())).await.expect("no panic");
        }
        Some("beside") => beside(&args.next().expect("another binary of the service").into()).await,
        Some("identities") => identities::compare().await,
        Some("traces") => traces::compare(args.next().map(Into::into).as_ref()).await,
        Some("greedy") => identities::beside_a_greedy_one().await,
        Some("S1") => overload::compare(args.next().as_deref()).await,
        only => {
            let size = args.next().map(|size| size.parse().expect("a number of events"));
            let mut report = Report::begin();
            rows::run(&mut report, only, size).await;
            if only.is_none_or(|only| only == peers::ID) {
                peers::measure(&mut report).await;
            }
            report.end();
        }
    }
}

/// CreateOrder on this service and on another binary of it: the cost of the changes in between.
async fn beside(other: &std::ffi::OsString) {
    let this = Server::service().await;
    let other = Server::service_of(other).await;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS * 2 {
        let a = rows::create(&this).await;
        let b = rows::create(&other).await;
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

fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// (largest - smallest) / median.
fn spread(figures: impl Iterator<Item = f64> + Clone) -> f64 {
    let (least, most) = figures
        .clone()
        .fold((f64::MAX, 0.0), |(least, most): (f64, f64), figure| (least.min(figure), most.max(figure)));
    (most - least) / median(figures)
}
