//! Streams of events: catch up from the log, then follow it; never skipping, holding one batch at a time.

mod batch;
mod feed;
mod order;
#[cfg(test)]
mod tests;

use std::time::Duration;

use tokio::time::Instant;

pub use self::{feed::EventFeed, order::OrderHistory};
use super::{AppError, fan_out::Subscription};
use crate::ports::event_store::{LogPoint, Revision, StoredEvent};

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

/// Either of the two, for those who show them alike.
pub trait EventSource: Send + 'static {
    /// The next step. To be called until it answers [`Step::End`] or an error, and only when the events of the one before have been passed on:
    /// what they hold of the bytes for readers is given back then.
    ///
    /// # Errors
    /// [`AppError::ShuttingDown`] when the node drains; [`AppError::LogReplaced`] when the log no longer has what was streamed;
    /// [`AppError::ReadersBehind`] when readers have not made room for more events in time; otherwise what the store says.
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

fn far_from_now(by: Duration) -> Instant {
    const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + by.min(A_YEAR)
}

/// Waits until there is something new for a follower who is handed new events.
async fn changed(subscription: Option<&Subscription>) {
    match subscription {
        Some(subscription) => subscription.changed().await,
        None => std::future::pending().await,
    }
}
