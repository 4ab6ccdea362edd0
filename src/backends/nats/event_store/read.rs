//! Reads the log and its streams in batches, in pages that are bounded in events and bytes.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    Shared,
    commit::{Marker, StoredCommit, decode, sequence_after, sequence_before},
    foreign,
    kept_readers::Kept,
    log::FIRST_SEQUENCE,
    page::{FIRST_BATCH, Gather, Newest, Page, take_slots},
    ring::{Entry, Slot},
    streams::gap,
};
use crate::{
    backends::nats::{
        api::{CallError, Stored, Which},
        pull_reader::{Read, Reader, Selection},
    },
    ports::event_store::{
        Direction, MAX_READ_EVENTS, Position, ReadBound, Revision, StoreError, StoredEvent, StreamId,
    },
};

/// This few commits before the last one of a stream are read one by one, which is quicker than creating a consumer.
const MAX_WALK: u64 = 4;
/// How long a fetch waits for a message that must exist.
const WAIT: Duration = Duration::from_secs(1);
/// How often such a fetch is made before the read fails.
const MAX_EMPTY_FETCHES: usize = 2;
/// How often a failing reader is reopened at its position before the read fails.
const MAX_REOPENINGS: usize = 2;
/// How many messages are requested where the last ones were not commits: there may be this many consecutive markers.
const MARKERS_BATCH: usize = 512;
/// The pause before a server that is behind is asked again.
const PAUSE: Duration = Duration::from_millis(50);

impl Shared {
    /// The sequence of the last message of the log.
    pub(super) async fn last_sequence(&self) -> Result<u64, StoreError> {
        self.log.last_sequence().await.map_err(|error| self.store_error(error))
    }

    pub(super) async fn open_reader(&self, of: Option<StreamId>, from: u64) -> Result<Reader, StoreError> {
        let filter = of.map(|stream| self.subject(stream));
        let opened = Reader::open(
            &self.nats,
            Selection { stream: &self.log.stream, filter: filter.as_deref(), from },
            "reads the log",
        )
        .await;
        opened.map_err(|error| self.store_error(error))
    }

    /// Decodes a message of the log.
    pub(super) fn read_message(&self, read: &Read) -> Slot {
        self.read_entry(read.sequence, &read.subject, &read.payload)
    }

    fn read_entry(&self, sequence: u64, subject: &str, payload: &[u8]) -> Slot {
        if subject == self.marker_subject() {
            return Ok(Entry::Marker(Marker::decode(payload)));
        }
        self.read_commit(sequence, subject, payload).map(|commit| Entry::Commit(Arc::new(commit)))
    }

    fn read_stored(&self, stored: &Stored) -> Result<StoredCommit, StoreError> {
        self.read_commit(stored.sequence, &stored.subject, &stored.payload)
    }

    /// The content of message `sequence`, which must exist.
    pub(super) async fn entry(&self, sequence: u64) -> Result<Slot, StoreError> {
        if let Some(slot) = self.ring.read(sequence, 1).and_then(|slots| slots.into_iter().next()) {
            return Ok(slot);
        }
        let stored = self.existing_message(sequence).await?;
        Ok(self.read_entry(sequence, &stored.subject, &stored.payload))
    }

    /// Message `sequence`, which must exist; while a server is behind it is asked again, for at most the request timeout.
    async fn existing_message(&self, sequence: u64) -> Result<Stored, StoreError> {
        let give_up = Instant::now() + self.nats.options().request_timeout;
        let which = Which { seq: Some(sequence), ..Which::default() };
        loop {
            let found = self.nats.message(&self.log.stream, which).await.map_err(|error| self.store_error(error))?;
            if let Some(stored) = found {
                return Ok(stored);
            }
            match self.missing(sequence).await {
                StoreError::Unavailable(_) if Instant::now() < give_up => sleep(PAUSE).await,
                error => return Err(error),
            }
        }
    }

    fn read_commit(&self, sequence: u64, subject: &str, payload: &[u8]) -> Result<StoredCommit, StoreError> {
        let corrupt = |why: &str| foreign("the log", sequence, &format!("({subject}) {why}"));
        let commit = decode(sequence, payload).map_err(|why| corrupt(&why))?;
        if self.subject(commit.stream) != subject {
            return Err(corrupt(&format!("holds a commit of order {}", commit.stream)));
        }
        Ok(commit)
    }

    /// The last commit of a stream, as the leader knows it now; `None` only if that certainly applies to the log of this node.
    pub(super) async fn last_commit(&self, stream: StreamId) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(stream);
        let which = Which { last_by_subj: Some(&subject), ..Which::default() };
        let last = self.one_commit(which).await?;
        if last.is_none() {
            self.confirm_absence().await?;
        }
        Ok(last)
    }

    /// The first commit of a stream at or after message `from`.
    pub(super) async fn next_commit(&self, stream: StreamId, from: u64) -> Result<Option<StoredCommit>, StoreError> {
        let subject = self.subject(stream);
        let which = Which { seq: Some(from), next_by_subj: Some(&subject), ..Which::default() };
        self.one_commit(which).await
    }

    async fn one_commit(&self, which: Which<'_>) -> Result<Option<StoredCommit>, StoreError> {
        let found = self.nats.message(&self.log.stream, which).await.map_err(|error| self.store_error(error))?;
        found.map(|stored| self.read_stored(&stored)).transpose()
    }

    /// The commits before `last`, oldest first, back to the one with revision `first`; `None` if they may be more than [`MAX_WALK`].
    pub(super) async fn walk_back(
        &self,
        last: &StoredCommit,
        first: Revision,
    ) -> Result<Option<Vec<StoredCommit>>, StoreError> {
        if last.first_revision.saturating_sub(first) > MAX_WALK {
            return Ok(None);
        }
        let mut commits: Vec<StoredCommit> = Vec::new();
        loop {
            let newer = commits.last().unwrap_or(last);
            if newer.first_revision <= first {
                commits.reverse();
                return Ok(Some(commits));
            }
            let older = self.read_stored(&self.existing_message(newer.after).await?)?;
            if older.stream != newer.stream || older.last_revision() + 1 != newer.first_revision {
                return Err(gap(newer, older.last_revision() + 1));
            }
            commits.push(older);
        }
    }

    /// The events after `from`.
    pub(super) async fn read_forward(&self, from: Position, bound: ReadBound) -> Result<Vec<StoredEvent>, StoreError> {
        let mut page = Page::new(bound);
        self.gather(&mut page, from).await?;
        Ok(page.events)
    }

    /// Gathers the events after `from`.
    pub(super) async fn gather(&self, page: &mut impl Gather, from: Position) -> Result<(), StoreError> {
        let mut next = sequence_after(from).max(FIRST_SEQUENCE + 1);
        // All messages before `next` have been read; all up to `end` must be.
        let mut end = None;
        while !page.is_full() && end.is_none_or(|end| next <= end) {
            if let Some(slots) = self.ring.read(next, page.next_count()).filter(|slots| !slots.is_empty()) {
                take_slots(page, &mut next, from, slots)?;
                continue;
            }
            // Messages up to there are known to exist; beyond it only the leader knows.
            let held = self.ring.next().saturating_sub(1);
            let until = match end {
                Some(end) => end,
                None if next <= held => held,
                None => *end.insert(self.last_sequence().await?),
            };
            // Messages that have come into memory meanwhile are read there.
            if next <= until && self.ring.read(next, 1).is_none_or(|slots| slots.is_empty()) {
                self.read_on(page, &mut next, from, until).await?;
            }
        }
        Ok(())
    }

    /// Continues the read through a consumer, until the page is full or message `end` has been read.
    async fn read_on(
        &self,
        page: &mut impl Gather,
        next: &mut u64,
        from: Position,
        end: u64,
    ) -> Result<(), StoreError> {
        let _permit = self.permit().await?;
        let at = *next;
        let mut kept = match self.readers.take(None, |kept| kept.covers(at)) {
            Some(kept) => kept,
            None => Kept::new(self.open_reader(None, at).await?, None),
        };
        let read = self.read_with(&mut kept, page, next, from, end).await;
        // Also after a gap: the next read may ask for the messages after it, or again for the missing ones.
        self.readers.keep(kept);
        read
    }

    async fn read_with(
        &self,
        kept: &mut Kept,
        page: &mut impl Gather,
        next: &mut u64,
        from: Position,
        end: u64,
    ) -> Result<(), StoreError> {
        let mut skips = false;
        while !page.is_full() && *next <= end {
            if kept.fetched.is_empty() {
                let missing = usize::try_from(end - *next + 1).unwrap_or(usize::MAX);
                let wanted = if skips { page.next_count().max(MARKERS_BATCH) } else { page.next_count() };
                self.fetch(kept, wanted.min(missing)).await?;
            }
            let Some((sequence, slot)) = kept.fetched.front() else { break };
            if sequence != next {
                return Err(self.missing(*next).await);
            }
            skips = matches!(slot, Ok(Entry::Marker(_)));
            if !page.take_slot(slot, from)? {
                break;
            }
            *next += 1;
            kept.at = *next;
            kept.fetched.pop_front();
        }
        Ok(())
    }

    /// Fetches messages that must exist.
    async fn fetch(&self, kept: &mut Kept, count: usize) -> Result<(), StoreError> {
        let (mut empty, mut reopened) = (0, 0);
        while empty < MAX_EMPTY_FETCHES {
            match kept.reader.fetch(count, WAIT).await {
                Ok(batch) if batch.is_empty() => empty += 1,
                Ok(batch) => {
                    kept.fetched.extend(batch.into_iter().map(|raw| (raw.sequence, self.read_message(&raw))));
                    return Ok(());
                }
                // NATS may have removed its consumer, or moved it.
                Err(_) if reopened < MAX_REOPENINGS => {
                    kept.reader = self.open_reader(kept.of, kept.reader.next_sequence()).await?;
                    reopened += 1;
                }
                Err(error) => return Err(self.store_error(error)),
            }
        }
        Err(self.store_error(CallError::Lost("NATS does not deliver messages that it holds".to_owned())))
    }

    async fn permit(&self) -> Result<tokio::sync::SemaphorePermit<'_>, StoreError> {
        let most = self.nats.options().request_timeout;
        match tokio::time::timeout(most, self.reads.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(StoreError::Unavailable("too many reads at once".to_owned())),
        }
    }

    /// The events before `from`, newest first.
    pub(super) async fn read_backward(
        &self,
        from: Position,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut page = Page::new(ReadBound::events(max_events));
        let mut last = sequence_before(from);
        // Positions up to the newest held message belong to messages that exist.
        if last >= self.ring.next() {
            last = last.min(self.last_sequence().await?);
        }
        let mut count = if page.max_events <= 1 { 2 } else { FIRST_BATCH.min(page.max_events + 1) };
        while !page.is_full() && last > FIRST_SEQUENCE {
            let first = last.saturating_sub(count as u64 - 1).max(FIRST_SEQUENCE + 1);
            let slots = self.slots(first, last).await?;
            let before = match slots.first() {
                Some(Ok(Entry::Marker(marker))) => marker.before(first),
                _ => first - 1,
            };
            for slot in slots.into_iter().rev() {
                match slot {
                    _ if page.is_full() => break,
                    Ok(Entry::Marker(_)) => {}
                    Ok(Entry::Commit(commit)) => {
                        page.take(commit.stored_events().rev().filter(|event| event.position < from));
                    }
                    Err(error) if page.events.is_empty() => return Err(error),
                    Err(_) => page.max_events = page.events.len(),
                }
            }
            last = before;
            if !page.is_full() {
                count = page.next_count();
            }
        }
        Ok(page.events)
    }

    /// Messages `first` to `last` of the log, all of which exist.
    async fn slots(&self, first: u64, last: u64) -> Result<Vec<Slot>, StoreError> {
        let count = usize::try_from(last - first + 1).unwrap_or(usize::MAX);
        if let Some(slots) = self.ring.read(first, count).filter(|slots| slots.len() == count) {
            return Ok(slots);
        }
        let _permit = self.permit().await?;
        let mut kept = Kept::new(self.open_reader(None, first).await?, None);
        let mut slots = Vec::with_capacity(count);
        while slots.len() < count {
            if kept.fetched.is_empty() {
                self.fetch(&mut kept, count - slots.len()).await?;
            }
            let expected = first + slots.len() as u64;
            match kept.fetched.pop_front() {
                Some((sequence, slot)) if sequence == expected => slots.push(slot),
                _ => return Err(self.missing(expected).await),
            }
        }
        Ok(slots)
    }

    pub(super) async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let from = from.max(u64::from(direction == Direction::Forward));
        if from == 0 || max_events == 0 {
            return Ok(Vec::new());
        }
        let Some(last) = self.last_commit(stream).await? else { return Ok(Vec::new()) };
        let mut page = Page::new(ReadBound::events(max_events));
        match direction {
            Direction::Forward => self.stream_forward(&mut page, &last, from).await?,
            Direction::Backward => self.stream_backward(&mut page, &last, from.min(last.last_revision())).await?,
        }
        Ok(page.events)
    }

    async fn stream_forward(&self, page: &mut Page, last: &StoredCommit, from: Revision) -> Result<(), StoreError> {
        if from >= last.first_revision {
            self.streams.observe(last);
            page.take(last.stored_events().filter(|event| event.revision >= from));
            return Ok(());
        }
        if let Some(commits) = self.walk_back(last, from).await? {
            let all = commits.iter().chain([last]);
            if from == 1 {
                self.streams.observe_whole(last.stream, all.clone());
            }
            page.take(all.flat_map(StoredCommit::stored_events).filter(|event| event.revision >= from));
            return Ok(());
        }
        let _permit = self.permit().await?;
        let of = Some(last.stream);
        let mut kept = match self.readers.take(of, |kept| kept.next_revision <= from) {
            Some(kept) => kept,
            None => Kept::new(self.open_reader(of, FIRST_SEQUENCE + 1).await?, of),
        };
        while !page.is_full() {
            if kept.fetched.is_empty() {
                self.fetch(&mut kept, FIRST_BATCH.max(page.next_count())).await?;
            }
            let commit = match kept.front_of_stream() {
                Ok(Some(commit)) => commit,
                Err(error) if page.events.is_empty() => return Err(error),
                // Intact messages are read, up to the first damaged one.
                Ok(None) | Err(_) => break,
            };
            if !page.take(commit.stored_events().filter(|event| event.revision >= from)) {
                break;
            }
            kept.pass(&commit);
            if commit.sequence >= last.sequence {
                return Ok(());
            }
        }
        self.readers.keep(kept);
        Ok(())
    }

    async fn stream_backward(&self, page: &mut Page, last: &StoredCommit, from: Revision) -> Result<(), StoreError> {
        let wanted_first = from.saturating_sub(page.max_events as u64 - 1).max(1);
        if wanted_first >= last.first_revision {
            page.take(last.stored_events().rev().filter(|event| event.revision <= from));
            return Ok(());
        }
        if let Some(commits) = self.walk_back(last, wanted_first).await? {
            let all = commits.iter().chain([last]).rev();
            page.take(all.flat_map(|commit| commit.stored_events().rev()).filter(|event| event.revision <= from));
            return Ok(());
        }
        let _permit = self.permit().await?;
        let of = Some(last.stream);
        let mut kept = Kept::new(self.open_reader(of, FIRST_SEQUENCE + 1).await?, of);
        let mut newest = Newest::default();
        while kept.next_revision <= from {
            if kept.fetched.is_empty() {
                self.fetch(&mut kept, MAX_READ_EVENTS).await?;
            }
            let Some(commit) = kept.front_of_stream()? else { break };
            kept.pass(&commit);
            newest.add(commit.stored_events().filter(|event| (wanted_first..=from).contains(&event.revision)));
        }
        page.take(newest.events.into_iter().rev());
        Ok(())
    }

    /// Passes all commits of a stream from message `from` to message `to`, its last, to `take`.
    pub(super) async fn each_commit(
        &self,
        stream: StreamId,
        from: u64,
        to: u64,
        mut take: impl FnMut(&StoredCommit) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let _permit = self.permit().await?;
        let mut kept = Kept::new(self.open_reader(Some(stream), from).await?, Some(stream));
        loop {
            self.fetch(&mut kept, MAX_READ_EVENTS).await?;
            while let Some((sequence, slot)) = kept.fetched.pop_front() {
                if let Entry::Commit(commit) = slot? {
                    take(&commit)?;
                }
                if sequence >= to {
                    return Ok(());
                }
            }
        }
    }
}
