//! The entries that are missing from the log: logged when that begins, counted, and logged when they are there again.

use parking_lot::Mutex;

use super::ends::Ends;
use crate::telemetry::outage::{Line, Outage};

/// What is known of missing entries. Shared by the connection and the store, so that each finding is logged once.
#[derive(Debug, Default)]
pub(super) struct Damage {
    /// The address of Redis, for messages.
    server: String,
    outage: Outage,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// How many entries are missing.
    missing: u64,
    /// How often more were missing than before.
    losses: u64,
}

impl Damage {
    /// Nothing is missing yet from the log in the Redis at this address.
    pub(super) fn of(server: String) -> Self {
        Self { server, ..Self::default() }
    }

    /// Compares with the log's current ends. Returns which entries are missing, if any, and whether they are more than before.
    pub(super) fn look(&self, ends: &Ends) -> Option<(String, bool)> {
        let missing = ends.missing();
        let is_more = {
            let mut known = self.known.lock();
            let before = std::mem::replace(&mut known.missing, ends.missing_count());
            let is_more = known.missing > before;
            known.losses += u64::from(is_more);
            is_more
        };
        match &missing {
            Some(missing) => {
                if let Some(Line { unsaid }) = self.outage.failed(missing) {
                    tracing::error!(
                        server = self.server,
                        missing,
                        unsaid,
                        "the log in Redis lacks entries: `ordersystem verify` names what is damaged"
                    );
                }
            }
            None => {
                if let Some(lasted) = self.outage.works() {
                    let lasted_ms = lasted.as_millis() as u64;
                    tracing::info!(server = self.server, lasted_ms, "the log in Redis has all its entries again");
                }
            }
        }
        missing.map(|missing| (missing, is_more))
    }

    /// How often entries were lost.
    pub(super) fn losses(&self) -> u64 {
        self.known.lock().losses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_lost_once_however_the_log_grows_and_again_when_more_are_missing() {
        let damage = Damage::default();
        let mut seen = Vec::new();
        for (length, last) in [(10, 10), (9, 10), (9, 10), (29, 30), (28, 30), (30, 30), (29, 30)] {
            let is_more = damage.look(&Ends::of(length, last)).map(|(_, is_more)| is_more);
            seen.push((is_more, damage.losses()));
        }
        let expected = [
            (None, 0),
            (Some(true), 1),
            (Some(false), 1),
            (Some(false), 1),
            (Some(true), 2),
            (None, 2),
            (Some(true), 3),
        ];
        assert_eq!(seen, expected);
    }
}
