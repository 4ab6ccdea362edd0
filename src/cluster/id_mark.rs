//! The mark of issued ids, in the checkpoint store and fenced by a lease.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{runtime::Handle, time::timeout};

use crate::{
    id_generator::{HighWaterMark, MarkError},
    ports::{
        checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
        event_store::Position,
        server_name::named,
    },
};

/// How long saving the mark may take.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// The lease under which the mark is saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The name of the checkpoint.
    pub checkpoint: String,
    /// The fencing token of the lease.
    pub fencing_token: u64,
}

/// A [`HighWaterMark`] in the checkpoint store. Clones share it. Without a claim it refuses to be moved, so the generator cannot issue ids beyond it.
#[derive(Clone, Debug)]
pub struct LeasedMark {
    checkpoints: Arc<dyn CheckpointStore>,
    claim: Arc<Mutex<Option<Claim>>>,
    /// A bound above all issued ids, once the generator has ended.
    closed_at_ms: Arc<Mutex<Option<u64>>>,
    runtime: Handle,
}

impl LeasedMark {
    /// A mark without a claim; must be created within a tokio runtime.
    #[must_use]
    pub fn new(checkpoints: Arc<dyn CheckpointStore>) -> Self {
        Self { checkpoints, claim: Arc::default(), closed_at_ms: Arc::default(), runtime: Handle::current() }
    }

    /// Saves the mark under `claim` from now on; without one, not at all.
    pub(super) fn set_claim(&self, claim: Option<Claim>) {
        *self.claim.lock() = claim;
    }

    /// A bound above all issued ids, in Unix milliseconds, once the generator has ended.
    pub(super) fn closed_at_ms(&self) -> Option<u64> {
        *self.closed_at_ms.lock()
    }

    async fn save(&self, unix_ms: u64) -> Result<(), MarkError> {
        let claim = self.claim.lock().clone();
        let claim = claim.ok_or_else(|| MarkError::unowned("of the cluster", "this node owns no worker number now"))?;
        let checkpoint = Checkpoint::at(Position(unix_ms).into(), claim.fencing_token);
        match timeout(STORE_TIMEOUT, self.checkpoints.save(&claim.checkpoint, checkpoint)).await {
            // A higher mark of this owner is as good: it also bounds the issued ids.
            Ok(Ok(()) | Err(CheckpointError::Regressed { .. })) => Ok(()),
            Ok(Err(error)) => Err(MarkError::new(claim.checkpoint, error)),
            Err(_) => {
                let server = self.checkpoints.server();
                Err(MarkError::new(claim.checkpoint, named(server.as_ref(), "no answer in time")))
            }
        }
    }
}

/// Blocking: must be called where blocking is allowed, not by a task of the runtime.
impl HighWaterMark for LeasedMark {
    fn load(&self) -> Result<Option<u64>, MarkError> {
        // The mark is read when a worker number is claimed.
        Ok(None)
    }

    fn store(&self, unix_ms: u64) -> Result<(), MarkError> {
        self.runtime.block_on(self.save(unix_ms))
    }

    /// Under one claim a mark cannot go back: [`super::Membership::leave`] stores this one under a new claim.
    fn store_last(&self, unix_ms: u64) -> Result<(), MarkError> {
        *self.closed_at_ms.lock() = Some(unix_ms);
        Ok(())
    }
}
