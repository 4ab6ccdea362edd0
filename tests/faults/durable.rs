//! The durable backends, each with its servers.

use std::{path::PathBuf, sync::Arc};

use ordersystem::{
    backends::{
        embedded::{database::Database, event_store::EmbeddedEventStore},
        nats::message_bus::{NatsBusOptions, NatsMessageBus},
        redis::{
            event_store::RedisEventStore,
            message_bus::{RedisBusOptions, RedisMessageBus},
        },
    },
    ports::{event_store::EventStore, message_bus::MessageBus},
};
use tempfile::TempDir;

use crate::{
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
};

/// The default prefix of keys in Redis and of streams in NATS.
const PREFIX: &str = "ordersystem";

/// A durable event store with a durable bus.
pub enum Durable {
    /// A folder, and Redis for the bus.
    Embedded(TempDir, Broker),
    /// One broker for both.
    Broker(Broker),
}

/// A broker that can be killed, paused and restarted.
pub enum Broker {
    Redis(RedisServer),
    Nats(NatsServer),
}

impl Durable {
    pub fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap(), Broker::redis())
    }

    pub fn redis() -> Self {
        Self::Broker(Broker::redis())
    }

    pub fn nats() -> Self {
        Self::Broker(Broker::nats())
    }

    pub fn broker(&mut self) -> &mut Broker {
        match self {
            Self::Embedded(_, broker) | Self::Broker(broker) => broker,
        }
    }

    /// The settings of a node that uses it.
    pub fn settings(&self) -> Vec<String> {
        let settings = match self {
            Self::Embedded(folder, broker) => {
                let dir: PathBuf = folder.path().into();
                let own = ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()].map(str::to_owned);
                [own.to_vec(), broker.transport()].concat()
            }
            Self::Broker(broker) => {
                [vec!["--persistence".to_owned(), broker.name().to_owned()], broker.transport()].concat()
            }
        };
        // One NATS server answers before it has synced: it only guarantees to survive the end of the service.
        let is_synced = !matches!(self, Self::Broker(Broker::Nats(_)));
        settings.into_iter().chain(is_synced.then(|| "--require-durable".to_owned())).collect()
    }

    /// The log, read without the service: for the embedded one nothing else may have it open.
    pub async fn log(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Embedded(folder, _) => Arc::new(EmbeddedEventStore::new(Database::open(folder.path()).unwrap())),
            Self::Broker(Broker::Redis(server)) => Arc::new(RedisEventStore::new(server.connect_to(PREFIX).await)),
            Self::Broker(Broker::Nats(server)) => Arc::new(server.store_of(PREFIX).await),
        }
    }

    /// The bus, read without the service.
    pub async fn bus(&self) -> Arc<dyn MessageBus> {
        let (Self::Embedded(_, broker) | Self::Broker(broker)) = self;
        match broker {
            Broker::Redis(server) => {
                let redis = server.connect_to(PREFIX).await;
                Arc::new(RedisMessageBus::new(redis, RedisBusOptions::default()))
            }
            Broker::Nats(server) => {
                let nats = server.connect_to(PREFIX).await;
                Arc::new(NatsMessageBus::new(nats, NatsBusOptions::default()))
            }
        }
    }
}

impl Broker {
    fn redis() -> Self {
        Self::Redis(RedisServer::start(DURABLE))
    }

    fn nats() -> Self {
        Self::Nats(NatsServer::start(""))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
            Self::Nats(_) => "nats",
        }
    }

    fn transport(&self) -> Vec<String> {
        match self {
            Self::Redis(server) => ["--transport", "redis", "--redis", &server.url()].map(str::to_owned).to_vec(),
            Self::Nats(server) => ["--transport", "nats", "--nats", &server.url()].map(str::to_owned).to_vec(),
        }
    }

    pub fn signal(&self, name: &str) {
        match self {
            Self::Redis(server) => server.signal(name),
            Self::Nats(server) => server.signal(name),
        }
    }

    pub fn kill(&mut self) {
        match self {
            Self::Redis(server) => server.kill(),
            Self::Nats(server) => server.kill(),
        }
    }

    pub fn start_again(&mut self) {
        match self {
            Self::Redis(server) => server.start_again(),
            Self::Nats(server) => server.start_again(),
        }
    }
}
