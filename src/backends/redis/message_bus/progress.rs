//! The progress of a consumer in each log: it outlives the stream, so that events can be published again that were not processed when it was lost.

use std::collections::{BTreeMap, HashMap};

use super::entry::Origin;

/// The received entries of the stream, from the first one that is not processed.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// By number.
    entries: BTreeMap<u64, Entry>,
    /// The position in each log up to which all events are processed.
    processed: HashMap<u32, Position>,
}

#[derive(Debug)]
struct Entry {
    /// `None` for a message of an earlier version, or of another program.
    origin: Option<Origin>,
    is_processed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Position {
    reached: u64,
    stored: Option<u64>,
}

impl Received {
    /// Adds an entry, which comes after all others.
    pub(super) fn add(&mut self, number: u64, origin: Option<Origin>) {
        self.entries.insert(number, Entry { origin, is_processed: false });
    }

    /// Records that an entry is processed.
    pub(super) fn finish(&mut self, number: u64) {
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.is_processed = true;
        }
        while let Some(first) = self.entries.first_entry().filter(|first| first.get().is_processed) {
            // Also to an earlier position: the log may have become shorter, and have other events after it.
            if let Some(Origin { log, position }) = first.remove().origin {
                self.processed.entry(log).or_default().reached = position;
            }
        }
    }

    /// The logs whose position has changed since it was stored.
    pub(super) fn unstored(&self) -> Vec<Origin> {
        let unstored = self.processed.iter().filter(|(_, position)| position.stored != Some(position.reached));
        unstored.map(|(log, position)| Origin { log: *log, position: position.reached }).collect()
    }

    /// Records that these positions are stored.
    pub(super) fn stored(&mut self, origins: &[Origin]) {
        for Origin { log, position } in origins {
            self.processed.entry(*log).or_default().stored = Some(*position);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log: u32, position: u64) -> Origin {
        Origin { log, position }
    }

    fn received(entries: impl IntoIterator<Item = (u64, Origin)>) -> Received {
        let mut received = Received::default();
        entries.into_iter().for_each(|(number, origin)| received.add(number, Some(origin)));
        received
    }

    #[test]
    fn the_position_of_each_log_follows_the_entries_that_are_processed_without_a_gap() {
        let mut received = received([(4, at(7, 40)), (5, at(8, 3)), (6, at(7, 41)), (7, at(7, 42))]);
        received.finish(6);
        received.finish(5);
        assert_eq!(received.unstored(), [], "the first one is not processed");
        received.finish(4);
        let mut unstored = received.unstored();
        unstored.sort_by_key(|origin| origin.log);
        assert_eq!(unstored, [at(7, 41), at(8, 3)]);
        received.stored(&unstored);
        assert_eq!(received.unstored(), []);
        received.finish(7);
        received.finish(7);
        assert_eq!(received.unstored(), [at(7, 42)]);
    }

    #[test]
    fn entries_of_others_are_passed_and_a_shorter_log_sets_the_position_back() {
        let mut received = received([(1, at(7, 10))]);
        received.add(2, None);
        received.add(3, Some(at(7, 6)));
        (1..=3).for_each(|number| received.finish(number));
        assert_eq!(received.unstored(), [at(7, 6)]);
    }

    #[test]
    fn a_position_that_advances_while_it_is_stored_is_stored_again() {
        let mut received = received([(1, at(7, 1)), (2, at(7, 2))]);
        received.finish(1);
        let first = received.unstored();
        received.finish(2);
        received.stored(&first);
        assert_eq!(received.unstored(), [at(7, 2)]);
    }
}
