//! When the read model gets the events that were read: at once on a quiet log, several batches together on a busy one.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::ports::read_model::{LogCheckpoint, RowChange};

/// How long events of a busy log wait for others. A batch is a transaction, which costs as much as the rows of some dozens of events.
const WRITE_INTERVAL: Duration = Duration::from_millis(10);
/// A log is busy if a batch has this many events.
const BUSY_EVENTS: usize = 32;

/// How many callers wait for a position. Nothing waits for other events as long as there are any.
#[derive(Clone, Debug)]
pub(super) struct Waiters(Arc<watch::Sender<usize>>);

/// A caller that waits until this is dropped.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Waiters);

/// The time of the next batch.
#[derive(Debug)]
pub(super) struct WriteTimer {
    next: Instant,
    waiters: watch::Receiver<usize>,
}

/// Changes that are not in the read model yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    pub(super) changes: Vec<RowChange>,
    /// After the last of them.
    pub(super) checkpoint: Option<LogCheckpoint>,
}

impl Unwritten {
    pub(super) fn add(&mut self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) {
        if self.changes.is_empty() {
            self.changes = changes;
        } else {
            self.changes.extend(changes);
        }
        self.checkpoint = Some(checkpoint);
    }
}

impl Waiters {
    pub(super) fn none() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }

    pub(super) fn add(&self) -> Waiting<'_> {
        self.0.send_modify(|count| *count += 1);
        Waiting(self)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl WriteTimer {
    pub(super) fn new(waiters: &Waiters) -> Self {
        Self { next: Instant::now(), waiters: waiters.0.subscribe() }
    }

    /// Whether events still wait for others.
    pub(super) fn holds_back(&self) -> bool {
        *self.waiters.borrow() == 0 && Instant::now() < self.next
    }

    /// Waits until they no longer do.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            () = sleep_until(self.next) => {}
            _ = self.waiters.wait_for(|count| *count > 0) => {}
        }
    }

    /// Called after a batch of so many events.
    pub(super) fn written(&mut self, events: usize) {
        let pause = if events < BUSY_EVENTS { Duration::ZERO } else { WRITE_INTERVAL };
        self.next = Instant::now() + pause;
    }
}
