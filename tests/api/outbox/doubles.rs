//! Dependencies of the relay that end its process at a chosen step, and a bus that records what it accepts.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use ordersystem::ports::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    event_store::{Direction, EventStore, Position, StoreError, StoredEvent},
    message_bus::{BusError, Consumer, DeadLetter, EventId, Message, MessageBus, VolatileMessages},
};
use tokio::sync::Notify;

use crate::support::intercepted::{BusHooks, StoreHooks};

/// A step of the relay at which its process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    BeforeRead,
    AfterRead,
    BeforePublish,
    AmidPublish,
    AfterPublish,
    BeforeCheckpoint,
    AfterCheckpoint,
}

pub const POINTS: [Point; 7] = [
    Point::BeforeRead,
    Point::AfterRead,
    Point::BeforePublish,
    Point::AmidPublish,
    Point::AfterPublish,
    Point::BeforeCheckpoint,
    Point::AfterCheckpoint,
];

/// Blocks the caller that passes a point for the n-th time, forever; the test then drops it, as kill -9 would.
#[derive(Debug)]
pub struct Trap {
    point: Point,
    passes_left: AtomicUsize,
    /// Notified when a caller is blocked.
    pub sprung: Notify,
}

impl Trap {
    pub fn new(point: Point, passes: usize) -> Arc<Self> {
        Arc::new(Self { point, passes_left: AtomicUsize::new(passes), sprung: Notify::new() })
    }

    /// Whether the process ends here.
    fn is_sprung_at(&self, point: Point) -> bool {
        let springs = |left: usize| left.checked_sub(1);
        point == self.point && self.passes_left.fetch_update(SeqCst, SeqCst, springs).is_err()
    }

    async fn pass(&self, point: Point) {
        if self.is_sprung_at(point) {
            self.sprung.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The dependencies of the relay, one of them with a trap.
#[derive(Debug)]
pub struct Trapped<T: ?Sized> {
    pub trap: Arc<Trap>,
    pub inner: Arc<T>,
}

#[async_trait]
impl StoreHooks for Trapped<dyn EventStore> {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn read_log(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.trap.pass(Point::BeforeRead).await;
        let read = self.inner.read_log(from, direction, max_events).await;
        self.trap.pass(Point::AfterRead).await;
        read
    }
}

#[async_trait]
impl CheckpointStore for Trapped<dyn CheckpointStore> {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        self.inner.load(name).await
    }
    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        self.trap.pass(Point::BeforeCheckpoint).await;
        self.inner.save(name, checkpoint).await?;
        self.trap.pass(Point::AfterCheckpoint).await;
        Ok(())
    }
}

#[async_trait]
impl BusHooks for Trapped<dyn MessageBus> {
    fn inner(&self) -> &dyn MessageBus {
        &*self.inner
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.trap.pass(Point::BeforePublish).await;
        if self.trap.is_sprung_at(Point::AmidPublish) {
            self.inner.publish(&messages[..messages.len() / 2]).await?;
            self.trap.sprung.notify_one();
            std::future::pending::<()>().await;
        }
        self.inner.publish(messages).await?;
        self.trap.pass(Point::AfterPublish).await;
        Ok(())
    }
}

/// A bus outside the process: it records the messages that it accepts, and keeps them whatever happens to the relay.
#[derive(Debug, Default)]
pub struct Recorder {
    pub accepted: Mutex<Vec<Message>>,
    pub largest_publish: AtomicUsize,
}

#[async_trait]
impl MessageBus for Recorder {
    fn kind(&self) -> &'static str {
        "recorder"
    }
    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        self.largest_publish.fetch_max(messages.len(), SeqCst);
        self.accepted.lock().unwrap().extend_from_slice(messages);
        Ok(())
    }
    fn oldest_unpersisted(&self, _consumers: &[String]) -> VolatileMessages {
        VolatileMessages::Nothing
    }
    async fn consumer(&self, _name: &str) -> Result<Box<dyn Consumer>, BusError> {
        Err(BusError::UnknownConsumer)
    }
    async fn remove_consumer(&self, _name: &str) -> Result<(), BusError> {
        Ok(())
    }
    async fn dead_letters(&self, _name: &str, _max: usize) -> Result<Vec<DeadLetter>, BusError> {
        Ok(Vec::new())
    }
    async fn replay(&self, _name: &str, _events: &[EventId]) -> Result<usize, BusError> {
        Ok(0)
    }
    async fn discard(&self, _name: &str, _events: &[EventId]) -> Result<usize, BusError> {
        Ok(0)
    }
    async fn check(&self) -> Result<(), BusError> {
        Ok(())
    }
}
