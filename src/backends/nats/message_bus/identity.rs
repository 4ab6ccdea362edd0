//! The current incarnation of the stream, and whether it holds all accepted messages.
//!
//! A stream that was deleted, or has vanished with the data of its server, is recreated under its name and counts from 1. Its messages that were not
//! processed by all consumers are then lost and must be published again; earlier sequences are meaningless. An incarnation is identified by its
//! creation time.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{backends::nats::provision::Made, ports::server_name::ServerName};

#[derive(Debug, Default)]
pub(super) struct Identity(Mutex<Incarnations>);

#[derive(Clone, Copy, Debug, Default)]
struct Incarnations {
    /// The incarnation that was found last.
    found: Option<Made>,
    /// The incarnation that holds all accepted messages that are still needed.
    whole: Option<Made>,
    /// The incarnation into which messages are being published again.
    resumed: Option<Made>,
    /// When the first two were found to differ.
    lost_at: Option<Instant>,
    /// The highest sequence returned for a message stored in `found`.
    highest: u64,
}

impl Identity {
    fn with<T>(&self, work: impl FnOnce(&mut Incarnations) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// Records that `made` exists. The first incarnation that a process finds is assumed to be complete: it cannot know better.
    pub(super) fn found(&self, made: Made, stream: &str, server: &ServerName) {
        let is_news = self.with(|state| {
            let is_news = state.found.is_some_and(|before| before != made);
            if is_news {
                (state.lost_at, state.highest) = (Some(Instant::now()), 0);
            }
            state.found = Some(made);
            state.whole = state.whole.or(Some(made));
            is_news
        });
        if is_news {
            tracing::error!(
                server = server.address(),
                stream,
                "the stream of events was lost with its contents: publishing events again that may be missing"
            );
        }
    }

    /// Records the sequences of messages that were stored one after the other. Returns whether they can belong to the stream that was found last, in
    /// which sequences grow.
    pub(super) fn stored(&self, lowest: u64, highest: u64) -> bool {
        self.with(|state| {
            let fits = lowest > state.highest;
            state.highest = highest;
            fits
        })
    }

    /// The incarnation that holds all accepted messages that are still needed; `None` if none was found yet.
    pub(super) fn whole(&self) -> Option<Made> {
        self.with(|state| state.whole)
    }

    /// Since when messages have been known to be possibly missing; `None` if they are not.
    pub(super) fn lost_since(&self) -> Option<Instant> {
        self.with(|state| state.lost_at.filter(|_| state.found != state.whole))
    }

    /// The caller is about to determine the missing messages; a loss after this call is a new one.
    pub(super) fn begin_resuming(&self) {
        self.with(|state| state.resumed = state.found);
    }

    /// The missing messages are published again before any others.
    pub(super) fn resume(&self) {
        self.with(|state| state.whole = state.resumed.or(state.whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recreated_stream_is_not_complete_until_publishing_has_resumed() {
        let (identity, server) = (Identity::default(), ServerName::new("NATS", "one:4222"));
        identity.found(Made(1), "events", &server);
        identity.found(Made(1), "events", &server);
        assert_eq!((identity.whole(), identity.lost_since()), (Some(Made(1)), None));
        identity.found(Made(2), "events", &server);
        assert_eq!(identity.whole(), Some(Made(1)));
        assert!(identity.lost_since().is_some());
        identity.begin_resuming();
        // Another loss in the meantime.
        identity.found(Made(3), "events", &server);
        identity.resume();
        assert!(identity.lost_since().is_some());
        identity.begin_resuming();
        identity.resume();
        assert_eq!((identity.whole(), identity.lost_since()), (Some(Made(3)), None));
    }

    #[test]
    fn sequences_that_do_not_grow_belong_to_another_stream() {
        let identity = Identity::default();
        assert!(identity.stored(1, 5) && identity.stored(6, 6) && !identity.stored(1, 3) && identity.stored(4, 9));
    }
}
