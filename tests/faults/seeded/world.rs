//! The servers and nodes of a run, and the faults applied to them.

use std::{path::Path, time::Duration};

use fastrand::Rng;
use tokio::{task::block_in_place, time::sleep};

use super::{
    node::Process,
    plan::{Fault, Plan},
    topology::Servers,
};
use crate::{nats_cluster::SERVERS, nats_server::free_port, proxy::Proxy};

pub struct World {
    pub servers: Servers,
    pub nodes: Vec<Process>,
    /// The proxies of each node to its servers.
    ways: Vec<Vec<Proxy>>,
}

impl World {
    /// Starts everything that the plan needs; the nodes write to files in `folder`.
    pub fn start(plan: &Plan, folder: &Path) -> Self {
        let topology = plan.topology;
        let servers = block_in_place(|| Servers::start(topology.backend));
        let (mut nodes, mut ways) = (Vec::new(), Vec::new());
        for node in 0..topology.nodes {
            let own_ways = servers.ways(topology.backend, node);
            let mut settings = servers.settings(&own_ways);
            if topology.nodes > 1 {
                settings.extend(["--cluster".to_owned(), "--node-id".to_owned(), format!("node{}", node + 1)]);
            }
            let log = folder.join(format!("node{}.log", node + 1));
            nodes.push(Process::start(free_port(), settings, log));
            ways.push(own_ways);
        }
        Self { servers, nodes, ways }
    }

    /// Restarts processes that have ended by themselves.
    pub fn tend(&mut self) {
        self.nodes.iter_mut().for_each(Process::tend);
    }

    /// Applies a fault from start to end: killed processes are restarted, cut connections restored.
    pub async fn suffer(&mut self, fault: &Fault, random: &mut Rng) {
        match *fault {
            Fault::KillNode { node } => self.kill_and_start(node).await,
            Fault::KillAllNodes => {
                for node in &mut self.nodes {
                    node.kill().await;
                }
                self.nodes.iter_mut().for_each(Process::start_again);
            }
            Fault::PauseNode { node, ms } => {
                self.nodes[node].signal("STOP");
                self.pass(ms).await;
                self.nodes[node].signal("CONT");
            }
            Fault::RestartNode { node } => {
                // A shutdown that is not orderly is found at the end of the run as well, where it is reported.
                let _ = self.nodes[node].stop().await;
                self.nodes[node].start_again();
            }
            Fault::KillServer { server, ms, node } => {
                self.kill_server(server);
                if let Some(node) = node {
                    self.kill_and_start(node).await;
                }
                self.pass(ms).await;
                self.start_server(server);
            }
            Fault::PauseServer { server, ms } => {
                self.servers.signal(server, "STOP");
                self.pass(ms).await;
                self.servers.signal(server, "CONT");
            }
            Fault::CutWay { node, ms } => self.spoil_way(node, ms, Proxy::cut).await,
            Fault::HoldWay { node, way, ms } => self.spoil_way(node, ms, |proxy| proxy.hold(way)).await,
            Fault::DelayWay { node, by_ms, ms } => {
                self.spoil_way(node, ms, |proxy| proxy.delay(Duration::from_millis(by_ms))).await;
            }
            Fault::CloseMidAnswer { node, times } => {
                for _ in 0..times {
                    let bytes = random.u64(20..4_000);
                    self.ways[node].iter().for_each(|proxy| proxy.close_after(bytes));
                    self.pass(300).await;
                }
                self.ways[node].iter().for_each(Proxy::heal);
            }
            Fault::KillConnections { times } => {
                for _ in 0..times {
                    self.servers.redis_cli(&["CLIENT", "KILL", "TYPE", "normal"]);
                    self.pass(200).await;
                }
            }
            Fault::FlushScripts => self.servers.redis_cli(&["SCRIPT", "FLUSH"]),
            Fault::KillInRewrite => {
                self.servers.redis_cli(&["BGREWRITEAOF"]);
                self.kill_server(0);
                self.start_server(0);
            }
            Fault::KillPrimary { .. } | Fault::PausePrimary { .. } | Fault::FailOver => {
                self.suffer_with_sentinel(fault).await;
            }
            _ => self.suffer_in_cluster(fault).await,
        }
    }

    /// By then acknowledged commands are on the replicas: that a fail-over may lose others is documented, and not a fault.
    async fn suffer_with_sentinel(&mut self, fault: &Fault) {
        let all = self.servers.sentinel().unwrap();
        let primary = block_in_place(|| {
            all.until_replicated();
            all.primary()
        });
        match *fault {
            Fault::KillPrimary { ms } => {
                self.kill_server(primary);
                self.pass(ms).await;
                self.start_server(primary);
            }
            Fault::PausePrimary { ms } => {
                self.servers.signal(primary, "STOP");
                self.pass(ms).await;
                self.servers.signal(primary, "CONT");
            }
            _ => block_in_place(|| self.servers.sentinel().unwrap().fail_over()),
        }
    }

    async fn suffer_in_cluster(&mut self, fault: &Fault) {
        match *fault {
            Fault::IsolateLeader { stream, is_silent, ms, node } => {
                let leader = self.leader(stream).await;
                let cluster = self.servers.cluster().unwrap();
                if is_silent {
                    cluster.hold_routes(leader)
                } else {
                    cluster.isolate(leader)
                }
                if let Some(node) = node {
                    self.kill_and_start(node).await;
                }
                self.pass(ms).await;
                self.servers.cluster().unwrap().heal();
            }
            Fault::KillLeader { stream, ms } => {
                let leader = self.leader(stream).await;
                self.kill_server(leader);
                self.pass(ms).await;
                self.start_server(leader);
            }
            Fault::PauseLeader { stream, ms } => {
                let leader = self.leader(stream).await;
                self.servers.signal(leader, "STOP");
                self.pass(ms).await;
                self.servers.signal(leader, "CONT");
            }
            Fault::StepDown { stream, times } => {
                for _ in 0..times {
                    self.servers.cluster().unwrap().step_down(stream).await;
                    self.pass(500).await;
                }
            }
            Fault::RollingRestart => {
                for server in 0..SERVERS {
                    self.kill_server(server);
                    self.start_server(server);
                    // The next one is stopped once this one has rejoined the cluster, as an operator would wait for.
                    self.leader("ordersystem-log").await;
                    self.pass(2_000).await;
                }
            }
            Fault::KillTwoServers { first, ms } => {
                let two = [first, (first + 1) % SERVERS];
                two.iter().for_each(|server| self.kill_server(*server));
                self.pass(ms).await;
                two.iter().for_each(|server| self.start_server(*server));
            }
            _ => unreachable!("{fault} is not of a cluster"),
        }
    }

    async fn leader(&self, stream: &str) -> usize {
        self.servers.cluster().unwrap().leader(stream).await
    }

    fn kill_server(&mut self, server: usize) {
        block_in_place(|| self.servers.kill(server));
    }

    fn start_server(&mut self, server: usize) {
        block_in_place(|| self.servers.start_again(server));
    }

    async fn kill_and_start(&mut self, node: usize) {
        self.nodes[node].kill().await;
        self.nodes[node].start_again();
    }

    async fn spoil_way(&mut self, node: usize, ms: u64, spoil: impl Fn(&Proxy)) {
        self.ways[node].iter().for_each(spoil);
        self.pass(ms).await;
        self.ways[node].iter().for_each(Proxy::heal);
    }

    /// Lets time pass, and restarts processes that end meanwhile.
    async fn pass(&mut self, ms: u64) {
        for _ in 0..ms.div_ceil(100) {
            sleep(Duration::from_millis(100)).await;
            self.tend();
        }
    }
}
