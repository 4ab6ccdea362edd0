//! The queue of one follower: events handed to it and not yet taken.

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::{Handed, Reached};
use crate::ports::event_store::{LogPoint, StoredEvent};

/// The maximum number of events in a queue.
const MAX_EVENTS: usize = 256;
/// The maximum size of a queue with more than one event, in bytes.
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
    /// The connection on which all queued events were read: a queue ends with its connection.
    connection: u64,
    has_ended: bool,
}

impl Queue {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock()
    }

    /// Declares the queue complete from `reached` on.
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

    /// Adds `event`; returns whether there was room for it.
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

    /// Ends the queue; events not yet taken must be read from the log.
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
