//! Whole commits: each is one message.

use super::{
    Shared,
    page::Gather,
    ring::{Entry, Slot},
};
use crate::ports::event_store::{CommitPage, Position, RecordedCommit, StoreError};

/// A page of commits that ends early before an invalid message.
struct Gathered {
    page: CommitPage,
    is_empty: bool,
    is_over: bool,
}

impl Gather for Gathered {
    fn is_full(&self) -> bool {
        self.is_over || self.page.is_full()
    }

    fn next_count(&self) -> usize {
        self.page.missing().max(1)
    }

    fn take_slot(&mut self, slot: &Slot, from: Position) -> Result<bool, StoreError> {
        match slot {
            Err(error) if self.is_empty => return Err(error.clone()),
            Err(_) => self.is_over = true,
            Ok(Entry::Marker(_)) => {}
            Ok(Entry::Commit(commit)) => {
                let events: Vec<_> = commit.stored_events().collect();
                // A commit that contains `from` is skipped entirely.
                if events.first().is_none_or(|first| first.position <= from) {
                    return Ok(true);
                }
                self.is_over = !self.page.take(RecordedCommit { request: commit.request.clone(), events });
                self.is_empty = false;
            }
        }
        Ok(!self.is_over)
    }
}

impl Shared {
    /// The commits that begin after `from`.
    pub(super) async fn commits_after(
        &self,
        from: Position,
        max_events: usize,
    ) -> Result<Vec<RecordedCommit>, StoreError> {
        let mut gathered = Gathered { page: CommitPage::new(max_events), is_empty: true, is_over: false };
        self.gather(&mut gathered, from).await?;
        Ok(gathered.page.into_commits())
    }
}
