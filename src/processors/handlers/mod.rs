//! Event handlers: a subscription runs an [`EventHandler`] on the deliveries of the message bus.
//!
//! An event is handled at least once, and the events of one order in their order. A failed event is retried after a growing delay; meanwhile the
//! other orders continue and the later events of the same order wait. An event that fails permanently goes to the dead letters of its handler, **and
//! the later events of its order continue without it**: a handler that cannot tolerate a gap should check [`ReceivedEvent::revision`].
//!
//! A subscription remembers the last handled revisions of as many orders as [`SubscriptionOptions::remembered_orders`], and skips redelivered events.
//! The memory is in the process: after a restart an event may be handled again.
//!
//! **One node at a time** runs a handler, under the lease `subscription-<name>`; the others stand by and take over within seconds when the owner
//! stops or dies. The lease is stored on the same backend as the bus, since it guards the consumer on that bus: nodes with separate logs on one bus
//! share their handlers, too. The lease only prevents nodes from taking the consumer from each other; the bus guarantees that a name has one live
//! consumer. Unreachable backends are retried for as long as the node runs.

use std::{panic::AssertUnwindSafe, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    codec,
    ports::{
        backoff::Backoff,
        lease_store::{Lease, LeaseStore},
        message_bus::{BusError, Delivery, MessageBus},
    },
    processors::{
        leader::{Ended, Leadership, STANDBY_POLL_INTERVAL, run_as_leader},
        owners::Owners,
    },
    telemetry::{
        outage::{Away, Line, Outage},
        traces::{self, KeyValue, SpanKind, SpanScope, Traces},
    },
};

mod handler;
mod in_flight;
mod order_event_logger;
mod remembered;
mod status;
#[cfg(test)]
mod tests;

pub use handler::{EventHandler, HandlerError, ReceivedEvent, is_valid_handler_name, lease_name};
use in_flight::InFlightBatch;
pub use order_event_logger::OrderEventLogger;
use remembered::ProcessedRevisions;
pub use status::{LastError, SubscriptionState, SubscriptionStatus};

/// The maximum pause before an unreachable bus or lease store is retried.
const MAX_RECONNECT_PAUSE: Duration = Duration::from_secs(5);

/// The options of a subscription.
#[derive(Clone, Copy, Debug)]
pub struct SubscriptionOptions {
    /// The number of events fetched and acknowledged at once; at least 1.
    pub batch_size: usize,
    /// The number of failed attempts after which an event goes to the dead letters; at least 1.
    pub max_attempts: u32,
    /// The delays before an event is handled again, and before a failed bus is retried.
    pub backoff: Backoff,
    /// The time limit of a handler for one event, capped at half of the bus's ack-wait.
    pub handler_timeout: Duration,
    /// The minimum number of orders whose last revisions are remembered; at least 1. About 200 bytes each.
    pub remembered_orders: usize,
}

impl Default for SubscriptionOptions {
    fn default() -> Self {
        Self {
            batch_size: 256,
            max_attempts: 8,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(30)),
            handler_timeout: Duration::from_secs(10),
            remembered_orders: 65_536,
        }
    }
}

/// The dependencies of a subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionDeps {
    /// The source of events.
    pub bus: Arc<dyn MessageBus>,
    /// The leases for handlers, shared by all nodes that use the bus.
    pub leases: Arc<dyn LeaseStore>,
    /// The name of this node, for the lease.
    pub node: String,
    /// Records which node runs each handler.
    pub owners: Arc<Owners>,
}

/// One handler on the bus.
pub struct Subscription {
    parts: SubscriptionDeps,
    handler: Arc<dyn EventHandler>,
    options: SubscriptionOptions,
    status: Arc<SubscriptionStatus>,
    remembered: Mutex<ProcessedRevisions>,
    traces: Traces,
}

/// Whether to continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Stop,
}

/// Records the end of a subscription, however it ends.
struct StoppedGuard(Arc<SubscriptionStatus>);

impl Drop for StoppedGuard {
    fn drop(&mut self) {
        self.0.set_state(SubscriptionState::Ended);
    }
}

impl Subscription {
    /// A subscription, inactive until [`run`](Self::run).
    #[must_use]
    pub fn new(parts: SubscriptionDeps, handler: Arc<dyn EventHandler>, options: SubscriptionOptions) -> Self {
        let remembered = Mutex::new(ProcessedRevisions::new(options.remembered_orders));
        let status = Arc::new(SubscriptionStatus::of(handler.name()));
        Self { parts, handler, options, status, remembered, traces: Traces::off() }
    }

    /// Makes the spans of handling.
    #[must_use]
    pub fn traced(self, traces: Traces) -> Self {
        Self { traces, ..self }
    }

    /// Its status; it stays readable after its end.
    #[must_use]
    pub fn status(&self) -> Arc<SubscriptionStatus> {
        self.status.clone()
    }

    /// Handles events while no other node does, until `stop` is cancelled; the event in progress is finished first. After an error of the bus or of
    /// the lease store it tries again.
    pub async fn run(&self, stop: CancellationToken) {
        let _ended = StoppedGuard(self.status());
        let bus = Arc::clone(&self.parts.bus);
        let outage = Outage::while_not(Away::new(move || bus.known_outage())).whatever_the_cause();
        let mut failures = 0;
        loop {
            let received_before = self.status.received();
            if stop.is_cancelled() {
                return;
            }
            let work = async |_: &Lease, lost: CancellationToken| self.receive_under(&stop, &lost).await;
            let name = lease_name(self.handler.name());
            let SubscriptionDeps { leases, node, owners, .. } = &self.parts;
            let pause = match run_as_leader(&**leases, &name, node, owners, work).await {
                Leadership::Ended(Ok(())) => return,
                Leadership::Standby(leader) => {
                    failures = 0;
                    outage.works();
                    self.status.set_state(SubscriptionState::StandingBy(leader));
                    STANDBY_POLL_INTERVAL
                }
                Leadership::Ended(Err(error)) => {
                    // A connection that worked for a while restarts with a short delay.
                    failures = if self.status.received() > received_before { 1 } else { failures + 1 };
                    self.failed(format!("message bus: {error}"), failures, &outage)
                }
                Leadership::Failed(reason) | Leadership::Lost(reason) => {
                    failures = if self.status.received() > received_before { 1 } else { failures + 1 };
                    self.failed(reason, failures, &outage)
                }
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Reports the last of `failures` consecutive failures; returns the pause before the next attempt.
    fn failed(&self, reason: String, failures: u32, outage: &Outage) -> Duration {
        if failures == 1 {
            outage.works();
        }
        if let Some(Line { unsaid }) = outage.failed(&reason) {
            let handler = self.handler.name();
            tracing::warn!(handler, reason, unsaid, "the subscription failed and will be retried");
        }
        self.status.failed(reason.clone());
        self.status.set_state(SubscriptionState::Failing(reason));
        self.options.backoff.after(failures).min(MAX_RECONNECT_PAUSE)
    }

    /// Receives until `stop`, an error, or the loss of the lease.
    async fn receive_under(&self, stop: &CancellationToken, lost: &CancellationToken) -> Ended<Result<(), BusError>> {
        let own_stop = stop.child_token();
        let mut receiving = pin!(self.receive(&own_stop));
        let outcome = tokio::select! {
            received = &mut receiving => received,
            () = lost.cancelled() => {
                own_stop.cancel();
                // The current event is finished: the next leader may already handle it, too, since handling is at least once.
                receiving.await
            }
        };
        Ended { outcome, releases: true }
    }

    fn remembered(&self) -> MutexGuard<'_, ProcessedRevisions> {
        self.remembered.lock()
    }

    /// Receives from one consumer until `stop` or an error. Unacknowledged events are redelivered, and remembered.
    async fn receive(&self, stop: &CancellationToken) -> Result<(), BusError> {
        let handler = self.handler.clone();
        let bus = Arc::clone(&self.parts.bus);
        let Some(consumer) = stop.run_until_cancelled(bus.consumer(handler.name())).await.transpose()? else {
            return Ok(());
        };
        self.status.set_state(SubscriptionState::Active);
        loop {
            let next_batch = consumer.next_batch(self.options.batch_size);
            let Some(batch) = stop.run_until_cancelled(next_batch).await.transpose()? else {
                return Ok(());
            };
            self.status.add_received(batch.len());
            let mut in_flight = InFlightBatch::new(&*consumer, &batch);
            let next = self.handle_batch(&mut in_flight, &batch, stop).await?;
            in_flight.ack_done().await?;
            if next == Next::Stop {
                return Ok(());
            }
        }
    }

    async fn handle_batch(
        &self,
        in_flight: &mut InFlightBatch<'_>,
        batch: &[Delivery],
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        for (index, delivery) in batch.iter().enumerate() {
            if stop.is_cancelled() {
                return Ok(Next::Stop);
            }
            if in_flight.is_requeued(delivery) {
                continue;
            }
            in_flight.extend(index).await?;
            if !delivery.replayed && self.remembered().covers(&delivery.message) {
                self.status.add_deduplicated();
                in_flight.done.push(delivery.receipt);
            } else if self.handle(in_flight, index, stop).await? == Next::Stop {
                return Ok(Next::Stop);
            }
        }
        Ok(Next::Continue)
    }

    /// Handles one delivery and processes the outcome.
    async fn handle(
        &self,
        in_flight: &mut InFlightBatch<'_>,
        index: usize,
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        let delivery = &in_flight.batch[index];
        let error = match self.call(delivery, in_flight.consumer.ack_wait() / 2).await {
            Ok(()) => {
                self.status.add_handled();
                self.remembered().insert(&delivery.message);
                in_flight.done.push(delivery.receipt);
                return Ok(Next::Continue);
            }
            Err(error) => error,
        };
        let event_id = delivery.message.event_id();
        self.status.failed(format!("event {event_id}: {}", error.reason()));
        if matches!(error, HandlerError::Retry(_)) && delivery.attempt < self.options.max_attempts {
            let delay = self.options.backoff.after(delivery.attempt);
            tracing::debug!(handler = self.handler.name(), %event_id, reason = error.reason(), ?delay, "an event will be redelivered");
            in_flight.retry(delivery, delay).await?;
            self.status.add_retried();
            return Ok(Next::Continue);
        }
        tracing::warn!(handler = self.handler.name(), %event_id, reason = error.reason(), "event becomes a dead letter");
        self.give_up(in_flight, index, error.reason(), stop).await
    }

    /// The span of handling an event, linked to the command that caused it.
    fn span(&self, delivery: &Delivery) -> Option<SpanScope> {
        if !self.traces.is_on() {
            return None;
        }
        let message = &delivery.message;
        let cause = codec::sampled_cause(&message.payload)?;
        let span = self.traces.linked(SpanKind::Consumer, "process", std::iter::once(cause))?;
        span.describe(
            format!("process {}", self.handler.name()),
            [
                KeyValue::new("messaging.system", self.parts.bus.kind()),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.consumer.group.name", self.handler.name().to_owned()),
                KeyValue::new("messaging.message.id", message.event_id().to_string()),
                KeyValue::new("ordersystem.event.kind", message.kind.clone().into_owned()),
                KeyValue::new("ordersystem.attempt", i64::from(delivery.attempt)),
            ],
        );
        Some(span)
    }

    /// Calls the handler in its span.
    async fn call(&self, delivery: &Delivery, longest: Duration) -> Result<(), HandlerError> {
        traces::within(self.span(delivery), self.call_limited(delivery, longest), |span, handled| match handled {
            Ok(()) => {}
            Err(HandlerError::Retry(_)) => span.fail("retry"),
            Err(HandlerError::Reject(_)) => span.fail("reject"),
        })
        .await
    }

    /// Calls the handler with a time limit; a panic becomes an error.
    async fn call_limited(&self, delivery: &Delivery, longest: Duration) -> Result<(), HandlerError> {
        let event =
            ReceivedEvent { message: delivery.message.clone(), attempt: delivery.attempt, replayed: delivery.replayed };
        let limit = self.options.handler_timeout.min(longest);
        // A handler that has panicked is called again: it is responsible for its own state.
        let handled = AssertUnwindSafe(async { self.handler.handle(&event).await }).catch_unwind();
        match timeout(limit, handled).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(panic)) => Err(HandlerError::Retry(format!("the handler panicked: {}", panic_message(&*panic)))),
            Err(_) => Err(HandlerError::Retry(format!("the handler took longer than {limit:?}"))),
        }
    }

    /// Moves an event to the dead letters. Where they are full it waits: nothing is dropped or overtaken.
    async fn give_up(
        &self,
        in_flight: &mut InFlightBatch<'_>,
        index: usize,
        reason: &str,
        stop: &CancellationToken,
    ) -> Result<Next, BusError> {
        let delivery = &in_flight.batch[index];
        let mut failures = 0;
        loop {
            match in_flight.consumer.dead_letter(delivery, reason).await {
                Ok(()) => break,
                Err(error @ BusError::DeadLettersFull { .. }) => self.status.failed(error.to_string()),
                Err(error) => return Err(error),
            }
            failures += 1;
            let delay = self.options.backoff.after(failures).min(in_flight.consumer.ack_wait() / 4);
            if stop.run_until_cancelled(sleep(delay)).await.is_none() {
                return Ok(Next::Stop);
            }
            in_flight.extend(index).await?;
        }
        self.status.add_dead_lettered();
        self.remembered().insert(&delivery.message);
        Ok(Next::Continue)
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
