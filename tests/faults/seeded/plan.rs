//! The events of a run: chosen by its seed alone.

use std::fmt;

use fastrand::Rng;

use super::topology::{Backend, Topology};
use crate::{nats_cluster::SERVERS, proxy::Way};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    KillNode {
        node: usize,
    },
    KillAllNodes,
    PauseNode {
        node: usize,
        ms: u64,
    },
    RestartNode {
        node: usize,
    },
    /// With `node`, that one is killed meanwhile.
    KillServer {
        server: usize,
        ms: u64,
        node: Option<usize>,
    },
    PauseServer {
        server: usize,
        ms: u64,
    },
    CutWay {
        node: usize,
        ms: u64,
    },
    HoldWay {
        node: usize,
        way: Way,
        ms: u64,
    },
    DelayWay {
        node: usize,
        by_ms: u64,
        ms: u64,
    },
    /// Replies of the server to this node are cut off, again and again.
    CloseMidAnswer {
        node: usize,
        times: u64,
    },
    /// The leader of a stream is cut off from the other servers: its connections to them end, or are silent, as with an unplugged cable.
    IsolateLeader {
        stream: &'static str,
        is_silent: bool,
        ms: u64,
        node: Option<usize>,
    },
    KillLeader {
        stream: &'static str,
        ms: u64,
    },
    PauseLeader {
        stream: &'static str,
        ms: u64,
    },
    StepDown {
        stream: &'static str,
        times: u64,
    },
    RollingRestart,
    KillTwoServers {
        first: usize,
        ms: u64,
    },
    /// Redis closes all client connections.
    KillConnections {
        times: u64,
    },
    FlushScripts,
    /// Redis is killed while it rewrites its file.
    KillInRewrite,
    KillPrimary {
        ms: u64,
    },
    /// For long enough that another one takes over.
    PausePrimary {
        ms: u64,
    },
    /// Sentinel is told to promote another one.
    FailOver,
}

impl Fault {
    /// Its kind, for the figures.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::KillNode { .. } => "node killed",
            Self::KillAllNodes => "all nodes killed",
            Self::PauseNode { .. } => "node stopped",
            Self::RestartNode { .. } => "node restarted",
            Self::KillServer { node: None, .. } => "server killed",
            Self::KillServer { .. } => "server and node killed",
            Self::PauseServer { .. } => "server stopped",
            Self::CutWay { .. } => "a node's way cut",
            Self::HoldWay { .. } => "a node's way held, one direction",
            Self::DelayWay { .. } => "a node's way delayed",
            Self::CloseMidAnswer { .. } => "answers cut in the middle",
            Self::IsolateLeader { node: None, .. } => "leader cut off",
            Self::IsolateLeader { .. } => "leader cut off, node killed",
            Self::KillLeader { .. } => "leader killed",
            Self::PauseLeader { .. } => "leader stopped",
            Self::StepDown { .. } => "leader stepped down",
            Self::RollingRestart => "rolling restart",
            Self::KillTwoServers { .. } => "two servers killed",
            Self::KillConnections { .. } => "CLIENT KILL",
            Self::FlushScripts => "SCRIPT FLUSH",
            Self::KillInRewrite => "killed in a rewrite",
            Self::KillPrimary { .. } => "primary killed",
            Self::PausePrimary { .. } => "primary stopped",
            Self::FailOver => "fail-over by command",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub topology: Topology,
    pub clients: usize,
    /// Each one starts when this many more commands have been acknowledged since the previous one.
    pub faults: Vec<(usize, Fault)>,
}

impl Plan {
    pub fn new(seed: u64, topology: Topology, faults: usize) -> Self {
        let mut random = Rng::with_seed(seed);
        let faults = (0..faults).map(|_| (random.usize(30..90), fault(&mut random, topology))).collect();
        Self { seed, topology, clients: 6, faults }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {} on {}, {} clients", self.seed, self.topology.name, self.clients)?;
        for (after, fault) in &self.faults {
            write!(f, "\n  after {after} acknowledged commands: {fault}")?;
        }
        Ok(())
    }
}

fn fault(random: &mut Rng, topology: Topology) -> Fault {
    // Faults that are specific to this backend make up half of all.
    let of_backend = random.bool();
    if of_backend && topology.backend.is_nats_cluster() {
        return fault_of_cluster(random, topology);
    }
    if of_backend && topology.backend.is_redis() {
        return match random.u8(..3) {
            0 => Fault::KillConnections { times: random.u64(1..4) },
            1 => Fault::FlushScripts,
            _ => Fault::KillInRewrite,
        };
    }
    if topology.backend == Backend::Sentinel {
        return fault_of_sentinel(random, topology, of_backend);
    }
    let node = random.usize(..topology.nodes);
    let server = if topology.backend.is_nats_cluster() { random.usize(..SERVERS) } else { 0 };
    let ms = random.u64(500..6_000);
    match random.u8(..12) {
        0 => Fault::KillNode { node },
        1 => Fault::KillAllNodes,
        2 => Fault::PauseNode { node, ms: ms * 2 },
        3 => Fault::RestartNode { node },
        4 => Fault::KillServer { server, ms, node: None },
        5 => Fault::KillServer { server, ms, node: Some(node) },
        6 | 7 => Fault::PauseServer { server, ms },
        8 => Fault::CutWay { node, ms },
        9 => Fault::HoldWay { node, way: if random.bool() { Way::There } else { Way::Back }, ms },
        10 => Fault::DelayWay { node, by_ms: random.u64(5..200), ms },
        _ => Fault::CloseMidAnswer { node, times: random.u64(2..8) },
    }
}

fn fault_of_sentinel(random: &mut Rng, topology: Topology, of_primary: bool) -> Fault {
    let node = random.usize(..topology.nodes);
    let ms = random.u64(500..8_000);
    match (of_primary, random.u8(..4)) {
        (true, 0 | 1) => Fault::KillPrimary { ms },
        (true, 2) => Fault::PausePrimary { ms: ms + 4_000 },
        (true, _) => Fault::FailOver,
        (false, 0) => Fault::KillNode { node },
        (false, 1) => Fault::KillAllNodes,
        (false, 2) => Fault::PauseNode { node, ms },
        (false, _) => Fault::RestartNode { node },
    }
}

fn fault_of_cluster(random: &mut Rng, topology: Topology) -> Fault {
    const STREAMS: [&str; 4] = ["ordersystem-log", "ordersystem-log", "ordersystem-requests", "ordersystem-events"];
    let stream = STREAMS[random.usize(..STREAMS.len())];
    let ms = random.u64(2_000..9_000);
    let node = random.usize(..topology.nodes);
    match random.u8(..10) {
        0..4 => {
            let node = random.bool().then_some(node).filter(|_| random.bool());
            // The others elect a new one after some seconds; the old one considers itself leader for 10 s and more.
            let ms = random.u64(4_000..14_000);
            Fault::IsolateLeader { stream, is_silent: random.bool(), ms, node }
        }
        4 => Fault::KillLeader { stream, ms },
        5 => Fault::PauseLeader { stream, ms },
        6 | 7 => Fault::StepDown { stream, times: random.u64(1..5) },
        8 => Fault::RollingRestart,
        _ => Fault::KillTwoServers { first: random.usize(..SERVERS), ms },
    }
}
