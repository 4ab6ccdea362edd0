//! Streams of events: catch up from the log, then follow it; never skipping, holding one batch at a time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    AppError,
    orders::{MAX_LOADS, pause_before_reload},
};
use crate::{
    codec::{EventHeader, EventKind},
    domain::{ids::OrderId, order::Status},
    event_store::{
        Direction, EventStore, Foothold, LogFollower, LogPoint, LogWake, Position, Revision, StoredEvent, StreamId,
    },
};

/// Events read from the log at a time, for each stream.
const BATCH_EVENTS: usize = 256;

/// One step of a stream of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Events that pass the filter, at least one.
    Events(Vec<StoredEvent>),
    /// Everything that was there when the stream opened has been passed. Comes once, to those who follow.
    CaughtUp,
    /// Nothing has passed the filter for a while.
    Heartbeat,
    /// There is nothing more, and the reader does not follow.
    End,
}

/// Which events pass. All conditions must hold; an empty one lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of these customers.
    pub customer_ids: HashSet<String>,
    /// Of these kinds.
    pub kinds: Vec<EventKind>,
    /// Of these orders.
    pub order_ids: HashSet<u64>,
}

impl EventFilter {
    fn passes(&self, stored: &StoredEvent) -> Result<bool, AppError> {
        if !self.order_ids.is_empty() && !self.order_ids.contains(&stored.stream.0) {
            return Ok(false);
        }
        if self.customer_ids.is_empty() && self.kinds.is_empty() {
            return Ok(true);
        }
        let header = EventHeader::read(&stored.payload)?;
        if !self.kinds.is_empty() && !self.kinds.contains(&header.kind()?) {
            return Ok(false);
        }
        Ok(self.customer_ids.is_empty() || self.customer_ids.contains(header.customer_id()?))
    }
}

/// The kind of event that brings an order into `status`.
#[must_use]
pub const fn kind_leading_to(status: Status) -> EventKind {
    match status {
        Status::Pending => EventKind::Created,
        Status::Paid => EventKind::Paid,
        Status::Shipped => EventKind::Shipped,
        Status::Delivered => EventKind::Delivered,
        Status::Cancelled => EventKind::Cancelled,
    }
}

/// The events of all orders.
#[derive(Debug)]
pub struct EventFeed {
    follower: LogFollower,
    filter: EventFilter,
    /// The end of the log when the stream opened; `None` once a reader who follows has been told.
    catching_up_to: Option<Position>,
    follow: bool,
    heartbeat_every: Duration,
    heartbeat_at: Instant,
    draining: CancellationToken,
}

impl EventFeed {
    /// Streams what comes after `after` (`None`: after what is there now).
    ///
    /// # Errors
    /// [`AppError::LogReplaced`] if the log does not have what `after` says, not even when all who decide have been asked;
    /// [`AppError::Unavailable`].
    pub async fn open(
        store: Arc<dyn EventStore>,
        after: Option<LogPoint>,
        filter: EventFilter,
        follow: Option<Duration>,
        draining: CancellationToken,
    ) -> Result<Self, AppError> {
        let (after, head) = match after {
            Some(after) => {
                // Now, and not with the first event: a client may wait for that for long.
                after.verify(&*store).await?;
                (after, store.head().await?)
            }
            None => {
                let last = store.read_log(Position(u64::MAX), Direction::Backward, 1).await?;
                let last = last.first().map_or(LogPoint::START, LogPoint::after);
                (last, last.position)
            }
        };
        let heartbeat_every = follow.unwrap_or(Duration::MAX);
        Ok(Self {
            follower: LogFollower::new(store, after),
            filter,
            catching_up_to: Some(head),
            follow: follow.is_some(),
            heartbeat_every,
            heartbeat_at: far_from_now(heartbeat_every),
            draining,
        })
    }

    /// How far the stream has come: resume after this.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.follower.point()
    }

    /// The next step. To be called until it answers [`Step::End`] or an error.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] when the node drains; [`AppError::LogReplaced`] when the log no longer has what was streamed; otherwise
    /// what the store says.
    pub async fn next(&mut self) -> Result<Step, AppError> {
        loop {
            if self.draining.is_cancelled() {
                return Err(AppError::ShuttingDown);
            }
            if self.catching_up_to.is_some_and(|end| self.follower.position() >= end) {
                if !self.follow {
                    // Not the end of the log as it is now: a reader slower than the writers would never get there.
                    return Ok(Step::End);
                }
                self.catching_up_to = None;
                return Ok(Step::CaughtUp);
            }
            let batch = self.follower.poll_batch(BATCH_EVENTS).await?;
            if batch.is_empty() {
                if !self.follow {
                    return Ok(Step::End);
                }
                if let Some(step) = self.wait().await? {
                    return Ok(step);
                }
                continue;
            }
            let passing = self.pass(batch)?;
            if !passing.is_empty() {
                self.heartbeat_at = far_from_now(self.heartbeat_every);
                return Ok(Step::Events(passing));
            }
            if self.follow && Instant::now() >= self.heartbeat_at {
                return Ok(self.heartbeat());
            }
            // A long stretch that the filter hides must not keep the thread from others.
            tokio::task::yield_now().await;
        }
    }

    fn pass(&self, mut batch: Vec<StoredEvent>) -> Result<Vec<StoredEvent>, AppError> {
        let mut failed = None;
        batch.retain(|stored| {
            self.filter.passes(stored).unwrap_or_else(|error| {
                failed.get_or_insert(error);
                false
            })
        });
        failed.map_or(Ok(batch), Err)
    }

    async fn wait(&mut self) -> Result<Option<Step>, AppError> {
        tokio::select! {
            () = self.follower.wait() => Ok(None),
            () = self.draining.cancelled() => Err(AppError::ShuttingDown),
            () = sleep_until(self.heartbeat_at) => Ok(Some(self.heartbeat())),
        }
    }

    fn heartbeat(&mut self) -> Step {
        self.heartbeat_at = far_from_now(self.heartbeat_every);
        Step::Heartbeat
    }
}

/// The history of one order.
#[derive(Debug)]
pub struct OrderHistory {
    store: Arc<dyn EventStore>,
    stream: StreamId,
    /// The last revision sent, or skipped by request.
    revision: Revision,
    /// An event of the order that was in the log.
    foothold: Foothold,
    catching_up_to: Option<Revision>,
    /// The last revision when the stream opened: what is read ends no earlier.
    ends_after: Revision,
    behind: u32,
    follow: bool,
    wake: LogWake,
    draining: CancellationToken,
}

impl OrderHistory {
    /// Streams the events of `order_id` from revision `from` (at least 1) on, which is at most the one that comes next: whoever asks for a later
    /// one has seen events that are not there (the log was restored, or failed over), and would miss as many of those that come.
    ///
    /// # Errors
    /// [`AppError::OrderNotFound`], [`AppError::HistoryEndsBefore`]; otherwise what the store says.
    pub async fn open(
        store: Arc<dyn EventStore>,
        order_id: OrderId,
        from: Revision,
        follow: bool,
        draining: CancellationToken,
    ) -> Result<Self, AppError> {
        let stream = StreamId(order_id.get());
        let wake = LogWake::new(&*store);
        let mut tries = 0;
        let last = loop {
            let connection = *store.connections().borrow();
            let last = store.read_stream(stream, Revision::MAX, Direction::Backward, 1).await?;
            let last = last.into_iter().next();
            let actual = last.as_ref().map_or(0, |last| last.revision);
            match last {
                Some(last) if from <= actual + 1 => break last,
                last if store.confirms(stream, actual).await? => {
                    store.confirm_connection(connection).await?;
                    return Err(match last {
                        Some(_) => AppError::HistoryEndsBefore { order_id, from, actual },
                        None => AppError::OrderNotFound(order_id),
                    });
                }
                _ if tries < MAX_LOADS => pause_before_reload(tries).await,
                _ => {
                    let why = format!("the servers of the store that answer are behind with order {order_id}");
                    return Err(AppError::unavailable(why));
                }
            }
            tries += 1;
        };
        let ends_after = last.revision;
        let catching_up_to = follow.then_some(ends_after);
        let foothold = Foothold::new(&*store, LogPoint::after(&last));
        let revision = from - 1;
        Ok(Self { store, stream, revision, foothold, catching_up_to, ends_after, behind: 0, follow, wake, draining })
    }

    /// The last revision sent, or skipped by request.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// A point of the log up to which nothing of this order is missing.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.foothold.point()
    }

    /// The next step. To be called until it answers [`Step::End`] or an error.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] when the node drains; [`AppError::LogReplaced`] when the log no longer has what was streamed; otherwise
    /// what the store says.
    pub async fn next(&mut self) -> Result<Step, AppError> {
        loop {
            if self.draining.is_cancelled() {
                return Err(AppError::ShuttingDown);
            }
            if self.catching_up_to.is_some_and(|last| self.revision >= last) {
                self.catching_up_to = None;
                return Ok(Step::CaughtUp);
            }
            self.wake.arm();
            let next = self.revision + 1;
            let batch = self.foothold.read_stream(&*self.store, self.stream, next, BATCH_EVENTS).await?;
            if let Some(last) = batch.last() {
                self.revision = last.revision;
                return Ok(Step::Events(batch));
            }
            if !self.follow && self.revision >= self.ends_after {
                return Ok(Step::End);
            }
            if !self.follow {
                // Another server of the store answered, which is behind.
                self.behind += 1;
                if self.behind > MAX_LOADS {
                    return Err(AppError::unavailable(
                        "the servers of the store that answer are behind with this order",
                    ));
                }
                pause_before_reload(self.behind).await;
                continue;
            }
            tokio::select! {
                () = self.wake.wait() => {}
                () = self.draining.cancelled() => return Err(AppError::ShuttingDown),
            }
        }
    }
}

fn far_from_now(by: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + by.min(A_YEAR)
}

/// Either of the two, for those who show them alike.
pub trait EventSource: Send + 'static {
    /// The next step. To be called until it answers [`Step::End`] or an error.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] when the node drains; [`AppError::LogReplaced`] when the log no longer has what was streamed; otherwise
    /// what the store says.
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send;

    /// How far the stream has come in the log.
    fn point(&self) -> LogPoint;

    /// How far it has come in the history of its order; 0 where it has none.
    fn revision(&self) -> Revision;
}

impl EventSource for EventFeed {
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send {
        self.next()
    }

    fn point(&self) -> LogPoint {
        self.point()
    }

    fn revision(&self) -> Revision {
        0
    }
}

impl EventSource for OrderHistory {
    fn next(&mut self) -> impl Future<Output = Result<Step, AppError>> + Send {
        self.next()
    }

    fn point(&self) -> LogPoint {
        self.point()
    }

    fn revision(&self) -> Revision {
        self.revision()
    }
}
