//! The environment of a run: the servers that store the log, and the number of nodes.

use std::{path::Path, sync::Arc};

use ordersystem::{
    backends::{
        embedded::{database::Database, event_store::EmbeddedEventStore},
        nats::{
            connection::{Nats, NatsOptions},
            event_store::NatsEventStore,
            message_bus::{NatsBusOptions, NatsMessageBus},
        },
        redis::{
            event_store::RedisEventStore,
            message_bus::{RedisBusOptions, RedisMessageBus},
        },
    },
    ports::{event_store::EventStore, message_bus::MessageBus},
};
use tempfile::TempDir;

use super::sentinel::SentinelServers;
use crate::{
    nats_cluster::{NatsCluster, SERVERS},
    nats_server::{NatsServer, current_program, free_port},
    proxy::Proxy,
    redis_server::{DURABLE, RedisServer, connected},
};

/// The default prefix of keys in Redis and of streams in NATS.
const PREFIX: &str = "ordersystem";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file, and Redis for the bus.
    Embedded,
    Redis,
    /// A primary, two replicas and three Sentinels.
    Sentinel,
    /// Debian's nats-server.
    OldNats,
    Nats,
    /// Three servers, each stream on all of them; each node knows all.
    NatsCluster,
    /// The same, but each node knows one.
    PinnedNatsCluster,
}

impl Backend {
    pub const fn is_nats_cluster(self) -> bool {
        matches!(self, Self::NatsCluster | Self::PinnedNatsCluster)
    }

    pub const fn is_redis(self) -> bool {
        matches!(self, Self::Redis | Self::Embedded)
    }
}

/// A backend and the number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    pub name: &'static str,
    pub backend: Backend,
    pub nodes: usize,
}

pub enum Servers {
    Embedded(TempDir, RedisServer),
    Redis(RedisServer),
    Sentinel(SentinelServers),
    Nats(NatsServer),
    Cluster(NatsCluster),
}

impl Servers {
    pub fn start(backend: Backend) -> Self {
        // Each server syncs before it answers, so that the configuration that survives a power loss is the one that is tested. Without a limit
        // of its own it would reserve no more than three quarters of the free disk, and refuse streams on a disk that is nearly full.
        const SYNCED: &str = "jetstream { store_dir: FOLDER, max_file_store: 1TB, sync_interval: always }";
        match backend {
            Backend::Embedded => Self::Embedded(tempfile::tempdir().unwrap(), RedisServer::start(DURABLE)),
            Backend::Redis => Self::Redis(RedisServer::start(DURABLE)),
            Backend::Sentinel => Self::Sentinel(SentinelServers::start()),
            Backend::OldNats => Self::Nats(NatsServer::start("")),
            Backend::Nats => Self::Nats(NatsServer::start_program(&current_program(), free_port(), SYNCED)),
            Backend::NatsCluster | Backend::PinnedNatsCluster => Self::Cluster(NatsCluster::start("")),
        }
    }

    /// The proxies of a node to its servers: to all, or to the one that it knows.
    pub fn ways(&self, backend: Backend, node: usize) -> Vec<Proxy> {
        match self {
            Self::Embedded(_, server) | Self::Redis(server) => vec![Proxy::to(server.port)],
            // Sentinels report servers at their own addresses, bypassing any proxy.
            Self::Sentinel(_) => Vec::new(),
            Self::Nats(server) => vec![Proxy::to(server.port)],
            Self::Cluster(cluster) if backend == Backend::PinnedNatsCluster => {
                vec![Proxy::to(cluster.server(node % SERVERS).port)]
            }
            Self::Cluster(cluster) => (0..SERVERS).map(|server| Proxy::to(cluster.server(server).port)).collect(),
        }
    }

    /// The settings of a node that uses these proxies.
    pub fn settings(&self, ways: &[Proxy]) -> Vec<String> {
        let url = |scheme: &str| {
            let urls: Vec<_> = ways.iter().map(|way| format!("{scheme}://127.0.0.1:{}", way.port())).collect();
            urls.join(",")
        };
        let redis = || vec!["--transport".to_owned(), "redis".to_owned(), "--redis".to_owned(), url("redis")];
        let nats = || {
            ["--persistence", "nats", "--transport", "nats", "--nats"]
                .map(str::to_owned)
                .into_iter()
                .chain([url("nats")])
        };
        match self {
            Self::Embedded(folder, _) => {
                let own = ["--persistence", "embedded", "--data-dir", folder.path().to_str().unwrap()];
                [own.map(str::to_owned).to_vec(), redis()].concat()
            }
            Self::Redis(_) => {
                let own = ["--persistence", "redis", "--require-durable"];
                [own.map(str::to_owned).to_vec(), redis()].concat()
            }
            // A fail-over may lose acknowledged commands: not durable in the sense of that flag.
            Self::Sentinel(all) => {
                ["--persistence", "redis", "--transport", "redis", "--redis", &all.url()].map(str::to_owned).to_vec()
            }
            Self::Nats(_) => nats().collect(),
            Self::Cluster(_) => nats().chain(["--nats-replicas".to_owned(), "3".to_owned()]).collect(),
        }
    }

    pub fn signal(&mut self, server: usize, name: &str) {
        match self {
            Self::Embedded(_, one) | Self::Redis(one) => one.signal(name),
            Self::Sentinel(all) => all.server(server).signal(name),
            Self::Nats(one) => one.signal(name),
            Self::Cluster(cluster) => cluster.signal(server, name),
        }
    }

    pub fn kill(&mut self, server: usize) {
        match self {
            Self::Embedded(_, one) | Self::Redis(one) => one.kill(),
            Self::Sentinel(all) => all.server(server).kill(),
            Self::Nats(one) => one.kill(),
            Self::Cluster(cluster) => cluster.kill(server),
        }
    }

    pub fn start_again(&mut self, server: usize) {
        match self {
            Self::Embedded(_, one) | Self::Redis(one) => one.start_again(),
            Self::Sentinel(all) => all.server(server).start_again(),
            Self::Nats(one) => one.start_again(),
            Self::Cluster(cluster) => cluster.start_again(server),
        }
    }

    /// The effect of `redis-cli`; nothing without a Redis.
    pub fn redis_cli(&self, arguments: &[&str]) {
        if let Self::Embedded(_, server) | Self::Redis(server) = self {
            server.cli(arguments);
        }
    }

    pub const fn cluster(&self) -> Option<&NatsCluster> {
        match self {
            Self::Cluster(cluster) => Some(cluster),
            _ => None,
        }
    }

    pub const fn sentinel(&self) -> Option<&SentinelServers> {
        match self {
            Self::Sentinel(all) => Some(all),
            _ => None,
        }
    }

    /// The log, read without the service: for the embedded one nothing else may have it open.
    pub async fn log(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Embedded(folder, _) => Arc::new(EmbeddedEventStore::new(Database::open(folder.path()).unwrap())),
            Self::Redis(server) => Arc::new(RedisEventStore::new(server.connect_to(PREFIX).await)),
            Self::Sentinel(all) => Arc::new(RedisEventStore::new(all.primary_server().connect_to(PREFIX).await)),
            Self::Nats(server) => Arc::new(server.store_of(PREFIX).await),
            Self::Cluster(_) => {
                let store = NatsEventStore::new(self.nats().await);
                store.until_verified().await.expect("the streams are there");
                Arc::new(store)
            }
        }
    }

    /// The bus, read without the service.
    pub async fn bus(&self) -> Arc<dyn MessageBus> {
        match self {
            Self::Embedded(_, server) | Self::Redis(server) => {
                let redis = server.connect_to(PREFIX).await;
                Arc::new(RedisMessageBus::new(redis, RedisBusOptions::default()))
            }
            Self::Sentinel(all) => {
                // It follows the fail-overs that the Sentinels of a busy machine decide by themselves.
                let redis = connected(all.url(), PREFIX).await;
                Arc::new(RedisMessageBus::new(redis, RedisBusOptions::default()))
            }
            Self::Nats(_) | Self::Cluster(_) => {
                Arc::new(NatsMessageBus::new(self.nats().await, NatsBusOptions::default()))
            }
        }
    }

    async fn nats(&self) -> Nats {
        let options = match self {
            Self::Cluster(cluster) => {
                NatsOptions { replicas: SERVERS, ..NatsOptions::new(self.direct_url(cluster), PREFIX) }
            }
            Self::Nats(server) => server.options(PREFIX),
            _ => panic!("there is no NATS"),
        };
        let nats = Nats::start(options).await.unwrap();
        nats.connected().await.expect("the servers can be used");
        nats
    }

    fn direct_url(&self, cluster: &NatsCluster) -> String {
        (0..SERVERS).map(|server| cluster.direct_url(server)).collect::<Vec<_>>().join(",")
    }

    /// The address of the log, for `ordersystem verify`.
    pub fn address(&self) -> String {
        match self {
            Self::Embedded(folder, _) => folder_word(folder.path()),
            Self::Redis(server) => server.url(),
            Self::Sentinel(all) => all.primary_server().url(),
            Self::Nats(server) => server.url(),
            Self::Cluster(cluster) => self.direct_url(cluster),
        }
    }
}

fn folder_word(folder: &Path) -> String {
    format!("embedded:{}", folder.display())
}
