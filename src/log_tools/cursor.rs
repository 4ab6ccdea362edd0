//! A position in a log, from which commits are read one by one.

use std::{collections::VecDeque, sync::Arc};

use tokio::task::JoinHandle;

use crate::ports::event_store::{EventStore, MAX_READ_EVENTS, Position, RecordedCommit, StoreError};

type Page = Result<Vec<RecordedCommit>, StoreError>;

/// Reads commits up to a position, one page ahead of the caller.
#[derive(Debug)]
pub(super) struct Cursor {
    store: Arc<dyn EventStore>,
    /// The position after the last commit that was read.
    read: Position,
    until: Position,
    page: VecDeque<RecordedCommit>,
    ahead: Option<JoinHandle<Page>>,
}

impl Cursor {
    /// Begins after `from`, where a commit ends, and stops at `until`.
    pub(super) fn new(store: &Arc<dyn EventStore>, from: Position, until: Position) -> Self {
        Self { store: Arc::clone(store), read: from, until, page: VecDeque::new(), ahead: None }
    }

    /// The next commit; `None` at the end.
    ///
    /// # Errors
    /// [`StoreError`]; the commits that were not read are read the next time.
    pub(super) async fn next(&mut self) -> Result<Option<RecordedCommit>, StoreError> {
        if self.page.is_empty() {
            self.page = self.next_page().await?.into();
        }
        Ok(self.page.pop_front())
    }

    /// The next commits; empty at the end.
    ///
    /// # Errors
    /// As [`Cursor::next`].
    pub(super) async fn next_page(&mut self) -> Result<Vec<RecordedCommit>, StoreError> {
        if !self.page.is_empty() {
            return Ok(std::mem::take(&mut self.page).into());
        }
        if self.read >= self.until {
            return Ok(Vec::new());
        }
        let ahead = self.ahead.take().unwrap_or_else(|| self.read_ahead());
        let mut commits =
            ahead.await.map_err(|_| StoreError::Unavailable("the reader of the log has ended".to_owned()))??;
        let until = self.until;
        commits.retain(|commit| commit.position() <= until);
        self.read = commits.last().map_or(until, RecordedCommit::position);
        if self.read < until {
            self.ahead = Some(self.read_ahead());
        }
        Ok(commits)
    }

    fn read_ahead(&self) -> JoinHandle<Page> {
        let (store, from) = (Arc::clone(&self.store), self.read);
        tokio::spawn(async move { store.read_commits(from, MAX_READ_EVENTS).await })
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        if let Some(ahead) = self.ahead.take() {
            ahead.abort();
        }
    }
}
