//! Checkpoints, each stored as one key of a bucket: read, and then written on condition that it has not changed.
//!
//! A bucket that has vanished is recreated empty: its checkpoints are lost, and the work since the beginning is repeated. Tokens issued before are
//! below those of leases acquired since (see [`super::lease`]), so an earlier owner is locked out from the first save of the next.

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    connection::{ConnectError, Nats},
    kv::{Bucket, Entry, WriteError},
};
use crate::ports::checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore, is_valid_name};

/// How often a save that loses to another save of the same name is retried. Each failed try means that another save succeeded.
const MAX_TRIES: usize = 256;

/// A [`CheckpointStore`] in the bucket `{prefix}-checkpoints`, shared by all nodes that use the same NATS.
#[derive(Debug)]
pub struct NatsCheckpointStore {
    bucket: Bucket,
}

impl NatsCheckpointStore {
    /// The store in `nats`, which need not be connected yet.
    #[must_use]
    pub fn new(nats: Nats) -> Self {
        Self { bucket: Bucket::new(nats, "checkpoints") }
    }

    /// Finds or creates the bucket.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason why it cannot be used, and whether waiting helps.
    pub async fn verify(&self) -> Result<(), ConnectError> {
        self.bucket.verify_writable().await
    }

    async fn get(&self, name: &str) -> Result<Option<Entry>, CheckpointError> {
        if !is_valid_name(name) {
            return Err(CheckpointError::InvalidName);
        }
        self.bucket.get(name).await.map_err(CheckpointError::Unavailable)
    }
}

/// Reads the stored value; `None` if there is none.
fn read(entry: Option<&Entry>) -> Result<Option<Checkpoint>, CheckpointError> {
    let Some(value) = entry.and_then(|entry| entry.value.as_ref()) else { return Ok(None) };
    match std::str::from_utf8(value).ok().and_then(Checkpoint::from_text) {
        Some(checkpoint) => Ok(Some(checkpoint)),
        None => Err(CheckpointError::Unavailable("the stored value is not a checkpoint".to_owned())),
    }
}

#[async_trait]
impl CheckpointStore for NatsCheckpointStore {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        read(self.get(name).await?.as_ref())
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        for _ in 0..MAX_TRIES {
            let entry = self.get(name).await?;
            if let Some(current) = read(entry.as_ref())? {
                current.allows(&checkpoint)?;
                if current == checkpoint {
                    return Ok(());
                }
            }
            let value = Bytes::from(checkpoint.to_text());
            let revision = entry.map_or(0, |entry| entry.revision);
            match self.bucket.write(name, Some(value), revision).await {
                Ok(_) => return Ok(()),
                Err(WriteError::Conflict) => {}
                Err(WriteError::Unavailable(why)) => return Err(CheckpointError::Unavailable(why)),
            }
        }
        Err(CheckpointError::Unavailable(format!("saving the checkpoint {name} lost {MAX_TRIES} times to others")))
    }
}
