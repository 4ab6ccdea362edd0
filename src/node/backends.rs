//! Builds the configured backends.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::StartError;
use crate::codec::cloud_event;
use crate::{
    backends::{
        embedded::{
            checkpoint_store::EmbeddedCheckpointStore,
            data_dir::DataDir,
            database::{Database, OpenError},
            event_store::EmbeddedEventStore,
            lease::EmbeddedLeaseStore,
            read_model::EmbeddedReadModel,
        },
        memory::{
            checkpoint_store::MemoryCheckpointStore, event_store::MemoryEventStore, lease::MemoryLeaseStore,
            message_bus::MemoryMessageBus, read_model::MemoryReadModel,
        },
        nats::{
            checkpoint_store::NatsCheckpointStore,
            connection::{ConnectError as NatsConnectError, Nats, NatsAccess, NatsOptions},
            event_store::NatsEventStore,
            lease::NatsLeaseStore,
            message_bus::{NatsBusOptions, NatsMessageBus},
        },
        redis::{
            cache::RedisOrderCache,
            checkpoint_store::RedisCheckpointStore,
            connection::{ConnectError, Redis, RedisOptions},
            event_store::RedisEventStore,
            lease::RedisLeaseStore,
            message_bus::{RedisBusOptions, RedisMessageBus},
            permissions::Roles,
        },
    },
    circuit_breaker::{BreakerOptions, CircuitBreaker, GuardedBus, GuardedCheckpoints, GuardedLeases, GuardedStore},
    config::{self, Config, EventFormat, Persistence, Transport},
    ports::{
        checkpoint_store::CheckpointStore,
        event_store::{Durability, EventStore},
        lease_store::LeaseStore,
        message_bus::{Description, Message, MessageBus},
        order_cache::OrderCache,
        read_model::ReadModel,
    },
    telemetry::outage::Away,
};

/// How long a starting node waits for a connected NATS before it continues without, and the pause between checks.
const WAIT_AT_START: Duration = Duration::from_secs(4);
const PAUSE_AT_START: Duration = Duration::from_millis(100);

/// The storage and messaging backends of a node.
#[derive(Clone, Debug)]
pub struct Backends {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The message bus.
    pub bus: Arc<dyn MessageBus>,
    /// The list of orders.
    pub read_model: Arc<dyn ReadModel>,
    /// Leases for single-owner work.
    pub leases: Arc<dyn LeaseStore>,
    /// Leases for handlers on the bus: stored on the bus's backend, for all nodes that share the bus.
    pub bus_leases: Arc<dyn LeaseStore>,
    /// Checkpoints of log followers.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The cache of folded orders shared by all nodes of the log, if configured.
    pub cache: Option<Arc<dyn OrderCache>>,
    /// Whether other nodes may write to the same log.
    pub is_shared: bool,
    /// The lock on the folder of a node that stores no orders in it: no other process may use it.
    pub folder: Option<Arc<DataDir>>,
    /// The name of the event store, as in `--persistence`.
    pub persistence: &'static str,
    /// The name of the message bus, as in `--transport`.
    pub transport: &'static str,
}

/// Waits until the brokers have responded for the first time, or are known to be unreachable: the node then becomes ready once connected. Fails for a
/// broker that needs an operator's action.
pub(super) type Arrival = BoxFuture<'static, Result<(), StartError>>;

/// The NATS backends of a node whose log is in NATS.
struct NatsLog {
    store: Arc<NatsEventStore>,
    leases: Arc<NatsLeaseStore>,
    checkpoints: Arc<NatsCheckpointStore>,
}

/// The NATS backends of a node whose bus is NATS.
struct NatsBus {
    bus: Arc<NatsMessageBus>,
    leases: Arc<NatsLeaseStore>,
}

/// The circuit breakers of a node.
#[derive(Clone, Debug)]
pub(super) struct Breakers {
    /// Guards everything stored with the log.
    pub store: Arc<CircuitBreaker>,
    /// Guards the message bus.
    pub transport: Arc<CircuitBreaker>,
    /// Guards the shared cache.
    pub cache: Arc<CircuitBreaker>,
}

impl Backends {
    /// The backends in `config`, without substitutes. An unreachable broker is connected to later: until then the backend is unavailable.
    ///
    /// # Errors
    /// For an unusable data dir, and for a broker that cannot serve (a wrong password, a replica, a too old version).
    pub async fn of(config: &Config) -> Result<Self, StartError> {
        let (backends, arrival) = Self::begin(config).await?;
        arrival.await?;
        Ok(backends)
    }

    /// The same before any broker has responded, with a future that waits for the first response.
    ///
    /// # Errors
    /// For an unusable data dir, and for invalid settings.
    pub(super) async fn begin(config: &Config) -> Result<(Self, Arrival), StartError> {
        let mut arrivals = Vec::new();
        let mut backends = Self::memory();
        if config.persistence == Persistence::Embedded {
            let dir = config.node.data_dir.as_deref().ok_or("persistence embedded needs --data-dir")?;
            backends = Self::embedded(dir).map_err(|error| format!("data dir {error}"))?;
        }
        if config.persistence == Persistence::InMemory
            && let Some(dir) = &config.node.data_dir
        {
            let taken = DataDir::take(dir).map_err(|error| format!("data dir {}: {error}", dir.display()))?;
            backends.folder = Some(Arc::new(taken));
            tracing::warn!(
                "orders are kept in memory only and are gone when the node ends: {} keeps no more than the mark of issued ids. \
                 --persistence embedded keeps orders there",
                dir.display()
            );
        }
        if config.persistence == Persistence::Redis || config.transport == Transport::Redis || config.redis_cache {
            // One connection for all. Log followers keep their checkpoints with the log.
            let redis = connect_to_redis(config)?;
            arrivals.push(arrival_of_redis(redis.clone(), config.redis.to_string()).boxed());
            if config.persistence == Persistence::Redis {
                backends.use_redis_log(&redis);
            }
            if config.redis_cache {
                backends.cache = Some(Arc::new(RedisOrderCache::new(redis.clone())));
            }
            if config.transport == Transport::Redis {
                backends.use_redis_bus(redis, config.event_format);
            }
        }
        if config.persistence == Persistence::Nats || config.transport == Transport::Nats {
            // One connection for both, as with Redis.
            let nats = connect_to_nats(config).await?;
            let log = (config.persistence == Persistence::Nats).then(|| backends.use_nats_log(&nats));
            let bus = (config.transport == Transport::Nats).then(|| backends.use_nats_bus(&nats, config.event_format));
            arrivals.push(arrival_of_nats(nats, config.nats.to_string(), log, bus).boxed());
        }
        if matches!(config.persistence, Persistence::Redis | Persistence::Nats)
            && let Some(dir) = &config.node.data_dir
        {
            // The log is elsewhere; derived data stays here, so that a restart resumes from its checkpoint.
            let database = Database::open_for_read_model(dir).map_err(|error| format!("data dir {error}"))?;
            backends.read_model = Arc::new(EmbeddedReadModel::new(database));
        }
        let arrival = async {
            for arrival in arrivals {
                arrival.await?;
            }
            Ok(())
        };
        Ok((backends, arrival.boxed()))
    }

    /// Whether the log or the bus is known to be unreachable.
    pub(super) fn away(&self) -> Away {
        let (store, bus) = (Arc::clone(&self.store), Arc::clone(&self.bus));
        Away::new(move || store.unreachable().or_else(|| bus.unreachable()))
    }

    /// Whether the log, with everything stored with it, is known to be unreachable.
    pub(super) fn store_away(&self) -> Away {
        let store = Arc::clone(&self.store);
        Away::new(move || store.unreachable())
    }

    /// Adds a circuit breaker to the I/O of each backend: one for everything stored with the log, one for the message bus. The leases of handlers
    /// have none: their calls are few, and subscriptions back off by themselves.
    ///
    /// Commits are refused until the log is known to be at least as durable as `required`.
    pub(super) fn guarded(self, options: BreakerOptions, required: Option<Durability>) -> (Self, Breakers) {
        let (bus, shared) = (Arc::clone(&self.bus), self.cache.clone());
        let is_bus_away = Away::new(move || bus.unreachable());
        let is_cache_away = Away::new(move || shared.as_ref()?.unreachable());
        let [store, transport, cache] =
            [("store", self.store_away()), ("transport", is_bus_away), ("cache", is_cache_away)]
                .map(|(before, away)| Arc::new(CircuitBreaker::new(before, options).quiet_while(away)));
        let guarded = Self {
            store: Arc::new(GuardedStore::new(self.store, Arc::clone(&store)).requiring(required)),
            leases: Arc::new(GuardedLeases::new(self.leases, Arc::clone(&store))),
            checkpoints: Arc::new(GuardedCheckpoints::new(self.checkpoints, Arc::clone(&store))),
            bus: Arc::new(GuardedBus::new(self.bus, Arc::clone(&transport))),
            ..self
        };
        (guarded, Breakers { store, transport, cache })
    }

    fn use_redis_log(&mut self, redis: &Redis) {
        self.store = Arc::new(RedisEventStore::new(redis.clone()));
        self.leases = Arc::new(RedisLeaseStore::new(redis.clone()));
        self.checkpoints = Arc::new(RedisCheckpointStore::new(redis.clone()));
        self.is_shared = true;
        self.persistence = Persistence::Redis.name();
    }

    fn use_nats_log(&mut self, nats: &Nats) -> NatsLog {
        let log = NatsLog {
            store: Arc::new(NatsEventStore::new(nats.clone())),
            leases: Arc::new(NatsLeaseStore::new(nats.clone())),
            checkpoints: Arc::new(NatsCheckpointStore::new(nats.clone())),
        };
        self.store = Arc::clone(&log.store) as _;
        self.leases = Arc::clone(&log.leases) as _;
        self.checkpoints = Arc::clone(&log.checkpoints) as _;
        self.is_shared = true;
        self.persistence = Persistence::Nats.name();
        log
    }

    fn use_redis_bus(&mut self, redis: Redis, format: EventFormat) {
        let describe = description_in(format);
        self.bus_leases = Arc::new(RedisLeaseStore::new(redis.clone()));
        self.bus = Arc::new(RedisMessageBus::new(redis, RedisBusOptions { describe, ..RedisBusOptions::default() }));
        self.transport = Transport::Redis.name();
    }

    fn use_nats_bus(&mut self, nats: &Nats, format: EventFormat) -> NatsBus {
        let options = NatsBusOptions { describe: description_in(format), ..NatsBusOptions::default() };
        let bus = NatsBus {
            bus: Arc::new(NatsMessageBus::new(nats.clone(), options)),
            leases: Arc::new(NatsLeaseStore::new(nats.clone())),
        };
        self.bus_leases = Arc::clone(&bus.leases) as _;
        self.bus = Arc::clone(&bus.bus) as _;
        self.transport = Transport::Nats.name();
        bus
    }

    /// Everything in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            store: Arc::new(MemoryEventStore::default()),
            bus: Arc::new(MemoryMessageBus::default()),
            read_model: Arc::new(MemoryReadModel::default()),
            leases: Arc::new(MemoryLeaseStore::new()),
            bus_leases: Arc::new(MemoryLeaseStore::new()),
            checkpoints: Arc::new(MemoryCheckpointStore::new()),
            cache: None,
            is_shared: false,
            folder: None,
            persistence: "inmemory",
            transport: "inmemory",
        }
    }

    /// Everything durable in the data folder `dir`, the message bus in memory.
    ///
    /// # Errors
    /// [`OpenError`] names the folder.
    pub fn embedded(dir: &Path) -> Result<Self, OpenError> {
        let database = Database::open(dir)?;
        Ok(Self {
            store: Arc::new(EmbeddedEventStore::new(Arc::clone(&database))),
            read_model: Arc::new(EmbeddedReadModel::new(Arc::clone(&database))),
            leases: Arc::new(EmbeddedLeaseStore::new(Arc::clone(&database))),
            checkpoints: Arc::new(EmbeddedCheckpointStore::new(database)),
            persistence: Persistence::Embedded.name(),
            ..Self::memory()
        })
    }
}

/// The metadata of published events.
fn description_in(format: EventFormat) -> fn(&Message) -> Description {
    match format {
        EventFormat::Protobuf => cloud_event::protobuf,
        EventFormat::Json => cloud_event::json,
    }
}

async fn connect_to_nats(config: &Config) -> Result<Nats, StartError> {
    let options = NatsOptions {
        access: nats_access(&config.nats_access),
        replicas: config.nats_replicas,
        monitors: config.nats_monitor.clone(),
        synced: config.nats_synced,
        ..NatsOptions::new(config.nats.expose(), config.nats_prefix.as_str())
    };
    Ok(Nats::start(options).await?)
}

/// Waits for the first connection attempt, and verifies the server; `shown` is the address for people. After a failed connection attempt it does not
/// wait again.
async fn arrival_of_nats(
    nats: Nats,
    shown: String,
    log: Option<NatsLog>,
    bus: Option<NatsBus>,
) -> Result<(), StartError> {
    if !is_usable(&nats, &shown, || nats.first_try().boxed()).await? {
        return Ok(());
    }
    tracing::info!(server = shown, "connected to NATS");
    let mut waits = true;
    if let Some(NatsLog { store, leases, checkpoints }) = log {
        let admit = || {
            let admission = async {
                store.first_admission().await?;
                leases.admit().await?;
                checkpoints.admit().await
            };
            admission.boxed()
        };
        waits = is_usable(&nats, &shown, admit).await?;
        if waits {
            tracing::info!(server = shown, durability = store.durability().name(), "{}", store.summary());
        }
    }
    if let Some(NatsBus { bus, leases }) = bus.filter(|_| waits && nats.is_connected()) {
        let admit = || {
            let admission = async {
                bus.admit().await?;
                leases.admit().await
            };
            admission.boxed()
        };
        is_usable(&nats, &shown, admit).await?;
    }
    Ok(())
}

/// Whether `admit` succeeds soon. NATS may be unreachable or without a quorum now; the node then becomes ready once it works.
///
/// # Errors
/// For a problem that needs an operator's action.
async fn is_usable<'a>(
    nats: &Nats,
    shown: &str,
    admit: impl Fn() -> BoxFuture<'a, Result<(), NatsConnectError>>,
) -> Result<bool, StartError> {
    let mut found = NatsConnectError::Retryable("it does not answer".to_owned());
    let admitted = async {
        loop {
            match admit().await {
                Err(NatsConnectError::Retryable(why)) if nats.is_connected() => {
                    found = NatsConnectError::Retryable(why)
                }
                decided => return decided,
            }
            sleep(PAUSE_AT_START).await;
        }
    };
    match timeout(WAIT_AT_START, admitted).await.unwrap_or(Err(found)) {
        Ok(()) => Ok(true),
        Err(NatsConnectError::Retryable(why)) => {
            // The connection itself logs that it is unreachable.
            if nats.is_connected() {
                tracing::warn!(server = shown, why, "NATS cannot be used yet, the node serves when it can");
            }
            Ok(false)
        }
        Err(NatsConnectError::Fatal(why)) => Err(format!("NATS at {shown}: {why}").into()),
    }
}

fn connect_to_redis(config: &Config) -> Result<Redis, StartError> {
    let (keeps_log, has_bus) = (config.persistence == Persistence::Redis, config.transport == Transport::Redis);
    let roles = Roles { reads_log: keeps_log, writes_log: keeps_log, bus: has_bus, cache: config.redis_cache };
    let options = RedisOptions { roles, ..RedisOptions::new(config.redis.expose(), config.redis_prefix.as_str()) };
    Ok(Redis::start(options, keeps_log)?)
}

/// Waits for the first connection attempt; `shown` is the address for people.
async fn arrival_of_redis(redis: Redis, shown: String) -> Result<(), StartError> {
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

/// The same in the backend's type.
pub(super) fn nats_access(access: &config::NatsAccess) -> NatsAccess {
    let config::NatsAccess { credentials, nkey, ca, certificate } = access.clone();
    NatsAccess { credentials, nkey, ca, certificate }
}
