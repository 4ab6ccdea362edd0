//! The message bus in one queue.
//!
//! The queue holds messages that have not been delivered to all consumers. Delivered but unacknowledged messages are in the consumer's
//! [`DeliveryWindow`]. Both are bounded: a consumer whose window is full gets nothing more, so the queue fills up, so publishers wait.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::ports::{
    checkpoint_store::is_valid_name,
    message_bus::{
        BusError, Consumer, DeadLetter, Delivery, DeliveryWindow, EventId, MAX_DEAD_LETTERS, Message, MessageBus,
        Receipt, VolatileMessages, bounded_reason,
    },
};

/// The bounds of a [`MemoryMessageBus`]. All at least 1.
#[derive(Clone, Copy, Debug)]
pub struct MemoryBusOptions {
    /// How many messages the queue holds.
    pub capacity_messages: usize,
    /// How many payload bytes the queue holds; one message is always accepted, whatever its size.
    pub capacity_bytes: usize,
    /// How many messages a consumer may hold unacknowledged.
    pub max_unacked: usize,
    /// The time after which they are redelivered.
    pub ack_wait: Duration,
    /// How many dead letters a consumer may have.
    pub max_dead_letters: usize,
}

impl Default for MemoryBusOptions {
    fn default() -> Self {
        Self {
            capacity_messages: 65_536,
            capacity_bytes: 256 * 1024 * 1024,
            max_unacked: 8_192,
            ack_wait: Duration::from_secs(30),
            max_dead_letters: MAX_DEAD_LETTERS,
        }
    }
}

/// A bus among the tasks of one process. With no consumer registered, messages beyond its capacity push the oldest ones out.
#[derive(Debug)]
pub struct MemoryMessageBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: MemoryBusOptions,
    state: Mutex<BusState>,
    /// Notified when a consumer may have messages ready.
    arrived: Notify,
    /// Notified when the queue may have room again.
    room: Notify,
}

#[derive(Debug, Default)]
struct BusState {
    queue: VecDeque<Message>,
    queue_bytes: usize,
    /// The number of the first message in the queue; messages are numbered in the order of publication.
    first: u64,
    consumers: HashMap<String, Cursor>,
    /// By consumer; they are kept after its removal.
    dead_letters: HashMap<String, VecDeque<DeadLetter>>,
}

#[derive(Debug)]
struct Cursor {
    /// Identifies the live handle.
    epoch: u64,
    /// The number of the first message that has not entered the window.
    next: u64,
    window: DeliveryWindow,
}

impl MemoryMessageBus {
    /// An empty bus.
    #[must_use]
    pub fn new(options: MemoryBusOptions) -> Self {
        let state = Mutex::default();
        Self { shared: Arc::new(Shared { options, state, arrived: Notify::new(), room: Notify::new() }) }
    }
}

impl Default for MemoryMessageBus {
    fn default() -> Self {
        Self::new(MemoryBusOptions::default())
    }
}

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut BusState) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Takes messages from the front of `messages` while there is room; returns how many.
    fn accept(&self, messages: &[Message]) -> usize {
        let accepted = self.with(|state| {
            let taken = messages.iter().take_while(|message| state.push(message, &self.options)).count();
            if state.consumers.is_empty() {
                state.drop_oldest(&self.options);
            }
            taken
        });
        if accepted > 0 {
            self.arrived.notify_waiters();
        }
        accepted
    }
}

impl BusState {
    /// The number after the last message.
    fn end(&self) -> u64 {
        self.first + self.queue.len() as u64
    }

    fn is_full(&self, options: &MemoryBusOptions) -> bool {
        self.queue.len() >= options.capacity_messages || self.queue_bytes >= options.capacity_bytes
    }

    /// Appends `message` unless a consumer keeps the queue full.
    fn push(&mut self, message: &Message, options: &MemoryBusOptions) -> bool {
        if self.is_full(options) {
            if !self.consumers.is_empty() {
                return false;
            }
            self.pop();
        }
        self.queue_bytes += message.payload.len();
        self.queue.push_back(message.clone());
        true
    }

    fn pop(&mut self) {
        if let Some(message) = self.queue.pop_front() {
            self.queue_bytes -= message.payload.len();
            self.first += 1;
        }
    }

    /// Enforces the bounds by dropping the oldest messages, which no consumer waits for.
    fn drop_oldest(&mut self, options: &MemoryBusOptions) {
        while self.queue.len() > 1 && self.queue_bytes > options.capacity_bytes {
            self.pop();
        }
    }

    /// Frees messages that every consumer has in its window or behind it; returns whether that made room.
    fn free(&mut self) -> bool {
        let first = self.first;
        let Some(needed_from) = self.consumers.values().map(|cursor| cursor.next).min() else { return false };
        while self.first < needed_from && !self.queue.is_empty() {
            self.pop();
        }
        self.first > first
    }

    /// The position of the oldest message that the consumer `name` has not acknowledged.
    fn unacknowledged_from(&self, name: &str) -> VolatileMessages {
        let Some(cursor) = self.consumers.get(name) else { return VolatileMessages::NoConsumer };
        // Messages in the window precede those still in the queue, and the queue holds everything from the lowest cursor on.
        let queued = || self.queue.get(usize::try_from(cursor.next - self.first).ok()?);
        cursor
            .window
            .oldest()
            .or_else(queued)
            .map_or(VolatileMessages::Nothing, |message| VolatileMessages::From(message.position))
    }

    /// The ready messages for `cursor`, up to `max`.
    fn take(&mut self, name: &str, epoch: u64, max: usize) -> Result<Taken, BusError> {
        let now = Instant::now();
        let (first, end) = (self.first, self.end());
        let cursor = cursor(&mut self.consumers, name, epoch)?;
        let mut batch = Vec::new();
        cursor.window.redeliver(now, max, &mut batch);
        let news = usize::try_from(end - cursor.next).unwrap_or(usize::MAX);
        batch.reserve(news.min(max - batch.len()));
        while batch.len() < max && cursor.next < end && cursor.window.room() > 0 {
            // The queue holds everything from the lowest cursor on, and memory limits its length.
            let message = self.queue[(cursor.next - first) as usize].clone();
            cursor.next += 1;
            batch.extend(cursor.window.deliver(message, now));
        }
        let next_due = cursor.window.next_due();
        Ok(Taken { batch, next_due, made_room: self.free() })
    }
}

/// The result of [`BusState::take`].
struct Taken {
    batch: Vec<Delivery>,
    next_due: Option<Instant>,
    made_room: bool,
}

/// The cursor of `name`, if the handle with `epoch` is still the live one.
fn cursor<'a>(consumers: &'a mut HashMap<String, Cursor>, name: &str, epoch: u64) -> Result<&'a mut Cursor, BusError> {
    consumers.get_mut(name).filter(|cursor| cursor.epoch == epoch).ok_or(BusError::Replaced)
}

/// Removes those of `events` from `letters`, the oldest first.
fn extract(letters: &mut VecDeque<DeadLetter>, events: &[EventId]) -> VecDeque<DeadLetter> {
    let events: HashSet<&EventId> = events.iter().collect();
    let (taken, kept) = letters.drain(..).partition(|letter: &DeadLetter| events.contains(&letter.message.event_id()));
    *letters = kept;
    taken
}

#[async_trait]
impl MessageBus for MemoryMessageBus {
    fn kind(&self) -> &'static str {
        "inmemory"
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        let mut rest = &messages[self.shared.accept(messages)..];
        while !rest.is_empty() {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let room = self.shared.room.notified();
            rest = &rest[self.shared.accept(rest)..];
            if !rest.is_empty() {
                room.await;
            }
        }
        Ok(())
    }

    fn oldest_unpersisted(&self, consumers: &[String]) -> VolatileMessages {
        let of_each =
            |state: &mut BusState| consumers.iter().map(|name| state.unacknowledged_from(name)).collect::<Vec<_>>();
        self.shared.with(of_each).into_iter().fold(VolatileMessages::Nothing, |sum, one| match (sum, one) {
            (VolatileMessages::NoConsumer, _) | (_, VolatileMessages::NoConsumer) => VolatileMessages::NoConsumer,
            (VolatileMessages::From(a), VolatileMessages::From(b)) => VolatileMessages::From(a.min(b)),
            (VolatileMessages::Nothing, other) | (other, VolatileMessages::Nothing) => other,
        })
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        if !is_valid_name(name) {
            return Err(BusError::InvalidName);
        }
        let options = &self.shared.options;
        let epoch = self.shared.with(|state| {
            let first = state.first;
            let cursor = state.consumers.entry(name.to_owned()).or_insert_with(|| Cursor {
                // Not 0: a handle from before a removal must not become valid again.
                epoch: fastrand::u64(..),
                next: first,
                window: DeliveryWindow::new(options.ack_wait, options.max_unacked),
            });
            cursor.window.requeue_all();
            cursor.epoch = cursor.epoch.wrapping_add(1);
            cursor.epoch
        });
        self.shared.arrived.notify_waiters();
        Ok(Box::new(MemoryConsumer { shared: self.shared.clone(), name: name.to_owned(), epoch }))
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        self.shared.with(|state| {
            state.consumers.remove(name);
            state.free();
        });
        self.shared.room.notify_waiters();
        self.shared.arrived.notify_waiters();
        Ok(())
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        let letters = |state: &mut BusState| -> Vec<_> {
            state.dead_letters.get(name).into_iter().flatten().take(max).cloned().collect()
        };
        Ok(self.shared.with(letters))
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        let replayed = self.shared.with(|state| {
            let cursor = state.consumers.get_mut(name).ok_or(BusError::UnknownConsumer)?;
            let letters = state.dead_letters.get_mut(name).map(|letters| extract(letters, events)).unwrap_or_default();
            let count = letters.len();
            for letter in letters {
                cursor.window.replay(letter.message);
            }
            Ok(count)
        });
        self.shared.arrived.notify_waiters();
        replayed
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        Ok(self.shared.with(|state| match state.dead_letters.get_mut(name) {
            Some(letters) => extract(letters, events).len(),
            None => 0,
        }))
    }

    async fn check(&self) -> Result<(), BusError> {
        self.shared.with(|state| {
            if !state.is_full(&self.shared.options) {
                return Ok(());
            }
            match state.consumers.iter().min_by_key(|(_, cursor)| cursor.next) {
                Some((name, _)) => {
                    Err(BusError::Unavailable(format!("the queue is full and waits for the consumer {name}")))
                }
                None => Ok(()),
            }
        })
    }
}

#[derive(Debug)]
struct MemoryConsumer {
    shared: Arc<Shared>,
    name: String,
    epoch: u64,
}

impl MemoryConsumer {
    /// Runs `work` on the window; a change there may make messages ready, or room for more.
    fn with_window<T>(&self, work: impl FnOnce(&mut DeliveryWindow) -> T) -> Result<T, BusError> {
        let done = self.shared.with(|state| {
            cursor(&mut state.consumers, &self.name, self.epoch).map(|cursor| work(&mut cursor.window))
        })?;
        self.shared.arrived.notify_waiters();
        Ok(done)
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    fn ack_wait(&self) -> Duration {
        self.shared.options.ack_wait
    }

    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let arrived = self.shared.arrived.notified();
            let taken = self.shared.with(|state| state.take(&self.name, self.epoch, max.max(1)))?;
            if taken.made_room {
                self.shared.room.notify_waiters();
            }
            if !taken.batch.is_empty() {
                return Ok(taken.batch);
            }
            match taken.next_due {
                Some(due) => {
                    tokio::select! {
                        () = arrived => {}
                        () = sleep_until(due) => {}
                    }
                }
                None => arrived.await,
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.with_window(|window| {
            for &receipt in receipts {
                window.remove(receipt);
            }
        })
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.with_window(|window| {
            let now = Instant::now();
            for &receipt in receipts {
                window.extend(receipt, now);
            }
        })
    }

    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        let now = Instant::now();
        // A delay beyond the end of time must not panic.
        let not_before = now.checked_add(after).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        self.with_window(|window| window.retry(receipt, not_before))
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let capacity = self.shared.options.max_dead_letters;
        self.shared.with(|state| {
            let cursor = cursor(&mut state.consumers, &self.name, self.epoch)?;
            if !cursor.window.holds(delivery.receipt) {
                return Ok(());
            }
            let letters = state.dead_letters.entry(self.name.clone()).or_default();
            let event = delivery.message.event_id();
            letters.retain(|letter| letter.message.event_id() != event);
            if letters.len() >= capacity {
                return Err(BusError::DeadLettersFull { capacity });
            }
            cursor.window.remove(delivery.receipt);
            letters.push_back(DeadLetter {
                message: delivery.message.clone(),
                reason: bounded_reason(reason),
                attempts: delivery.attempt,
                at: SystemTime::now(),
            });
            Ok(())
        })?;
        self.shared.arrived.notify_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
