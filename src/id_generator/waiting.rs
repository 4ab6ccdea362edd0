//! Ids for callers that wait until they may be issued.

use std::{sync::atomic::Ordering, time::Duration};

use super::{
    IdError, IdGenerator, IdRun, MAX_MARK_WAIT_MS, MAX_WAIT_MS, Reservation,
    bulk::{Share, run_of},
};

/// The pause between two checks of the mark.
pub(super) const MARK_POLL_MS: u64 = 20;

impl IdGenerator {
    /// One id. Under saturation it blocks the thread, normally below a millisecond, at most [`MAX_WAIT_MS`]; async code
    /// calls [`IdGenerator::next_async`].
    ///
    /// # Errors
    /// See [`IdError`].
    pub fn next(&self) -> Result<u64, IdError> {
        Ok(self.reserve_blocking(1)?.first)
    }

    /// One id; under saturation it sleeps without blocking a runtime thread.
    ///
    /// # Errors
    /// See [`IdError`].
    pub async fn next_async(&self) -> Result<u64, IdError> {
        Ok(self.reserve_async(1, Share::WHOLE).await?.first)
    }

    /// Appends `n` growing ids to `out`. It blocks the thread: at the layout's limit 100 000 ids take 25 ms.
    ///
    /// # Errors
    /// See [`IdError`]; `out` is then as it was before.
    pub fn next_batch(&self, n: usize, out: &mut Vec<u64>) -> Result<(), IdError> {
        let before = out.len();
        out.reserve(n);
        while out.len() - before < n {
            match self.reserve_blocking(run_of(n - (out.len() - before))) {
                Ok(run) => out.extend(run.ids()),
                Err(error) => {
                    out.truncate(before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Appends `n` growing ids to `out`, sleeping without blocking a runtime thread. If the future is dropped, the ids
    /// taken so far stay in `out` and are never issued again.
    ///
    /// # Errors
    /// See [`IdError`]; `out` is then as it was before.
    pub async fn next_batch_async(&self, n: usize, out: &mut Vec<u64>) -> Result<(), IdError> {
        let before = out.len();
        out.reserve(n);
        while out.len() - before < n {
            match self.reserve_async(run_of(n - (out.len() - before)), Share::WHOLE).await {
                Ok(run) => out.extend(run.ids()),
                Err(error) => {
                    out.truncate(before);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn reserve_blocking(&self, max: u32) -> Result<IdRun, IdError> {
        let mut waited_micros = 0;
        loop {
            match self.reserve(max)? {
                Reservation::Ids(run) => return Ok(run),
                Reservation::WaitMicros(micros) => {
                    count_wait(&mut waited_micros, micros)?;
                    std::thread::sleep(Duration::from_micros(micros));
                }
            }
        }
    }

    pub(super) async fn reserve_async(&self, max: u32, share: Share) -> Result<IdRun, IdError> {
        let (mut waited_micros, mut waited_for_mark_ms) = (0, 0);
        loop {
            match self.reserve_of(max, share) {
                Ok(Reservation::Ids(run)) => return Ok(run),
                Ok(Reservation::WaitMicros(micros)) => {
                    count_wait(&mut waited_micros, micros)?;
                    tokio::time::sleep(Duration::from_micros(micros)).await;
                }
                // A disk or a broker that is slow for a moment is no reason to refuse; one that has failed is.
                Err(IdError::MarkBehind)
                    if waited_for_mark_ms < MAX_MARK_WAIT_MS && !self.mark_fails.load(Ordering::Acquire) =>
                {
                    waited_for_mark_ms += MARK_POLL_MS;
                    tokio::time::sleep(Duration::from_millis(MARK_POLL_MS)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn count_wait(waited_micros: &mut u64, micros: u64) -> Result<(), IdError> {
    if *waited_micros >= MAX_WAIT_MS * 1_000 {
        return Err(IdError::Saturated);
    }
    *waited_micros += micros;
    Ok(())
}
