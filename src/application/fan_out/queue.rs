//! What one follower has been handed and has not taken yet.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{Handed, Reached};
use crate::ports::event_store::{LogPoint, StoredEvent};

/// The most events in a queue.
const MAX_EVENTS: usize = 256;
/// The most bytes of more than one event.
const MAX_BYTES: usize = 256 * 1024;

#[derive(Debug, Default)]
pub(super) struct Queue {
    inside: Mutex<Inside>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inside {
    begins_after: Option<LogPoint>,
    events: Vec<StoredEvent>,
    bytes: usize,
    /// The connection on which the events were read: all on one, since a queue ends with it.
    connection: u64,
    has_ended: bool,
}

impl Queue {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    /// Lacks nothing from here on.
    pub fn begin(&self, reached: Reached) {
        let mut inside = self.inside();
        inside.begins_after.get_or_insert(reached.point);
        inside.connection = reached.connection;
        drop(inside);
        self.changed.notify_one();
    }

    pub fn begins_after(&self) -> Option<LogPoint> {
        self.inside().begins_after
    }

    /// Whether there was room for `event`.
    pub fn push(&self, event: &StoredEvent, connection: u64) -> bool {
        let mut inside = self.inside();
        let bytes = inside.bytes + event.payload.len();
        let has_room = inside.events.len() < MAX_EVENTS && (bytes <= MAX_BYTES || inside.events.is_empty());
        if has_room {
            inside.connection = connection;
            inside.bytes = bytes;
            inside.events.push(event.clone());
        }
        has_room
    }

    pub fn take(&self, connection: Option<u64>) -> Handed {
        let mut inside = self.inside();
        if inside.has_ended || connection != Some(inside.connection) {
            return Handed::Left;
        }
        if inside.events.is_empty() {
            return Handed::Nothing;
        }
        inside.bytes = 0;
        Handed::Events(std::mem::take(&mut inside.events))
    }

    pub fn is_empty(&self) -> bool {
        self.inside().events.is_empty()
    }

    pub fn has_ended(&self) -> bool {
        self.inside().has_ended
    }

    /// Hands out nothing more; what has not been taken is to be read from the log.
    pub fn end(&self) {
        let mut inside = self.inside();
        inside.has_ended = true;
        inside.events = Vec::new();
        drop(inside);
        self.changed.notify_one();
    }

    pub fn notify(&self) {
        self.changed.notify_one();
    }

    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}
