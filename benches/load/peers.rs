//! Programs of others that do comparable work, under the same load in the same run. `benches/peers/build.sh` builds them into target/peers; their
//! READMEs say how the comparison is made fair.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use ordersystem::proto::catga::orders::v1 as pb;

use crate::{
    brokers::Store,
    client::{self, Call, WIDE},
    in_process, median,
    report::{Goal, Report, Row},
    rows::{Side, compare},
    servers::{Server, free_address},
    spread, streams,
};

pub const ID: &str = "peer";
const UMADB_APPEND: &str = "/umadb.v1.DCB/Append";
/// Before the rounds: a virtual machine compiles what runs often.
const WARM_UP: Duration = Duration::from_secs(10);

/// A service of another platform that accepts our POST /orders over HTTP/2.
#[derive(Clone, Copy, Debug)]
struct Service {
    name: &'static str,
    /// Relative to target/peers; exists once it is built.
    program: &'static str,
    /// What runs it, and the flag for its version.
    platform: [&'static str; 2],
    start: fn(&Path) -> Command,
}

const SERVICES: [Service; 2] = [
    Service {
        name: "emmett (Node)",
        program: "emmett/node_modules/.built",
        platform: ["node", "--version"],
        start: |root| {
            let mut command = Command::new("node");
            command.arg(root.join("emmett/server.mjs"));
            command
        },
    },
    Service {
        name: "Axon Framework (JVM)",
        program: "axon/lib",
        platform: ["java", "--version"],
        start: |root| {
            let mut command = Command::new("java");
            let classes = format!("{}/*:{}", root.join("axon/lib").display(), root.join("axon/classes").display());
            command.args(["-XX:+UseG1GC", "-cp", &classes, "peer.Orders"]);
            command
        },
    },
];

/// UmaDB's `Event`, as far as it is sent.
#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(string, tag = "1")]
    event_type: String,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AppendRequest {
    #[prost(message, repeated, tag = "1")]
    events: Vec<Event>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers")
}

/// Compares with each that has been built; says which have not.
pub async fn measure(report: &mut Report) {
    umadb(report).await;
    cqrs_es(report);
    for service in SERVICES {
        if root().join(service.program).exists() {
            let [program, flag] = service.platform;
            report.with_version(format!("{program} {}", version(Command::new(program).arg(flag))));
        }
        for (mode, ours) in [("in memory", "inmemory"), ("on SQLite, synced", "embedded")] {
            beside_service(report, service, mode, ours).await;
        }
    }
}

/// The program, if it is built; otherwise the report says that it is not.
fn built(report: &mut Report, what: &str, program: &str) -> Option<PathBuf> {
    let path = root().join(program);
    if path.exists() {
        return Some(path);
    }
    report.miss(ID, what, "not built; benches/peers/build.sh builds it");
    None
}

/// CreateOrder, which decides, projects and publishes, to an append of an event of the same size.
async fn umadb(report: &mut Report) {
    let what = "CreateOrder, embedded, synced, to an append to UmaDB";
    let Some(program) = built(report, what, "bin/umadb") else { return };
    report.with_version(version(Command::new(&program).arg("--version")));
    let ours = Side::service_on("embedded");
    // A folder on the same disk.
    let (store, address) = (Store::start("embedded"), free_address());
    let mut command = Command::new(program);
    command.args(["--listen", &address.to_string(), "--db-path"]).arg(store.folder().join("umadb"));
    let theirs = Side { server: Server::start(command, address).await, store: Some(store) };
    let event = match streams::event_message().item {
        Some(pb::stream_events_response::Item::Event(event)) => event.0.to_vec(),
        other => panic!("not an event: {other:?}"),
    };
    let event =
        Event { event_type: "OrderCreated".to_owned(), tags: vec!["order:382520797643669504".to_owned()], data: event };
    let append = Call::grpc(UMADB_APPEND, &AppendRequest { events: vec![event] });
    let row = compare((&ours, &Call::create_order()), (&theirs, &append), WIDE).await;
    drop((ours, theirs));
    let goals = vec![Goal::RatioAtLeast(1.25), Goal::FactorAtMost(1.0)];
    report.add(Row { id: ID, what: what.to_owned(), goals, ..row });
}

/// The first line that a program says of itself.
fn version(command: &mut Command) -> String {
    let output = command.output().expect("starts");
    let said = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

/// In process, one thread each.
fn cqrs_es(report: &mut Report) {
    let what = "in process: CreateOrder to cqrs-es with its memory store";
    let Some(program) = built(report, what, "bin/peer-cqrs-es") else { return };
    let ours = in_process::in_a_process().create_us;
    let output = Command::new(program).output().expect("starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Microseconds a command: one line a round.
    let theirs = String::from_utf8(output.stdout).expect("text");
    let theirs = median(theirs.lines().map(|line| line.parse().expect("a number")));
    report.add(Row {
        id: ID,
        what: what.to_owned(),
        unit: "us",
        ours: median(ours.iter().copied()),
        other: Some(theirs),
        spread: Some(spread(ours.iter().copied())),
        ..Row::default()
    });
}

async fn beside_service(report: &mut Report, service: Service, mode: &str, kind: &'static str) {
    let what = format!("POST /orders, {kind}, to {} {mode}", service.name);
    if built(report, &what, service.program).is_none() {
        return;
    }
    let ours = Side::service_on(kind);
    let (store, address) = (Store::start(kind), free_address());
    let mut command = (service.start)(&root());
    command.env("PORT", address.port().to_string());
    if kind == "embedded" {
        command.env("DATABASE", store.folder().join("peer.db"));
    }
    let theirs = Side { server: Server::start(command, address).await, store: Some(store) };
    let call = Call::post_order();
    client::load(theirs.server.address, &call, WIDE, WARM_UP).await;
    let row = compare((&ours, &call), (&theirs, &call), WIDE).await;
    let peak = theirs.server.peak_mib().unwrap_or_default();
    drop((ours, theirs));
    report.add(Row { id: ID, what: format!("{what} ({peak} MiB)"), ..row });
}
