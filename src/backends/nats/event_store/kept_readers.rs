//! Readers of the log that have more to deliver, kept for reads that continue where they stopped.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::{
    commit::StoredCommit,
    foreign,
    ring::{Entry, Slot},
    streams::gap,
};
use crate::{
    backends::nats::pull_reader::Reader,
    ports::event_store::{Revision, StoreError, StreamId},
};

/// How many readers are kept for a next read that continues where they stopped.
const MAX_KEPT: usize = 8;

/// Readers that have more to deliver, each with its fetched messages that have not been taken.
#[derive(Debug, Default)]
pub(super) struct Readers(Mutex<VecDeque<Kept>>);

#[derive(Debug)]
pub(super) struct Kept {
    pub reader: Reader,
    /// The stream that it reads; `None`: the whole log.
    pub of: Option<StreamId>,
    /// The next expected message: those between it and the first fetched one are missing.
    pub at: u64,
    /// The fetched messages that have not been taken, in order, with their sequences.
    pub fetched: VecDeque<(u64, Slot)>,
    /// The revision at which a reader of a stream continues.
    pub next_revision: Revision,
}

impl Kept {
    pub(super) fn new(reader: Reader, of: Option<StreamId>) -> Self {
        let at = reader.next_sequence();
        Self { reader, of, at, fetched: VecDeque::new(), next_revision: 1 }
    }

    /// Whether it knows the content of message `sequence`, or that it is missing.
    pub(super) fn covers(&self, sequence: u64) -> bool {
        self.at <= sequence && self.fetched.front().map_or(self.reader.next_sequence(), |(first, _)| *first) >= sequence
    }

    /// The next commit of a stream, which stays until it is taken.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it is invalid, or does not follow the previous one.
    pub(super) fn front_of_stream(&self) -> Result<Option<Arc<StoredCommit>>, StoreError> {
        let Some((sequence, slot)) = self.fetched.front() else { return Ok(None) };
        let Entry::Commit(commit) = slot.clone()? else {
            return Err(foreign("the log", *sequence, "is not a commit, but has the subject of an order"));
        };
        if commit.first_revision != self.next_revision {
            return Err(gap(&commit, self.next_revision));
        }
        Ok(Some(commit))
    }

    /// Continues after `commit`, the front one.
    pub(super) fn pass(&mut self, commit: &StoredCommit) {
        self.next_revision = commit.last_revision() + 1;
        self.fetched.pop_front();
    }
}

impl Readers {
    /// Takes the reader whose position `fits` accepts.
    pub(super) fn take(&self, of: Option<StreamId>, fits: impl Fn(&Kept) -> bool) -> Option<Kept> {
        let mut kept = self.0.lock();
        let found = kept.iter().position(|kept| kept.of == of && kept.reader.is_current() && fits(kept))?;
        kept.remove(found)
    }

    /// Closes all readers.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Keeps one, and closes the one that it displaces.
    pub(super) fn keep(&self, reader: Kept) {
        let mut kept = self.0.lock();
        kept.push_back(reader);
        if kept.len() > MAX_KEPT {
            kept.pop_front();
        }
    }
}
