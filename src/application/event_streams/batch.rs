//! The size of the batches that one stream reads from the log.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    application::{AppError, byte_budget::HeldBytes},
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
pub(super) struct Batches {
    max_events: usize,
    expected_bytes: usize,
    held: HeldBytes,
}

impl Batches {
    /// Takes the bytes of each batch from the budget of `held`.
    pub const fn new(held: HeldBytes) -> Self {
        Self { max_events: FIRST_EVENTS, expected_bytes: BATCH_BYTES, held }
    }

    /// How many events to request: about one batch, since more would be read in vain.
    pub const fn max_events(&self) -> usize {
        self.max_events
    }

    /// Releases the bytes of the last batch, which has been passed on.
    pub fn passed_on(&mut self) {
        let _less_is_always_given = self.held.set(0);
    }

    /// Waits until the byte budget for readers has room for the next batch.
    pub async fn room(&mut self) -> Result<(), AppError> {
        let give_up_at = Instant::now() + ROOM_WITHIN;
        while !self.held.set(self.expected_bytes) {
            if Instant::now() >= give_up_at {
                return Err(AppError::ReadersBehind);
            }
            sleep(Duration::from_millis(fastrand::u64(50..150))).await;
        }
        Ok(())
    }

    /// Records the events of a read.
    pub fn read(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
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
        let mut batches = Batches::new(HeldBytes::none(ByteBudget::new(usize::MAX)));
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
        let mut first = Batches::new(HeldBytes::none(budget.clone()));
        let mut second = Batches::new(HeldBytes::none(budget.clone()));
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
