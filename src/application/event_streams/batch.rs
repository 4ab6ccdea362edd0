//! How much is read from the log at a time for one stream.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    application::{AppError, byte_budget::HeldBytes},
    ports::event_store::StoredEvent,
};

/// The most events of a batch.
const MAX_EVENTS: usize = 256;
/// The events of the first one.
const FIRST_EVENTS: usize = 32;
/// A batch ends with the event that brings it to so many bytes.
pub const BATCH_BYTES: usize = 256 * 1024;
/// What a read is taken to bring where the one before has found nothing.
const EXPECTED_BYTES: usize = 8 * 1024;
/// How long to wait for room before a stream ends.
const ROOM_WITHIN: Duration = Duration::from_secs(60);

/// The batches of one stream: as large as its reader may make them wait.
#[derive(Debug)]
pub(super) struct Batches {
    max_events: usize,
    expected_bytes: usize,
    held: HeldBytes,
}

impl Batches {
    /// Takes the bytes of each batch from those for readers, of which `held` are.
    pub const fn new(held: HeldBytes) -> Self {
        Self { max_events: FIRST_EVENTS, expected_bytes: BATCH_BYTES, held }
    }

    /// How many events to ask for: about as many as make a batch, or they would be read in vain.
    pub const fn max_events(&self) -> usize {
        self.max_events
    }

    /// What was read has been passed on.
    pub fn passed_on(&mut self) {
        let _less_is_always_given = self.held.set(0);
    }

    /// Waits until the next batch has room among what waits for readers.
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

    /// Notes what was read.
    pub fn read(&mut self, events: &[StoredEvent]) {
        let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
        self.expected_bytes = if events.is_empty() { EXPECTED_BYTES } else { BATCH_BYTES };
        if let Some(average) = bytes.checked_div(events.len()) {
            let fitting = BATCH_BYTES / average.max(1);
            self.max_events = fitting.clamp(1, (self.max_events * 2).min(MAX_EVENTS));
        }
        // One event may be larger than a batch: it is there now, and waits as it is.
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
    async fn a_batch_waits_for_room_a_minute_and_not_longer() {
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
