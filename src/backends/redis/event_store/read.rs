//! Reading the log and its streams, in pages that are bounded in events and bytes.

use redis::Value;

use super::{
    RedisEventStore, appended,
    entry::{Entry, decode},
    store_error,
};
use crate::{
    backends::redis::{pools::Lane, script::Script, values},
    ports::event_store::{
        Appended, Commit, CommitId, Direction, LogPoint, Position, ReadBound, Revision, StoreError, StoredEvent,
        StreamId,
    },
};

static READ_STREAM: Script = Script::new(concat!(include_str!("ours.lua"), include_str!("read_stream.lua")));

/// The maximum number of events that the script looks up at once: nothing else runs in Redis in the meantime.
const STREAM_PAGE: usize = 512;
/// The maximum number of events requested while their size is unknown.
const FIRST_PAGE: usize = 64;
/// How many of the newest events of a stream are searched for a commit.
const LOOK_BACK: usize = 256;
/// Beyond this number Redis's scripts, which count in floating point, cannot distinguish numbers. No stream ever gets there.
const MAX_REVISION: Revision = 1 << 53;

/// The entries read so far, and the room for more.
struct Page {
    bound: ReadBound,
    /// How many entries at its beginning do not count as bytes.
    uncounted: usize,
    bytes: usize,
    entries: Vec<Entry>,
}

impl Page {
    fn new(bound: ReadBound) -> Self {
        Self { bound, uncounted: 0, bytes: 0, entries: Vec::new() }
    }

    /// A page with the event before those that are wanted.
    fn with_one_before(bound: ReadBound) -> Self {
        let bound = ReadBound { max_events: bound.max_events + 1, ..bound };
        Self { uncounted: 1, ..Self::new(bound) }
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= self.bound.max_events || self.bytes >= self.bound.max_bytes
    }

    /// How many to request: no more than fit, estimated from those that have come, so that a reply stays bounded.
    fn next_count(&self) -> usize {
        let fit = match self.bytes.checked_div(self.entries.len().saturating_sub(self.uncounted)) {
            None => FIRST_PAGE,
            Some(typical) => (self.bound.max_bytes - self.bytes) / typical.max(1) + 1,
        };
        fit.min(self.bound.max_events - self.entries.len())
    }

    /// Adds a reply; returns how many entries it had.
    fn take(&mut self, answer: Value) -> Result<usize, StoreError> {
        let answer = values::list(answer)
            .ok_or_else(|| StoreError::Corrupt("Redis returned an unexpected reply to a read".to_owned()))?;
        let count = answer.len();
        for value in answer {
            if self.is_full() {
                break;
            }
            let entry = decode(value)?;
            if self.entries.len() >= self.uncounted {
                self.bytes += entry.event.payload.len();
            }
            self.entries.push(entry);
        }
        Ok(count)
    }
}

impl RedisEventStore {
    pub(super) async fn log_entries(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.log_page(from, direction, Page::new(ReadBound::events(max_events))).await
    }

    async fn log_page(&self, from: Position, direction: Direction, page: Page) -> Result<Vec<StoredEvent>, StoreError> {
        let (entries, _) = self.page(from, direction, page).await?;
        Ok(entries.into_iter().map(|entry| entry.event).collect())
    }

    /// The events after one that was read, with that event before them: a log that was restored while the connection stayed open may have grown past
    /// it since, which only this check detects.
    pub(super) async fn events_after(&self, point: LogPoint, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        let Some(fingerprint) = point.fingerprint else {
            return self.log_page(point.position, Direction::Forward, Page::new(bound)).await;
        };
        let connection = *self.redis.connections().borrow();
        let before = Position(point.position.0.saturating_sub(1));
        let (entries, _) = self.page(before, Direction::Forward, Page::with_one_before(bound)).await?;
        let mut events = entries.into_iter().map(|entry| entry.event);
        let found = events.next().filter(|event| event.position == point.position);
        if found.is_some_and(|event| event.fingerprint() == fingerprint) {
            return Ok(events.collect());
        }
        if *self.redis.connections().borrow() == connection {
            self.redis.connect_again();
        }
        Err(StoreError::Unavailable(format!(
            "the log no longer has the event that was read at {}: checking again",
            point.position
        )))
    }

    /// Up to `max_events` entries, fewer at [`MAX_READ_BYTES`](crate::ports::event_store::MAX_READ_BYTES); and whether the end of the log was reached.
    pub(super) async fn entries(
        &self,
        from: Position,
        direction: Direction,
        max_events: usize,
    ) -> Result<(Vec<Entry>, bool), StoreError> {
        // A caller may need one more than a read returns, to see where a commit ends.
        let bound = ReadBound { max_events, ..ReadBound::events(0) };
        self.page(from, direction, Page::new(bound)).await
    }

    /// Fills `page`; returns its entries, and whether the end of the log was reached.
    async fn page(
        &self,
        from: Position,
        direction: Direction,
        mut page: Page,
    ) -> Result<(Vec<Entry>, bool), StoreError> {
        let mut from = from.0;
        let mut is_end = false;
        // The last number that the log has assigned, if known: an absent entry up to it is missing.
        let mut last_assigned = 0;
        while !page.is_full() {
            // Redis takes neither of these entry numbers as an open end.
            if (direction == Direction::Forward && from == u64::MAX) || (direction == Direction::Backward && from == 0)
            {
                is_end = true;
                break;
            }
            let (count, before) = (page.next_count(), page.entries.len());
            let mut command = redis::cmd(if direction == Direction::Forward { "XRANGE" } else { "XREVRANGE" });
            command.arg(&self.log).arg(format!("(0-{from}"));
            command.arg(if direction == Direction::Forward { "+" } else { "-" }).arg("COUNT").arg(count);
            let answer = self.redis.call_in(Lane::Reads, &command).await.map_err(store_error)?;
            let received = page.take(answer)?;
            let new_entries = page.entries.get(before..).unwrap_or_default();
            let is_first = before == 0 && direction == Direction::Backward;
            check_numbers(if is_first { None } else { Some(from) }, direction, new_entries)?;
            if is_first {
                self.check_newest(from, new_entries).await?;
            }
            from = new_entries.last().map_or(from, |last| last.event.position.0);
            // At the byte limit not all entries of the reply have been taken.
            is_end = received < count && page.bytes < page.bound.max_bytes;
            if !is_end {
                continue;
            }
            match direction {
                Direction::Backward if from > 1 && !page.entries.is_empty() => return Err(missing(from - 1)),
                Direction::Backward => break,
                Direction::Forward if self.ends_at(from) => break,
                Direction::Forward if last_assigned > from => return Err(missing(from + 1)),
                Direction::Forward => {
                    last_assigned = self.ends().await?.last_given;
                    if last_assigned <= from {
                        break;
                    }
                    // Written in the meantime, or missing: the next read shows which.
                }
            }
        }
        Ok((page.entries, is_end))
    }

    /// Checks that `new_entries`, read backward from before `from`, begin with the newest entry that the log can have there.
    async fn check_newest(&self, from: u64, new_entries: &[Entry]) -> Result<(), StoreError> {
        let newest = new_entries.first().map_or(0, |entry| entry.event.position.0);
        if newest + 1 == from || self.ends_at(newest) {
            return Ok(());
        }
        let wanted = self.ends().await?.last_given.min(from - 1);
        // Entries written after the reply are not part of it.
        if newest < wanted && self.is_missing(newest + 1).await? {
            return Err(missing(newest + 1));
        }
        Ok(())
    }

    /// Whether the log ends at `number`, according to the latest known position: not while none is known yet.
    fn ends_at(&self, number: u64) -> bool {
        let latest = self.latest.borrow().0;
        latest > 0 && number >= latest
    }

    pub(super) async fn is_missing(&self, number: u64) -> Result<bool, StoreError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.log).arg(format!("0-{number}")).arg(format!("0-{number}"));
        let found = self.redis.call(&command).await.map_err(store_error)?;
        Ok(values::list(found).is_none_or(|entries| entries.is_empty()))
    }

    pub(super) async fn stream_entries(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let mut page = Page::new(ReadBound::events(max_events));
        let mut from = from.max(u64::from(direction == Direction::Forward)).min(MAX_REVISION);
        while from > 0 && !page.is_full() {
            let count = page.next_count().min(STREAM_PAGE);
            let before = page.entries.len();
            let call = READ_STREAM
                .prepare()
                .key(&self.log)
                .key(&self.index_key(stream))
                .key(&self.redis.log_id_key())
                .number(from)
                .number(count)
                .arg(if direction == Direction::Forward { "forward" } else { "backward" })
                .number(page.bound.max_bytes - page.bytes)
                .arg(self.redis.log_id_text());
            // Most orders are short, and a command waits for the read; the rest of a long one is not urgent.
            let answer = match before {
                0 => call.run(&self.redis).await,
                _ => call.run_in(&self.redis, Lane::Reads).await,
            };
            let answer = answer.map_err(store_error)?;
            let received = page.take(answer)?;
            check_order(stream, from, direction, &page.entries[before..])?;
            match page.entries.last() {
                // The script stops early when it has read enough bytes.
                Some(last) if received == count => match direction {
                    Direction::Forward => from = last.event.revision + 1,
                    Direction::Backward => from = last.event.revision - 1,
                },
                _ => break,
            }
        }
        Ok(page.entries)
    }

    /// The commit that the event with `revision` belongs to, if there is one.
    pub(super) async fn commit_at(&self, stream: StreamId, revision: Revision) -> Result<Option<CommitId>, StoreError> {
        let entries = self.stream_entries(stream, revision, Direction::Forward, 1).await?;
        Ok(entries.first().map(|entry| entry.commit))
    }

    /// The position of an event that must exist.
    pub(super) async fn position_of(&self, stream: StreamId, revision: Revision) -> Result<Position, StoreError> {
        let mut command = redis::cmd("LINDEX");
        command.arg(self.index_key(stream)).arg(revision.saturating_sub(1));
        let found = self.redis.call(&command).await.map_err(store_error)?;
        values::number(&found).map(Position).ok_or_else(|| {
            StoreError::Corrupt(format!("revision {revision} of order {stream} is missing from its index"))
        })
    }

    /// The position of `commit`, if it is among the newest events of its stream.
    pub(super) async fn find_commit(&self, commit: &Commit) -> Result<Option<Appended>, StoreError> {
        let newest = self.stream_entries(commit.stream, u64::MAX, Direction::Backward, LOOK_BACK).await?;
        let last = newest.into_iter().find(|entry| entry.commit == commit.id);
        Ok(last.map(|last| appended(commit, last.event.revision, last.event.position)))
    }
}

/// The error for an entry that is missing from the log.
pub(super) fn missing(number: u64) -> StoreError {
    StoreError::Corrupt(format!("the entry 0-{number} of the log is missing"))
}

/// Checks that entries are consecutive, without gaps, starting next to `from`; without `from`, starting anywhere.
fn check_numbers(from: Option<u64>, direction: Direction, entries: &[Entry]) -> Result<(), StoreError> {
    let mut last = from;
    for entry in entries {
        let number = entry.event.position.0;
        let expected = match (last, direction) {
            (None, _) => number,
            (Some(last), Direction::Forward) => last + 1,
            (Some(last), Direction::Backward) => last.saturating_sub(1),
        };
        if number != expected {
            return Err(missing(expected));
        }
        last = Some(number);
    }
    Ok(())
}

/// Checks that these are the events of `stream` from revision `from` on, without gaps. Backward, the first may have any lower revision.
fn check_order(stream: StreamId, from: Revision, direction: Direction, entries: &[Entry]) -> Result<(), StoreError> {
    let mut expected = match (direction, entries.first()) {
        (_, None) => return Ok(()),
        (Direction::Forward, _) => from,
        (Direction::Backward, Some(first)) => first.event.revision.min(from),
    };
    for Entry { event, .. } in entries {
        if (event.stream, event.revision) != (stream, expected) {
            return Err(StoreError::Corrupt(format!(
                "the index of order {stream} has position {} for revision {expected}, which is revision {} of order {}",
                event.position, event.revision, event.stream
            )));
        }
        match direction {
            Direction::Forward => expected += 1,
            Direction::Backward => expected = expected.saturating_sub(1),
        }
    }
    Ok(())
}
