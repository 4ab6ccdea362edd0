//! Lost, missing and damaged logs: how the projection reports them.

use std::sync::atomic::Ordering;

use super::OrderProjection;
use crate::ports::event_store::{LogLoss, LossKind, Position};

impl OrderProjection {
    /// Reports that the log is no longer in its store, once until it is back. The rows are kept, and not served: they are compared with the log
    /// before they are used again.
    pub(super) async fn watch_for_loss(&self) {
        let mut loss = self.parts.store.log_loss();
        let mut is_reported = false;
        loop {
            let found = loss.borrow_and_update().clone();
            match found {
                Some(LogLoss { why, .. }) if !is_reported => {
                    is_reported = true;
                    if let Some(watcher) = &self.watcher {
                        watcher.lost();
                    }
                    tracing::error!(
                        server = self.server(),
                        why,
                        position = %self.parts.progress.position(),
                        "this node's log is no longer in its store: cached orders are dropped; lists, reads, commands and event streams are refused"
                    );
                    self.count_loss(format!("the log was not in its store: {why}"));
                }
                Some(LogLoss { kind: LossKind::Replaced, why }) => {
                    let server = self.server();
                    tracing::error!(server, why, "another log has replaced it: restart this node to use that one");
                }
                Some(_) => {}
                None if is_reported => {
                    is_reported = false;
                    tracing::info!("this node's log is back");
                }
                None => {}
            }
            if loss.changed().await.is_err() {
                // A store within the process does not lose its log.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Reports that the log has lost events.
    pub(super) fn lost(&self, what: String) -> String {
        if let Some(watcher) = &self.watcher {
            watcher.lost();
        }
        // Before the log is followed again from its beginning: waiters need a position of the current log.
        self.parts.reached.send_replace(Position(0));
        self.note_loss(&what);
        self.is_reported.store(true, Ordering::Relaxed);
        format!("the log has lost events: {what}")
    }

    /// Counts the loss, and keeps it for health until the node ends.
    pub(super) fn note_loss(&self, what: &str) {
        let position = self.parts.progress.position();
        tracing::error!(
            server = self.server(),
            what,
            %position,
            "the log has lost events that this node had read: it was restored to an earlier state, or another server has replaced it; \
             everything derived from them is dropped, and the read model is rebuilt from the current log"
        );
        self.count_loss(format!("the log has lost events: {what}"));
    }

    /// Records that the read model ends before damage of the log, or no longer does.
    pub(super) fn note_damage(&self, damage: Option<String>) {
        let before = self.parts.damage.borrow().clone();
        if before == damage {
            return;
        }
        // The first entry that is found missing may not be the only one.
        if let Some(what) = damage.as_ref().filter(|_| before.is_none()) {
            // They may come from what is damaged now.
            if let Some(watcher) = &self.watcher {
                watcher.lost();
            }
            self.count_loss(format!("the log is damaged: {what}"));
        }
        self.parts.damage.send_replace(damage);
    }

    /// Records that the projection reads the log and that the log is not damaged.
    pub(super) fn works(&self) {
        self.parts.progress.set_failure(None);
        self.note_damage(None);
        self.stalls.end(self.parts.progress.position());
    }

    /// Whether the last try to follow the log has failed: the next one does not log its steps again.
    pub(super) fn is_failing(&self) -> bool {
        self.parts.progress.failure().is_some()
    }

    /// The address of the server that keeps the log.
    fn server(&self) -> Option<String> {
        self.parts.store.server().map(|server| server.address().to_owned())
    }

    fn count_loss(&self, text: String) {
        self.losses.increment(1);
        *self.parts.progress.loss.lock() = Some(text);
    }
}
