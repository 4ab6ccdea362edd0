//! Which backends a configuration asks for.

use std::{path::Path, sync::Arc};

use super::StartError;
use crate::{
    backends::{
        embedded::{
            checkpoint_store::EmbeddedCheckpointStore,
            database::{Database, OpenError},
            event_store::EmbeddedEventStore,
            lease::EmbeddedLeaseStore,
            read_model::EmbeddedReadModel,
        },
        memory::{
            checkpoint_store::MemoryCheckpointStore, event_store::MemoryEventStore, lease::MemoryLeaseStore,
            message_bus::MemoryMessageBus, read_model::MemoryReadModel,
        },
    },
    checkpoint_store::CheckpointStore,
    config::{Config, Persistence, Transport},
    event_store::EventStore,
    lease::LeaseStore,
    message_bus::MessageBus,
    read_model::ReadModel,
};

/// What a node stores in and sends over.
#[derive(Clone, Debug)]
pub struct Backends {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The message bus.
    pub bus: Arc<dyn MessageBus>,
    /// The list of orders.
    pub read_model: Arc<dyn ReadModel>,
    /// Who may do what only one node does.
    pub leases: Arc<dyn LeaseStore>,
    /// How far followers have come.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The name of the event store, as in `--persistence`.
    pub persistence: &'static str,
    /// The name of the message bus, as in `--transport`.
    pub transport: &'static str,
}

impl Backends {
    /// The backends that `config` asks for; never others in their place.
    ///
    /// # Errors
    /// For a backend that this version does not have, or that cannot be opened.
    pub fn of(config: &Config) -> Result<Self, StartError> {
        match (config.persistence, config.transport) {
            (Persistence::InMemory, Transport::InMemory) => Ok(Self::memory()),
            (Persistence::Embedded, Transport::InMemory) => {
                let dir = config.node.data_dir.as_deref().ok_or("persistence embedded needs --data-dir")?;
                Self::embedded(dir).map_err(|error| format!("data dir {error}").into())
            }
            (persistence, transport) => {
                Err(format!("persistence {persistence:?} with transport {transport:?} is not built into this version")
                    .into())
            }
        }
    }

    /// Everything in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self {
            store: Arc::new(MemoryEventStore::default()),
            bus: Arc::new(MemoryMessageBus::default()),
            read_model: Arc::new(MemoryReadModel::default()),
            leases: Arc::new(MemoryLeaseStore::new()),
            checkpoints: Arc::new(MemoryCheckpointStore::new()),
            persistence: "inmemory",
            transport: "inmemory",
        }
    }
    /// Everything that has to last in the data folder `dir`, the message bus in memory.
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
            persistence: "embedded",
            ..Self::memory()
        })
    }
}
