//! An open event stream, as both APIs show it to their clients.

use std::{collections::VecDeque, time::Duration};

use tokio_util::sync::CancellationToken;

use super::{Step, batch::Batches, feed::EventFeed, order::OrderHistory};
use crate::{
    application::{AppError, Scope, byte_budget::HeldBytes, event_filter::EventFilter, fan_out::FanOut, turns::Turns},
    codec,
    domain::ids::OrderId,
    ports::event_store::{LogPoint, Revision, StoredEvent},
    telemetry::traces::{self, Links},
};

/// The log, as event streams read it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EventLog {
    fan_out: FanOut,
    draining: CancellationToken,
}

/// Whether a stream continues after the events that existed when it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// No: it ends there.
    No,
    /// Yes: it waits for new events.
    Yes,
    /// As `Yes`, with a heartbeat after this time without a matching event.
    WithHeartbeats(Duration),
}

/// The bounds within which one stream is read.
#[derive(Debug)]
pub struct StreamBounds {
    /// An empty reservation of the bytes that wait to be sent.
    pub read: HeldBytes,
    /// The turns to read the log.
    pub turns: Turns,
    /// The permit, if the stream needs one: a page is an ordinary request.
    pub permit: Option<EventStreamPermit>,
    /// How many events of the log are read, whether they match the filter or not, until a stream of all orders ends.
    pub max_scanned: usize,
}

/// A permit for an open event stream; released when dropped.
#[derive(Debug)]
pub struct EventStreamPermit {
    _permits: HeldBytes,
}

impl EventStreamPermit {
    /// The permit that holds `permits`.
    #[must_use]
    pub const fn new(permits: HeldBytes) -> Self {
        Self { _permits: permits }
    }
}

/// An event stream: of one order, or of all of them. It holds one batch of events at a time.
#[derive(Debug)]
pub struct EventStream {
    source: Source,
    /// The rest of one batch.
    batch: VecDeque<StoredEvent>,
    is_over: bool,
    /// The links of the span of the call; `None` if the call is not recorded.
    links: Option<Links>,
    _permit: Option<EventStreamPermit>,
}

#[derive(Debug)]
enum Source {
    Order { history: OrderHistory, heartbeat: Option<Duration> },
    All(EventFeed),
}

/// An item of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// An event that matches the filter.
    Event(StoredEvent),
    /// All events that existed when the stream opened have been passed. Sent once, to followers only.
    CaughtUp,
    /// No event has matched the filter for a while.
    Heartbeat,
}

impl EventLog {
    /// The log behind `fan_out`; its streams end when the node is `draining`.
    #[must_use]
    pub const fn new(fan_out: FanOut, draining: CancellationToken) -> Self {
        Self { fan_out, draining }
    }

    /// The events of `order_id`, an order within `scope`, from revision `from` (at least 1) on.
    ///
    /// # Errors
    /// As [`OrderHistory::open`].
    pub async fn order_history(
        &self,
        order_id: OrderId,
        from: Revision,
        scope: &Scope,
        follow: Follow,
        bounds: StreamBounds,
    ) -> Result<EventStream, AppError> {
        let (fan_out, draining) = (self.fan_out.clone(), self.draining.clone());
        let follows = follow != Follow::No;
        let batches = Batches::new(bounds.read, bounds.turns);
        let history = OrderHistory::open(fan_out, order_id, from, scope, follows, batches, draining).await?;
        let heartbeat = match follow {
            Follow::WithHeartbeats(every) => Some(every),
            Follow::No | Follow::Yes => None,
        };
        Ok(EventStream::new(Source::Order { history, heartbeat }, bounds.permit))
    }

    /// The events of all orders within `scope` after `after` (`None`: after the current end of the log) that match `filter`.
    ///
    /// # Errors
    /// [`AppError::CustomerNotAllowed`] if `filter` names a customer outside of the scope; as [`EventFeed::open`].
    pub async fn events(
        &self,
        after: Option<LogPoint>,
        filter: EventFilter,
        scope: &Scope,
        follow: Follow,
        bounds: StreamBounds,
    ) -> Result<EventStream, AppError> {
        let filter = filter.within(scope)?;
        let (fan_out, draining) = (self.fan_out.clone(), self.draining.clone());
        let heartbeat = match follow {
            Follow::No => None,
            Follow::Yes => Some(Duration::MAX),
            Follow::WithHeartbeats(every) => Some(every),
        };
        let batches = Batches::new(bounds.read, bounds.turns);
        let feed = EventFeed::open(fan_out, after, filter, heartbeat, batches, draining).await?;
        let feed = feed.scanning_at_most(bounds.max_scanned);
        Ok(EventStream::new(Source::All(feed), bounds.permit))
    }
}

impl EventStream {
    /// Opened within its call, whose span gets links to the commands of the events.
    fn new(source: Source, permit: Option<EventStreamPermit>) -> Self {
        let links = traces::recorded().map(Links::of);
        Self { source, batch: VecDeque::new(), is_over: false, links, _permit: permit }
    }

    /// The next item; `None` after the end, and after an error. Call it only after the previous item has been passed on: the share of its batch of the
    /// byte budget for readers is released then. Cancelling the call loses nothing.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] when the node drains; [`AppError::LogReplaced`] when the log no longer has the streamed events;
    /// [`AppError::ReadersBehind`] when readers have not made room for more events in time; otherwise the store's error.
    pub async fn next(&mut self) -> Option<Result<Item, AppError>> {
        loop {
            if let Some(event) = self.next_ready() {
                return Some(Ok(Item::Event(event)));
            }
            if self.is_over {
                return None;
            }
            match self.source.next().await {
                Ok(Step::Events(events)) => self.batch = events.into(),
                Ok(Step::CaughtUp) => return Some(Ok(Item::CaughtUp)),
                Ok(Step::Heartbeat) => return Some(Ok(Item::Heartbeat)),
                Ok(Step::End) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
    }

    /// The next event, if it has been read already.
    pub fn next_ready(&mut self) -> Option<StoredEvent> {
        let event = self.batch.pop_front()?;
        if let Some(links) = &mut self.links {
            links.add(|| codec::sampled_cause(&event.payload));
        }
        Some(event)
    }

    /// Whether the stream, if it has ended, has only read as many events as it may: it can be continued after [`EventStream::point`].
    #[must_use]
    pub fn is_cut(&self) -> bool {
        match &self.source {
            Source::Order { .. } => false,
            Source::All(feed) => feed.is_cut(),
        }
    }

    /// The point of the log that the stream has reached, with all of its current batch.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        match &self.source {
            Source::Order { history, .. } => history.point(),
            Source::All(feed) => feed.point(),
        }
    }

    /// The revision that the stream has reached in the history of its order; 0 for a stream of all orders.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        match &self.source {
            Source::Order { history, .. } => history.revision(),
            Source::All(_) => 0,
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Step, AppError> {
        match self {
            Self::Order { history, heartbeat: None } => history.next().await,
            // Cancelling the wait loses nothing: the history advances only with the events that it returns.
            Self::Order { history, heartbeat: Some(every) } => {
                tokio::time::timeout(*every, history.next()).await.unwrap_or(Ok(Step::Heartbeat))
            }
            Self::All(feed) => feed.next().await,
        }
    }
}
