//! A shadow table for a rebuild.

use std::sync::{Arc, atomic::Ordering};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};

use super::{Served, table::Table};
use crate::ports::read_model::{LogCheckpoint, ReadModelError, RowChange, ShadowReadModel};

/// A table that replaces the serving one when it has caught up.
#[derive(Debug)]
pub(super) struct MemoryRebuild {
    served: Arc<Served>,
    /// The number of this rebuild: only the last one that has begun continues.
    number: u64,
    /// `None` when it is over.
    table: Mutex<Option<Table>>,
}

impl MemoryRebuild {
    pub(super) fn begin(served: Arc<Served>) -> Self {
        let number = served.last_rebuild.fetch_add(1, Ordering::AcqRel) + 1;
        Self { served, number, table: Mutex::new(Some(Table::new())) }
    }

    fn table(&self) -> MutexGuard<'_, Option<Table>> {
        let mut table = self.table.lock();
        if self.served.last_rebuild.load(Ordering::Acquire) != self.number
            && let Some(overtaken) = table.take()
        {
            drop_aside(overtaken);
        }
        table
    }
}

#[async_trait]
impl ShadowReadModel for MemoryRebuild {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        self.table().as_mut().ok_or_else(over)?.apply(changes, checkpoint)
    }

    /// Rows are found as soon as they are inserted.
    async fn index(&self) -> Result<(), ReadModelError> {
        self.table().as_ref().map(drop).ok_or_else(over)
    }

    async fn promote(&self) -> Result<(), ReadModelError> {
        let mut table = self.table();
        let new = table.take().ok_or_else(over)?;
        let mut served = self.served.table_mut();
        if let Err(behind) = LogCheckpoint::may_replace(new.checkpoint, served.checkpoint) {
            *table = Some(new);
            return Err(behind);
        }
        let old = std::mem::replace(&mut *served, new);
        drop(served);
        drop_aside(old);
        Ok(())
    }

    async fn discard(&self) -> Result<(), ReadModelError> {
        if let Some(table) = self.table().take() {
            drop_aside(table);
        }
        Ok(())
    }
}

fn over() -> ReadModelError {
    ReadModelError::Unavailable("this rebuild has ended".to_owned())
}

/// Freeing millions of rows takes a while, which must not block the tasks of this thread.
pub(super) fn drop_aside(table: Table) {
    if table.is_large() {
        // If no thread can be spawned, it is dropped here.
        let _ = std::thread::Builder::new().name("drop-read-model".to_owned()).spawn(move || drop(table));
    }
}
