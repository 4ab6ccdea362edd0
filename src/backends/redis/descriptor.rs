//! The self-description of the Redis backend.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt as _;

use super::{
    cache::RedisOrderCache,
    checkpoint_store::RedisCheckpointStore,
    connection::{ConnectError, Redis, RedisOptions},
    event_store::RedisEventStore,
    lease::RedisLeaseStore,
    message_bus::{RedisBusOptions, RedisMessageBus},
    permissions::Roles,
    settings::{CA, FORM, RedisSettings, SECRETS, SETTINGS, unlock},
};
use crate::{
    backends::descriptor::{
        Access, Backend, BusParts, Descriptor, LogParts, LogTools, OpenError, Opened, OpenedLog, Parts, ServerLog,
        ServerLogs, TOOL_TIMEOUT,
    },
    ports::order_cache::OrderCache,
    settings::parse::short_name,
};

/// The Redis backend.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "redis",
    title: "Redis",
    persistence: Some("Redis 7.0 or newer, one primary"),
    transport: Some("a Redis stream of CloudEvents"),
    durability: "depends on the Redis settings: `machine` with `appendonly yes`, `appendfsync always` and `noeviction`",
    is_shared: true,
    needs_data_dir: false,
    settings: SETTINGS,
    configure: |values| Ok(Arc::new(RedisSettings::of(values)?)),
    log_tools: Some(LogTools::Server(ServerLogs {
        form: &FORM,
        examples: &["redis://HOST:PORT", "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE"],
        tls_schemes: &["rediss", "rediss+sentinel"],
        prefix: short_name,
        secrets: SECRETS,
        check_files: |_| Ok(()),
        unlock,
        open: |log, access| open(log, access).boxed(),
    })),
};

#[async_trait]
impl Backend for RedisSettings {
    fn server(&self) -> Option<String> {
        Some(self.server.to_string())
    }

    fn is_cache(&self) -> bool {
        self.is_cache
    }

    async fn open(&self, parts: Parts<'_>) -> Result<Opened, OpenError> {
        let roles = Roles { reads_log: parts.log, writes_log: parts.log, bus: parts.bus.is_some(), cache: parts.cache };
        // One connection for all. Log followers keep their checkpoints with the log.
        let redis = Redis::start(RedisOptions { roles, ..self.options() }, parts.log)?;
        let log = || LogParts {
            store: Arc::new(RedisEventStore::new(redis.clone())),
            leases: Arc::new(RedisLeaseStore::new(redis.clone())),
            checkpoints: Arc::new(RedisCheckpointStore::new(redis.clone())),
            read_model: None,
        };
        let bus = |describe| BusParts {
            bus: Arc::new(RedisMessageBus::new(
                redis.clone(),
                RedisBusOptions { describe, ..RedisBusOptions::default() },
            )),
            leases: Arc::new(RedisLeaseStore::new(redis.clone())),
        };
        Ok(Opened {
            log: parts.log.then(log),
            bus: parts.bus.map(bus),
            cache: parts.cache.then(|| Arc::new(RedisOrderCache::new(redis.clone())) as Arc<dyn OrderCache>),
            arrival: Some(arrival(redis.clone(), self.server.to_string()).boxed()),
        })
    }
}

/// Waits for the first connection attempt; `shown` is the address for humans.
async fn arrival(redis: Redis, shown: String) -> Result<(), OpenError> {
    match redis.first_try().await {
        Ok(()) => {
            if let Some(facts) = redis.facts() {
                tracing::info!(server = shown, "{}", facts.summary());
            }
            Ok(())
        }
        // Already logged, and repeated: the node becomes ready once connected.
        Err(ConnectError::Retryable(_)) => Ok(()),
        Err(ConnectError::Fatal(why)) => Err(why.into()),
    }
}

async fn open(log: ServerLog, access: Access) -> Result<OpenedLog, OpenError> {
    let writes = access != Access::Read;
    let options = RedisOptions {
        response_timeout: TOOL_TIMEOUT,
        makes_log: writes,
        ca: log.files.get(CA).cloned(),
        roles: Roles { reads_log: true, writes_log: writes, bus: false, cache: false },
        ..RedisOptions::new(log.address.expose(), log.prefix)
    };
    let redis = Redis::start(options, true)?;
    match redis.first_connection().await {
        Ok(()) => Ok(OpenedLog { store: Arc::new(RedisEventStore::new(redis)), verify: None }),
        Err(ConnectError::Retryable(why) | ConnectError::Fatal(why)) => Err(why.into()),
    }
}
