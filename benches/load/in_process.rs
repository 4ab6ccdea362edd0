//! The service in process: no protocol, no connection, one thread for a command and for all that follows it.

use std::{hint::black_box, process::Command, sync::Arc, time::Duration, time::Instant};

use ordersystem::{
    application::{
        Consistency, Mediator, Scope,
        permits::Permits,
        pipeline::{Operation, Pipeline},
        queries::GetOrderStats,
        requests::{self, CommandKind, Violations},
    },
    config::{Config, FlagValues},
    identity::Principal,
    node::App,
    server::grpc::convert,
    telemetry::{call::LoggedOrder, start_logging},
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::{
    ROUNDS, client, median,
    report::{Goal, Report, Row},
    spread,
};

/// The orders of a round.
const ORDERS: usize = 200_000;
/// After how many commands the tasks that follow the log have their turn.
const TURN: usize = 64;
const DISPATCHES: u32 = 5_000_000;

/// What the child process has measured.
#[derive(Debug, Deserialize, Serialize)]
pub struct Figures {
    /// Microseconds a command, with what follows it; each round.
    pub create_us: Vec<f64>,
    /// Nanoseconds that the pipeline adds to a command; each round.
    dispatch_ns: Vec<f64>,
    peak_mib: u64,
}

/// P10.
pub fn measure(report: &mut Report) {
    let figures = in_a_process();
    let row = |what: &str, unit, figures: &[f64], goal| Row {
        id: "P10",
        what: what.to_owned(),
        unit,
        ours: median(figures.iter().copied()),
        spread: Some(spread(figures.iter().copied())),
        goals: vec![Goal::AtMost(goal)],
        ..Row::default()
    };
    let what = "in process: CreateOrder validated, stored, published, listed; one thread";
    let peak_mib = Some(figures.peak_mib);
    report.add(Row { peak_mib, ..row(what, "us", &figures.create_us, 1.0) });
    report.add(row("in process: what dispatch adds to a command", "ns", &figures.dispatch_ns, 50.0));
}

/// Measures in a process of its own, so that its memory is its own.
pub fn in_a_process() -> Figures {
    let output = Command::new(std::env::current_exe().expect("this program")).arg("--in-process").output();
    let output = output.expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The child process.
pub fn serve() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let figures = runtime.block_on(async {
        let flags = FlagValues { config_file: None, values: vec![("port", "0".into()), ("log-level", "off".into())] };
        let config = Config::load(&flags, []).expect("valid settings");
        let logs = start_logging(&config.log).expect("nothing else logs");
        let app = App::start(&config, logs).await.expect("it starts");
        let mut create_us = Vec::new();
        for round in 0..=ROUNDS {
            let took = create(app.mediator()).await;
            // The first round is a warm-up.
            if round > 0 {
                create_us.push(took.as_secs_f64() * 1e6 / ORDERS as f64);
            }
        }
        let mut dispatch_ns = Vec::new();
        for _ in 0..ROUNDS {
            dispatch_ns.push(dispatch().await.as_secs_f64() * 1e9 / f64::from(DISPATCHES));
        }
        Figures { create_us, dispatch_ns, peak_mib: peak_mib() }
    });
    println!("{}", serde_json::to_string(&figures).expect("JSON"));
}

/// Creates the orders, and waits until the last one is listed.
async fn create(mediator: &Mediator) -> Duration {
    let message = client::create_order();
    let began = Instant::now();
    let mut last = None;
    for number in 1..=ORDERS {
        let draft = convert::create_order(black_box(&message));
        let request = requests::command(Violations::default(), draft, Principal::anonymous()).expect("valid");
        last = Some(mediator.execute(request).await.expect("created").position);
        if number % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
    let consistency = Consistency::AtLeast(last.expect("an order"));
    mediator.get_order_stats(GetOrderStats { consistency, scope: Scope::ALL }).await.expect("listed");
    began.elapsed()
}

async fn dispatch() -> Duration {
    let permits = Arc::new(Permits::new(1_024, CancellationToken::new()));
    let pipeline = Pipeline::new(Duration::from_secs(30), permits);
    let began = Instant::now();
    for _ in 0..DISPATCHES {
        let work = async { Ok(()) };
        pipeline.run_about(LoggedOrder::NONE, Operation::Command(CommandKind::CreateOrder), work).await.expect("done");
    }
    began.elapsed()
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") / 1024
}
