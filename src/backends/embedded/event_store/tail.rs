//! The end of the log in memory: followers of a busy log read new events from here.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use parking_lot::RwLock;
use rusqlite::Connection;
use tokio::sync::watch;

use super::{super::error::DbError, rows};
use crate::ports::event_store::{Direction, Position, ReadBound, StoredEvent};

/// The maximum number of events kept.
const MAX_EVENTS: usize = 16_384;
/// The maximum payload kept, in bytes.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Events read from the file when it is opened: the first followers find them here.
const WARM_EVENTS: usize = 1_024;

#[derive(Debug)]
pub(in super::super) struct Tail {
    /// The last position that is committed and synced. Stored after its events are in `recent`.
    head: AtomicU64,
    recent: RwLock<Recent>,
    wake: watch::Sender<Position>,
}

/// The newest events, without gaps, up to the head or a little beyond.
#[derive(Debug, Default)]
struct Recent {
    events: VecDeque<StoredEvent>,
    bytes: usize,
}

impl Tail {
    /// The end of the log in the file. Damage there is reported by later reads.
    pub(in super::super) fn load(connection: &Connection) -> Result<Self, DbError> {
        let head = rows::head(connection)?;
        let mut recent = Recent::default();
        match rows::read_log(
            connection,
            Position(head.0.saturating_add(1)),
            Direction::Backward,
            ReadBound::events(WARM_EVENTS),
            head,
        ) {
            Ok(events) => recent.push(events.into_iter().rev()),
            Err(error) => tracing::error!(%error, "the end of the log is damaged"),
        }
        Ok(Self { head: AtomicU64::new(head.0), recent: RwLock::new(recent), wake: watch::Sender::new(head) })
    }

    pub(super) fn head(&self) -> Position {
        Position(self.head.load(Ordering::Acquire))
    }

    /// Makes the events of a synced transaction visible, all at once.
    pub(super) fn publish(&self, events: Vec<StoredEvent>) {
        let Some(last) = events.last().map(|event| event.position) else { return };
        self.recent.write().push(events.into_iter());
        self.head.store(last.0, Ordering::Release);
        // Pairs with the fence in `subscribe`: either this sees the new receiver, or the receiver's next read sees the events.
        fence(Ordering::SeqCst);
        if self.wake.receiver_count() > 0 {
            self.wake.send_replace(last);
        }
    }

    pub(in super::super) fn subscribe(&self) -> watch::Receiver<Position> {
        let receiver = self.wake.subscribe();
        fence(Ordering::SeqCst);
        receiver
    }

    /// The result of a read of the log, if all of it is here.
    pub(super) fn read(&self, from: Position, direction: Direction, bound: ReadBound) -> Option<Vec<StoredEvent>> {
        if bound.max_events == 0 || (direction == Direction::Forward && from >= self.head()) {
            return Some(Vec::new());
        }
        let recent = self.recent.read();
        let first = recent.events.front()?.position.0;
        match direction {
            Direction::Forward => {
                let skipped = usize::try_from(from.0.checked_add(1)?.checked_sub(first)?).ok()?;
                Some(page(recent.events.range(skipped.min(recent.events.len())..), bound))
            }
            Direction::Backward => {
                let before = from.0.saturating_sub(first).min(recent.events.len() as u64) as usize;
                let is_all_here = first == 1 || before >= bound.max_events;
                is_all_here.then(|| page(recent.events.range(..before).rev(), bound))
            }
        }
    }
}

impl Recent {
    /// Adds the following events, and drops from the front.
    fn push(&mut self, events: impl Iterator<Item = StoredEvent>) {
        for event in events {
            self.bytes += event.payload.len();
            self.events.push_back(event);
        }
        while self.events.len() > MAX_EVENTS || (self.bytes > MAX_BYTES && self.events.len() > 1) {
            let Some(oldest) = self.events.pop_front() else { break };
            self.bytes -= oldest.payload.len();
        }
    }
}

fn page<'a>(events: impl Iterator<Item = &'a StoredEvent>, bound: ReadBound) -> Vec<StoredEvent> {
    let mut page = Vec::new();
    let mut bytes = 0;
    for event in events.take(bound.max_events) {
        bytes += event.payload.len();
        page.push(event.clone());
        if bytes >= bound.max_bytes {
            break;
        }
    }
    page
}
