//! New ids for clients. Single ids are issued at once; bulk calls take turns, within a share that leaves the rest to new orders.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::{AppError, permits::Permits};
use crate::{
    domain::timestamp::Timestamp,
    id_generator::{IdGenerator, IdParts, MAX_TURN},
};

/// The maximum number of open bulk calls; further ones are refused at once.
const MAX_BULK_CALLS: usize = 512;
/// The maximum number of ids gathered for incomplete bulk calls: 32 MiB. Calls that do not fit wait in order of arrival.
const MAX_GATHERED: usize = 4 * 1024 * 1024;

/// When an id was issued.
#[must_use]
pub fn issued_at(parts: &IdParts) -> Timestamp {
    // 41 bits of milliseconds after 2024, in microseconds, are far below 63 bits.
    Timestamp::from_micros((parts.timestamp_ms_unix * 1_000).cast_signed())
}

/// Issues ids.
#[derive(Debug)]
pub struct IdHandler {
    ids: Arc<IdGenerator>,
    permits: Arc<Permits>,
    bulk_calls: Semaphore,
    gathered: Semaphore,
}

impl IdHandler {
    /// A handler that issues the ids of `ids`. Bulk calls may hold at most a quarter of the permits for calls in flight.
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
        // Fails only when the semaphore is closed, which never happens.
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
