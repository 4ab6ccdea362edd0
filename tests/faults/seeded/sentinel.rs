//! A Redis primary, two replicas, and three Sentinels that promote a replica.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{sleep, timeout},
};

use crate::redis_server::{DURABLE, RedisServer};

/// The number of servers, and of Sentinels.
pub const COUNT: usize = 3;
/// The name of the service.
const SERVICE: &str = "orders";
/// Longer than any fail-over takes, on a busy machine too.
const SETTLES_WITHIN: Duration = Duration::from_secs(120);

pub struct SentinelServers {
    /// The first one starts as the primary.
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl SentinelServers {
    /// All of them, knowing each other.
    pub fn start() -> Self {
        let primary = RedisServer::start(DURABLE);
        let of = format!("127.0.0.1 {}", primary.port);
        let replica = || RedisServer::start(&[DURABLE, &["--replicaof", &of]].concat());
        let servers = vec![primary, replica(), replica()];
        let configuration = format!(
            "sentinel monitor {SERVICE} {of} 2\nsentinel down-after-milliseconds {SERVICE} 1000\n\
             sentinel failover-timeout {SERVICE} 5000"
        );
        let sentinels = (0..COUNT).map(|_| RedisServer::start_sentinel(&configuration)).collect();
        let all = Self { servers, sentinels };
        all.until("the Sentinels know each other", || {
            let knows = |sentinel: &RedisServer| {
                let about = sentinel.cli(&["SENTINEL", "MASTER", SERVICE]);
                let lines: Vec<_> = about.lines().collect();
                let says = |name, value| lines.windows(2).any(|pair| pair == [name, value]);
                says("num-slaves", "2") && says("num-other-sentinels", "2")
            };
            all.sentinels.iter().all(knows)
        });
        all.until_replicated();
        all
    }

    /// The ports of the Sentinels.
    pub fn ports(&self) -> Vec<u16> {
        self.sentinels.iter().map(|sentinel| sentinel.port).collect()
    }

    /// The address for a node.
    pub fn url(&self) -> String {
        let hosts: Vec<_> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis+sentinel://{}/{SERVICE}", hosts.join(","))
    }

    pub fn server(&mut self, server: usize) -> &mut RedisServer {
        &mut self.servers[server]
    }

    /// The primary, according to the Sentinels.
    pub fn primary(&self) -> usize {
        self.named_by(&self.sentinels[0])
    }

    fn named_by(&self, sentinel: &RedisServer) -> usize {
        let address = sentinel.cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE]);
        let port: u16 = address.lines().last().and_then(|port| port.parse().ok()).expect("a port");
        self.servers.iter().position(|server| server.port == port).expect("one of the servers")
    }

    pub fn primary_server(&self) -> &RedisServer {
        &self.servers[self.primary()]
    }

    /// Makes the Sentinels replace the primary, which stays alive.
    pub fn fail_over(&self) {
        let before = self.primary();
        self.sentinels[0].cli(&["SENTINEL", "FAILOVER", SERVICE]);
        self.until("another primary", || self.primary() != before);
    }

    /// Waits until all Sentinels name the same primary, and no other server accepts writes.
    pub fn until_agreed(&self) {
        self.until("one primary, that all Sentinels name", || {
            let named: Vec<_> = self.sentinels.iter().map(|sentinel| self.named_by(sentinel)).collect();
            let primaries =
                self.servers.iter().filter(|server| server.cli(&["INFO", "replication"]).contains("role:master"));
            named.iter().all(|other| *other == named[0]) && primaries.count() == 1
        });
        self.until_replicated();
    }

    /// Waits until the primary has both replicas: otherwise the writes that it has acknowledged could be lost with it.
    pub fn until_replicated(&self) {
        self.until("the primary has its replicas", || {
            let about = self.primary_server().cli(&["INFO", "replication"]);
            about.contains("role:master") && about.matches("state=online").count() == COUNT - 1
        });
    }

    fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + SETTLES_WITHIN;
        while !holds() {
            assert!(Instant::now() < deadline, "not within {SETTLES_WITHIN:?}: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Calls `changed` whenever this Sentinel names another primary than before: on a busy machine Sentinels also fail over by themselves.
pub async fn watch(port: u16, changed: impl Fn()) {
    let mut known = None;
    loop {
        let named = timeout(Duration::from_secs(2), primary_named_at(port)).await;
        if let Ok(Ok(named)) = named
            && known.replace(named.clone()).is_some_and(|before| before != named)
        {
            changed();
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// The reply as sent over the wire.
async fn primary_named_at(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("SENTINEL GET-MASTER-ADDR-BY-NAME {SERVICE}\r\n").as_bytes()).await?;
    let mut answer = String::new();
    // A host and a port: five lines.
    while answer.matches("\r\n").count() < 5 {
        let mut bytes = [0; 256];
        let count = stream.read(&mut bytes).await?;
        if count == 0 || answer.starts_with('-') {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        answer += &String::from_utf8_lossy(&bytes[..count]);
    }
    Ok(answer)
}
