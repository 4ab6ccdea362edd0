//! The durable backends, each with the servers that it needs.

use std::{path::PathBuf, sync::Arc};

use ordersystem::{
    backends::{
        embedded::{database::Database, event_store::EmbeddedEventStore},
        redis::{
            event_store::RedisEventStore,
            message_bus::{RedisBusOptions, RedisMessageBus},
        },
    },
    event_store::EventStore,
    message_bus::MessageBus,
};
use tempfile::TempDir;

use crate::redis_server::{DURABLE, RedisServer};

/// What keys in Redis begin with when nothing else is said.
const PREFIX: &str = "ordersystem";

/// A durable event store with a durable bus.
pub enum Durable {
    /// A folder, and Redis for the bus.
    Embedded(TempDir, Broker),
    /// Redis for both.
    Redis(Broker),
}

/// A broker that can be killed, paused and started again.
pub enum Broker {
    Redis(RedisServer),
}

impl Durable {
    pub fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap(), Broker::redis())
    }

    pub fn redis() -> Self {
        Self::Redis(Broker::redis())
    }

    pub fn broker(&mut self) -> &mut Broker {
        match self {
            Self::Embedded(_, broker) | Self::Redis(broker) => broker,
        }
    }

    /// The settings of a node on it.
    pub fn settings(&self) -> Vec<String> {
        let settings = match self {
            Self::Embedded(folder, broker) => {
                let dir: PathBuf = folder.path().into();
                let own = ["--persistence", "embedded", "--data-dir", dir.to_str().unwrap()].map(str::to_owned);
                [own.to_vec(), broker.transport()].concat()
            }
            Self::Redis(broker) => {
                [vec!["--persistence".to_owned(), broker.name().to_owned()], broker.transport()].concat()
            }
        };
        [settings, vec!["--require-durable".to_owned()]].concat()
    }

    /// The log, read without the service: for the embedded one nothing else may have it open.
    pub async fn log(&self) -> Arc<dyn EventStore> {
        match self {
            Self::Embedded(folder, _) => Arc::new(EmbeddedEventStore::new(Database::open(folder.path()).unwrap())),
            Self::Redis(Broker::Redis(server)) => Arc::new(RedisEventStore::new(server.connect_to(PREFIX).await)),
        }
    }

    /// The bus, read without the service.
    pub async fn bus(&self) -> Arc<dyn MessageBus> {
        match self {
            Self::Embedded(_, Broker::Redis(server)) | Self::Redis(Broker::Redis(server)) => {
                let redis = server.connect_to(PREFIX).await;
                Arc::new(RedisMessageBus::new(redis, RedisBusOptions::default()))
            }
        }
    }
}

impl Broker {
    fn redis() -> Self {
        Self::Redis(RedisServer::start(DURABLE))
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Redis(_) => "redis",
        }
    }

    fn transport(&self) -> Vec<String> {
        match self {
            Self::Redis(server) => ["--transport", "redis", "--redis", &server.url()].map(str::to_owned).to_vec(),
        }
    }

    pub fn signal(&self, name: &str) {
        match self {
            Self::Redis(server) => server.signal(name),
        }
    }

    pub fn kill(&mut self) {
        match self {
            Self::Redis(server) => server.kill(),
        }
    }

    pub fn start_again(&mut self) {
        match self {
            Self::Redis(server) => server.start_again(),
        }
    }
}
