//! The self-description of the memory backend.

use std::sync::Arc;

use async_trait::async_trait;

use super::{
    checkpoint_store::MemoryCheckpointStore, event_store::MemoryEventStore, lease::MemoryLeaseStore,
    message_bus::MemoryMessageBus,
};
use crate::backends::descriptor::{Backend, BusParts, Descriptor, LogParts, OpenError, Opened, Parts};

/// The memory backend.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "inmemory",
    title: "Memory",
    persistence: Some("this process"),
    transport: Some("this process"),
    durability: "`none`: orders are lost when the process ends",
    is_shared: false,
    needs_data_dir: false,
    settings: &[],
    configure: |_| Ok(Arc::new(Memory)),
    log_tools: None,
};

#[derive(Debug)]
struct Memory;

#[async_trait]
impl Backend for Memory {
    async fn open(&self, parts: Parts<'_>) -> Result<Opened, OpenError> {
        let log = || LogParts {
            store: Arc::new(MemoryEventStore::default()),
            leases: Arc::new(MemoryLeaseStore::new()),
            checkpoints: Arc::new(MemoryCheckpointStore::new()),
            read_model: None,
        };
        let bus = || BusParts { bus: Arc::new(MemoryMessageBus::default()), leases: Arc::new(MemoryLeaseStore::new()) };
        Ok(Opened { log: parts.log.then(log), bus: parts.bus.map(|_| bus()), ..Opened::default() })
    }
}
