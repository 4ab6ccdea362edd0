//! New ids for whoever asks. Single ones come at once; many come in turns, of a share that leaves the rest to new orders.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{AppError, permits::Permits};
use crate::id_generator::{IdGenerator, MAX_TURN};

/// Calls for many ids that are open at a time; one more is refused at once.
const MAX_BULK_CALLS: usize = 512;
/// Ids that are gathered at a time for calls that have not got all of theirs: 32 MiB. Calls that do not fit wait, the first one first.
const MAX_GATHERED: usize = 4 * 1024 * 1024;

/// Issues ids.
#[derive(Debug)]
pub struct IdHandler {
    ids: Arc<IdGenerator>,
    permits: Arc<Permits>,
    bulk_calls: Semaphore,
    gathered: Semaphore,
}

impl IdHandler {
    /// Issues the ids of `ids`. Calls for many are at most a quarter of those that may be in flight.
    #[must_use]
    pub fn new(ids: Arc<IdGenerator>, permits: Arc<Permits>) -> Self {
        let bulk_calls = Semaphore::new((permits.max_in_flight() / 4).clamp(1, MAX_BULK_CALLS));
        Self { ids, permits, bulk_calls, gathered: Semaphore::new(MAX_GATHERED) }
    }

    pub(super) async fn generate(&self, count: usize) -> Result<Vec<i64>, AppError> {
        if count == 1 {
            return Ok(vec![self.ids.next_async().await?.cast_signed()]);
        }
        let _call = self.bulk_calls.try_acquire().map_err(|_| AppError::Overloaded)?;
        let gathered = u32::try_from(count.min(MAX_GATHERED)).unwrap_or(u32::MAX);
        // Fails only when it is closed, which it never is.
        let _gathered = self.gathered.acquire_many(gathered).await.map_err(|_| AppError::Overloaded)?;
        let mut fresh = Vec::with_capacity(count);
        while fresh.len() < count {
            if self.permits.is_draining() {
                return Err(AppError::ShuttingDown);
            }
            let missing = u32::try_from(count - fresh.len()).unwrap_or(MAX_TURN);
            fresh.extend(self.ids.next_turn(missing).await?.ids().map(u64::cast_signed));
        }
        Ok(fresh)
    }
}
