//! Tests of subscriptions over the memory bus, in simulated time.

mod failures;
mod flaky_bus;
mod leadership;
mod logger;

use std::{
    collections::HashMap,
    io,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{task::JoinHandle, time::Instant};

use super::*;
use crate::{
    backends::memory::{
        lease::MemoryLeaseStore,
        message_bus::{MemoryBusOptions, MemoryMessageBus},
    },
    ports::{
        lease_store::{LeaseError, LeaseOwner, WORK_TTL},
        message_bus::{Consumer, DeadLetter, EventId, Message, Receipt, VolatileMessages},
    },
    proto::catga::events::v1::OrderEvent,
};

type Seen = (String, u32, bool);

/// Runs a test's script for each event, and records the event.
struct Scripted<F> {
    script: F,
    seen: Mutex<Vec<Seen>>,
}

#[async_trait]
impl<F: Fn(&ReceivedEvent) -> Result<(), HandlerError> + Send + Sync + 'static> EventHandler for Scripted<F> {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        let seen = (event.event_id().to_string(), event.attempt(), event.replayed());
        self.seen.lock().push(seen);
        (self.script)(event)
    }
}

impl<F> Scripted<F> {
    fn new(script: F) -> Arc<Self> {
        Arc::new(Self { script, seen: Mutex::default() })
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    fn seen_ids(&self) -> Vec<String> {
        self.seen().into_iter().map(|(id, ..)| id).collect()
    }
}

struct Running {
    status: Arc<SubscriptionStatus>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn start(bus: &Arc<dyn MessageBus>, handler: Arc<dyn EventHandler>, options: SubscriptionOptions) -> Self {
        Self::start_as("node-1", bus, &(Arc::new(MemoryLeaseStore::new()) as Arc<dyn LeaseStore>), handler, options)
    }

    fn start_as(
        node: &str,
        bus: &Arc<dyn MessageBus>,
        leases: &Arc<dyn LeaseStore>,
        handler: Arc<dyn EventHandler>,
        options: SubscriptionOptions,
    ) -> Self {
        let owners = Arc::default();
        let parts = SubscriptionDeps { bus: bus.clone(), leases: leases.clone(), node: node.to_owned(), owners };
        let subscription = Subscription::new(parts, handler, options);
        let (status, stop) = (subscription.status(), CancellationToken::new());
        let own_stop = stop.clone();
        let task = tokio::spawn(async move { subscription.run(own_stop).await });
        Self { status, stop, task }
    }

    async fn until(&self, reached: impl Fn(&SubscriptionStatus) -> bool) {
        for _ in 0..100_000 {
            if reached(&self.status) {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("not reached: {:?}", self.status);
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

fn memory() -> Arc<dyn MessageBus> {
    Arc::new(MemoryMessageBus::default())
}

fn options() -> SubscriptionOptions {
    SubscriptionOptions { max_attempts: 3, ..SubscriptionOptions::default() }
}

fn message(key: u64, sequence: u64) -> Message {
    let event =
        OrderEvent { event_id: format!("{key}-{sequence}"), customer_id: "c-1".to_owned(), ..Default::default() };
    let payload = event.encode_to_vec().into();
    Message { key, sequence, position: 100 + sequence, kind: "OrderPaid".into(), payload }
}

fn retry() -> Result<(), HandlerError> {
    Err(HandlerError::Retry("not now".to_owned()))
}

#[tokio::test(start_paused = true)]
async fn a_handler_gets_every_event_once_in_the_order_of_its_order() {
    let bus = memory();
    let decoded_right = |event: &ReceivedEvent| {
        assert_eq!(event.decode()?.event_id, event.event_id().to_string());
        assert_eq!((event.kind(), event.position()), ("OrderPaid", 100 + event.revision()));
        assert_eq!(event.payload(), &message(event.order_number(), event.revision()).payload);
        Ok(())
    };
    let handler = Scripted::new(decoded_right);
    let running = Running::start(&bus, handler.clone(), options());
    let sent: Vec<_> = (1..=300).flat_map(|sequence| [message(1, sequence), message(2, sequence)]).collect();
    bus.publish(&sent).await.unwrap();
    running.until(|status| status.handled() == 600).await;
    assert_eq!(handler.seen_ids(), sent.iter().map(|message| message.event_id().to_string()).collect::<Vec<_>>());
    assert!(running.status.last_error().is_none());
    running.stop().await;
    let rest = bus.consumer("scripted").await.unwrap();
    timeout(Duration::from_secs(60), rest.next_batch(1)).await.expect_err("everything was acknowledged");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_published_again_is_handled_once() {
    let bus = memory();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start(&bus, handler.clone(), options());
    bus.publish(&[message(1, 1), message(1, 2), message(1, 1), message(1, 2), message(2, 1)]).await.unwrap();
    running.until(|status| status.received() == 5).await;
    running.until(|status| status.handled() == 3).await;
    bus.publish(&[message(1, 1), message(1, 3)]).await.unwrap();
    running.until(|status| status.handled() == 4).await;
    assert_eq!(handler.seen_ids(), ["1-1", "1-2", "2-1", "1-3"]);
    assert_eq!(running.status.deduplicated(), 3);
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_whose_consumer_is_taken_over_reports_it_and_recovers() {
    let bus = memory();
    let handler = Scripted::new(|_: &ReceivedEvent| Ok(()));
    let running = Running::start(&bus, handler.clone(), options());
    sleep(Duration::from_secs(1)).await;
    let other = bus.consumer("scripted").await.unwrap();
    running
        .until(|status| matches!(status.state(), SubscriptionState::Failing(reason) if reason.contains("taken over")))
        .await;
    running.until(|status| status.state() == SubscriptionState::Active).await;
    assert_eq!(other.next_batch(1).await.unwrap_err(), BusError::Replaced);
    bus.publish(&[message(1, 1)]).await.unwrap();
    running.until(|status| status.handled() == 1).await;
    running.stop().await;
}
