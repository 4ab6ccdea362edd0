//! A handler that logs the events of orders.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use async_trait::async_trait;

use super::{EventHandler, HandlerError, ReceivedEvent};
use crate::{
    codec::EventHeader,
    domain::order::EventKind,
    telemetry::{
        call::LoggedOrder,
        logs::ORDER_EVENTS,
        traces::{Traces, context},
    },
};

/// The name under which events of unknown kinds are counted.
const OTHER: &str = "other";

/// Logs every event at INFO on the target `order_events`, which is off unless the filter of the log names it, and counts them by type. If it is off, an
/// event costs a few nanoseconds and is not decoded.
#[derive(Debug, Default)]
pub struct OrderEventLogger {
    counts: [AtomicU64; EventKind::ALL.len()],
    others: AtomicU64,
    undecodable: AtomicU64,
}

impl OrderEventLogger {
    /// A logger with empty counters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of events of each type, including redeliveries; all other types count as `other`.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let named = EventKind::ALL.into_iter().map(EventKind::name).zip(&self.counts);
        named.chain([(OTHER, &self.others)]).map(|(name, count)| (name, count.load(Relaxed)))
    }

    /// The number of logged events that could not be decoded.
    #[must_use]
    pub fn undecodable(&self) -> u64 {
        self.undecodable.load(Relaxed)
    }

    /// Logs the event as a line about its order, with the trace of the command that caused it: the handler has a trace of its own.
    fn log(&self, event: &ReceivedEvent) {
        let header = EventHeader::read(event.payload()).unwrap_or_default();
        let cause = header.traceparent().and_then(|text| context::parse(text, None));
        let log = || LoggedOrder::of(event.order_number()).step(|| self.log_fields(event));
        match Traces::off().call(cause) {
            Some(cause) => cause.poll(log),
            None => log(),
        }
    }

    fn log_fields(&self, event: &ReceivedEvent) {
        let (event_id, kind, position, attempt) = (event.event_id(), event.kind(), event.position(), event.attempt());
        match event.decode() {
            Ok(decoded) => tracing::info!(
                target: ORDER_EVENTS,
                %event_id, kind, position, attempt,
                customer_id = decoded.customer_id,
                actor = decoded.actor,
                on_behalf_of = decoded.on_behalf_of,
                request_id = decoded.request_id,
                "order event"
            ),
            Err(error) => {
                self.undecodable.fetch_add(1, Relaxed);
                tracing::info!(target: ORDER_EVENTS, %event_id, kind, position, attempt, %error, "damaged order event");
            }
        }
    }
}

#[async_trait]
impl EventHandler for OrderEventLogger {
    fn name(&self) -> &str {
        "order-event-logger"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        let index = EventKind::ALL.iter().position(|kind| kind.name() == event.kind());
        index.map_or(&self.others, |index| &self.counts[index]).fetch_add(1, Relaxed);
        if tracing::enabled!(target: ORDER_EVENTS, tracing::Level::INFO) {
            self.log(event);
        }
        Ok(())
    }
}
