//! The stream of the events of all orders.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Step,
    batch::{BATCH_BYTES, Batches},
    changed, far_from_now, require_log, unless_lost,
};
use crate::{
    application::{
        AppError,
        event_filter::EventFilter,
        fan_out::{FanOut, Handed, Subscription},
    },
    ports::event_store::{Direction, LogFollower, LogPoint, Position, StoredEvent},
};

/// The stream of the events of all orders.
#[derive(Debug)]
pub struct EventFeed {
    fan_out: FanOut,
    follower: LogFollower,
    filter: Arc<EventFilter>,
    /// The end of the log when the stream opened; `None` once a follower has learned that it has caught up.
    catching_up_to: Option<Position>,
    /// The membership in the fan-out of new events.
    subscription: Option<Subscription>,
    /// Whether the log has been read up to the start of the subscription.
    is_live: bool,
    batches: Batches,
    /// How many more events may be read, whether they match the filter or not.
    may_scan: usize,
    follow: bool,
    heartbeat_every: Duration,
    heartbeat_at: Instant,
    draining: CancellationToken,
}

impl EventFeed {
    /// Streams the events after `after` (`None`: after the current end).
    ///
    /// # Errors
    /// [`AppError::LogReplaced`] if the log does not have the event at `after`, as confirmed by a quorum; [`AppError::Unavailable`].
    pub async fn open(
        fan_out: FanOut,
        after: Option<LogPoint>,
        filter: EventFilter,
        follow: Option<Duration>,
        mut batches: Batches,
        draining: CancellationToken,
    ) -> Result<Self, AppError> {
        let store = Arc::clone(fan_out.store());
        require_log(&*store, after.unwrap_or(LogPoint::START))?;
        let (after, head) = match after {
            Some(after) => {
                // Checked now and not with the first event, for which a client may wait for a long time.
                after.verify(&*store).await?;
                (after, store.head().await?)
            }
            None => {
                let last = store.read_log(Position(u64::MAX), Direction::Backward, 1).await?;
                let last = last.first().map_or(LogPoint::START, LogPoint::after);
                (last, last.position)
            }
        };
        if after.position < head {
            batches.behind();
        }
        let heartbeat_every = follow.unwrap_or(Duration::MAX);
        Ok(Self {
            fan_out,
            follower: LogFollower::new(store, after),
            filter: Arc::new(filter),
            catching_up_to: Some(head),
            subscription: None,
            is_live: false,
            batches,
            may_scan: usize::MAX,
            follow: follow.is_some(),
            heartbeat_every,
            heartbeat_at: far_from_now(heartbeat_every),
            draining,
        })
    }

    /// Ends after `events` events have been read, whether they match the filter or not: see [`EventFeed::is_cut`].
    #[must_use]
    pub fn scanning_at_most(self, events: usize) -> Self {
        Self { may_scan: events, ..self }
    }

    /// Whether the stream, if it has ended, has only read as many events as it may, and there may be more after its point.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.may_scan == 0 && self.catching_up_to.is_some_and(|end| self.follower.position() < end)
    }

    /// The point to resume after.
    #[must_use]
    pub const fn point(&self) -> LogPoint {
        self.follower.point()
    }

    /// The next step. Call it until it returns [`Step::End`] or an error, and only after the previous events have been passed on: their share of the
    /// byte budget for readers is released then.
    ///
    /// # Errors
    /// As [`EventStream::next`](super::EventStream::next).
    pub async fn next(&mut self) -> Result<Step, AppError> {
        self.batches.passed_on();
        let loss = self.fan_out.store().log_loss();
        unless_lost(loss, self.step()).await
    }

    async fn step(&mut self) -> Result<Step, AppError> {
        loop {
            if self.draining.is_cancelled() {
                return Err(AppError::ShuttingDown);
            }
            if self.catching_up_to.is_some_and(|end| self.follower.position() >= end) {
                if !self.follow {
                    // Not the current end of the log: a reader slower than the writers would never reach it.
                    return Ok(Step::End);
                }
                self.catching_up_to = None;
                return Ok(Step::CaughtUp);
            }
            if self.may_scan == 0 {
                return Ok(Step::End);
            }
            let step = if self.is_live { self.next_live().await? } else { self.read().await? };
            if let Some(step) = step {
                return Ok(step);
            }
        }
    }

    /// Reads from the log; waits for more at its end.
    async fn read(&mut self) -> Result<Option<Step>, AppError> {
        self.batches.room().await?;
        let turn = self.batches.turn().await;
        let batch = self.follower.poll_within(self.batches.max_events().min(self.may_scan), BATCH_BYTES).await?;
        drop(turn);
        self.batches.read(&batch);
        self.may_scan = self.may_scan.saturating_sub(batch.len());
        if batch.is_empty() {
            if !self.follow {
                return Ok(Some(Step::End));
            }
            return if self.joins() { Ok(None) } else { self.wait().await };
        }
        let passing = self.pass(batch)?;
        if !passing.is_empty() {
            self.heartbeat_at = far_from_now(self.heartbeat_every);
            return Ok(Some(Step::Events(passing)));
        }
        if self.follow && Instant::now() >= self.heartbeat_at {
            return Ok(Some(self.heartbeat()));
        }
        // A long stretch of filtered events must not block the thread.
        tokio::task::yield_now().await;
        Ok(None)
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

    /// At the end of the log, joins the fan-out of new events; returns `false` if that requires waiting.
    fn joins(&mut self) -> bool {
        if self.catching_up_to.is_some() {
            return false;
        }
        let Some(subscription) = &self.subscription else {
            self.subscription = Some(self.fan_out.join(Arc::clone(&self.filter)));
            // Events that arrived meanwhile are read first.
            return true;
        };
        if subscription.has_left() {
            self.subscription = None;
            return false;
        }
        let begins_after = subscription.begins_after();
        self.is_live = begins_after.is_some_and(|begins_after| self.follower.position() >= begins_after.position);
        self.is_live
    }

    async fn wait(&mut self) -> Result<Option<Step>, AppError> {
        tokio::select! {
            () = self.follower.wait() => Ok(None),
            () = changed(self.subscription.as_ref()) => Ok(None),
            () = self.draining.cancelled() => Err(AppError::ShuttingDown),
            () = sleep_until(self.heartbeat_at) => Ok(Some(self.heartbeat())),
        }
    }

    /// The events handed to this follower; `None` when it has to read the log again.
    async fn next_live(&mut self) -> Result<Option<Step>, AppError> {
        let handed = self.subscription.as_ref().map(|subscription| subscription.take(self.follower.found_on()));
        match handed {
            Some(Handed::Events(mut events)) => {
                let seen = self.follower.position();
                // The fan-out reader may have been behind this stream when it joined.
                events.retain(|event| event.position > seen);
                let Some(last) = events.last() else { return Ok(None) };
                self.follower.pass(LogPoint::after(last));
                self.heartbeat_at = far_from_now(self.heartbeat_every);
                Ok(Some(Step::Events(events)))
            }
            Some(Handed::Nothing) => self.wait_live().await,
            Some(Handed::Left) | None => {
                self.subscription = None;
                self.is_live = false;
                Ok(None)
            }
        }
    }

    async fn wait_live(&mut self) -> Result<Option<Step>, AppError> {
        tokio::select! {
            () = changed(self.subscription.as_ref()) => Ok(None),
            () = self.draining.cancelled() => Err(AppError::ShuttingDown),
            () = sleep_until(self.heartbeat_at) => {
                // Filtered events count as passed, too.
                let passed = self.subscription.as_ref().and_then(|subscription| subscription.passed(self.follower.found_on()));
                if let Some(point) = passed.filter(|point| point.position > self.follower.position()) {
                    self.follower.pass(point);
                }
                Ok(Some(self.heartbeat()))
            }
        }
    }

    fn heartbeat(&mut self) -> Step {
        self.heartbeat_at = far_from_now(self.heartbeat_every);
        Step::Heartbeat
    }
}
