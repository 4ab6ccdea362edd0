//! Subscriptions: run an [`EventHandler`] over what the message bus delivers.
//!
//! An event is handled at least once, and the events of one order in their order. A handler that fails is tried again after a growing
//! delay; meanwhile the other orders go on and the later events of the same order wait. An event that fails for good goes to the dead
//! letters of its handler, **and the later events of its order go on without it**: a handler that cannot live with a gap looks at
//! [`ReceivedEvent::revision`].
//!
//! A subscription remembers the last revision that it dealt with of as many orders as [`SubscriptionOptions::remembered_orders`], and
//! passes over what comes again. The memory is that of the process: after a restart an event may be handled again.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    message_bus::{BusError, Delivery, EventId, Message, MessageBus},
    proto::catga::events::v1::OrderEvent,
};

mod in_hand;
mod order_event_logger;
mod remembered;
mod status;
#[cfg(test)]
mod tests;

use in_hand::InHand;
pub use order_event_logger::OrderEventLogger;
use remembered::RememberedRevisions;
pub use status::{LastError, SubscriptionStatus};

/// What a subscriber does with an event. Handle each order's events idempotently: delivery is at least once.
#[async_trait::async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// The name of its consumer on the bus and of its dead letters; never change it. 1 to 128 ASCII letters, digits, `-` and `_`.
    fn name(&self) -> &str;

    /// Deals with one event. Dropped when it takes longer than [`SubscriptionOptions::handler_timeout`]; a panic counts as
    /// [`HandlerError::Retry`].
    ///
    /// # Errors
    /// [`HandlerError`] says what to do with the event.
    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError>;
}

/// Why an event was not dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HandlerError {
    /// Not now: try again later.
    Retry(String),
    /// Never: move it to the dead letters at once.
    Reject(String),
}

impl HandlerError {
    /// The reason, in the words of the handler.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(reason) | Self::Reject(reason) => reason,
        }
    }
}

impl From<prost::DecodeError> for HandlerError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Reject(format!("the event cannot be decoded: {error}"))
    }
}

/// An event as a handler gets it.
#[derive(Clone, Debug)]
pub struct ReceivedEvent {
    message: Message,
    attempt: u32,
    replayed: bool,
}

impl ReceivedEvent {
    /// Its stable id, written out `<order number>-<revision>`.
    #[must_use]
    pub const fn event_id(&self) -> EventId {
        self.message.event_id()
    }

    /// The order that changed.
    #[must_use]
    pub const fn order_number(&self) -> u64 {
        self.message.key
    }

    /// Its place in the history of its order: 1, 2, 3 …
    #[must_use]
    pub const fn revision(&self) -> u64 {
        self.message.sequence
    }

    /// Its place in the log.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.message.position
    }

    /// Its type, such as `order.paid`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.message.kind
    }

    /// The encoded event, exactly as the log holds it.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.message.payload
    }

    /// Which try this is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// It was a dead letter: later events of its order may have been handled before.
    #[must_use]
    pub const fn replayed(&self) -> bool {
        self.replayed
    }

    /// Decodes the payload, anew with every call.
    ///
    /// # Errors
    /// `DecodeError` if it is not an event; by `?` it becomes [`HandlerError::Reject`].
    pub fn decode(&self) -> Result<OrderEvent, prost::DecodeError> {
        OrderEvent::decode(self.message.payload.clone())
    }
}

/// How a subscription works.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionOptions {
    /// How many events are fetched and acknowledged at once; at least 1.
    pub batch_size: usize,
    /// After how many failed tries an event goes to the dead letters; at least 1.
    pub max_attempts: u32,
    /// The longest delay before the second try. It doubles with each further one; the real delay is random, between half of it and all.
    pub first_backoff: Duration,
    /// What the delay does not grow beyond, for the handler's retries and the bus's alike.
    pub max_backoff: Duration,
    /// How long a handler may take for one event. No more than half of the bus's ack-wait counts.
    pub handler_timeout: Duration,
    /// Of how many orders the last revision is remembered at least; at least 1. About 100 bytes each.
    pub remembered_orders: usize,
}

impl Default for SubscriptionOptions {
    fn default() -> Self {
        Self {
            batch_size: 256,
            max_attempts: 8,
            first_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(30),
            handler_timeout: Duration::from_secs(10),
            remembered_orders: 65_536,
        }
    }
}

impl SubscriptionOptions {
    /// The delay after `failures` failures in a row (from 1): exponential, bounded, jittered so that many do not return at once.
    fn backoff(&self, failures: u32) -> Duration {
        let doubled =
            self.first_backoff.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.max_backoff).mul_f64(0.5 + 0.5 * fastrand::f64())
    }
}

/// One handler on the bus.
pub struct Subscription {
    bus: Arc<dyn MessageBus>,
    handler: Arc<dyn EventHandler>,
    options: SubscriptionOptions,
    status: Arc<SubscriptionStatus>,
    remembered: RememberedRevisions,
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

impl Subscription {
    /// A subscription that does nothing until it is [`run`](Self::run).
    #[must_use]
    pub fn new(bus: Arc<dyn MessageBus>, handler: Arc<dyn EventHandler>, options: SubscriptionOptions) -> Self {
        let remembered = RememberedRevisions::new(options.remembered_orders);
        Self { bus, handler, options, status: Arc::default(), remembered }
    }

    /// How it is doing; stays readable after its end.
    #[must_use]
    pub fn status(&self) -> Arc<SubscriptionStatus> {
        self.status.clone()
    }

    /// Handles events until `stop` is cancelled; the event in hand is finished first. Bus errors are waited out.
    ///
    /// # Errors
    /// [`BusError::Replaced`] if another node or task has taken over the name, [`BusError::InvalidName`]: errors that no waiting mends.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BusError> {
        let mut failures = 0;
        loop {
            let received_before = self.status.received();
            let error = match self.receive(&stop).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            self.status.failed(format!("message bus: {error}"));
            if !error.is_transient() {
                tracing::error!(handler = self.handler.name(), %error, "subscription ends");
                return Err(error);
            }
            // A connection that worked for a while starts over with a short delay.
            failures = if self.status.received() > received_before { 1 } else { failures + 1 };
            let delay = self.options.backoff(failures);
            tracing::warn!(handler = self.handler.name(), %error, ?delay, "subscription connects again");
            if or_stop(&stop, sleep(delay)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Receives from one consumer until `stop` or an error. What was not acknowledged then comes again, and is remembered.
    async fn receive(&mut self, stop: &CancellationToken) -> Result<(), BusError> {
        let handler = self.handler.clone();
        let Some(consumer) = or_stop(stop, self.bus.consumer(handler.name())).await.transpose()? else {
            return Ok(());
        };
        loop {
            let next_batch = consumer.next_batch(self.options.batch_size);
            let Some(batch) = or_stop(stop, next_batch).await.transpose()? else {
                return Ok(());
            };
            self.status.add_received(batch.len());
            let mut in_hand = InHand::new(&*consumer, &batch);
            let next = self.handle_batch(&mut in_hand, &batch, stop).await?;
            in_hand.ack_done().await?;
            if next == Next::Stop {
                return Ok(());
            }
        }
    }

    async fn handle_batch(
        &mut self,
        in_hand: &mut InHand<'_>,
        batch: &[Delivery],
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        for (index, delivery) in batch.iter().enumerate() {
            if stop.is_cancelled() {
                return Ok(Next::Stop);
            }
            if in_hand.is_taken_back(delivery) {
                continue;
            }
            in_hand.keep(index).await?;
            if !delivery.replayed && self.remembered.covers(delivery.message.event_id()) {
                self.status.add_deduplicated();
                in_hand.done.push(delivery.receipt);
            } else if self.handle(in_hand, index, stop).await? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }

    /// Handles one delivery and sees to what becomes of it.
    async fn handle(
        &mut self,
        in_hand: &mut InHand<'_>,
        index: usize,
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        let delivery = &in_hand.batch[index];
        let error = match self.call(delivery, in_hand.consumer.ack_wait() / 2).await {
            Ok(()) => {
                self.status.add_handled();
                self.remembered.insert(delivery.message.event_id());
                in_hand.done.push(delivery.receipt);
                return Ok(Next::Continue);
            }
            Err(error) => error,
        };
        let event_id = delivery.message.event_id();
        self.status.failed(format!("event {event_id}: {}", error.reason()));
        if matches!(error, HandlerError::Retry(_)) && delivery.attempt < self.options.max_attempts {
            let delay = self.options.backoff(delivery.attempt);
            tracing::debug!(handler = self.handler.name(), %event_id, reason = error.reason(), ?delay, "event is retried");
            in_hand.retry(delivery, delay).await?;
            self.status.add_retried();
            return Ok(Next::Continue);
        }
        tracing::warn!(handler = self.handler.name(), %event_id, reason = error.reason(), "event becomes a dead letter");
        self.give_up(in_hand, index, error.reason(), stop).await
    }

    /// Calls the handler; whatever it does, an answer comes in time.
    async fn call(&self, delivery: &Delivery, longest: Duration) -> Result<(), HandlerError> {
        let event =
            ReceivedEvent { message: delivery.message.clone(), attempt: delivery.attempt, replayed: delivery.replayed };
        let limit = self.options.handler_timeout.min(longest);
        // A handler that has panicked is called again: whether its own state is still sound is for it to know.
        let handled = AssertUnwindSafe(async { self.handler.handle(&event).await }).catch_unwind();
        match timeout(limit, handled).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => Err(HandlerError::Retry(format!("the handler panicked: {}", panic_message(&*panic)))),
            Err(_) => Err(HandlerError::Retry(format!("the handler took longer than {limit:?}"))),
        }
    }

    /// Moves an event to the dead letters. Where they are full it waits: nothing is dropped, and nothing else gets ahead.
    async fn give_up(
        &mut self,
        in_hand: &mut InHand<'_>,
        index: usize,
        reason: &str,
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        let delivery = &in_hand.batch[index];
        let mut failures = 0;
        loop {
            match in_hand.consumer.dead_letter(delivery, reason).await {
                Ok(()) => break,
                Err(error @ BusError::DeadLettersFull { .. }) => self.status.failed(error.to_string()),
                Err(error) => return Err(error),
            }
            failures += 1;
            let delay = self.options.backoff(failures).min(in_hand.consumer.ack_wait() / 4);
            if or_stop(stop, sleep(delay)).await.is_none() {
                return Ok(Next::Stop);
            }
            in_hand.keep(index).await?;
        }
        self.status.add_dead_lettered();
        self.remembered.insert(delivery.message.event_id());
        Ok(Next::Continue)
    }
}

/// The output of `work`, or `None` if `stop` comes first; then `work` is dropped.
async fn or_stop<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        output = work => Some(output),
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
