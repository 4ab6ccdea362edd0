//! Ids for callers who want many: they take turns, and leave a share of each millisecond to new orders.

use super::{IdError, IdGenerator, IdRun, MAX_BORROW_MS, MAX_RUN, layout::SEQUENCES};

/// The most ids of one turn.
pub const MAX_TURN: u32 = 512;

/// What a caller may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// Of the ids of each millisecond, from the first one on.
    pub(super) sequences: u64,
    /// How far ahead of a healthy clock it may open milliseconds.
    pub(super) borrow_ms: u64,
}

impl Share {
    /// That of single ids and of new orders.
    pub(super) const WHOLE: Self = Self { sequences: SEQUENCES, borrow_ms: MAX_BORROW_MS };
    /// That of callers who want many: there is always a quarter of a millisecond left, and one that can be opened.
    pub(super) const BULK: Self = Self { sequences: SEQUENCES / 4 * 3, borrow_ms: MAX_BORROW_MS - 1 };
}

/// As many of the missing ids as one run may have.
pub(super) fn run_of(missing: usize) -> u32 {
    u32::try_from(missing).unwrap_or(MAX_RUN).min(MAX_RUN)
}

impl IdGenerator {
    /// Up to `max` consecutive ids, at most [`MAX_TURN`], for a caller who wants many: in turn with others of its kind, in the order in which
    /// they ask, and out of three quarters of each millisecond.
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
    fn callers_who_want_many_leave_a_quarter_of_each_millisecond_and_one_to_open() {
        let (generator, clock) = running();
        drain(&generator, Share::BULK);
        for _ in 0..100 {
            assert_eq!(drain(&generator, Share::BULK), 0);
            // At once, whatever the others do.
            for _ in 0..SEQUENCES / 4 {
                assert!(matches!(generator.reserve(1), Ok(Reservation::Ids(_))));
            }
            clock.advance_micros(1_000);
            assert_eq!(drain(&generator, Share::BULK), SEQUENCES / 4 * 3);
        }
        assert_eq!(drain(&generator, Share::WHOLE), SEQUENCES / 4 + SEQUENCES);
    }
}
