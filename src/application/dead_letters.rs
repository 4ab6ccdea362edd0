//! Dead letters of handlers: operators can list, redeliver or discard them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::AppError;
use crate::{
    ports::message_bus::{BusError, DeadLetter, EventId, MAX_DEAD_LETTERS, MessageBus},
    telemetry::outage::{Line, Outage},
};

/// Failures of the bus.
static FAULTS: Outage = Outage::new();

/// The dead letters of the handlers of this node. A bus within the process has those of this node only.
#[derive(Debug)]
pub struct DeadLetters {
    bus: Arc<dyn MessageBus>,
    handlers: Vec<String>,
}

/// Selects dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that exist when the call begins.
    All,
    /// The letters of these events.
    Events(Vec<EventId>),
}

/// A page of the dead letters of a handler, the oldest first.
#[derive(Debug)]
pub struct DeadLetterPage {
    /// The letters.
    pub letters: Vec<DeadLetter>,
    /// Whether more follow.
    pub has_more: bool,
}

/// The start of a page: after this letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// The number of letters shown so far.
    pub shown: usize,
    /// The event of the last one.
    pub event: EventId,
    /// When that event became a dead letter.
    pub at: SystemTime,
}

impl After {
    /// After `last`, with which `shown` letters have been shown.
    #[must_use]
    pub fn letter(shown: usize, last: &DeadLetter) -> Self {
        Self { shown, event: last.message.event_id(), at: last.at }
    }

    /// The token of the page. Opaque to clients: the number of letters shown, the event of the last one, and its microseconds since the epoch.
    #[must_use]
    pub fn page_token(&self) -> String {
        let since_epoch = self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        format!("{}.{}.{}", self.shown, self.event, since_epoch.as_micros())
    }

    /// The start of the page with this token; `None` if it is malformed.
    #[must_use]
    pub fn of_page_token(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let shown = parts.next()?.parse().ok().filter(|shown| *shown <= MAX_DEAD_LETTERS)?;
        let event: EventId = parts.next()?.parse().ok()?;
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(parts.next()?.parse().ok()?))?;
        parts.next().is_none().then_some(Self { shown, event, at })
    }
}

impl DeadLetters {
    /// The dead letters of `handlers` on `bus`.
    #[must_use]
    pub const fn new(bus: Arc<dyn MessageBus>, handlers: Vec<String>) -> Self {
        Self { bus, handlers }
    }

    /// Up to `max` letters of `handler` after `after`. Letters removed between two pages shift the rest, but no remaining letter is skipped.
    ///
    /// # Errors
    /// [`AppError::HandlerNotFound`], [`AppError::Unavailable`].
    pub async fn list(&self, handler: &str, after: Option<After>, max: usize) -> Result<DeadLetterPage, AppError> {
        self.known(handler)?;
        let shown = after.map_or(0, |after| after.shown);
        let wanted = shown.saturating_add(max).saturating_add(1).min(MAX_DEAD_LETTERS);
        let mut letters = self.bus.dead_letters(handler, wanted).await.map_err(unavailable)?;
        if let Some(After { event, at, .. }) = after {
            let last = letters.iter().position(|letter| letter.message.event_id() == event);
            // If the last letter was removed, its time is used; showing a letter twice is better than skipping one.
            let seen = last.map_or_else(|| letters.iter().take_while(|letter| letter.at < at).count(), |last| last + 1);
            letters.drain(..seen);
        }
        let has_more = letters.len() > max;
        letters.truncate(max);
        Ok(DeadLetterPage { letters, has_more })
    }

    /// Redelivers letters to `handler`; returns how many there were.
    ///
    /// # Errors
    /// [`AppError::HandlerNotFound`], [`AppError::Unavailable`]: some may have been replayed.
    pub async fn replay(&self, handler: &str, which: Which) -> Result<usize, AppError> {
        let events = self.events(handler, which).await?;
        self.bus.replay(handler, &events).await.map_err(unavailable)
    }

    /// Permanently discards letters of `handler`; returns how many there were.
    ///
    /// # Errors
    /// [`AppError::HandlerNotFound`], [`AppError::Unavailable`]: some may have been discarded.
    pub async fn discard(&self, handler: &str, which: Which) -> Result<usize, AppError> {
        let events = self.events(handler, which).await?;
        self.bus.discard(handler, &events).await.map_err(unavailable)
    }

    /// A replayed letter may fail and return at once: `All` means the letters that existed before.
    async fn events(&self, handler: &str, which: Which) -> Result<Vec<EventId>, AppError> {
        self.known(handler)?;
        match which {
            Which::Events(events) => Ok(events),
            Which::All => {
                let letters = self.bus.dead_letters(handler, MAX_DEAD_LETTERS).await.map_err(unavailable)?;
                Ok(letters.iter().map(|letter| letter.message.event_id()).collect())
            }
        }
    }

    fn known(&self, handler: &str) -> Result<(), AppError> {
        if self.handlers.iter().any(|known| known == handler) {
            return Ok(());
        }
        Err(AppError::HandlerNotFound { name: handler.to_owned(), known: self.handlers.clone() })
    }
}

fn unavailable(error: BusError) -> AppError {
    // Not repeated for each poll of a dashboard.
    if let Some(Line { unsaid }) = FAULTS.failed(&error.to_string()) {
        tracing::warn!(%error, unsaid, "the message bus cannot answer for its dead letters");
    }
    AppError::unavailable(error)
}
