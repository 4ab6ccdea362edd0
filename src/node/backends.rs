//! Builds the configured backends.

use std::{path::Path, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};

use super::StartError;
use crate::codec::cloud_event;
use crate::{
    backends::{
        descriptor::{BusParts, Descriptor, LogParts, Opened, Parts},
        embedded::{
            self,
            data_dir::DataDir,
            database::{Database, OpenError},
            read_model::EmbeddedReadModel,
        },
        memory::{
            self, checkpoint_store::MemoryCheckpointStore, event_store::MemoryEventStore, lease::MemoryLeaseStore,
            message_bus::MemoryMessageBus, read_model::MemoryReadModel,
        },
        named::{NamedBus, NamedCache, NamedCheckpoints, NamedLeases},
    },
    circuit_breaker::{BreakerOptions, CircuitBreaker, GuardedBus, GuardedCheckpoints, GuardedLeases, GuardedStore},
    config::{Config, ConfiguredBackend, EventFormat},
    ports::{
        checkpoint_store::CheckpointStore,
        event_store::{Durability, EventStore},
        lease_store::LeaseStore,
        message_bus::{CloudEventAttributes, Message, MessageBus},
        order_cache::OrderCache,
        read_model::ReadModel,
        server_name::ServerName,
    },
    telemetry::outage::Away,
};

/// The storage and messaging backends of a node.
#[derive(Clone, Debug)]
pub struct Backends {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The server of the log, if it is one.
    pub store_server: Option<ServerName>,
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
/// broker that needs an operator.
pub(super) type Arrival = BoxFuture<'static, Result<(), StartError>>;

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
    /// The backends that `config` names. A broker that cannot be reached yet is connected to later; until then its backend is unavailable.
    ///
    /// # Errors
    /// For an unusable data folder, and for a broker that cannot serve (a wrong password, a replica, a too old version).
    pub async fn of(config: &Config) -> Result<Self, StartError> {
        let (backends, arrival) = Self::begin(config).await?;
        arrival.await?;
        Ok(backends)
    }

    /// Like [`Backends::of`], but before any broker has responded, with a future that waits for the first response.
    ///
    /// # Errors
    /// For an unusable data folder, and for invalid settings.
    pub(super) async fn begin(config: &Config) -> Result<(Self, Arrival), StartError> {
        let (mut backends, mut arrivals) = (Self::memory(), Vec::new());
        backends.use_data_dir(config)?;
        for ConfiguredBackend { descriptor, backend } in &config.backends {
            let parts = Parts {
                log: *descriptor == config.persistence,
                bus: (*descriptor == config.transport).then(|| description_in(config.event_format)),
                cache: backend.is_cache(),
                data_dir: config.node.data_dir.as_deref(),
            };
            if parts.is_any() {
                let mut opened = backend.open(parts).await?;
                arrivals.extend(opened.arrival.take());
                let server = backend.server().map(|address| ServerName::new(descriptor.title, address));
                backends.take(descriptor, opened, server);
            }
        }
        let arrival = async {
            for arrival in arrivals {
                arrival.await?;
            }
            Ok(())
        };
        Ok((backends, arrival.boxed()))
    }

    /// Whether the log or the bus is known to fail.
    pub(super) fn away(&self) -> Away {
        let (store, bus) = (Arc::clone(&self.store), Arc::clone(&self.bus));
        Away::new(move || store.known_outage().or_else(|| bus.known_outage()))
    }

    /// Whether the log, with everything stored with it, is known to fail.
    pub(super) fn store_away(&self) -> Away {
        let store = Arc::clone(&self.store);
        Away::new(move || store.known_outage())
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
            store: Arc::new(
                GuardedStore::new(self.store, Arc::clone(&store))
                    .at(self.store_server.clone())
                    .requiring(required)
                    .named(self.persistence),
            ),
            leases: Arc::new(GuardedLeases::new(self.leases, Arc::clone(&store))),
            checkpoints: Arc::new(GuardedCheckpoints::new(self.checkpoints, Arc::clone(&store))),
            bus: Arc::new(GuardedBus::new(self.bus, Arc::clone(&transport))),
            ..self
        };
        (guarded, Breakers { store, transport, cache })
    }

    /// Uses a data folder that the log does not use: for the read model of a log that is elsewhere.
    fn use_data_dir(&mut self, config: &Config) -> Result<(), StartError> {
        let Some(dir) = config.node.data_dir.as_deref().filter(|_| !config.persistence.needs_data_dir) else {
            return Ok(());
        };
        if config.persistence.is_shared {
            // Derived data stays here, so that a restart resumes from its checkpoint.
            let database = Database::open_for_read_model(dir).map_err(|error| format!("data folder {error}"))?;
            self.read_model = Arc::new(EmbeddedReadModel::new(database));
        } else {
            let taken = DataDir::take(dir).map_err(|error| format!("data folder {}: {error}", dir.display()))?;
            self.folder = Some(Arc::new(taken));
            tracing::warn!(
                "orders are kept in memory only and are lost when the node stops: {} holds only the mark of issued ids; to keep orders \
                 there, use --persistence embedded",
                dir.display()
            );
        }
        Ok(())
    }

    /// Replaces the parts that a backend has opened; `server` is the server that keeps them.
    fn take(&mut self, backend: &Descriptor, opened: Opened, server: Option<ServerName>) {
        let opened = match &server {
            Some(server) => with_names(opened, server),
            None => opened,
        };
        if let Some(LogParts { store, leases, checkpoints, read_model }) = opened.log {
            (self.store, self.leases, self.checkpoints) = (store, leases, checkpoints);
            self.store_server = server;
            (self.persistence, self.is_shared) = (backend.name, backend.is_shared);
            if let Some(read_model) = read_model {
                self.read_model = read_model;
            }
        }
        if let Some(BusParts { bus, leases }) = opened.bus {
            (self.bus, self.bus_leases, self.transport) = (bus, leases, backend.name);
        }
        if opened.cache.is_some() {
            self.cache = opened.cache;
        }
    }

    /// Everything in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            store: Arc::new(MemoryEventStore::default()),
            store_server: None,
            bus: Arc::new(MemoryMessageBus::default()),
            read_model: Arc::new(MemoryReadModel::default()),
            leases: Arc::new(MemoryLeaseStore::new()),
            bus_leases: Arc::new(MemoryLeaseStore::new()),
            checkpoints: Arc::new(MemoryCheckpointStore::new()),
            cache: None,
            is_shared: false,
            folder: None,
            persistence: memory::DESCRIPTOR.name,
            transport: memory::DESCRIPTOR.name,
        }
    }

    /// Everything durable in the data folder `dir`, the message bus in memory.
    ///
    /// # Errors
    /// [`OpenError`] names the folder.
    pub fn embedded(dir: &Path) -> Result<Self, OpenError> {
        let log = embedded::log_parts(Database::open(dir)?);
        let mut backends = Self::memory();
        backends.take(&embedded::DESCRIPTOR, Opened { log: Some(log), ..Opened::default() }, None);
        Ok(backends)
    }
}

/// The same parts, whose errors name their server. The store gets its name with its circuit breaker.
fn with_names(opened: Opened, server: &ServerName) -> Opened {
    let leases = |inner| Arc::new(NamedLeases { inner, server: server.clone() }) as Arc<dyn LeaseStore>;
    let log = opened.log.map(|log| LogParts {
        leases: leases(log.leases),
        checkpoints: Arc::new(NamedCheckpoints { inner: log.checkpoints, server: server.clone() }),
        ..log
    });
    let bus = opened.bus.map(|parts| BusParts {
        bus: Arc::new(NamedBus { inner: parts.bus, server: server.clone() }),
        leases: leases(parts.leases),
    });
    let cache = opened.cache.map(|inner| Arc::new(NamedCache { inner, server: server.clone() }) as Arc<dyn OrderCache>);
    Opened { log, bus, cache, ..opened }
}

/// The metadata of published events.
fn description_in(format: EventFormat) -> fn(&Message) -> CloudEventAttributes {
    match format {
        EventFormat::Protobuf => cloud_event::protobuf,
        EventFormat::Json => cloud_event::json,
    }
}
