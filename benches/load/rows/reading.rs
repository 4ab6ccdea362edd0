//! The latency of PayOrder while the whole log is read.

use std::{
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ordersystem::proto::catga::orders::v1::PayOrderRequest;

use super::{Goal, Report, Row, Side, fill, median, spread};
use crate::{brokers::Store, client, latency, servers, streams};

const PAY: &str = "/catga.orders.v1.OrderCommandService/PayOrder";
/// The events that are read.
const EVENTS: u64 = 200_000;
/// Payments a second: far from what the machine can do.
const RATE: f64 = 500.0;
const TIME: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;

/// What reads the log meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reader {
    None,
    /// The node rebuilds its read model, again and again.
    Rebuild,
    /// Another program copies the log, again and again.
    Copy,
}

impl Reader {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::Rebuild => "rebuilds",
            Self::Copy => "copies",
        }
    }
}

/// P18, on every store.
pub async fn pay_while_all_is_read(report: &mut Report) {
    for store in ["inmemory", "embedded", "redis", "nats", "nats-r3"] {
        if let Err(why) = Store::is_available(store) {
            report.miss("P18", &format!("p99 of PayOrder while the log is read, {store}"), &why);
            continue;
        }
        on(report, store).await;
    }
}

async fn on(report: &mut Report, kind: &'static str) {
    let side = Side::service_on(kind);
    let events = fill(&side.server, EVENTS).await;
    let log = side.store.as_ref().and_then(Store::log);
    let readers: Vec<_> =
        [Reader::Rebuild, Reader::Copy].into_iter().filter(|reader| *reader != Reader::Copy || log.is_some()).collect();
    // The first of each round is that without a reader.
    let mut p99 = vec![Vec::new(); 1 + readers.len()];
    for round in 0..=ROUNDS {
        for (at, reader) in [Reader::None].iter().chain(&readers).enumerate() {
            let took = payments(&side, *reader).await;
            if round > 0 {
                p99[at].push(took);
            }
        }
    }
    let peak_mib = side.server.peak_mib();
    drop(side);
    for (reader, figures) in readers.iter().zip(&p99[1..]) {
        report.add(Row {
            id: "P18",
            what: format!(
                "p99 of PayOrder, {kind}, {RATE}/s, while {} read {events} events, to without",
                reader.name()
            ),
            unit: "ms",
            ours: median(figures.iter().copied()),
            other: Some(median(p99[0].iter().copied())),
            spread: Some(spread(figures.iter().copied())),
            peak_mib,
            goals: vec![Goal::RatioAtMost(1.2)],
            ..Row::default()
        });
    }
}

/// The 99th percentile of payments beside `reader`, in milliseconds.
async fn payments(side: &Side, reader: Reader) -> f64 {
    let address = side.server.address;
    // A few more than are due in the time.
    let orders = client::orders(address, (RATE * (TIME.as_secs_f64() + 0.5)) as usize).await;
    let pay = |number: usize| {
        let order_id = orders[number].clone();
        client::framed(&PayOrderRequest { order_id, payment_method: "card".to_owned(), ..Default::default() })
    };
    let reading = Reading::begin(side, reader);
    let took = latency::at_rate(address, PAY, pay, RATE, TIME).await;
    reading.end().await;
    took.p99
}

/// A reader at work.
struct Reading {
    stop: Arc<AtomicBool>,
    work: tokio::task::JoinHandle<usize>,
    reader: Reader,
}

impl Reading {
    fn begin(side: &Side, reader: Reader) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), side.server.address);
        let store = side.store.as_ref();
        let work = match (reader, store.and_then(Store::log)) {
            (Reader::None, _) => tokio::spawn(async { 0 }),
            (Reader::Rebuild, _) => tokio::spawn(async move {
                let mut times = 0;
                while !stopped.load(Ordering::Relaxed) {
                    streams::rebuild(address).await;
                    times += 1;
                }
                times
            }),
            (Reader::Copy, log) => {
                let log = log.expect("a log that others can read");
                let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
                tokio::task::spawn_blocking(move || {
                    let mut times = 0;
                    while !stopped.load(Ordering::Relaxed) {
                        copy(&log, &format!("embedded:{}/{times}", folder.path().display()), &stopped);
                        times += 1;
                    }
                    times
                })
            }
        };
        Self { stop, work, reader }
    }

    /// Ends it; the rebuild that has begun is finished first.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let times = self.work.await.expect("no panic");
        assert!(self.reader == Reader::None || times > 0, "the log was not read");
    }
}

/// Copies the log until it has all of it, or is stopped. A copy that fails ends the program.
fn copy(from: &str, to: &str, stopped: &AtomicBool) {
    let mut command = Command::new(servers::binary());
    command.args(["copy", "--from", from, "--to", to]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut copying: Child = command.spawn().expect("starts");
    loop {
        if let Some(status) = copying.try_wait().expect("it runs") {
            assert!(status.success(), "the copy failed: {status}");
            return;
        }
        if stopped.load(Ordering::Relaxed) {
            copying.kill().expect("it runs");
            copying.wait().expect("it has ended");
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
