//! The stream of the history of one order.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{
    Step,
    batch::{BATCH_BYTES, Batches},
    changed, require_log, unless_lost,
};
use crate::{
    application::{
        AppError, Scope,
        event_filter::EventFilter,
        fan_out::{FanOut, Handed, Subscription},
        order_repository::{MAX_LOADS, pause_before_reload},
    },
    codec::EventHeader,
    domain::ids::OrderId,
    ports::event_store::{Direction, EventStore, Foothold, LogPoint, LogWake, Revision, StoredEvent, StreamId},
};

/// The stream of the history of one order.
#[derive(Debug)]
pub struct OrderHistory {
    fan_out: FanOut,
    store: Arc<dyn EventStore>,
    stream: StreamId,
    /// The last revision sent, or skipped by request.
    revision: Revision,
    /// An event of the order that was found in the log.
    foothold: Foothold,
    catching_up_to: Option<Revision>,
    /// The last revision when the stream opened: the history read reaches at least this.
    ends_after: Revision,
    behind: u32,
    follow: bool,
    wake: LogWake,
    /// The membership in the fan-out of new events.
    subscription: Option<Subscription>,
    /// Whether the order has been read up to the start of the subscription.
    is_live: bool,
    batches: Batches,
    draining: CancellationToken,
}

impl OrderHistory {
    /// Streams the events of `order_id`, an order within `scope`, from revision `from` (at least 1) on, which is at most the next one: a client that requests a later one has
    /// seen events that no longer exist (the log was restored, or failed over), and would miss as many new ones.
    ///
    /// # Errors
    /// [`AppError::OrderNotFound`], for an order outside of the scope as well; [`AppError::HistoryEndsBefore`]; otherwise the store's error.
    pub async fn open(
        fan_out: FanOut,
        order_id: OrderId,
        from: Revision,
        scope: &Scope,
        follow: bool,
        batches: Batches,
        draining: CancellationToken,
    ) -> Result<Self, AppError> {
        let store = Arc::clone(fan_out.store());
        require_log(&*store, LogPoint::START)?;
        let stream = StreamId(order_id.get());
        let wake = LogWake::new(&*store);
        let mut tries = 0;
        let last = loop {
            let connection = *store.connections().borrow();
            let last = store.read_stream(stream, Revision::MAX, Direction::Backward, 1).await?;
            let last = last.into_iter().next();
            let actual = last.as_ref().map_or(0, |last| last.revision);
            match within(scope, last)? {
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
                    let why = format!("the servers of the store that reply lag behind on order {order_id}");
                    return Err(AppError::unavailable(why));
                }
            }
            tries += 1;
        };
        let ends_after = last.revision;
        Ok(Self {
            foothold: Foothold::new(&*store, LogPoint::after(&last)),
            fan_out,
            store,
            stream,
            revision: from - 1,
            catching_up_to: follow.then_some(ends_after),
            ends_after,
            behind: 0,
            follow,
            wake,
            subscription: None,
            is_live: false,
            batches,
            draining,
        })
    }

    /// The last revision sent, or skipped by request.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    /// A point of the log up to which no event of this order is missing.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.foothold.point()
    }

    /// The next step. Call it until it returns [`Step::End`] or an error, and only after the previous events have been passed on: their share of the
    /// byte budget for readers is released then.
    ///
    /// # Errors
    /// As [`EventStream::next`](super::EventStream::next).
    pub async fn next(&mut self) -> Result<Step, AppError> {
        self.batches.passed_on();
        let loss = self.store.log_loss();
        unless_lost(loss, self.step()).await
    }

    async fn step(&mut self) -> Result<Step, AppError> {
        loop {
            if self.draining.is_cancelled() {
                return Err(AppError::ShuttingDown);
            }
            if self.catching_up_to.is_some_and(|last| self.revision >= last) {
                self.catching_up_to = None;
                return Ok(Step::CaughtUp);
            }
            let step = if self.is_live { self.next_live().await? } else { self.read().await? };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Reads from the log; waits for more at its end.
    async fn read(&mut self) -> Result<Option<Step>, AppError> {
        self.wake.arm();
        self.batches.room().await?;
        // Taken before the read, which then includes everything up to there.
        let begins_after = self.subscription.as_ref().and_then(Subscription::begins_after);
        let (next, max_events) = (self.revision + 1, self.batches.max_events());
        let turn = self.batches.turn().await;
        let batch = self.foothold.read_stream(&*self.store, self.stream, next, max_events, BATCH_BYTES).await?;
        drop(turn);
        self.batches.read(&batch);
        if let Some(last) = batch.last() {
            self.revision = last.revision;
            return Ok(Some(Step::Events(batch)));
        }
        if !self.follow && self.revision >= self.ends_after {
            return Ok(Some(Step::End));
        }
        if !self.follow {
            // Another server of the store responded, and it is behind.
            self.behind += 1;
            if self.behind > MAX_LOADS {
                return Err(AppError::unavailable("the servers of the store that reply lag behind on this order"));
            }
            pause_before_reload(self.behind).await;
            return Ok(None);
        }
        if !self.joins(begins_after).await? {
            tokio::select! {
                () = self.wake.wait() => {}
                () = changed(self.subscription.as_ref()) => {}
                () = self.draining.cancelled() => return Err(AppError::ShuttingDown),
            }
        }
        Ok(None)
    }

    /// At the end of the history, joins the fan-out of new events, or starts with its events after `begins_after`; returns `false` if that requires
    /// waiting.
    async fn joins(&mut self, begins_after: Option<LogPoint>) -> Result<bool, AppError> {
        if self.catching_up_to.is_some() {
            return Ok(false);
        }
        let Some(subscription) = &self.subscription else {
            let filter = Arc::new(EventFilter::order(self.stream.0));
            self.subscription = Some(self.fan_out.join(filter));
            return Ok(true);
        };
        if subscription.has_left() {
            self.subscription = None;
            return Ok(false);
        }
        if let Some(begins_after) = begins_after {
            // Not if the server that was read is behind.
            self.is_live = self.store.contains(self.stream, self.revision, begins_after.position).await?;
        }
        Ok(self.is_live)
    }

    /// The events handed to this follower; `None` when it has to read the log again.
    async fn next_live(&mut self) -> Result<Option<Step>, AppError> {
        let handed = self.subscription.as_ref().map(|subscription| subscription.take(self.foothold.found_on()));
        match handed {
            Some(Handed::Events(events)) if follow_on(self.revision, &events) => {
                let events: Vec<_> = events.into_iter().filter(|event| event.revision > self.revision).collect();
                let Some(last) = events.last() else { return Ok(None) };
                self.foothold.pass(LogPoint::after(last));
                self.revision = last.revision;
                Ok(Some(Step::Events(events)))
            }
            Some(Handed::Nothing) => {
                tokio::select! {
                    () = changed(self.subscription.as_ref()) => Ok(None),
                    () = self.draining.cancelled() => Err(AppError::ShuttingDown),
                }
            }
            Some(Handed::Events(_) | Handed::Left) | None => {
                self.subscription = None;
                self.is_live = false;
                Ok(None)
            }
        }
    }
}

/// The last event of an order, if that is within `scope`.
fn within(scope: &Scope, last: Option<StoredEvent>) -> Result<Option<StoredEvent>, AppError> {
    let Some(last) = last else { return Ok(None) };
    let is_own = *scope == Scope::ALL || scope.admits(EventHeader::read(&last.payload)?.customer_id()?);
    Ok(is_own.then_some(last))
}

/// Whether the events after `revision` in `events` continue it without a gap.
fn follow_on(revision: Revision, events: &[StoredEvent]) -> bool {
    let later = events.iter().map(|event| event.revision).filter(|later| *later > revision);
    later.zip(revision + 1..).all(|(later, next)| later == next)
}
