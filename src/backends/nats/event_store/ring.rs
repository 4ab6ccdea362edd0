//! The newest commits of the log, in memory: followers near the end of the log read them here.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;

use super::commit::{Marker, StoredCommit};
use crate::ports::event_store::StoreError;

/// The maximum number of commits that are kept.
const MAX_COMMITS: usize = 8_192;
/// The maximum number of payload bytes that are kept, except for the newest commit.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// A message of the log, or its defect.
pub(super) type Slot = Result<Entry, StoreError>;

/// The decoded content of a message of the log.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Commit(Arc<StoredCommit>),
    Marker(Marker),
}

/// Commits without gaps up to the newest that has been seen.
#[derive(Debug, Default)]
pub(super) struct Ring(Mutex<Content>);

#[derive(Debug, Default)]
struct Content {
    /// The sequence of the first slot, or of the one that comes next.
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
    /// The sequence of the last commit before the next message; a foreign message counts as one.
    last_commit: u64,
}

impl Content {
    fn next(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    fn restart(&mut self, next: u64, last_commit: u64) {
        *self = Self { first: next, last_commit, ..Self::default() };
    }
}

fn size(slot: &Slot) -> usize {
    match slot {
        Ok(Entry::Commit(commit)) => commit.bytes(),
        Ok(Entry::Marker(_)) | Err(_) => 0,
    }
}

impl Ring {
    /// The sequence of the message that comes next; 0 before [`Ring::start`].
    pub(super) fn next(&self) -> u64 {
        self.lock().next()
    }

    /// Forgets everything, until [`Ring::start`].
    pub(super) fn clear(&self) {
        self.lock().restart(0, 0);
    }

    /// Whether the held messages end at message `next`, or fewer messages before it than the ring holds.
    pub(super) fn leads_to(&self, next: u64) -> bool {
        let content = self.lock();
        content.first > 0 && content.next() + MAX_COMMITS as u64 / 2 >= next && content.next() <= next
    }

    /// Begins with message `next`; `last_commit` is the last commit before it.
    pub(super) fn start(&self, next: u64, last_commit: u64) {
        self.lock().restart(next, last_commit);
    }

    /// The last message that has been seen, and the last commit up to there.
    pub(super) fn tip(&self) -> Marker {
        let content = self.lock();
        if content.first == 0 {
            return Marker::default();
        }
        Marker { seen: content.next() - 1, last_commit: content.last_commit }
    }

    /// Adds message `sequence` if it is the next one; returns whether it was.
    pub(super) fn add(&self, sequence: u64, slot: Slot) -> bool {
        let mut content = self.lock();
        if content.first == 0 || sequence != content.next() {
            return false;
        }
        content.bytes += size(&slot);
        if !matches!(slot, Ok(Entry::Marker(_))) {
            content.last_commit = sequence;
        }
        content.slots.push_back(slot);
        while content.slots.len() > MAX_COMMITS || (content.bytes > MAX_BYTES && content.slots.len() > 1) {
            let Some(oldest) = content.slots.pop_front() else { break };
            content.first += 1;
            content.bytes -= size(&oldest);
        }
        true
    }

    /// Up to `count` messages from `from` on; `None` if that one is not held, and is not the next one either.
    pub(super) fn read(&self, from: u64, count: usize) -> Option<Vec<Slot>> {
        let content = self.lock();
        if content.first == 0 || from < content.first || from > content.next() {
            return None;
        }
        let skip = usize::try_from(from - content.first).ok()?;
        Some(content.slots.iter().skip(skip).take(count).cloned().collect())
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Content> {
        self.0.lock()
    }
}
