//! Which making of the stream is there, and whether it holds what has been accepted.
//!
//! A stream that was deleted, or has vanished with the data of its server, is made again under its name and counts from 1. What it held and
//! was not dealt with everywhere is gone then, and has to be published again; sequences of before say nothing of it. A stream is known by the
//! time of its making.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::backends::nats::provision::Made;

#[derive(Debug, Default)]
pub(super) struct Identity(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The making that was found last.
    found: Option<Made>,
    /// The making that holds whatever was accepted and is still needed.
    whole: Option<Made>,
    /// The making into which publishing begins again.
    resumed: Option<Made>,
    /// When it was noticed that the two differ.
    lost_at: Option<Instant>,
    /// The highest sequence that was answered for a message stored in `found`.
    highest: u64,
}

impl Identity {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock())
    }

    /// Takes note that `made` is there. The first that a process finds is taken to be whole: it cannot know better.
    pub(super) fn found(&self, made: Made, stream: &str) {
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
                stream,
                "the stream of events was lost with what it held: what may be missing is published again"
            );
        }
    }

    /// Takes note of the sequences of messages that were stored one after the other. Answers whether they can be of the stream that was found
    /// last: in that, sequences grow.
    pub(super) fn stored(&self, lowest: u64, highest: u64) -> bool {
        self.with(|state| {
            let fits = lowest > state.highest;
            state.highest = highest;
            fits
        })
    }

    /// The making that holds whatever was accepted and is still needed; `None` if none was found yet.
    pub(super) fn whole(&self) -> Option<Made> {
        self.with(|state| state.whole)
    }

    /// Since when it has been known that something may be missing; `None` if nothing is.
    pub(super) fn lost_since(&self) -> Option<Instant> {
        self.with(|state| state.lost_at.filter(|_| state.found != state.whole))
    }

    /// What may be missing is about to be found out; what is lost from here on is lost again.
    pub(super) fn begin_resuming(&self) {
        self.with(|state| state.resumed = state.found);
    }

    /// It is published again before anything else.
    pub(super) fn resume(&self) {
        self.with(|state| state.whole = state.resumed.or(state.whole));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_was_made_again_is_not_whole_until_publishing_has_begun_again() {
        let identity = Identity::default();
        identity.found(Made(1), "events");
        identity.found(Made(1), "events");
        assert_eq!((identity.whole(), identity.lost_since()), (Some(Made(1)), None));
        identity.found(Made(2), "events");
        assert_eq!(identity.whole(), Some(Made(1)));
        assert!(identity.lost_since().is_some());
        identity.begin_resuming();
        // Lost once more meanwhile.
        identity.found(Made(3), "events");
        identity.resume();
        assert!(identity.lost_since().is_some());
        identity.begin_resuming();
        identity.resume();
        assert_eq!((identity.whole(), identity.lost_since()), (Some(Made(3)), None));
    }

    #[test]
    fn sequences_that_do_not_grow_are_of_another_stream() {
        let identity = Identity::default();
        assert!(identity.stored(1, 5) && identity.stored(6, 6) && !identity.stored(1, 3) && identity.stored(4, 9));
    }
}
