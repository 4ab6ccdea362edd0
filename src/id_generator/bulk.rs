//! Ids in bulk: bulk callers take turns, and leave a share of each millisecond to new orders.

use super::{IdError, IdGenerator, IdRun, MAX_BORROW_MS, MAX_RUN, layout::SEQUENCES};

/// The maximum number of ids of one turn.
pub const MAX_TURN: u32 = 512;

/// The limits of a caller.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// How many ids of each millisecond, from the first one on.
    pub(super) sequences: u64,
    /// How far ahead of a healthy clock it may open milliseconds.
    pub(super) borrow_ms: u64,
}

impl Share {
    /// The share of single ids and of new orders.
    pub(super) const WHOLE: Self = Self { sequences: SEQUENCES, borrow_ms: MAX_BORROW_MS };
    /// The share of bulk callers: a quarter of a millisecond is always left, and one millisecond that can be opened.
    pub(super) const BULK: Self = Self { sequences: SEQUENCES / 4 * 3, borrow_ms: MAX_BORROW_MS - 1 };
}

/// The number of missing ids that fit in one run.
pub(super) fn run_of(missing: usize) -> u32 {
    u32::try_from(missing).unwrap_or(MAX_RUN).min(MAX_RUN)
}

impl IdGenerator {
    /// Up to `max` consecutive ids, at most [`MAX_TURN`], for a bulk caller: in turn with the others, in the order of their calls,
    /// and out of three quarters of each millisecond.
    ///
    /// # Errors
    /// See [`IdError`].
    pub async fn next_turn(&self, max: u32) -> Result<IdRun, IdError> {
        let _turn = self.turns.lock().await;
        self.reserve_async(max.min(MAX_TURN), Share::BULK).await
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Reservation, tests::running},
        *,
    };

    fn drain(generator: &IdGenerator, share: Share) -> u64 {
        let mut count = 0;
        while let Reservation::Ids(run) = generator.reserve_of(MAX_TURN, share).unwrap() {
            count += u64::from(run.count);
        }
        count
    }

    #[test]
    fn bulk_callers_leave_a_quarter_of_each_millisecond_and_one_to_open() {
        let (generator, clock) = running();
        drain(&generator, Share::BULK);
        for _ in 0..100 {
            assert_eq!(drain(&generator, Share::BULK), 0);
            // At once, regardless of the other callers.
            for _ in 0..SEQUENCES / 4 {
                assert!(matches!(generator.reserve(1), Ok(Reservation::Ids(_))));
            }
            clock.advance_micros(1_000);
            assert_eq!(drain(&generator, Share::BULK), SEQUENCES / 4 * 3);
        }
        assert_eq!(drain(&generator, Share::WHOLE), SEQUENCES / 4 + SEQUENCES);
    }
}
