//! The self-description of the embedded backend.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;

use super::{
    checkpoint_store::EmbeddedCheckpointStore,
    database::Database,
    event_store::{EmbeddedEventStore, read_only::ReadOnlyEventStore},
    lease::EmbeddedLeaseStore,
    read_model::{EmbeddedReadModel, at_rest::stored_rows},
};
use crate::{
    backends::descriptor::{Access, Backend, Descriptor, FolderLogs, LogParts, LogTools, OpenError, Opened, Parts},
    ports::event_store::EventStore,
};

/// The embedded backend.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "embedded",
    title: "Embedded",
    persistence: Some("one SQLite file in `--data-dir`, synced before the reply"),
    transport: None,
    durability: "`machine`: survives a power loss",
    is_shared: false,
    needs_data_dir: true,
    settings: &[],
    configure: |_| Ok(Arc::new(Embedded)),
    log_tools: Some(LogTools::Folder(FolderLogs { open, stored_rows: |dir| Ok(stored_rows(dir)?) })),
};

#[derive(Debug)]
struct Embedded;

#[async_trait]
impl Backend for Embedded {
    async fn open(&self, parts: Parts<'_>) -> Result<Opened, OpenError> {
        if !parts.log {
            return Ok(Opened::default());
        }
        let dir = parts.data_dir.ok_or("persistence embedded needs --data-dir")?;
        let database = Database::open(dir).map_err(|error| format!("data folder {error}"))?;
        Ok(Opened { log: Some(log_parts(database)), ..Opened::default() })
    }
}

/// Everything that is kept in one database.
pub fn log_parts(database: Arc<Database>) -> LogParts {
    LogParts {
        store: Arc::new(EmbeddedEventStore::new(Arc::clone(&database))),
        leases: Arc::new(EmbeddedLeaseStore::new(Arc::clone(&database))),
        checkpoints: Arc::new(EmbeddedCheckpointStore::new(Arc::clone(&database))),
        read_model: Some(Arc::new(EmbeddedReadModel::new(database))),
    }
}

fn open(dir: &Path, access: Access) -> Result<Arc<dyn EventStore>, OpenError> {
    Ok(match access {
        Access::Read => Arc::new(ReadOnlyEventStore::open(dir)?),
        Access::Write { .. } => Arc::new(EmbeddedEventStore::new(Database::open(dir)?)),
    })
}
