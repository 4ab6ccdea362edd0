//! The queue of the single writer thread: commits first, and one other task after each batch of them.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::{super::event_store::append::LogWriter, WriteConnection, pending::PendingCommit};

/// The maximum number of waiting commits; further ones are refused at once.
const MAX_WAITING_COMMITS: usize = 16_384;
/// The maximum payload of the waiting commits in bytes, unless a single commit is larger.
const MAX_WAITING_BYTES: usize = 64 * 1024 * 1024;
/// The maximum number of other waiting tasks.
const MAX_WAITING_TASKS: usize = 1_024;
/// The maximum number of commits in one transaction: some ten milliseconds of work.
const MAX_BATCH_COMMITS: usize = 1_024;
/// A batch ends with the commit that brings its payload to this many bytes.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// A task other than one commit; it makes its own transaction and notifies its caller.
pub(super) type WriteTask = Box<dyn FnOnce(&mut WriteConnection, &mut LogWriter) + Send>;

/// The queue is full, or the writer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Refused {
    Full,
    Closed,
}

/// The next work of the writer.
#[derive(Default)]
pub(super) struct Work {
    pub(super) commits: Vec<PendingCommit>,
    pub(super) task: Option<WriteTask>,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<QueueState>,
    ready: Condvar,
}

#[derive(Default)]
struct QueueState {
    commits: VecDeque<PendingCommit>,
    bytes: usize,
    tasks: VecDeque<WriteTask>,
    is_closed: bool,
}

impl Queue {
    pub(super) fn push_commit(&self, pending: PendingCommit) -> Result<(), Refused> {
        let bytes = pending.commit.payload_bytes();
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        let is_full = state.commits.len() >= MAX_WAITING_COMMITS
            || (state.bytes + bytes > MAX_WAITING_BYTES && !state.commits.is_empty());
        if is_full {
            return Err(Refused::Full);
        }
        state.bytes += bytes;
        state.commits.push_back(pending);
        self.ready.notify_one();
        Ok(())
    }

    pub(super) fn push_task(&self, task: WriteTask) -> Result<(), Refused> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Refused::Closed);
        }
        if state.tasks.len() >= MAX_WAITING_TASKS {
            return Err(Refused::Full);
        }
        state.tasks.push_back(task);
        self.ready.notify_one();
        Ok(())
    }

    /// Waits for work; `None` when the queue is closed and empty.
    pub(super) fn take(&self) -> Option<Work> {
        let mut state = self.state();
        while state.commits.is_empty() && state.tasks.is_empty() {
            if state.is_closed {
                return None;
            }
            self.ready.wait(&mut state);
        }
        Some(state.take())
    }

    /// Accepts no more work; waiting work is still done.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.ready.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock()
    }
}

impl QueueState {
    fn take(&mut self) -> Work {
        let mut work = Work { commits: Vec::with_capacity(self.commits.len().min(MAX_BATCH_COMMITS)), task: None };
        let mut bytes = 0;
        while work.commits.len() < MAX_BATCH_COMMITS
            && bytes < MAX_BATCH_BYTES
            && let Some(pending) = self.commits.pop_front()
        {
            bytes += pending.commit.payload_bytes();
            work.commits.push(pending);
        }
        self.bytes -= bytes;
        work.task = self.tasks.pop_front();
        work
    }
}

/// Held by the writer: however it ends, no caller waits for it in vain.
pub(super) struct CloseOnDrop(pub(super) Arc<Queue>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close();
        let (commits, tasks) = {
            let mut state = self.0.state();
            state.bytes = 0;
            (std::mem::take(&mut state.commits), std::mem::take(&mut state.tasks))
        };
        drop((commits, tasks));
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Queue").field("commits", &state.commits.len()).field("tasks", &state.tasks.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::ports::event_store::{Commit, CommitId, ExpectedRevision, StreamId};

    fn pending(bytes: usize) -> PendingCommit {
        let commit = Commit {
            id: CommitId::random(),
            stream: StreamId(1),
            expected: ExpectedRevision::Any,
            request: None,
            events: vec![vec![0; bytes].into()],
        };
        PendingCommit { commit, reply: oneshot::channel().0, deadline: None }
    }

    #[test]
    fn a_full_queue_refuses_at_once_and_accepts_again_when_there_is_room() {
        let queue = Queue::default();
        for _ in 0..MAX_WAITING_COMMITS {
            queue.push_commit(pending(1)).unwrap();
        }
        assert_eq!(queue.push_commit(pending(1)), Err(Refused::Full));
        assert_eq!(queue.take().unwrap().commits.len(), MAX_BATCH_COMMITS);
        queue.push_commit(pending(1)).unwrap();
    }

    #[test]
    fn waiting_payload_is_bounded_but_one_commit_always_fits() {
        let queue = Queue::default();
        queue.push_commit(pending(MAX_WAITING_BYTES + 1)).unwrap();
        assert_eq!(queue.push_commit(pending(1)), Err(Refused::Full));
        assert_eq!(queue.take().unwrap().commits.len(), 1);
        for _ in 0..3 {
            queue.push_commit(pending(MAX_BATCH_BYTES - 1)).unwrap();
        }
        assert_eq!(queue.take().unwrap().commits.len(), 2, "a batch is bounded by its payload");
    }

    #[test]
    fn each_batch_comes_with_one_other_task() {
        let queue = Queue::default();
        for _ in 0..2 {
            queue.push_task(Box::new(|_, _| ())).unwrap();
            queue.push_commit(pending(1)).unwrap();
        }
        let first = queue.take().unwrap();
        assert_eq!((first.commits.len(), first.task.is_some()), (2, true));
        let second = queue.take().unwrap();
        assert_eq!((second.commits.len(), second.task.is_some()), (0, true));
    }

    #[test]
    fn a_closed_queue_returns_its_content_and_accepts_no_more() {
        let queue = Queue::default();
        queue.push_commit(pending(1)).unwrap();
        queue.close();
        assert_eq!(queue.push_commit(pending(1)), Err(Refused::Closed));
        assert_eq!(queue.take().unwrap().commits.len(), 1);
        assert!(queue.take().is_none());
    }
}
