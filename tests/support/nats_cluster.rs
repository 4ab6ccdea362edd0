//! A cluster of three NATS servers for tests, with replicas as in production: real servers of the current version. A test can cut every
//! connection, since servers and clients reach each server through a proxy.

use std::{
    sync::OnceLock,
    time::{Duration, Instant},
};

use ordersystem::backends::nats::{
    connection::{Nats, NatsOptions},
    event_store::NatsEventStore,
};
use serde_json::Value;

use super::{
    PATIENCE,
    nats_server::{JETSTREAM, NatsServer, current_program, free_port, fresh_prefix},
    proxy::{Proxy, Way},
    until,
};

/// The number of servers.
pub const SERVERS: usize = 3;

pub struct NatsCluster {
    servers: Vec<NatsServer>,
    /// `routes[from][to]`: the proxy through which server `from` connects to server `to`.
    routes: Vec<Vec<Option<Proxy>>>,
    /// The proxies through which clients connect.
    clients: Vec<Proxy>,
}

/// The cluster that the harmless tests of this binary share, each with its own streams.
pub fn shared() -> &'static NatsCluster {
    static SHARED: OnceLock<NatsCluster> = OnceLock::new();
    SHARED.get_or_init(|| NatsCluster::start(""))
}

impl NatsCluster {
    /// A new one, each server with JetStream and `settings` in its configuration file. It has a leader when this returns.
    pub fn start(settings: &str) -> Self {
        Self::start_each(|_| format!("{JETSTREAM}\n{settings}"))
    }

    /// The same with these settings of each server, JetStream's among them.
    pub fn start_each(settings: impl Fn(usize) -> String) -> Self {
        let program = current_program();
        let ports: Vec<u16> = (0..SERVERS).map(|_| free_port()).collect();
        let route = |from: usize, to: usize| (from != to).then(|| Proxy::to(ports[to]));
        let routes: Vec<Vec<_>> = (0..SERVERS).map(|from| (0..SERVERS).map(|to| route(from, to)).collect()).collect();
        let configuration = |server: usize| {
            let to_others: Vec<_> = routes[server].iter().flatten().map(|way| nats_route(way.port())).collect();
            // The address that this server advertises to the others leads nowhere: they reach it only through their proxies. Clients only
            // learn the servers that they were given.
            format!(
                "server_name: s{server}\n\
                 cluster {{ name: test, listen: \"127.0.0.1:{}\", cluster_advertise: \"127.0.0.1:1\", no_advertise: true, routes: [{}] }}\n\
                 {}",
                ports[server],
                to_others.join(", "),
                settings(server)
            )
        };
        let servers: Vec<_> = (0..SERVERS)
            .map(|server| NatsServer::start_program(&program, free_port(), &configuration(server)))
            .collect();
        let clients = servers.iter().map(|server| Proxy::to(server.port)).collect();
        let cluster = Self { servers, routes, clients };
        cluster.await_leader();
        cluster
    }

    /// All servers, for a node.
    pub fn url(&self) -> String {
        (0..SERVERS).map(|server| self.url_of(server)).collect::<Vec<_>>().join(",")
    }

    /// One server, for a node that knows no other.
    pub fn url_of(&self, server: usize) -> String {
        format!("nats://127.0.0.1:{}", self.clients[server].port())
    }

    /// One server, through a proxy that no test cuts.
    pub fn direct_url(&self, server: usize) -> String {
        self.servers[server].url()
    }

    /// A server itself.
    pub fn server(&self, server: usize) -> &NatsServer {
        &self.servers[server]
    }

    /// The proxy of clients to a server.
    pub fn client_way(&self, server: usize) -> &Proxy {
        &self.clients[server]
    }

    /// Options for a node that knows all servers.
    pub fn options(&self, prefix: &str) -> NatsOptions {
        NatsOptions { replicas: SERVERS, ..NatsOptions::new(self.url(), prefix) }
    }

    /// Options for a node that knows one server.
    pub fn options_at(&self, server: usize, prefix: &str) -> NatsOptions {
        NatsOptions { url: self.url_of(server), ..self.options(prefix) }
    }

    /// A connection of a node that knows all servers.
    pub async fn connect_to(&self, prefix: &str) -> Nats {
        connected(self.options(prefix)).await
    }

    /// The same for a client that waits long for a reply: three servers and their disks are slow on a busy machine.
    pub async fn patient(&self, prefix: &str) -> Nats {
        connected(NatsOptions { request_timeout: Duration::from_secs(10), ..self.options(prefix) }).await
    }
    /// A store with its own log.
    pub async fn store(&self) -> NatsEventStore {
        open(self.options(&fresh_prefix())).await
    }

    /// A store with the log of this prefix, on a node that knows one server.
    pub async fn store_at(&self, server: usize, prefix: &str) -> NatsEventStore {
        open(self.options_at(server, prefix)).await
    }

    /// An independent client, at one server, through a proxy that no test cuts.
    pub async fn raw(&self, server: usize) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.direct_url(server)).await.unwrap())
    }

    /// Cuts a server off from the other servers; its clients still reach it.
    pub fn isolate(&self, server: usize) {
        self.each_route_of(server, Proxy::cut);
    }

    /// The same, but the connections stay: nothing is delivered between them until they are healed, as with an unplugged cable.
    pub fn hold_routes(&self, server: usize) {
        self.each_route_of(server, |way| {
            way.hold(Way::There);
            way.hold(Way::Back);
        });
    }

    /// All proxies pass everything again.
    pub fn heal(&self) {
        self.routes.iter().flatten().flatten().for_each(Proxy::heal);
        self.clients.iter().for_each(Proxy::heal);
    }

    fn each_route_of(&self, server: usize, what: impl Fn(&Proxy)) {
        for other in (0..SERVERS).filter(|other| *other != server) {
            for way in [&self.routes[server][other], &self.routes[other][server]].into_iter().flatten() {
                what(way);
            }
        }
    }

    /// Kills a server, as a crash would.
    pub fn kill(&mut self, server: usize) {
        self.servers[server].kill();
    }

    /// Restarts it with its data.
    pub fn start_again(&mut self, server: usize) {
        self.servers[server].start_again();
    }

    /// Sends a server a signal, such as `STOP`.
    pub fn signal(&self, server: usize, name: &str) {
        self.servers[server].signal(name);
    }

    /// The server that leads a stream, according to `asked`; `None` while it knows of none. Two servers may consider themselves leaders for
    /// a while.
    pub async fn leader_as_seen_by(&self, asked: usize, stream: &str) -> Option<usize> {
        let client = async_nats::connect(self.direct_url(asked)).await.ok()?;
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(2)));
        let answer = client.send_request(format!("$JS.API.STREAM.INFO.{stream}"), request).await.ok()?;
        let info: Value = serde_json::from_slice(&answer.payload).ok()?;
        info["cluster"]["leader"].as_str()?.strip_prefix('s')?.parse().ok()
    }

    /// The server that leads a stream, according to the majority; waits until there is one.
    pub async fn leader(&self, stream: &str) -> usize {
        until(&format!("the stream {stream} has a leader"), async || {
            let mut votes = [0; SERVERS];
            for asked in 0..SERVERS {
                if let Some(leader) = self.leader_as_seen_by(asked, stream).await {
                    votes[leader] += 1;
                }
            }
            votes.iter().position(|votes| *votes > SERVERS / 2)
        })
        .await
    }

    /// Makes the leader of a stream step down; again if it does not answer, which a busy machine may not do in time.
    pub async fn step_down(&self, stream: &str) {
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{stream}");
        until(&format!("the leader of {stream} steps down"), async || {
            let leader = self.leader(stream).await;
            let client = async_nats::connect(self.direct_url(leader)).await.ok()?;
            client.request(subject.clone(), "".into()).await.ok()
        })
        .await;
    }

    /// Waits until JetStream answers at every server, and a stream can be placed on all of them.
    fn await_leader(&self) {
        // On its own thread: the caller may be in a runtime already.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    for server in 0..SERVERS {
                        until("the cluster of the tests has a leader", async || self.answers(server).await).await;
                    }
                    until("the servers of the tests find each other", async || self.places_replicas().await).await;
                });
            });
        });
    }

    /// Whether a stream with a replica on each server can be created: the leader may not know of the others yet.
    async fn places_replicas(&self) -> bool {
        let Ok(client) = async_nats::connect(self.direct_url(0)).await else { return false };
        let request =
            |payload: String| async_nats::Request::new().timeout(Some(Duration::from_secs(2))).payload(payload.into());
        let stream = format!(
            "{{\"name\":\"placed\",\"subjects\":[\"placed\"],\"storage\":\"file\",\"num_replicas\":{SERVERS}}}"
        );
        let made = client.send_request("$JS.API.STREAM.CREATE.placed".to_owned(), request(stream)).await;
        let made = made.ok().and_then(|answer| serde_json::from_slice::<Value>(&answer.payload).ok());
        let is_made = made.is_some_and(|answer| answer["error"].is_null() && answer["config"].is_object());
        let _ = client.send_request("$JS.API.STREAM.DELETE.placed".to_owned(), request(String::new())).await;
        is_made
    }

    async fn answers(&self, server: usize) -> bool {
        let Ok(client) = async_nats::connect(self.direct_url(server)).await else { return false };
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(1)));
        let answer = client.send_request("$JS.API.STREAM.NAMES".to_owned(), request).await;
        let answer = answer.ok().and_then(|answer| serde_json::from_slice::<Value>(&answer.payload).ok());
        answer.is_some_and(|answer| answer["error"].is_null() && answer["total"].is_u64())
    }
}

fn nats_route(port: u16) -> String {
    format!("\"nats-route://127.0.0.1:{port}\"")
}

// Loops, since the future of an async closure that borrows cannot be shown to be `Send`.

async fn connected(options: NatsOptions) -> Nats {
    let nats = Nats::start(options).await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = nats.connected().await {
        assert!(Instant::now() < deadline, "the servers cannot be used: {}", error.why());
    }
    nats
}

async fn open(options: NatsOptions) -> NatsEventStore {
    let nats = Nats::start(options).await.unwrap();
    let store = NatsEventStore::new(nats);
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = store.until_verified().await {
        assert!(Instant::now() < deadline, "cannot create the streams: {}", error.why());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    store
}
