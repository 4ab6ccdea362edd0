//! The worker numbers of a node that shares its log with no other: all of its datacenter, and their marks in its folder.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    EPOCH_UNIX_MS, FileMark, HighWaterMark, IdError, IdGenerator, MAX_BORROW_MS, MAX_CLOCK_LEAD_MS, MarkError,
    NodeIdentity, StartError, now_ms,
};
use crate::{
    ports::clock::Clock,
    telemetry::outage::{Line, Outage},
};

/// How many worker numbers a datacenter has.
const WORKERS: u8 = 32;
/// How often to check whether the ids of the number wait for the clock.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The marks of all worker numbers in one folder, a file each. As a [`HighWaterMark`] it is the mark of the number that was taken last.
#[derive(Clone, Debug)]
pub struct FolderMarks {
    dir: PathBuf,
    taken: Arc<Mutex<NodeIdentity>>,
}

impl FolderMarks {
    /// The marks in `dir`, which exists; `identity` is the number that was taken last.
    #[must_use]
    pub fn new(dir: &Path, identity: NodeIdentity) -> Self {
        Self { dir: dir.to_owned(), taken: Arc::new(Mutex::new(identity)) }
    }

    fn file_of(&self, identity: NodeIdentity) -> FileMark {
        let name = format!("snowflake-{}-{}.mark", identity.datacenter_id(), identity.worker_id());
        FileMark::new(self.dir.join(name))
    }

    /// The mark of a number, in Unix milliseconds, if it was ever used here.
    ///
    /// # Errors
    /// As [`HighWaterMark::load`].
    pub fn load_of(&self, identity: NodeIdentity) -> Result<Option<u64>, MarkError> {
        self.file_of(identity).load()
    }

    fn taken(&self) -> NodeIdentity {
        *self.taken.lock()
    }

    fn take(&self, identity: NodeIdentity) {
        *self.taken.lock() = identity;
    }
}

impl HighWaterMark for FolderMarks {
    fn load(&self) -> Result<Option<u64>, MarkError> {
        self.load_of(self.taken())
    }

    fn store(&self, unix_ms: u64) -> Result<(), MarkError> {
        self.file_of(self.taken()).store(unix_ms)
    }
}

/// Chooses the worker number, so that a clock that was ahead once does not prevent the node from issuing ids.
#[derive(Debug)]
pub struct OwnNumbers {
    preferred: NodeIdentity,
    is_pinned: bool,
    clock: Arc<dyn Clock>,
    marks: Option<FolderMarks>,
    /// The Unix millisecond up to which ids may have been issued, for each number that this process has left: without a folder it is not recorded
    /// elsewhere.
    left: Mutex<HashMap<NodeIdentity, u64>>,
    stuck: Outage,
    damaged_marks: Outage,
}

impl OwnNumbers {
    /// All numbers beginning with `preferred`, or only that one if it `is_pinned`; with their marks in `dir`, if the node has a folder.
    #[must_use]
    pub fn new(preferred: NodeIdentity, is_pinned: bool, clock: Arc<dyn Clock>, dir: Option<&Path>) -> Self {
        let marks = dir.map(|dir| FolderMarks::new(dir, preferred));
        Self {
            preferred,
            is_pinned,
            clock,
            marks,
            left: Mutex::default(),
            stuck: Outage::new(),
            damaged_marks: Outage::new(),
        }
    }

    /// A generator for the first number whose ids are not ahead of the clock; if all are, for the one that is the least ahead, which issues ids when
    /// the clock has caught up. It blocks on the disk.
    ///
    /// # Errors
    /// [`StartError`] for a mark of the preferred number that cannot be read, a mark that cannot be written, and a clock out of bounds.
    pub fn start(&self) -> Result<IdGenerator, StartError> {
        let (identity, by_ms) = self.choose()?;
        if by_ms > MAX_CLOCK_LEAD_MS {
            let error = IdError::ClockBehind { by_ms };
            tracing::warn!(worker = identity.worker_id(), %error, "cannot issue ids yet; existing orders are served");
        } else if identity != self.preferred {
            let (preferred, worker) = (self.preferred.worker_id(), identity.worker_id());
            tracing::warn!(preferred, worker, "the clock was once ahead; issuing ids under another worker number");
        }
        let Some(marks) = &self.marks else { return Ok(IdGenerator::new(identity, Arc::clone(&self.clock))?) };
        marks.take(identity);
        IdGenerator::with_mark(identity, Arc::clone(&self.clock), Box::new(marks.clone()))
    }

    /// Makes `ids` issue under another number whenever the current one is ahead of the clock, until `stop`.
    pub async fn run(self: Arc<Self>, ids: Arc<IdGenerator>, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_some() {
            if self.is_pinned || ids.is_ahead_by_ms().is_none() {
                continue;
            }
            let (numbers, ids) = (Arc::clone(&self), Arc::clone(&ids));
            // Blocking: it reads and writes marks.
            let taken = tokio::task::spawn_blocking(move || numbers.take_another(&ids)).await;
            let error = match taken {
                Ok(Ok(())) => {
                    self.stuck.works();
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(panicked) => panicked.to_string(),
            };
            if let Some(Line { unsaid }) = self.stuck.failed(&error) {
                tracing::warn!(error, unsaid, "cannot take another worker number");
            }
        }
    }

    /// Leaves the number of `ids`, which is ahead of the clock, for one that is not, if there is one. It blocks on the disk.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn take_another(&self, ids: &IdGenerator) -> Result<(), StartError> {
        let former = ids.node();
        if let Some(by_ms) = ids.is_ahead_by_ms() {
            // One more: the next id may be any of the millisecond.
            let issued_to = self.now_unix_ms()? + by_ms + 1;
            self.left.lock().insert(former, issued_to);
        }
        let (identity, by_ms) = self.choose()?;
        if identity == former || by_ms > MAX_CLOCK_LEAD_MS {
            return Ok(());
        }
        let past_borrowed = self.now_unix_ms()? + MAX_BORROW_MS + 1;
        let from_unix_ms = self.mark_of(identity)?.unwrap_or(0).max(past_borrowed);
        if let Some(marks) = &self.marks {
            marks.take(identity);
        }
        ids.rebase(identity, from_unix_ms);
        ids.advance_mark()?;
        let (from, to) = (former.worker_id(), identity.worker_id());
        tracing::warn!(from, to, "the clock was ahead; issuing ids under another worker number");
        Ok(())
    }

    /// The number to issue under, and how far its possibly issued ids are ahead of the clock.
    fn choose(&self) -> Result<(NodeIdentity, u64), StartError> {
        let now_unix_ms = self.now_unix_ms()?;
        let mut least: Option<(NodeIdentity, u64)> = None;
        let count = if self.is_pinned { 1 } else { WORKERS };
        for offset in 0..count {
            let worker = (self.preferred.worker_id() + offset) % WORKERS;
            let Ok(identity) = NodeIdentity::new(self.preferred.datacenter_id(), worker) else { continue };
            let mark = match self.mark_of(identity) {
                Ok(mark) => mark.unwrap_or(0),
                Err(error) if offset > 0 => {
                    if let Some(Line { unsaid }) = self.damaged_marks.failed(&error.to_string()) {
                        tracing::warn!(%error, unsaid, "skipping a worker number");
                    }
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let by_ms = mark.saturating_sub(now_unix_ms);
            if by_ms <= MAX_CLOCK_LEAD_MS {
                return Ok((identity, by_ms));
            }
            if least.is_none_or(|(_, least_ms)| by_ms < least_ms) {
                least = Some((identity, by_ms));
            }
        }
        Ok(least.unwrap_or((self.preferred, 0)))
    }

    fn mark_of(&self, identity: NodeIdentity) -> Result<Option<u64>, MarkError> {
        let stored = self.marks.as_ref().map_or(Ok(None), |marks| marks.load_of(identity))?;
        Ok(stored.max(self.left.lock().get(&identity).copied()))
    }

    fn now_unix_ms(&self) -> Result<u64, IdError> {
        Ok(now_ms(&*self.clock)? + EPOCH_UNIX_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id_generator::{parse, tests::START_MICROS},
        ports::clock::ManualClock,
    };

    const DAY_MS: i64 = 86_400_000;

    struct Node {
        numbers: OwnNumbers,
        ids: IdGenerator,
    }

    fn start(dir: Option<&Path>, clock: &Arc<ManualClock>, is_pinned: bool) -> Node {
        let preferred = NodeIdentity::new(3, 30).unwrap();
        let numbers = OwnNumbers::new(preferred, is_pinned, Arc::clone(clock) as Arc<dyn Clock>, dir);
        let ids = numbers.start().unwrap();
        Node { numbers, ids }
    }

    fn worker_of_the_next(node: &Node, clock: &ManualClock) -> Result<u8, IdError> {
        clock.advance_ms(10);
        Ok(parse(node.ids.next()?).unwrap().worker_id)
    }

    /// The clock is a day ahead for a moment, in which the node issues ids.
    fn jump(node: &Node, clock: &ManualClock) {
        clock.advance_ms(DAY_MS);
        node.ids.advance_mark().unwrap();
        node.ids.next().unwrap();
        clock.advance_ms(-DAY_MS);
    }

    #[test]
    fn after_a_clock_that_was_ahead_a_start_takes_the_next_number_whose_mark_is_not() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START_MICROS)));
        for worker in [30, 31, 0, 1] {
            let node = start(Some(folder.path()), &clock, false);
            assert_eq!(worker_of_the_next(&node, &clock), Ok(worker));
            jump(&node, &clock);
            // The process is killed: the mark stays unchanged.
        }
        clock.advance_ms(DAY_MS);
        let node = start(Some(folder.path()), &clock, false);
        assert_eq!(worker_of_the_next(&node, &clock), Ok(30), "once the clock has caught up it is the first one again");
    }

    #[test]
    fn a_pinned_number_is_waited_for() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START_MICROS)));
        jump(&start(Some(folder.path()), &clock, true), &clock);
        let node = start(Some(folder.path()), &clock, true);
        assert!(matches!(worker_of_the_next(&node, &clock), Err(IdError::ClockBehind { .. })));
        clock.advance_ms(DAY_MS);
        node.ids.advance_mark().unwrap();
        assert_eq!(worker_of_the_next(&node, &clock), Ok(30));
    }

    #[test]
    fn a_running_node_leaves_a_number_that_is_ahead_and_repeats_no_id_when_it_comes_back_to_it() {
        let folder = tempfile::tempdir().unwrap();
        for dir in [None, Some(folder.path())] {
            let clock = Arc::new(ManualClock::new(START_MICROS));
            let node = start(dir, &clock, false);
            let mut issued = std::collections::HashSet::new();
            let mut workers = std::collections::HashSet::new();
            // More often than there are numbers: in the end all are ahead.
            for _ in 0..WORKERS + 2 {
                for _ in 0..20 {
                    clock.advance_ms(1);
                    if let Ok(super::super::Reservation::Ids(run)) = node.ids.reserve(500) {
                        workers.insert(node.ids.node().worker_id());
                        assert!(run.ids().all(|id| issued.insert(id)), "issued twice");
                    }
                }
                clock.advance_ms(DAY_MS);
                node.ids.advance_mark().unwrap();
                if let Ok(super::super::Reservation::Ids(run)) = node.ids.reserve(500) {
                    assert!(run.ids().all(|id| issued.insert(id)), "issued twice");
                }
                clock.advance_ms(-DAY_MS);
                node.numbers.take_another(&node.ids).unwrap();
            }
            assert_eq!(workers.len(), usize::from(WORKERS));
            assert!(matches!(node.ids.next(), Err(IdError::ClockBehind { .. })), "all are ahead");
            clock.advance_ms(DAY_MS + 10_000);
            node.ids.advance_mark().unwrap();
            assert!(issued.insert(node.ids.next().unwrap()), "issued twice");
        }
    }

    #[test]
    fn a_damaged_mark_of_the_preferred_number_is_an_error_and_of_another_one_skipped() {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::new(START_MICROS)));
        jump(&start(Some(folder.path()), &clock, false), &clock);
        std::fs::write(folder.path().join("snowflake-3-31.mark"), "7").unwrap();
        let node = start(Some(folder.path()), &clock, false);
        assert_eq!(worker_of_the_next(&node, &clock), Ok(0));
        std::fs::write(folder.path().join("snowflake-3-30.mark"), "7").unwrap();
        let clock = Arc::clone(&clock) as Arc<dyn Clock>;
        let numbers = OwnNumbers::new(NodeIdentity::new(3, 30).unwrap(), false, clock, Some(folder.path()));
        let refused = numbers.start().unwrap_err().to_string();
        assert!(refused.contains("snowflake-3-30.mark") && refused.contains("is damaged"), "{refused}");
    }
}
