//! What follows the log: the projection and the handlers of events.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use ordersystem::{
    backends::memory::{lease::MemoryLeaseStore, message_bus::MemoryMessageBus, read_model::MemoryReadModel},
    codec::EventHeader,
    ports::{
        event_store::{EventStore as _, StoredEvent},
        message_bus::{Message, MessageBus},
        read_model::{LogCheckpoint, ReadModel as _},
    },
    processors::{
        handlers::{EventHandler, HandlerError, ReceivedEvent, Subscription, SubscriptionDeps, SubscriptionOptions},
        projections::row_change,
    },
};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

use crate::orders::{OPERATIONS, polled, stored_lives};

/// A read model with most of the log, and the rest of it.
pub struct Projecting {
    model: MemoryReadModel,
    log: ordersystem::ports::event_store::LogId,
    events: Vec<StoredEvent>,
}

impl Projecting {
    pub fn new() -> Self {
        let (store, mut earlier) = stored_lives();
        // The events of whole orders, so of all kinds.
        let events = earlier.split_off(earlier.len() - OPERATIONS);
        let projecting =
            Self { model: MemoryReadModel::new(), log: store.log_id().expect("in this process"), events: earlier };
        projecting.apply();
        Self { events, ..projecting }
    }

    /// As one batch.
    pub fn apply(&self) {
        let changes = self.events.iter().map(row_change).collect::<Result<Vec<_>, _>>().expect("events");
        let last = self.events.last().expect("an event");
        polled(self.model.apply(changes, LogCheckpoint::after(self.log, last))).expect("applied");
    }
}

/// A handler, and a bus with an event for each operation.
pub struct Delivering {
    runtime: Runtime,
    subscription: Subscription,
    stop: CancellationToken,
    handled: Arc<Counting>,
}

impl Delivering {
    pub fn new() -> Self {
        let bus = Arc::new(MemoryMessageBus::default());
        let messages: Vec<_> = stored_lives().1.iter().take(OPERATIONS).map(message).collect();
        polled(bus.publish(&messages)).expect("published");
        let stop = CancellationToken::new();
        let handled = Arc::new(Counting { count: AtomicUsize::new(0), stop: stop.clone() });
        let parts = SubscriptionDeps {
            bus,
            leases: Arc::new(MemoryLeaseStore::new()),
            node: "node-1-1".to_owned(),
            owners: Arc::default(),
        };
        let handler = Arc::clone(&handled) as Arc<dyn EventHandler>;
        let subscription = Subscription::new(parts, handler, SubscriptionOptions::default());
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { runtime, subscription, stop, handled }
    }

    /// Until all are handled and acknowledged.
    pub fn run(&self) {
        self.runtime.block_on(self.subscription.run(self.stop.clone()));
        assert_eq!(self.handled.count.load(Ordering::Relaxed), OPERATIONS);
    }
}

fn message(event: &StoredEvent) -> Message {
    let header = EventHeader::read(&event.payload).expect("an event");
    Message {
        key: event.stream.0,
        sequence: event.revision,
        position: event.position.0,
        kind: header.kind().expect("known").name().into(),
        payload: event.payload.clone(),
    }
}

/// Stops its subscription after the last event.
struct Counting {
    count: AtomicUsize,
    stop: CancellationToken,
}

#[async_trait]
impl EventHandler for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    async fn handle(&self, _event: &ReceivedEvent) -> Result<(), HandlerError> {
        if self.count.fetch_add(1, Ordering::Relaxed) + 1 == OPERATIONS {
            self.stop.cancel();
        }
        Ok(())
    }
}
