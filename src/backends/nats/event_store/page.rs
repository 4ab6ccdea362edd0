//! Collects the events of a read, bounded in events and bytes.

use std::collections::VecDeque;

use super::ring::{Entry, Slot};
use crate::ports::event_store::{MAX_READ_BYTES, Position, ReadBound, StoreError, StoredEvent};

/// The maximum number of messages requested while their size is unknown.
pub(super) const FIRST_BATCH: usize = 64;

/// Gathers messages of the log as they are read forward.
pub(super) trait Gather {
    /// Whether it accepts no more.
    fn is_full(&self) -> bool;

    /// How many messages to request.
    fn next_count(&self) -> usize;

    /// Takes the events of a message after `from`; returns whether it took all. It ends before a message that is not a commit.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if such a message would be its first.
    fn take_slot(&mut self, slot: &Slot, from: Position) -> Result<bool, StoreError>;
}

/// The events read so far, and the room for more.
pub(super) struct Page {
    pub max_events: usize,
    max_bytes: usize,
    bytes: usize,
    pub events: Vec<StoredEvent>,
}

impl Page {
    pub(super) const fn new(ReadBound { max_events, max_bytes }: ReadBound) -> Self {
        Self { max_events, max_bytes, bytes: 0, events: Vec::new() }
    }

    /// Takes events until it is full; returns whether it took them all.
    pub(super) fn take(&mut self, events: impl Iterator<Item = StoredEvent>) -> bool {
        for event in events {
            if self.is_full() {
                return false;
            }
            self.bytes += event.payload.len();
            self.events.push(event);
        }
        true
    }
}

impl Gather for Page {
    fn is_full(&self) -> bool {
        self.events.len() >= self.max_events || self.bytes >= self.max_bytes
    }

    /// No more than fit, estimated from the events read so far, so that a batch stays bounded.
    fn next_count(&self) -> usize {
        let fit = match self.bytes / self.events.len().max(1) {
            _ if self.events.is_empty() => FIRST_BATCH.max(self.max_events),
            typical => (self.max_bytes - self.bytes) / typical.max(1) + 1,
        };
        fit.min(self.max_events - self.events.len()).max(1)
    }

    fn take_slot(&mut self, slot: &Slot, from: Position) -> Result<bool, StoreError> {
        match slot {
            Ok(Entry::Marker(_)) => Ok(true),
            Ok(Entry::Commit(commit)) => Ok(self.take(commit.stored_events().filter(|event| event.position > from))),
            Err(error) if self.events.is_empty() => Err(error.clone()),
            Err(_) => {
                self.max_events = self.events.len();
                Ok(false)
            }
        }
    }
}

/// Takes messages that were held in memory, starting with `next`.
pub(super) fn take_slots(
    page: &mut impl Gather,
    next: &mut u64,
    from: Position,
    slots: Vec<Slot>,
) -> Result<(), StoreError> {
    for slot in slots {
        if !page.take_slot(&slot, from)? {
            break;
        }
        *next += 1;
    }
    Ok(())
}

/// The newest events of a stream, at most as many bytes as one page holds.
#[derive(Default)]
pub(super) struct Newest {
    pub events: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Newest {
    pub(super) fn add(&mut self, events: impl Iterator<Item = StoredEvent>) {
        for event in events {
            self.bytes += event.payload.len();
            self.events.push_back(event);
            while let Some(oldest) = self.events.front()
                && self.bytes - oldest.payload.len() >= MAX_READ_BYTES
            {
                self.bytes -= oldest.payload.len();
                self.events.pop_front();
            }
        }
    }
}
