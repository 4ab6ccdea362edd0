//! The unacknowledged deliveries of one consumer: retries, ack-waits and the order of each key.
//!
//! Pure bookkeeping without I/O, from which backends build a [`super::Consumer`]: brokers support acknowledgements and redelivery, but none of them
//! holds back the later messages of a key while an earlier one waits for its retry.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use tokio::time::Instant;

use super::{Delivery, Message, Receipt};

/// The unacknowledged messages of one consumer, in order of arrival. See the module.
///
/// Each is either in flight (delivered, and requeued after the ack-wait) or held (to be delivered, perhaps after a delay).
#[derive(Debug)]
pub struct DeliveryWindow {
    ack_wait: Duration,
    capacity: usize,
    next_slot: u64,
    entries: BTreeMap<u64, Entry>,
    /// The slots of held messages by key. Never an empty set.
    held: HashMap<u64, BTreeSet<u64>>,
    /// The keys whose first held message may be delivered now.
    runnable: BTreeSet<u64>,
    /// No ack-wait or delay ends before this.
    next_due: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    message: Message,
    attempt: u32,
    /// Counts deliveries, so that a receipt of an earlier delivery is void.
    delivery: u32,
    replayed: bool,
    state: EntryState,
}

#[derive(Clone, Copy, Debug)]
enum EntryState {
    InFlight { until: Instant },
    Held { not_before: Option<Instant> },
}

impl DeliveryWindow {
    /// An empty window for up to `capacity` messages with an ack-wait of `ack_wait`.
    #[must_use]
    pub fn new(ack_wait: Duration, capacity: usize) -> Self {
        Self {
            ack_wait,
            capacity,
            next_slot: 0,
            entries: BTreeMap::new(),
            held: HashMap::new(),
            runnable: BTreeSet::new(),
            next_due: None,
        }
    }

    /// How many more messages fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.capacity.saturating_sub(self.entries.len())
    }

    /// The number of unacknowledged messages.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether everything is acknowledged.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The oldest unacknowledged message; a replayed dead letter does not count.
    #[must_use]
    pub fn oldest(&self) -> Option<&Message> {
        self.entries.values().find(|entry| !entry.replayed).map(|entry| &entry.message)
    }

    /// When to poll again although no message has arrived: an ack-wait or a delay may have ended by then.
    #[must_use]
    pub const fn next_due(&self) -> Option<Instant> {
        self.next_due
    }

    /// Adds a message that is new to this consumer: returns its delivery, or holds it behind an earlier one of its key.
    pub fn deliver(&mut self, message: Message, now: Instant) -> Option<Delivery> {
        // Fast path: nearly always no message is held.
        if !self.held.is_empty() && self.held.contains_key(&message.key) {
            self.hold(message, false);
            return None;
        }
        let slot = self.insert(message, false);
        self.dispatch(slot, now)
    }

    /// Adds a dead letter for another attempt.
    pub fn replay(&mut self, message: Message) {
        self.hold(message, true);
    }

    /// Redelivers requeued and due messages, until `batch` has `max` deliveries.
    pub fn redeliver(&mut self, now: Instant, max: usize, batch: &mut Vec<Delivery>) {
        self.requeue_due(now);
        while batch.len() < max {
            let Some(&key) = self.runnable.first() else { break };
            while batch.len() < max && self.runnable.contains(&key) {
                let Some(slot) = self.held.get_mut(&key).and_then(BTreeSet::pop_first) else { break };
                batch.extend(self.dispatch(slot, now));
                self.refresh(key);
            }
        }
    }

    /// Removes a message in flight; `None` if the receipt is void.
    pub fn remove(&mut self, receipt: Receipt) -> Option<Message> {
        self.in_flight(receipt)?;
        self.entries.remove(&receipt.slot).map(|entry| entry.message)
    }

    /// Whether the receipt is valid: its message is in flight.
    #[must_use]
    pub fn holds(&self, receipt: Receipt) -> bool {
        self.in_flight(receipt).is_some()
    }

    /// Restarts the ack-wait; does nothing if the receipt is void.
    pub fn extend(&mut self, receipt: Receipt, now: Instant) {
        if self.holds(receipt)
            && let Some(entry) = self.entries.get_mut(&receipt.slot)
        {
            entry.state = EntryState::InFlight { until: now + self.ack_wait };
        }
    }

    /// Requeues a message, and the later ones of its key, for redelivery from `not_before` on; does nothing if the receipt is void.
    pub fn retry(&mut self, receipt: Receipt, not_before: Instant) {
        if self.holds(receipt) {
            self.requeue(receipt.slot, Some(not_before));
        }
    }

    /// Requeues everything in flight: the consumer is gone.
    pub fn requeue_all(&mut self) {
        for slot in self.slots_in_flight(|_| true) {
            self.requeue(slot, None);
        }
    }

    fn insert(&mut self, message: Message, replayed: bool) -> u64 {
        let slot = self.next_slot;
        self.next_slot += 1;
        let state = EntryState::Held { not_before: None };
        self.entries.insert(slot, Entry { message, attempt: 0, delivery: 0, replayed, state });
        slot
    }

    fn hold(&mut self, message: Message, replayed: bool) {
        let key = message.key;
        let slot = self.insert(message, replayed);
        self.held.entry(key).or_default().insert(slot);
        self.refresh(key);
    }

    fn dispatch(&mut self, slot: u64, now: Instant) -> Option<Delivery> {
        let until = now + self.ack_wait;
        let entry = self.entries.get_mut(&slot)?;
        entry.attempt = entry.attempt.saturating_add(1);
        entry.delivery = entry.delivery.wrapping_add(1);
        entry.state = EntryState::InFlight { until };
        self.next_due = Some(self.next_due.map_or(until, |due| due.min(until)));
        Some(Delivery {
            message: entry.message.clone(),
            attempt: entry.attempt,
            replayed: entry.replayed,
            receipt: Receipt { slot, delivery: entry.delivery },
        })
    }

    fn in_flight(&self, receipt: Receipt) -> Option<&Entry> {
        self.entries
            .get(&receipt.slot)
            .filter(|entry| entry.delivery == receipt.delivery && matches!(entry.state, EntryState::InFlight { .. }))
    }

    fn slots_in_flight(&self, wanted: impl Fn(Instant) -> bool) -> Vec<u64> {
        let wanted = |entry: &Entry| matches!(entry.state, EntryState::InFlight { until } if wanted(until));
        self.entries.iter().filter(|(_, entry)| wanted(entry)).map(|(&slot, _)| slot).collect()
    }

    fn requeue(&mut self, slot: u64, not_before: Option<Instant>) {
        let Some(key) = self.entries.get(&slot).map(|entry| entry.message.key) else { return };
        let held = self.held.entry(key).or_default();
        for (&later, entry) in self.entries.range_mut(slot..) {
            if entry.message.key != key || !matches!(entry.state, EntryState::InFlight { .. }) {
                continue;
            }
            if later == slot {
                entry.state = EntryState::Held { not_before };
            } else {
                entry.state = EntryState::Held { not_before: None };
                // It was not attempted: the next delivery is the same attempt.
                entry.attempt -= 1;
            }
            held.insert(later);
        }
        if let Some(at) = not_before {
            self.next_due = Some(self.next_due.map_or(at, |due| due.min(at)));
        }
        self.refresh(key);
    }

    /// Requeues messages whose ack-wait has ended and ends delays that are over.
    ///
    /// Scans the whole window, which is bounded, and only when a message may be due: once an ack-wait, and once for each retry.
    fn requeue_due(&mut self, now: Instant) {
        if self.next_due.is_none_or(|due| now < due) {
            return;
        }
        for slot in self.slots_in_flight(|until| until <= now) {
            self.requeue(slot, None);
        }
        let mut next_due = None;
        let mut over = Vec::new();
        for entry in self.entries.values_mut() {
            let due = match entry.state {
                EntryState::InFlight { until } => until,
                EntryState::Held { not_before: None } => continue,
                EntryState::Held { not_before: Some(at) } if at <= now => {
                    entry.state = EntryState::Held { not_before: None };
                    over.push(entry.message.key);
                    continue;
                }
                EntryState::Held { not_before: Some(at) } => at,
            };
            next_due = Some(next_due.map_or(due, |earliest: Instant| earliest.min(due)));
        }
        self.next_due = next_due;
        for key in over {
            self.refresh(key);
        }
    }

    /// Updates `held` and `runnable` for the first held message of `key`.
    fn refresh(&mut self, key: u64) {
        let first = self.held.get(&key).and_then(BTreeSet::first);
        let ready = first.is_some_and(|slot| {
            self.entries.get(slot).is_some_and(|entry| matches!(entry.state, EntryState::Held { not_before: None }))
        });
        if first.is_none() {
            self.held.remove(&key);
        }
        if ready {
            self.runnable.insert(key);
        } else {
            self.runnable.remove(&key);
        }
    }
}
