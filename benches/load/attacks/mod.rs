//! Attacks over real sockets, and their effect on two ordinary clients.
//!
//! For each attack a node is started; two clients make 50 calls per second each for a while, first alone and then during the attack. All of
//! it runs on one machine, so each attacker has a rate limit, which is printed: an attacker that uses up the processors would show nothing
//! about the node.

mod bodies;
mod calls;
mod followers;
mod ordinary;
mod pace;
mod target;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

pub use self::pace::at_rate;
use self::{ordinary::Outcome, target::Target};
use crate::servers::Limits;

/// The share of the calls of ordinary clients that must be answered in time.
const GOAL: f64 = 0.99;
/// Not measured: until clients are connected.
const SETTLING: Duration = Duration::from_millis(500);
const ALONE: Duration = Duration::from_secs(5);
const BESIDE: Duration = Duration::from_secs(10);

const NONE: Limits = Limits { files: None, memory_mib: None, cpu_percent: None };

type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One attack.
struct Attack {
    id: &'static str,
    what: &'static str,
    store: &'static str,
    flags: &'static [&'static str],
    is_tls: bool,
    limits: Limits,
    /// Whether ordinary clients open new connections.
    reconnects: bool,
    /// Prepares the node.
    prepare: Option<fn(Arc<Target>) -> Running>,
    attack: fn(Arc<Target>) -> Running,
    /// The time until the attack has its full effect.
    lead: Duration,
    /// The maximum growth of the node's memory, in MiB.
    memory_goal: Option<u64>,
}

impl Attack {
    fn new(id: &'static str, what: &'static str, attack: fn(Arc<Target>) -> Running) -> Self {
        Self {
            id,
            what,
            store: "inmemory",
            flags: &[],
            is_tls: false,
            limits: Limits::default(),
            reconnects: false,
            prepare: None,
            attack,
            lead: Duration::from_secs(1),
            memory_goal: None,
        }
    }
}

fn attacks() -> Vec<Attack> {
    let new = Attack::new;
    vec![
        Attack {
            memory_goal: Some(64),
            ..new("S1", "gzipped messages of up to 2 000 000 empty items: 200/s, 40 at once", |target| {
                Box::pin(bodies::inflated(target))
            })
        },
        Attack {
            memory_goal: Some(50),
            ..new(
                "S2a",
                "1 024 calls on 8 connections announce 1 MB and send nothing; refused ones again, 80/s",
                |target| Box::pin(bodies::announced(target)),
            )
        },
        new("S2b", "128 calls on 8 connections send 1 MB but for a byte; refused ones again, 80/s", |target| {
            Box::pin(bodies::almost_whole(target))
        }),
        Attack {
            store: "embedded",
            ..new("S3a", "3 streams of 320 gzipped orders of 1 000 items; replies are not read", |target| {
                Box::pin(bodies::unread_replies(target))
            })
        },
        Attack {
            store: "embedded",
            prepare: Some(|target| Box::pin(bodies::place_large_orders(target))),
            memory_goal: Some(100),
            ..new("S3b", "300 followers of 60 orders of 1 000 items read nothing", |target| {
                Box::pin(bodies::stalled_followers(target))
            })
        },
        Attack {
            store: "embedded",
            ..new("S4", "orders of 1 000 items, gzipped: 60/s", |target| Box::pin(bodies::large_orders(target)))
        },
        new("S5", "reads with made-up tokens: 1 000/s over 10 connections", |target| {
            Box::pin(calls::made_up_tokens(target))
        }),
        Attack {
            is_tls: true,
            flags: &["--max-connections", "100"],
            reconnects: true,
            ..new(
                "S6",
                "100 silent TLS connections of 100 that there may be; each again 0.1 s after its end",
                |target| Box::pin(calls::silent_connections(target)),
            )
        },
        Attack {
            store: "embedded",
            limits: Limits { files: Some(256), ..NONE },
            ..new("S7", "300 idle connections at 256 descriptors; each again 0.1 s after its end", |target| {
                Box::pin(calls::idle_connections(target))
            })
        },
        Attack {
            store: "embedded",
            lead: Duration::from_secs(5),
            ..new("S8", "CreateOrder at twice the capacity over 24 connections", |target| {
                Box::pin(calls::overload(target))
            })
        },
        new("S13a", "400 calls at once for 100 000 ids each", |target| Box::pin(calls::bulk_ids(target))),
        new("S13b", "200 streams of ids without end", |target| Box::pin(calls::streams_of_ids(target))),
        new("S14a", "up to 1 280 event streams on 10 connections; refused ones again, each 0.1 s after", |target| {
            Box::pin(calls::as_many_streams_as_there_are(target))
        }),
        Attack {
            lead: Duration::from_secs(5),
            ..new("S14b", "5 000 followers of nothing on 50 connections", |target| {
                Box::pin(calls::followers_of_nothing(target))
            })
        },
        Attack {
            store: "embedded",
            limits: Limits { memory_mib: Some(1_024), ..NONE },
            prepare: Some(|target| Box::pin(bodies::place_large_orders(target))),
            memory_goal: Some(1_024),
            ..new("S1-4", "S1, S2a, S2b, S3a, S3b and S4 at once, in a control group of 1 GiB", |target| {
                Box::pin(bodies::all(target))
            })
        },
    ]
}

/// Runs all attacks, the one with this name, or all whose name begins with it.
pub fn run(only: Option<&str>) {
    if only.is_none_or(|name| name != "followers") {
        println!(
            "Two clients, 50 calls/s each (CreateOrder and GetOrder in turn, each due at its time), beside an attacker."
        );
        println!(
            "Goal: {:.0} % of their calls answered OK within 250 ms; MiB: growth of the node at its peak.",
            GOAL * 100.0
        );
        println!(
            "{:<6} {:<8} {:>6} {:>8} {:>9} {:>9} {:>7} {:>6} {:>10}  goal",
            "attack", "", "calls", "in time", "p50 ms", "p99 ms", "failed", "MiB", "cores"
        );
        for attack in attacks() {
            if only.is_none_or(|name| attack.id.starts_with(name)) {
                report(&attack);
            }
        }
    }
    if only.is_none_or(|name| name == "followers") {
        followers::compare();
    }
}

fn report(attack: &Attack) {
    println!("{:<6} {} ({})", attack.id, attack.what, attack.store);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let target = Arc::new(runtime.block_on(Target::start(attack.store, attack.flags, attack.is_tls, attack.limits)));
    if attack.limits.memory_mib.is_some() && !target.server.is_confined() {
        println!("       this program may not make a control group: the peak of the process is measured alone");
    }
    if let Some(prepare) = attack.prepare {
        runtime.block_on(prepare(Arc::clone(&target)));
    }
    let alone = ordinary::run(&target, SETTLING, ALONE, attack.reconnects);
    let mut alone = alone.join().expect("no panic");
    line("alone", &mut alone);
    println!();
    let before = target.server.held_mib().unwrap_or_default();
    target.server.forget_peak();
    // They are connected when the attack begins.
    let beside = ordinary::run(&target, SETTLING + attack.lead, BESIDE, attack.reconnects);
    std::thread::sleep(SETTLING);
    runtime.spawn((attack.attack)(Arc::clone(&target)));
    std::thread::sleep(attack.lead);
    let cpu = target.server.cpu();
    let mut beside = beside.join().expect("no panic");
    let cores = (target.server.cpu() - cpu).as_secs_f64() / BESIDE.as_secs_f64();
    line("beside", &mut beside);
    let grown = target.server.peak_mib().map(|peak| peak.saturating_sub(before));
    let is_met =
        beside.in_time() >= GOAL && grown.is_some_and(|grown| attack.memory_goal.is_none_or(|goal| grown <= goal));
    let grown_text = grown.map_or("killed".to_owned(), |grown| grown.to_string());
    println!(" {grown_text:>6} {cores:>10.2}  {}", if is_met { "met" } else { "MISSED" });
    if let Some(failure) = beside.failure() {
        println!("       failed: {failure}");
    }
    // With everything that holds the node, which ends with it.
    runtime.shutdown_timeout(Duration::from_secs(5));
}

fn line(who: &str, outcome: &mut Outcome) {
    let (calls, failures, in_time) = (outcome.calls(), outcome.failures(), outcome.in_time() * 100.0);
    let ms = |took: Duration| took.as_secs_f64() * 1e3;
    let (p50, p99) = (ms(outcome.quantile(0.5)), ms(outcome.quantile(0.99)));
    print!("{:<6} {who:<8} {calls:>6} {in_time:>7.1}% {p50:>9.1} {p99:>9.1} {failures:>7}", "");
}
