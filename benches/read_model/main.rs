//! The read model with millions of orders: the speed of a rebuild, the time until it is ready after a restart, the latency of a page
//! anywhere in a list, and the memory and disk space of an order.
//!
//! `cargo bench --bench read_model -- memory 5000000`; the first word is `memory`, `sqlite` (its own file, the log elsewhere) or `embedded`
//! (in the file of the log, which is filled first), the second the number of orders. Each order has two or three events, a thousand orders
//! apart, and belongs to one of as many customers as there are groups of 50 orders. For `memory` and `sqlite` the events are generated as
//! they are read, which costs as much as reading from memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a program for developers: it may end where something is wrong"
)]
#![allow(missing_docs, reason = "a program, not a library")]

mod generated;
mod pages;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use generated::GeneratedLog;
use ordersystem::{
    backends::{
        embedded::{database::Database, event_store::EmbeddedEventStore, read_model::EmbeddedReadModel},
        memory::read_model::MemoryReadModel,
    },
    ports::{
        event_store::EventStore,
        read_model::{ListFilter, ListOrder, ListQuery, ReadModel},
    },
    processors::projections::{OrderProjection, ProjectionProgress, Rebuilds},
};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let kind = args.first().map_or("memory", String::as_str);
    let orders: u64 = args.get(1).map_or(1_000_000, |orders| orders.parse().expect("a number of orders"));
    // Not in the folder for temporary files, which may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let log = Arc::new(GeneratedLog::new(orders));
    println!("{kind}: {orders} orders, {} events", log.events());
    if kind == "embedded" {
        let started = Instant::now();
        let store = EmbeddedEventStore::new(Database::open(folder.path()).unwrap());
        log.copy_to(&store).await;
        println!("the log is written in {:.1} s", started.elapsed().as_secs_f64());
    }

    let before = (resident_bytes(), disk_bytes(folder.path()));
    let node = Node::open(kind, folder.path(), &log);
    let started = Instant::now();
    let running = node.run();
    running.reached(node.store.head().await.unwrap()).await.unwrap();
    report("built from nothing", &log, started.elapsed());
    if kind == "memory" {
        println!("memory: {:.0} bytes an order", (resident_bytes() - before.0) as f64 / orders as f64);
    } else {
        println!("disk: {:.0} bytes an order", (disk_bytes(folder.path()) - before.1) as f64 / orders as f64);
    }
    pages::measure(&*node.model).await;

    rebuild(&node, &log).await;
    if kind != "memory" {
        node.stop().await;
        let before = log.read.load(Ordering::Relaxed);
        let started = Instant::now();
        let node = Node::open(kind, folder.path(), &log);
        node.run().reached(node.store.head().await.unwrap()).await.unwrap();
        let read = log.read.load(Ordering::Relaxed) - before;
        println!("restart: {:.0} ms, {read} events of the generated log read", started.elapsed().as_secs_f64() * 1e3);
        println!("disk: {:.0} MB in all", disk_bytes(folder.path()) as f64 / 1e6);
    }
}

struct Node {
    store: Arc<dyn EventStore>,
    model: Arc<dyn ReadModel>,
    stop: CancellationToken,
    projection: Arc<OrderProjection>,
    work: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Node {
    fn open(kind: &str, folder: &Path, log: &Arc<GeneratedLog>) -> Self {
        let generated = Arc::clone(log) as Arc<dyn EventStore>;
        let (store, model): (Arc<dyn EventStore>, Arc<dyn ReadModel>) = match kind {
            "memory" => (generated, Arc::new(MemoryReadModel::new())),
            "sqlite" => (generated, Arc::new(EmbeddedReadModel::new(Database::open_for_read_model(folder).unwrap()))),
            "embedded" => {
                let database = Database::open(folder).unwrap();
                (Arc::new(EmbeddedEventStore::new(Arc::clone(&database))), Arc::new(EmbeddedReadModel::new(database)))
            }
            other => panic!("memory, sqlite or embedded, not {other}"),
        };
        let projection = Arc::new(OrderProjection::new(Arc::clone(&store), Arc::clone(&model)));
        Self { store, model, stop: CancellationToken::new(), projection, work: std::sync::Mutex::default() }
    }

    fn run(&self) -> ProjectionProgress {
        let (projection, stop) = (Arc::clone(&self.projection), self.stop.clone());
        *self.work.lock().unwrap() = Some(tokio::spawn(async move { projection.run(stop).await }));
        self.projection.progress()
    }

    fn rebuilds(&self) -> Rebuilds {
        self.projection.rebuilds()
    }

    async fn stop(self) {
        self.stop.cancel();
        let work = self.work.lock().unwrap().take();
        if let Some(work) = work {
            work.await.unwrap();
        }
        // The abandoned rebuild may still hold the file for a moment.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As a shadow copy of the current one, whose first page is queried throughout.
async fn rebuild(node: &Node, log: &GeneratedLog) {
    let query = ListQuery { filter: ListFilter::default(), order: ListOrder::NewestFirst, after: None, limit: 50 };
    let started = Instant::now();
    let (mut state, _) = node.rebuilds().start();
    let mut latencies = Vec::new();
    while state.borrow_and_update().is_going_on() {
        let asked = Instant::now();
        assert_eq!(node.model.list(&query).await.unwrap().rows.len(), 50);
        latencies.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{:?}", state.borrow().phase);
    report("rebuilt beside it", log, started.elapsed());
    latencies.sort_unstable();
    let of = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("  a page meanwhile: median {:.2} ms, p99 {:.2} ms, longest {:.2} ms", of(0.5), of(0.99), of(1.0));
}

fn report(what: &str, log: &GeneratedLog, took: Duration) {
    let seconds = took.as_secs_f64();
    println!("{what}: {seconds:.1} s, {:.0} events/s", log.events() as f64 / seconds);
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

fn disk_bytes(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum()
}
