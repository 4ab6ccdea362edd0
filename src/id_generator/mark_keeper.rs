//! Keeps the stored mark ahead of the ids that are issued.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    CLOSED, EPOCH_UNIX_MS, IdGenerator, MAX_CLOCK_LEAD_MS, MarkError, SLOT_MASK, StartError,
    layout::{SEQUENCE_BITS, SEQUENCES},
    now_ms,
};
use crate::telemetry::outage::{Away, Line, Outage};

/// How far the mark is put ahead of the clock. It must outlast a tick and a slow disk.
const MARK_AHEAD_MS: u64 = 3_000;
/// How far the mark is put ahead of the next id. Smaller than [`MARK_AHEAD_MS`], because after a crash ids start at the
/// mark: a crash loop must not push them [`MAX_CLOCK_LEAD_MS`] ahead of the clock.
const MARK_PAST_NEXT_MS: u64 = 1_500;
/// A mark that would move by less is left unchanged, to spare the disk.
const MARK_STEP_MS: u64 = 250;
/// How often the keeper checks the mark.
pub(super) const MARK_TICK: Duration = Duration::from_millis(500);

impl IdGenerator {
    /// Puts the stored mark ahead of the clock and of the next id. It blocks on the disk; without a mark, once closed, or while the
    /// clock is too far behind for any id, it does nothing.
    ///
    /// # Errors
    /// [`StartError::Mark`] if the mark cannot be written: ids can be issued up to the old mark. [`StartError::Clock`] if
    /// the clock is outside of the layout's years.
    pub fn advance_mark(&self) -> Result<(), StartError> {
        let Some(mark) = &self.mark else { return Ok(()) };
        let mark = mark.lock();
        let next = self.next.load(Ordering::Acquire);
        if next == CLOSED {
            return Ok(());
        }
        let next_ms = (next & SLOT_MASK) >> SEQUENCE_BITS;
        let now_ms = now_ms(&*self.clock)?;
        if next_ms > now_ms + MAX_CLOCK_LEAD_MS {
            // No id can be issued, so no mark is needed: it would only be further ahead.
            return Ok(());
        }
        let target = (now_ms + MARK_AHEAD_MS).max(next_ms + MARK_PAST_NEXT_MS);
        if target >= self.mark_ms.load(Ordering::Acquire) + MARK_STEP_MS {
            let stored = mark.store(target + EPOCH_UNIX_MS);
            self.mark_fails.store(stored.is_err(), Ordering::Release);
            *self.mark_failure.lock() = stored.as_ref().err().map(ToString::to_string);
            stored?;
            // Not earlier: a mark that is not stored yet protects nothing.
            self.mark_ms.store(target, Ordering::Release);
        }
        Ok(())
    }

    /// Why the last try to store the mark failed, if it did.
    #[must_use]
    pub fn mark_failure(&self) -> Option<String> {
        self.mark_failure.lock().clone()
    }

    /// Keeps the mark ahead until `cancel`; one such task runs for each generator with a mark. A failure is logged and retried; if the mark is
    /// reached in the meantime, ids are refused with [`IdError::MarkBehind`](super::IdError::MarkBehind). Cancel it only after the last command is
    /// done, then call [`IdGenerator::close`].
    pub async fn keep_mark_ahead(self: Arc<Self>, cancel: CancellationToken, away: Away) {
        let outage = Outage::while_not(away).whatever_the_cause();
        while cancel.run_until_cancelled(tokio::time::sleep(MARK_TICK)).await.is_some() {
            let generator = Arc::clone(&self);
            let moved = match tokio::task::spawn_blocking(move || generator.advance_mark()).await {
                // Nothing is wrong with the mark. What keeps the node from owning a number is logged where it is taken.
                Ok(Err(StartError::Mark(error))) if error.is_unowned() => continue,
                Ok(moved) => moved.map_err(|error| error.to_string()),
                Err(panicked) => Err(panicked.to_string()),
            };
            match moved {
                Ok(()) => {
                    if outage.works().is_some() {
                        tracing::info!("the id mark advances again");
                    }
                }
                Err(error) => {
                    if let Some(Line { unsaid }) = outage.failed(&error) {
                        tracing::error!(error, unsaid, "cannot advance the id mark; ids run out when it is reached");
                    }
                }
            }
        }
    }

    /// Ends the generator: no more ids are issued, and the mark is lowered to the ids really issued, so that the next run need not start ahead of
    /// its clock. Blocks on the disk. Closing twice is harmless.
    ///
    /// # Errors
    /// [`MarkError`] if the mark cannot be written; the old, higher mark then stays, which is safe.
    pub fn close(&self) -> Result<(), MarkError> {
        let mark = self.mark.as_ref().map(|mark| mark.lock());
        let next = self.next.swap(CLOSED, Ordering::AcqRel);
        match mark {
            Some(mark) if next != CLOSED => mark.store_last((next & SLOT_MASK).div_ceil(SEQUENCES) + EPOCH_UNIX_MS),
            _ => Ok(()),
        }
    }
}
