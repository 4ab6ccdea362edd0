//! Commands per second with and without 5 000 followers that receive no events: two nodes in turn, so that both run under the same
//! conditions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use super::{calls, target::Target};
use crate::{client, median, overload, servers::Limits};

const FOLLOWERS: usize = 5_000;
/// The share of the commands per second that must remain.
const GOAL: f64 = 0.90;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

pub fn compare() {
    println!(
        "\nCreateOrder by 256 callers beside {FOLLOWERS} idle followers on 50 connections; goal: {GOAL:.2} of the rate without"
    );
    println!(
        "{:<10} {:>12} {:>10} {:>7} {:>10} {:>10}",
        "store", "with, calls/s", "without", "ratio", "us/call", "without"
    );
    for store in ["inmemory", "embedded"] {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.block_on(compare_on(store));
        // With everything that holds the node, which ends with it.
        runtime.shutdown_timeout(Duration::from_secs(5));
    }
}

async fn compare_on(store: &str) {
    let start = async || Arc::new(Target::start(store, &[], false, Limits::default()).await);
    let (with, without) = (start().await, start().await);
    let open = Arc::new(AtomicUsize::new(0));
    tokio::spawn(calls::idle_followers(Arc::clone(&with), FOLLOWERS, Arc::clone(&open)));
    until_all(&open).await;
    let (mut figures, mut bare) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let (a, b) = (measure(&with).await, measure(&without).await);
        // The first round is a warm-up.
        if round > 0 {
            figures.push(a);
            bare.push(b);
        }
    }
    assert_eq!(open.load(Ordering::Relaxed), FOLLOWERS, "some have ended");
    let rate = |of: &[(f64, f64)]| median(of.iter().map(|figure| figure.0));
    let cpu = |of: &[(f64, f64)]| median(of.iter().map(|figure| figure.1));
    let ratio = median(figures.iter().zip(&bare).map(|(a, b)| a.0 / b.0));
    println!(
        "{store:<10} {:>13.0} {:>10.0} {ratio:>7.2} {:>10.1} {:>10.1}  {}",
        rate(&figures),
        rate(&bare),
        cpu(&figures),
        cpu(&bare),
        if ratio >= GOAL { "met" } else { "MISSED" },
    );
}

/// Waits until all of them are open.
async fn until_all(open: &AtomicUsize) {
    for _ in 0..300 {
        if open.load(Ordering::Relaxed) == FOLLOWERS {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("only {open:?} followers are there after 30 s");
}

async fn measure(target: &Target) -> (f64, f64) {
    let before = target.server.cpu();
    let rate = overload::capacity(target.address, &client::framed(&client::create_order()), ROUND).await;
    let cpu = target.server.cpu() - before;
    (rate, cpu.as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64()))
}
