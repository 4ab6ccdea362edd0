//! The size of the batches that one stream reads from the log.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    application::{
        AppError,
        byte_budget::HeldBytes,
        turns::{Turn, Turns},
    },
    ports::event_store::StoredEvent,
};

/// The maximum number of events of a batch.
const MAX_EVENTS: usize = 256;
/// The number of events of the first batch.
const FIRST_EVENTS: usize = 32;
/// A batch ends with the event that brings it to this many bytes.
pub const BATCH_BYTES: usize = 256 * 1024;
/// The expected size of a read after an empty one.
const EXPECTED_BYTES: usize = 8 * 1024;
/// How long a stream waits for room before it ends.
const ROOM_WITHIN: Duration = Duration::from_secs(60);

/// The batches of one stream, sized by the byte budget for readers.
#[derive(Debug)]
pub struct Batches {
    max_events: usize,
    expected_bytes: usize,
    /// Whether there are events to read: there were when the stream opened, or the last read found some.
    is_catching_up: bool,
    held: HeldBytes,
    turns: Turns,
}

impl Batches {
    /// Takes the bytes of each batch from the budget of `held`, and its time from `turns`.
    #[must_use]
    pub const fn new(held: HeldBytes, turns: Turns) -> Self {
        Self { max_events: FIRST_EVENTS, expected_bytes: BATCH_BYTES, is_catching_up: false, held, turns }
    }

    /// How many events to request: about one batch, since more would be read in vain.
    pub(super) const fn max_events(&self) -> usize {
        self.max_events
    }

    /// Releases the bytes of the last batch, which has been passed on.
    pub(super) fn passed_on(&mut self) {
        let _less_is_always_given = self.held.set(0);
    }

    /// Waits until the byte budget for readers has room for the next batch.
    pub(super) async fn room(&mut self) -> Result<(), AppError> {
        let give_up_at = Instant::now() + ROOM_WITHIN;
        while !self.held.set(self.expected_bytes) {
            if Instant::now() >= give_up_at {
                return Err(AppError::ReadersBehind);
            }
            sleep(Duration::from_millis(fastrand::u64(50..150))).await;
        }
        Ok(())
    }

    /// For a stream that opens before the end of the log: it waits for its turn to read the first batch, too.
    pub(super) const fn behind(&mut self) {
        self.is_catching_up = true;
    }

    /// Waits for the turn of a stream that catches up. One that is at the end of the log needs none.
    pub(super) async fn turn(&self) -> Option<Turn> {
        if self.is_catching_up { self.turns.wait().await } else { None }
    }

    /// Records the events of a read.
    pub(super) fn read(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        self.is_catching_up = !events.is_empty();
        self.expected_bytes = if events.is_empty() { EXPECTED_BYTES } else { BATCH_BYTES };
        if let Some(average) = bytes.checked_div(events.len()) {
            let fitting = BATCH_BYTES / average.max(1);
            self.max_events = fitting.clamp(1, (self.max_events * 2).min(MAX_EVENTS));
        }
        // One event may be larger than a batch: it has already been read, and waits as it is.
        let _ = self.held.set(bytes);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        application::byte_budget::ByteBudget,
        ports::event_store::{Position, StreamId},
    };

    fn events(count: usize, bytes: usize) -> Vec<StoredEvent> {
        let payload = Bytes::from(vec![0; bytes]);
        vec![StoredEvent { stream: StreamId(1), revision: 1, position: Position(1), payload }; count]
    }

    #[test]
    fn batches_grow_with_small_events_and_shrink_with_large_ones() {
        let mut batches = Batches::new(HeldBytes::none(ByteBudget::new(usize::MAX)), Turns::new(3, 1));
        for _ in 0..10 {
            batches.read(&events(batches.max_events(), 100));
        }
        assert_eq!(batches.max_events(), MAX_EVENTS);
        batches.read(&events(3, 100 * 1024));
        assert_eq!(batches.max_events(), 2);
        batches.read(&events(1, 1024 * 1024));
        assert_eq!(batches.max_events(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_waits_for_room_for_one_minute() {
        let budget = ByteBudget::new(BATCH_BYTES + 1_000);
        let mut first = Batches::new(HeldBytes::none(budget.clone()), Turns::new(3, 1));
        let mut second = Batches::new(HeldBytes::none(budget.clone()), Turns::new(3, 1));
        first.room().await.expect("there is room");
        first.read(&events(10, 20_000));
        let begun = Instant::now();
        assert_eq!(second.room().await, Err(AppError::ReadersBehind));
        assert!((60..62).contains(&begun.elapsed().as_secs()));
        first.passed_on();
        second.room().await.expect("there is room again");
        drop((first, second));
        assert_eq!(budget.held(), 0);
    }
}
