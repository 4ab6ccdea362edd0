//! One run: servers, nodes, clients and followers; the faults of its plan, one by one; then quiet, and the checker.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use fastrand::Rng;
use ordersystem::{
    codec,
    ports::{
        event_store::{Direction, EventStore, Position},
        message_bus::MessageBus,
    },
    proto::catga::events::v1::order_event,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    board::Board,
    calls::Node,
    check::{Finding, check},
    client::{self, Client, Open},
    figures::{Away, Figures},
    follower::{Follower, read_all},
    history::{Answer, Event, Followed, Follows, History, OrderId, Status, Window},
    node::program,
    plan::{Fault, Plan},
    sentinel,
    world::World,
};

/// The time limit for full recovery on a busy machine. Exceeding it is a finding.
const RECOVERS_WITHIN: Duration = Duration::from_secs(120);
/// The number of commands that are acknowledged after the last fault.
const AT_THE_END: usize = 30;

/// A fail-over may lose commands that were acknowledged up to this long before it: the replicas do not lag further behind.
const REPLICAS_LAG_US: u64 = 1_000_000;
/// The maximum time for which an old primary continues after a fail-over: Sentinels reconfigure it when they have seen it for eight
/// seconds.
const OLD_PRIMARY_LASTS_US: u64 = 15_000_000;
/// The maximum time before a Sentinel names another primary for which that one may have been cut off from the old one.
const PROMOTED_BEFORE_US: u64 = 10_000_000;
/// The number of commands that are acknowledged once Sentinels and servers agree again, and nothing may be lost any more.
const AFTER_FAIL_OVERS: usize = 150;

/// The result of a run.
pub struct Outcome {
    pub findings: Vec<Finding>,
    pub figures: Figures,
    /// The location of the nodes' logs and of the history.
    pub folder: PathBuf,
}

struct Run {
    plan: Plan,
    board: Arc<Board>,
    world: World,
    nodes: Arc<Vec<Node>>,
    open: Open,
    findings: Vec<Finding>,
    figures: Figures,
    windows: Vec<Window>,
    /// The time at which a Sentinel was seen to name another primary.
    changes: Arc<Mutex<Vec<u64>>>,
}

/// Runs a plan; its files are in `folder`.
pub async fn run(plan: Plan, folder: &Path) -> Outcome {
    std::fs::create_dir_all(folder).unwrap();
    let world = World::start(&plan, folder);
    let nodes = Arc::new(world.nodes.iter().map(|node| Node::at(node.port)).collect::<Vec<_>>());
    let figures = Figures::new(&plan);
    let board = Arc::new(Board::new());
    let mut run = Run {
        plan,
        board,
        world,
        nodes,
        open: Open::default(),
        findings: Vec::new(),
        figures,
        windows: Vec::new(),
        changes: Arc::default(),
    };
    let history = run.whole_history().await;
    run.findings.extend(check(&history));
    run.figures.take_in(&history, run.findings.len());
    std::fs::write(folder.join("history.txt"), written(&history, &run.findings)).unwrap();
    Outcome { findings: run.findings, figures: run.figures, folder: folder.to_owned() }
}

impl Run {
    async fn whole_history(&mut self) -> History {
        self.until_ready("at the start").await;
        let watches = self.watch_sentinels();
        let (stop, mut clients) = (CancellationToken::new(), JoinSet::new());
        for number in 0..self.plan.clients {
            clients.spawn(self.client(number).work_until(stop.clone()));
        }
        let followers = self.all_faults().await;
        stop.cancel();
        clients.join_all().await;
        self.settle().await;
        self.until_ready("at the end").await;
        drop(watches);
        self.final_history(followers).await
    }

    /// Records each change of the primary, including those that no fault has caused, until the set is dropped.
    fn watch_sentinels(&self) -> JoinSet<()> {
        let mut watches = JoinSet::new();
        for port in self.world.servers.sentinel().into_iter().flat_map(|all| all.ports()) {
            let (board, changes) = (Arc::clone(&self.board), Arc::clone(&self.changes));
            watches.spawn(sentinel::watch(port, move || changes.lock().unwrap().push(board.now())));
        }
        watches
    }

    /// A window for each change of the primary that has been seen and has none yet.
    fn take_in_changes(&mut self) {
        for at in std::mem::take(&mut *self.changes.lock().unwrap()) {
            let from = at.saturating_sub(PROMOTED_BEFORE_US);
            self.windows.push(Window { from, until: at + OLD_PRIMARY_LASTS_US });
        }
    }

    fn client(&self, number: usize) -> Client {
        Client {
            number,
            random: Rng::with_seed(self.plan.seed << 8 | number as u64),
            board: Arc::clone(&self.board),
            nodes: Arc::clone(&self.nodes),
            open: Arc::clone(&self.open),
            commands: 0,
            orders: 0,
            reads: 0,
        }
    }

    fn found(&mut self, kind: &'static str, text: impl Into<String>) {
        self.findings.push(Finding::new(kind, text));
    }

    /// Waits until it holds, and supervises the nodes meanwhile.
    async fn until(&mut self, what: &str, mut holds: impl AsyncFnMut(&mut Self) -> bool) -> bool {
        let give_up_at = Instant::now() + RECOVERS_WITHIN;
        while !holds(self).await {
            if Instant::now() >= give_up_at {
                self.found("away for good", format!("not within {RECOVERS_WITHIN:?}: {what}"));
                return false;
            }
            sleep(Duration::from_millis(50)).await;
            self.world.tend();
        }
        true
    }

    async fn until_ready(&mut self, when: &str) {
        for node in 0..self.plan.topology.nodes {
            let what = format!("node {} is ready {when}", node + 1);
            self.until(&what, async |run| run.world.nodes[node].is_ready().await).await;
        }
    }

    /// The faults, each after its number of acknowledged commands; returns the followers that were started meanwhile.
    async fn all_faults(&mut self) -> Vec<Follower> {
        let mut random = Rng::with_seed(!self.plan.seed);
        let mut followers = vec![
            self.follow(Follows::Everything, 0),
            self.follow(Follows::Status(Status::Paid), 1),
            self.follow(Follows::Customer("customer-1-0".to_owned()), 2),
        ];
        for (after, fault) in self.plan.faults.clone() {
            self.until_acknowledged(after).await;
            if let Some(known) = self.board.known().last() {
                followers.push(self.follow(Follows::Order(known.order), random.usize(..3)));
            }
            let began_at = self.board.now();
            self.world.suffer(&fault, &mut random).await;
            let ended_at = self.board.now();
            for node in 0..self.plan.topology.nodes {
                let what = format!("node {} takes commands after {fault}", node + 1);
                self.until(&what, async |run| run.board.has_acknowledged(node, ended_at)).await;
            }
            self.figures.away.push(self.away(fault.kind(), began_at, ended_at));
            if matches!(fault, Fault::KillPrimary { .. } | Fault::PausePrimary { .. } | Fault::FailOver) {
                let from = began_at.saturating_sub(REPLICAS_LAG_US);
                self.windows.push(Window { from, until: ended_at + OLD_PRIMARY_LASTS_US });
            }
        }
        if self.world.servers.sentinel().is_some() {
            self.until_agreed().await;
        }
        self.until_acknowledged(AT_THE_END).await;
        followers
    }

    /// Closes the windows: the servers agree, and each node has replied since. From now on every check applies without exception.
    async fn until_agreed(&mut self) {
        tokio::task::block_in_place(|| self.world.servers.sentinel().unwrap().until_agreed());
        let agreed_at = self.board.now();
        for node in 0..self.plan.topology.nodes {
            let what = format!("node {} takes commands when the Sentinels agree", node + 1);
            self.until(&what, async |run| run.board.has_acknowledged(node, agreed_at)).await;
        }
        self.take_in_changes();
        let now = self.board.now();
        self.windows.iter_mut().for_each(|window| window.until = window.until.min(now));
        self.until_acknowledged(AFTER_FAIL_OVERS).await;
    }

    fn follow(&self, what: Follows, node: usize) -> Follower {
        Follower::start(what, node, Arc::clone(&self.board), Arc::clone(&self.nodes))
    }

    async fn until_acknowledged(&mut self, more: usize) {
        let wanted = self.board.acknowledged() + more;
        let what = format!("{more} more commands are acknowledged");
        self.until(&what, async |run| run.board.acknowledged() >= wanted).await;
    }

    fn away(&self, kind: &'static str, began_at: u64, ended_at: u64) -> Away {
        let nodes = 0..self.plan.topology.nodes;
        let first = |node| self.board.first_acknowledged(node, ended_at).unwrap_or_else(|| self.board.now());
        let last_back = nodes.map(|node| first(Some(node))).max().unwrap_or(ended_at);
        Away {
            kind,
            lasted: ended_at - began_at,
            everywhere: self.board.longest_silence(began_at, last_back),
            after: last_back - ended_at,
            unknown: self.board.unknown_since(began_at),
        }
    }

    /// Sends every command with a request id and an unknown outcome once more: now its outcome must be known.
    async fn settle(&mut self) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        for (name, command, mut tries) in open {
            let what = format!("{name} has an outcome");
            self.until(&what, async |run| {
                let node = tries % run.nodes.len();
                let called = format!("{name}.{tries}");
                tries += 1;
                let answer = client::try_command(&run.board, &run.nodes, node, &command, called).await;
                client::is_definite(&answer)
            })
            .await;
        }
    }

    /// The state of nodes, followers and the bus when all is quiet; then the log itself, and its audit.
    async fn final_history(&mut self, followers: Vec<Follower>) -> History {
        let mut history = History::default();
        for node in 0..self.nodes.len() {
            let mut read = None;
            let what = format!("node {} is read from the beginning", node + 1);
            self.until(&what, async |run| {
                read = read_all(&run.nodes[node]).await.ok();
                read.is_some()
            })
            .await;
            history.followed.extend(read);
        }
        let shown = history.followed.iter().map(|all| all.events.len()).max().unwrap_or(0);
        self.until("the follower of everything is at the end", async |_| followers[0].count() >= shown).await;
        let bus = self.world.servers.bus().await;
        history.bus = self.read_bus(&*bus, history.followed.first()).await;
        drop(bus);
        for node in 0..self.nodes.len() {
            if let Err(why) = self.world.nodes[node].stop().await {
                self.found("a node does not end in order", why);
            }
            let panics = self.world.nodes[node].panics();
            self.findings.extend(panics.into_iter().map(|line| Finding::new("a panic", line)));
            self.figures.ended += self.world.nodes[node].ended;
        }
        history.log = read_log(&*self.world.servers.log().await).await;
        self.until_followed(&followers, &history.log).await;
        history.followed.extend(followers.into_iter().flat_map(Follower::end));
        self.audit();
        history.calls = self.board.calls();
        self.take_in_changes();
        history.windows = self.windows.clone();
        history
    }

    /// The nodes have stopped by now: followers will never receive what they have not been sent. They had as much time as the bus and the
    /// log.
    async fn until_followed(&self, followers: &[Follower], log: &[Event]) {
        for follower in followers {
            let wanted = log.iter().filter(|event| follower.what().wants(event)).count();
            let _ = timeout(Duration::from_secs(1), async {
                while follower.count() < wanted {
                    sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
    }

    /// Reads the bus from its beginning until it has all that a node shows, or gives up.
    async fn read_bus(&mut self, bus: &dyn MessageBus, shown: Option<&Followed>) -> Vec<(OrderId, u64)> {
        let mut missing: HashMap<OrderId, u64> = HashMap::new();
        for (order, revision, _) in shown.iter().flat_map(|all| &all.events) {
            missing.insert(*order, *revision);
        }
        let mut messages = Vec::new();
        let mut consumer = None;
        self.until("all events are on the bus", async |_| {
            if consumer.is_none() {
                consumer = bus.consumer("audit").await.ok();
            }
            let Some(consumer) = &consumer else { return false };
            if let Ok(Ok(batch)) = timeout(Duration::from_secs(2), consumer.next_batch(500)).await {
                for delivery in &batch {
                    let (order, revision) = (delivery.message.key, delivery.message.sequence);
                    messages.push((order, revision));
                    if missing.get(&order).is_some_and(|last| *last <= revision) {
                        missing.remove(&order);
                    }
                }
                let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
                let _ = consumer.ack(&receipts).await;
            }
            missing.is_empty()
        })
        .await;
        messages
    }

    fn audit(&mut self) {
        let address = self.world.servers.address();
        let output = program().args(["verify", &address]).output().unwrap();
        if !output.status.success() {
            self.found(
                "verify finds something",
                String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
            );
        }
    }
}

async fn read_log(store: &dyn EventStore) -> Vec<Event> {
    let (mut log, mut from) = (Vec::new(), Position(0));
    loop {
        let events = store.read_log(from, Direction::Forward, 1_000).await.unwrap();
        let Some(last) = events.last() else { return log };
        from = last.position;
        for stored in &events {
            let event = codec::decode_message(&stored.payload).unwrap();
            let to = match event.event.unwrap() {
                order_event::Event::OrderCreated(_) => Status::Pending,
                order_event::Event::OrderPaid(_) => Status::Paid,
                order_event::Event::OrderShipped(_) => Status::Shipped,
                order_event::Event::OrderDelivered(_) => Status::Delivered,
                order_event::Event::OrderCancelled(_) => Status::Cancelled,
            };
            log.push(Event {
                order: stored.stream.0,
                revision: stored.revision,
                to,
                call: event.actor,
                request: event.request_id,
                customer: event.customer_id,
            });
        }
    }
}

/// The history as text, to investigate a finding.
fn written(history: &History, findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{finding}\n");
    }
    text += "\n";
    let mut calls: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for call in &history.calls {
        let answer = match &call.answer {
            Answer::OrderRepository(rows) => format!("{rows:?}"),
            other => format!("{other:?}"),
        };
        let line = format!(
            "{:9.3} {:9.3} node{} {} {:?} -> {answer}",
            call.sent_at as f64 / 1e6,
            call.answered_at as f64 / 1e6,
            call.node + 1,
            call.name,
            call.asked
        );
        calls.entry(call.sent_at).or_default().push(line);
    }
    for line in calls.into_values().flatten() {
        text += &line;
        text += "\n";
    }
    for window in &history.windows {
        text += &format!("{window:?}\n");
    }
    for event in &history.log {
        text += &format!("log {event:?}\n");
    }
    for message in &history.bus {
        text += &format!("bus {message:?}\n");
    }
    text
}
