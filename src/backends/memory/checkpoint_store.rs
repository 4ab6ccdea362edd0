//! Checkpoints in a map.

use std::collections::HashMap;

use async_trait::async_trait;
use parking_lot::Mutex;

use crate::ports::checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore, is_valid_name};

/// Checkpoints that live as long as the process. One entry for each name; the program chooses the names, not its clients.
#[derive(Debug, Default)]
pub struct MemoryCheckpointStore {
    checkpoints: Mutex<HashMap<String, Checkpoint>>,
}

impl MemoryCheckpointStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpointStore {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        if !is_valid_name(name) {
            return Err(CheckpointError::InvalidName);
        }
        Ok(self.checkpoints.lock().get(name).copied())
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        if !is_valid_name(name) {
            return Err(CheckpointError::InvalidName);
        }
        let mut checkpoints = self.checkpoints.lock();
        if let Some(current) = checkpoints.get_mut(name) {
            current.allows(&checkpoint)?;
            *current = checkpoint;
        } else {
            checkpoints.insert(name.to_owned(), checkpoint);
        }
        Ok(())
    }
}
