//! Which events have been dealt with, in bounded memory.

use std::collections::HashMap;

use crate::message_bus::EventId;

/// The last revision dealt with, of the orders that were active last.
///
/// Two generations: an order is written to the new one, and when that is full it takes the place of the old one. So the last `capacity`
/// orders are always remembered, and never more than twice as many; unlike a list in order of use, it costs nothing to keep.
#[derive(Debug)]
pub(super) struct RememberedRevisions {
    capacity: usize,
    new: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl RememberedRevisions {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), new: HashMap::new(), old: HashMap::new() }
    }

    /// Whether this event, or a later one of its order, has been dealt with.
    pub(super) fn covers(&self, event: EventId) -> bool {
        let last = self.new.get(&event.key).or_else(|| self.old.get(&event.key));
        last.is_some_and(|&last| event.sequence <= last)
    }

    /// This event has been dealt with.
    pub(super) fn insert(&mut self, event: EventId) {
        if self.new.len() >= self.capacity && !self.new.contains_key(&event.key) {
            self.old = std::mem::take(&mut self.new);
        }
        // A replayed event is behind those that were dealt with since.
        let before = self.old.get(&event.key).copied().unwrap_or(0);
        let last = self.new.entry(event.key).or_insert(before);
        *last = event.sequence.max(*last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn event(key: u64, sequence: u64) -> EventId {
        EventId { key, sequence }
    }

    #[test]
    fn the_last_orders_are_remembered_and_memory_is_bounded() {
        let mut remembered = RememberedRevisions::new(10);
        for key in 0..1_000 {
            remembered.insert(event(key, 5));
            for recent in key.saturating_sub(9)..=key {
                assert!(remembered.covers(event(recent, 5)), "{recent} is forgotten at {key}");
            }
            assert!(remembered.new.len() + remembered.old.len() <= 20);
        }
        assert!(!remembered.covers(event(0, 5)));
    }

    #[test]
    fn an_earlier_revision_does_not_take_the_place_of_a_later_one() {
        let mut remembered = RememberedRevisions::new(2);
        remembered.insert(event(1, 7));
        remembered.insert(event(2, 1));
        remembered.insert(event(3, 1));
        remembered.insert(event(1, 3));
        assert!(remembered.covers(event(1, 7)) && !remembered.covers(event(1, 8)));
    }
}
