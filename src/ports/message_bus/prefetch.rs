//! The common part of the consumers of brokers: a task prefetches messages, and callers take them from here.
//!
//! A caller that drops its wait loses nothing, since the task owns the calls to the broker. The window bounds the prefetched messages: a consumer that
//! acknowledges nothing gets nothing more.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::{Instant, sleep_until},
};

use super::{BusError, Delivery, DeliveryWindow, EventId, Message, Receipt};

/// A message read from the broker.
#[derive(Debug)]
pub struct Prefetched<L> {
    /// Identifies the message at the broker, for its acknowledgement.
    pub location: L,
    /// The message.
    pub message: Message,
    /// Whether it is a replayed dead letter.
    pub is_replayed: bool,
}

/// The prefetched and the unacknowledged messages of one consumer; `L` locates a message at the broker.
#[derive(Debug)]
pub struct PrefetchBuffer<L> {
    state: Mutex<BufferState<L>>,
    /// Notified when there may be messages for a caller.
    ready: Notify,
    /// Notified when there may be room for more messages.
    room: Notify,
}

#[derive(Debug)]
struct BufferState<L> {
    window: DeliveryWindow,
    /// Not in the window yet.
    prefetched: VecDeque<Prefetched<L>>,
    /// The locations of the messages in the window, by event: one for each time that it was published.
    locations: HashMap<EventId, VecDeque<L>>,
    failure: Option<BusError>,
    is_replaced: bool,
}

impl<L> BufferState<L> {
    /// The ready messages, up to `max`.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let now = Instant::now();
        let mut batch = Vec::new();
        self.window.redeliver(now, max, &mut batch);
        while batch.len() < max {
            let Some(Prefetched { location, message, is_replayed }) = self.prefetched.pop_front() else { break };
            self.locations.entry(message.event_id()).or_default().push_back(location);
            if is_replayed {
                self.window.replay(message);
                self.window.redeliver(now, max, &mut batch);
            } else {
                batch.extend(self.window.deliver(message, now));
            }
        }
        batch
    }

    /// Takes a processed message out of the window. Returns its location; `None` if the receipt is void.
    fn finish(&mut self, receipt: Receipt) -> Option<L> {
        let event = self.window.remove(receipt)?.event_id();
        let locations = self.locations.get_mut(&event)?;
        let location = locations.pop_front();
        if locations.is_empty() {
            self.locations.remove(&event);
        }
        location
    }
}

impl<L> PrefetchBuffer<L> {
    /// An empty buffer for up to `capacity` messages, whose deliveries are repeated after `ack_wait`.
    #[must_use]
    pub fn new(ack_wait: Duration, capacity: usize) -> Self {
        let state = BufferState {
            window: DeliveryWindow::new(ack_wait, capacity),
            prefetched: VecDeque::new(),
            locations: HashMap::new(),
            failure: None,
            is_replaced: false,
        };
        Self { state: Mutex::new(state), ready: Notify::new(), room: Notify::new() }
    }

    /// How many more messages fit.
    #[must_use]
    pub fn room(&self) -> usize {
        let state = self.state.lock();
        state.window.room().saturating_sub(state.prefetched.len())
    }

    /// Completes when there may be more room. It is notified from its creation on, even before it is awaited: create it before calling
    /// [`PrefetchBuffer::room`].
    pub fn more_room(&self) -> Notified<'_> {
        self.room.notified()
    }

    /// Notifies the prefetching task that there may be more room.
    pub fn notify_room(&self) {
        self.room.notify_waiters();
    }

    /// Adds messages, in order, and notifies the callers that wait for some.
    pub fn extend_with(&self, messages: impl IntoIterator<Item = Prefetched<L>>) {
        let is_longer = {
            let prefetched = &mut self.state.lock().prefetched;
            let before = prefetched.len();
            prefetched.extend(messages);
            prefetched.len() > before
        };
        if is_longer {
            self.ready.notify_waiters();
        }
    }

    /// Reports a failure of the prefetching task to one caller; one that is not transient ends the consumer. Returns whether it does.
    pub fn fail(&self, error: BusError) -> bool {
        let is_over = !error.is_transient();
        {
            let mut state = self.state.lock();
            state.is_replaced |= is_over;
            state.failure = Some(error);
        }
        self.ready.notify_waiters();
        is_over
    }

    /// Calls `work` for a caller.
    ///
    /// # Errors
    /// [`BusError::Replaced`] if the consumer has ended.
    fn live<T>(&self, work: impl FnOnce(&mut BufferState<L>) -> T) -> Result<T, BusError> {
        let mut state = self.state.lock();
        if state.is_replaced { Err(BusError::Replaced) } else { Ok(work(&mut state)) }
    }

    /// Waits for messages; returns up to `max` of them, and at least one.
    ///
    /// # Errors
    /// Each failure of the task once, while there are no messages; [`BusError::Replaced`] always.
    pub async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            // Created before the check: it is notified from its creation on, even before it is awaited.
            let ready = self.ready.notified();
            let (batch, failure, next_due) = self.live(|state| {
                let batch = state.take(max.max(1));
                // Reported once; the task keeps retrying.
                let failure = if batch.is_empty() { state.failure.take() } else { None };
                (batch, failure, state.window.next_due())
            })?;
            match (batch.is_empty(), failure) {
                (false, _) => return Ok(batch),
                (true, Some(failure)) => return Err(failure),
                (true, None) => {}
            }
            match next_due {
                Some(due) => {
                    tokio::select! {
                        () = ready => {}
                        () = sleep_until(due) => {}
                    }
                }
                None => ready.await,
            }
        }
    }

    /// Takes processed messages out of the window; returns their locations. Void receipts are ignored.
    ///
    /// # Errors
    /// [`BusError::Replaced`].
    pub fn finish_all(&self, receipts: &[Receipt]) -> Result<Vec<L>, BusError> {
        self.live(|state| receipts.iter().filter_map(|&receipt| state.finish(receipt)).collect())
    }

    /// Takes out a message that is now a dead letter, even if the consumer has ended; returns its location, `None` if the receipt is void. The next
    /// message of its key can be delivered.
    pub fn finish(&self, receipt: Receipt) -> Option<L> {
        let location = self.state.lock().finish(receipt);
        self.ready.notify_waiters();
        location
    }

    /// Restarts the ack-waits.
    ///
    /// # Errors
    /// [`BusError::Replaced`].
    pub fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.live(|state| {
            let now = Instant::now();
            receipts.iter().for_each(|&receipt| state.window.extend(receipt, now));
        })
    }

    /// Requeues a message for redelivery after `after`.
    ///
    /// # Errors
    /// [`BusError::Replaced`].
    pub fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        let now = Instant::now();
        // A delay beyond the end of time must not panic.
        let not_before = now.checked_add(after).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        self.live(|state| state.window.retry(receipt, not_before))?;
        self.ready.notify_waiters();
        Ok(())
    }
}

impl<L: Clone> PrefetchBuffer<L> {
    /// Restarts the ack-wait of a message that is to become a dead letter, so that it is not redelivered in the meantime. Returns its location;
    /// `None` if the receipt is void.
    ///
    /// # Errors
    /// [`BusError::Replaced`].
    pub fn hold(&self, delivery: &Delivery) -> Result<Option<L>, BusError> {
        self.live(|state| {
            if !state.window.holds(delivery.receipt) {
                return None;
            }
            state.window.extend(delivery.receipt, Instant::now());
            state.locations.get(&delivery.message.event_id()).and_then(|locations| locations.front().cloned())
        })
    }
}

/// Runs `work` to completion even if the caller is dropped.
///
/// # Errors
/// Those of `work`; [`BusError::Unavailable`] if it panics.
pub async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, BusError>> + Send + 'static,
) -> Result<T, BusError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(BusError::Unavailable(error.to_string())))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use bytes::Bytes;
    use futures_util::FutureExt as _;

    use super::*;

    const ACK_WAIT: Duration = Duration::from_secs(30);

    fn message(key: u64, location: &'static str) -> Prefetched<&'static str> {
        let message = Message { key, sequence: 1, position: key, kind: Cow::Borrowed("x"), payload: Bytes::new() };
        Prefetched { location, message, is_replayed: false }
    }

    fn filled(messages: impl IntoIterator<Item = Prefetched<&'static str>>) -> PrefetchBuffer<&'static str> {
        let buffer = PrefetchBuffer::new(ACK_WAIT, 4);
        buffer.extend_with(messages);
        buffer
    }

    #[tokio::test(start_paused = true)]
    async fn prefetched_and_unacknowledged_messages_take_the_room_until_they_are_finished() {
        let buffer = filled([message(1, "a"), message(2, "b"), message(3, "c")]);
        assert_eq!(buffer.room(), 1);
        let batch = buffer.next_batch(2).await.unwrap();
        assert_eq!((batch.len(), buffer.room()), (2, 1), "delivered ones as well");
        assert_eq!(buffer.finish_all(&[batch[0].receipt]), Ok(vec!["a"]));
        assert_eq!(buffer.finish_all(&[batch[0].receipt]), Ok(Vec::new()), "a void receipt");
        assert_eq!(buffer.room(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_was_published_twice_has_two_locations_in_order() {
        let buffer = filled([message(1, "first"), message(1, "second")]);
        let mut finished = Vec::new();
        while finished.len() < 2 {
            let batch = buffer.next_batch(2).await.unwrap();
            let receipts: Vec<_> = batch.iter().map(|delivery| delivery.receipt).collect();
            finished.extend(buffer.finish_all(&receipts).unwrap());
        }
        assert_eq!(finished, ["first", "second"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_drops_its_wait_loses_nothing_and_messages_wake_the_next_one() {
        let buffer = filled([]);
        assert!(buffer.next_batch(1).now_or_never().is_none());
        let (batch, ()) = tokio::join!(buffer.next_batch(1), async { buffer.extend_with([message(1, "a")]) });
        assert_eq!(batch.unwrap().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_reported_once_and_a_replacement_always() {
        let buffer = filled([message(1, "a")]);
        assert!(!buffer.fail(BusError::Unavailable("gone".to_owned())), "it continues");
        let held = buffer.next_batch(1).await.unwrap();
        assert_eq!(
            buffer.next_batch(1).await.unwrap_err(),
            BusError::Unavailable("gone".to_owned()),
            "after the messages"
        );
        assert!(buffer.next_batch(1).now_or_never().is_none(), "once");
        assert!(buffer.fail(BusError::Replaced));
        for _ in 0..2 {
            assert_eq!(buffer.next_batch(1).await.unwrap_err(), BusError::Replaced);
            assert_eq!(buffer.finish_all(&[held[0].receipt]), Err(BusError::Replaced));
            assert_eq!(buffer.hold(&held[0]), Err(BusError::Replaced));
        }
        assert_eq!(
            buffer.finish(held[0].receipt),
            Some("a"),
            "a dead letter that was written is finished nevertheless"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_not_redelivered_while_it_becomes_a_dead_letter() {
        let buffer = filled([message(1, "a")]);
        let delivery = buffer.next_batch(1).await.unwrap().remove(0);
        tokio::time::sleep(ACK_WAIT - Duration::from_secs(1)).await;
        assert_eq!(buffer.hold(&delivery), Ok(Some("a")));
        tokio::time::sleep(ACK_WAIT - Duration::from_secs(1)).await;
        assert!(buffer.next_batch(1).now_or_never().is_none(), "held");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(buffer.next_batch(1).await.unwrap()[0].attempt, 2);
        assert_eq!(buffer.hold(&delivery), Ok(None), "its receipt is void");
    }
}
