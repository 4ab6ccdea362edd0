//! Where the relay begins: after its checkpoint, unless the log or the bus does not have what the checkpoint stands for.
//!
//! Checkpoints may outlive their log: on a broker both are stored apart, and either can be deleted alone. A position of one log means nothing in
//! another, so the id of the log is stored beside it. The fingerprint in the checkpoint does not replace the id: a position within a batch has none, and
//! neither have checkpoints of earlier versions.

use super::{NAME, OutboxRelay, text};
use crate::ports::{
    checkpoint_store::Checkpoint,
    event_store::{LogId, LogPoint, Position, StoreError},
    lease_store::Lease,
    server_name::ServerName,
};

/// The checkpoint whose position is the id of the log to which the checkpoint [`NAME`] belongs.
pub(super) const LOG: &str = "outbox-log";

impl OutboxRelay {
    /// The starting point: the checkpoint or, if the log no longer has it, the newest earlier point that the log has. Later events are published,
    /// some of them again: consumers recognise duplicates. In another log than that of the checkpoint it is the beginning.
    pub(super) async fn start(&self, fencing_token: u64) -> Result<LogPoint, String> {
        let saved = self.parts.checkpoints.load(NAME).await.map_err(text)?;
        let saved = saved.map_or(LogPoint::START, |checkpoint| checkpoint.point());
        if self.is_of_another_log(saved, fencing_token).await? {
            return Ok(LogPoint::START);
        }
        let what = match saved.verify(&*self.parts.store).await {
            Ok(()) => return Ok(saved),
            Err(StoreError::LogReplaced(what)) => what,
            Err(error) => return Err(error.to_string()),
        };
        self.lost(&what);
        let start = self.newest_left().await?;
        tracing::warn!(position = %start, "the outbox publishes the events after this position, some of them again");
        self.save_point(start, fencing_token).await?;
        Ok(start)
    }

    /// Whether `saved` belongs to another log than the one in the store, and has therefore been discarded. A checkpoint without the id of its log, of
    /// an earlier version, counts as one of this log.
    async fn is_of_another_log(&self, saved: LogPoint, fencing_token: u64) -> Result<bool, String> {
        let store = &self.parts.store;
        let own = || store.log_id().map(|LogId(log)| Position(u64::from(log)));
        let recorded = self.parts.checkpoints.load(LOG).await.map_err(text)?.map(|of_log| of_log.position);
        if recorded.is_some() && recorded == own() {
            return Ok(false);
        }
        // The id of a log is known after the first contact. A store whose log is gone keeps its id, and must not discard the position of the log that
        // has replaced it: it cannot be read.
        store.head().await.map_err(text)?;
        let Some(own) = own() else { return Ok(false) };
        let is_stale = recorded.is_some() && saved.position > Position(0);
        if is_stale {
            tracing::warn!(
                server = store.server().as_ref().map(ServerName::address),
                position = %saved,
                "the checkpoint of the outbox is of another log: publishing this log from its beginning"
            );
            self.trail().cut(Position(0));
            // Before the id, so that a crash between them leaves a checkpoint that is discarded again.
            self.save_point(LogPoint::START, fencing_token).await?;
        }
        let of_log = Checkpoint { position: own, fingerprint: None, fencing_token };
        self.parts.checkpoints.save(LOG, of_log).await.map_err(text)?;
        Ok(is_stale)
    }

    /// The newest point of the trail that the log still has; otherwise the beginning of the log.
    async fn newest_left(&self) -> Result<LogPoint, String> {
        let trail = self.trail().newest_first();
        for point in trail {
            match point.verify(&*self.parts.store).await {
                Ok(()) => return Ok(point),
                Err(StoreError::LogReplaced(_)) => self.trail().cut(point.position),
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(LogPoint::START)
    }

    /// The position to begin after: `checkpoint`, or an earlier one if the bus has lost accepted events; that one is saved first.
    pub(super) async fn before_loss(&self, lease: &Lease, checkpoint: LogPoint) -> Result<LogPoint, String> {
        let Some(first) = self.lost_from(checkpoint.position).await? else { return Ok(checkpoint) };
        let mut point = checkpoint;
        let position = Position(first.saturating_sub(1));
        if position < checkpoint.position {
            point = self.trail().at(position);
            self.save_point(point, lease.fencing_token).await?;
        }
        let (from, checkpoint) = (point.position.0, checkpoint.position.0);
        if from < checkpoint {
            tracing::warn!(from, checkpoint, "the message bus has lost its events: publishing them again");
        } else {
            tracing::warn!(checkpoint, "the message bus has lost its events, all of which had been handled");
        }
        self.parts.bus.resume();
        Ok(point)
    }

    async fn save_point(&self, point: LogPoint, fencing_token: u64) -> Result<(), String> {
        self.parts.checkpoints.save(NAME, Checkpoint::at(point, fencing_token)).await.map_err(text)
    }
}
