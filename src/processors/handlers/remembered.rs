//! Remembers handled events in bounded memory.

use std::collections::{HashMap, hash_map::Entry};

use crate::ports::{event_store::fingerprint, message_bus::Message};

/// The number of newest events per order that are distinguished: no order has more under normal use.
const MAX_EVENTS: usize = 8;

/// The handled events of the recently active orders.
///
/// Two generations: an order is written to the new one, which replaces the old one when it is full. So the last `capacity` orders are always
/// remembered, and at most twice as many; unlike an LRU list, it costs nothing to maintain.
#[derive(Debug)]
pub(super) struct ProcessedRevisions {
    capacity: usize,
    new: HashMap<u64, Handled>,
    old: HashMap<u64, Handled>,
}

/// The handled revisions of one order, each with the fingerprint of its event: a log that has lost its end may have another event at a handled
/// revision.
#[derive(Clone, Debug)]
struct Handled {
    /// In place, since most orders that are remembered have one event so far.
    last: (u64, u32),
    /// Those before it, in order.
    earlier: Vec<(u64, u32)>,
}

impl Handled {
    const fn first(event: (u64, u32)) -> Self {
        Self { last: event, earlier: Vec::new() }
    }

    /// Whether this event was handled. An event older than all known ones counts as handled.
    fn covers(&self, sequence: u64, fingerprint: u32) -> bool {
        match self.all().find(|(handled, _)| *handled == sequence) {
            Some((_, handled)) => handled == fingerprint,
            None => sequence < self.last.0,
        }
    }

    fn all(&self) -> impl Iterator<Item = (u64, u32)> {
        self.earlier.iter().copied().chain([self.last])
    }

    fn insert(&mut self, event: (u64, u32)) {
        let (sequence, _) = event;
        if self.all().any(|handled| handled == event) {
            return;
        }
        let index = self.earlier.partition_point(|(handled, _)| *handled < sequence);
        if self.all().any(|(handled, _)| handled == sequence) {
            // Another history of the order, which does not include the revisions after this one.
            self.earlier.truncate(index);
            self.last = event;
        } else if sequence < self.last.0 {
            self.earlier.insert(index, event);
        } else {
            self.earlier.push(std::mem::replace(&mut self.last, event));
        }
        if self.earlier.len() >= MAX_EVENTS {
            self.earlier.remove(0);
        }
    }
}

impl ProcessedRevisions {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), new: HashMap::new(), old: HashMap::new() }
    }

    /// Whether this event, or a later one of its order, has been handled.
    pub(super) fn covers(&self, event: &Message) -> bool {
        let handled = self.new.get(&event.key).or_else(|| self.old.get(&event.key));
        handled.is_some_and(|handled| handled.covers(event.sequence, fingerprint(&event.payload)))
    }

    /// Records that this event was handled.
    pub(super) fn insert(&mut self, event: &Message) {
        if self.new.len() >= self.capacity && !self.new.contains_key(&event.key) {
            self.old = std::mem::take(&mut self.new);
        }
        let handled = (event.sequence, fingerprint(&event.payload));
        match self.new.entry(event.key) {
            Entry::Occupied(mut known) => known.get_mut().insert(handled),
            Entry::Vacant(place) => {
                let before = self.old.get(&event.key).cloned();
                let mut known = before.unwrap_or_else(|| Handled::first(handled));
                known.insert(handled);
                place.insert(known);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(key: u64, sequence: u64) -> Message {
        of_content(key, sequence, "first")
    }

    fn of_content(key: u64, sequence: u64, content: &'static str) -> Message {
        let payload = Bytes::from_static(content.as_bytes());
        Message { key, sequence, position: 1, kind: "order.paid".into(), payload }
    }

    #[test]
    fn the_last_orders_are_remembered_and_memory_is_bounded() {
        let mut remembered = ProcessedRevisions::new(10);
        for key in 0..1_000 {
            remembered.insert(&event(key, 5));
            for recent in key.saturating_sub(9)..=key {
                assert!(remembered.covers(&event(recent, 5)), "{recent} is forgotten at {key}");
            }
            assert!(remembered.new.len() + remembered.old.len() <= 20);
        }
        assert!(!remembered.covers(&event(0, 5)));
    }

    #[test]
    fn an_earlier_revision_does_not_take_the_place_of_a_later_one() {
        let mut remembered = ProcessedRevisions::new(2);
        remembered.insert(&event(1, 7));
        remembered.insert(&event(2, 1));
        remembered.insert(&event(3, 1));
        remembered.insert(&event(1, 3));
        assert!(remembered.covers(&event(1, 7)) && !remembered.covers(&event(1, 8)));
    }

    #[test]
    fn another_event_at_a_revision_that_was_handled_is_new_and_so_are_those_after_it() {
        let mut remembered = ProcessedRevisions::new(2);
        (1..=3).for_each(|sequence| remembered.insert(&event(1, sequence)));
        assert!(remembered.covers(&event(1, 1)));
        // The log has lost revisions 2 and 3, and has different ones there now.
        for sequence in 2..=3 {
            let other = of_content(1, sequence, "second");
            assert!(!remembered.covers(&other), "revision {sequence}");
            remembered.insert(&other);
            assert!(remembered.covers(&other), "revision {sequence}");
        }
        assert!(remembered.covers(&event(1, 1)));
    }

    #[test]
    fn memory_of_one_order_is_bounded_and_older_events_count_as_handled() {
        let mut remembered = ProcessedRevisions::new(2);
        (1..=1_000).for_each(|sequence| remembered.insert(&event(1, sequence)));
        assert_eq!(remembered.new[&1].all().count(), MAX_EVENTS);
        assert!(remembered.covers(&event(1, 5)) && remembered.covers(&event(1, 1_000)));
        assert!(!remembered.covers(&event(1, 1_001)));
    }
}
