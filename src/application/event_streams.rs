//! Event streams: catch up from the log, then follow it; never skipping, holding one batch at a time.

mod batch;
mod feed;
mod order;
mod stream;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::{sync::watch, time::Instant};

pub use self::{
    batch::Batches,
    feed::EventFeed,
    order::OrderHistory,
    stream::{EventLog, EventStream, EventStreamPermit, Follow, Item, StreamBounds},
};
use super::{AppError, fan_out::Subscription};
use crate::ports::event_store::{EventStore, LogLoss, LogPoint, LossKind, StoredEvent};

/// One step of an event stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Events that match the filter, at least one.
    Events(Vec<StoredEvent>),
    /// All events that existed when the stream opened have been passed. Sent once, to followers only.
    CaughtUp,
    /// No event has matched the filter for a while.
    Heartbeat,
    /// There are no more events, and the reader does not follow; or it has read as many as it may.
    End,
}

/// The error of a stream whose log is no longer in its store.
fn ended_by(loss: LogLoss) -> AppError {
    match loss.kind {
        LossKind::Gone => AppError::unavailable(loss),
        LossKind::Replaced => AppError::LogReplaced(loss.why),
    }
}

/// Refuses a new stream while the log is not in its store. Only a reader that has read up to `seen` is told that another log has replaced it.
fn require_log(store: &dyn EventStore, seen: LogPoint) -> Result<(), AppError> {
    let loss = store.log_loss().borrow().clone();
    loss.map_or(Ok(()), |loss| Err(if seen == LogPoint::START { AppError::unavailable(loss) } else { ended_by(loss) }))
}

/// Runs `step`, unless the log turns out to be no longer in its store: a stream that waits for events would not notice.
async fn unless_lost(
    mut loss: watch::Receiver<Option<LogLoss>>,
    step: impl Future<Output = Result<Step, AppError>>,
) -> Result<Step, AppError> {
    let lost = async {
        let found = loss.wait_for(Option::is_some).await.ok().and_then(|loss| loss.clone());
        match found {
            Some(loss) => ended_by(loss),
            // A store within the process does not lose its log.
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        error = lost => Err(error),
        step = step => step,
    }
}

fn far_from_now(by: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + by.min(A_YEAR)
}

/// Waits for news for a follower of the fan-out.
async fn changed(subscription: Option<&Subscription>) {
    match subscription {
        Some(subscription) => subscription.changed().await,
        None => std::future::pending().await,
    }
}
