//! The log: read without a lock, appended under a short one.
//!
//! Events go into segments of [`SEGMENT_EVENTS`]. A segment begins as a block of slots, each written once; when it is full its payloads are merged
//! into one buffer and its slots into 16 bytes per event, which keeps the log small.

use std::{
    ops::RangeInclusive,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::ports::event_store::{
    CommitPage, MAX_READ_BYTES, MAX_READ_EVENTS, Position, RecordedCommit, StoreError, StoredEvent, StreamId,
};

/// Events per segment. Small, so that the append that fills one spends only some microseconds on the merge.
const SEGMENT_EVENTS: u32 = 256;
/// Bucket `b` of the directory has 2^b segments: enough for 2^32 events.
const BUCKETS: usize = 25;
/// Segments with more payload are not merged: merging large payloads saves nothing, and one event held by a reader keeps its whole buffer alive.
const MAX_MERGED_BYTES: usize = 1024 * 1024;

/// The events of all streams, by position: 1, 2, 3 … without gaps.
#[derive(Debug)]
pub(super) struct Log {
    directory: [OnceLock<Box<[Segment]>>; BUCKETS],
    /// The last position that readers may see. Stored with Release after its slots, loaded with Acquire before them.
    head: AtomicU32,
    writer: Mutex<Writer>,
}

#[derive(Debug, Default)]
struct Writer {
    /// The number of the segment that `block` belongs to.
    segment: u32,
    block: Option<Arc<Block>>,
}

#[derive(Debug, Default)]
struct Segment {
    /// The slots, from the first event of the segment until it has been merged. Locked only to copy or drop the pointer.
    block: RwLock<Option<Arc<Block>>>,
    merged: OnceLock<Merged>,
}

type Block = [OnceLock<Slot>];

#[derive(Debug)]
struct Slot {
    stream: u64,
    revision: u32,
    ends_commit: bool,
    payload: Bytes,
}

#[derive(Debug)]
struct Merged {
    entries: Box<[Entry]>,
    payloads: Bytes,
}

#[derive(Debug)]
struct Entry {
    stream: u64,
    revision: u32,
    /// The end of its payload in the buffer; it begins at the end of the previous one. Combined with [`ENDS_COMMIT`].
    end: u32,
}

/// The bit that marks the last event of a commit: a buffer is far too short to need it.
const ENDS_COMMIT: u32 = 1 << 31;

impl Entry {
    const fn end(&self) -> u32 {
        self.end & !ENDS_COMMIT
    }
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            directory: std::array::from_fn(|_| OnceLock::new()),
            head: AtomicU32::new(0),
            writer: Mutex::new(Writer::default()),
        }
    }

    pub(super) fn head(&self) -> u32 {
        self.head.load(Ordering::Acquire)
    }

    /// Appends `payloads` as revisions `first_revision` and up of `stream`, all visible at once; returns their positions. `None`, with nothing
    /// written, if the log would grow beyond position `max`.
    pub(super) fn append(
        &self,
        stream: StreamId,
        first_revision: u32,
        payloads: Vec<Bytes>,
        max: u32,
    ) -> Option<RangeInclusive<u32>> {
        let mut writer = self.writer.lock();
        // Only the holder of the lock moves the head.
        let before = self.head.load(Ordering::Relaxed);
        let count = u32::try_from(payloads.len()).ok()?;
        let last = before.checked_add(count).filter(|&last| last <= max)?;
        for ((payload, position), revision) in payloads.into_iter().zip(before + 1..).zip(first_revision..) {
            let (segment, slot) = place(position);
            let block = self.block(&mut writer, segment);
            // Never taken already: positions above the head are assigned once, by the holder of the lock.
            let _ = block[slot].set(Slot { stream: stream.0, revision, ends_commit: position == last, payload });
        }
        self.head.store(last, Ordering::Release);
        Some(before + 1..=last)
    }

    /// The block to write `segment` into, created at its first event.
    fn block<'a>(&self, writer: &'a mut Writer, segment: u32) -> &'a Arc<Block> {
        if writer.segment != segment {
            *writer = Writer { segment, block: None };
        }
        writer.block.get_or_insert_with(|| {
            let block: Arc<Block> = (0..SEGMENT_EVENTS).map(|_| OnceLock::new()).collect();
            let (bucket, index) = locate(segment);
            let segments =
                self.directory[bucket].get_or_init(|| (0..1_usize << bucket).map(|_| Segment::default()).collect());
            *segments[index].block.write() = Some(Arc::clone(&block));
            block
        })
    }

    /// Merges the segments that the append of `positions` has filled. Separate from the append, so that no lock is held.
    pub(super) fn merge_filled(&self, positions: &RangeInclusive<u32>) {
        let (first, _) = place(*positions.start());
        let (open, _) = place(positions.end().saturating_add(1));
        for segment in (first..open).filter_map(|segment| self.segment(segment)) {
            segment.merge();
        }
    }

    fn segment(&self, segment: u32) -> Option<&Segment> {
        let (bucket, index) = locate(segment);
        self.directory[bucket].get()?.get(index)
    }

    /// The events at `positions`, at most `max_events` and within the bounds of every read.
    pub(super) fn read(
        &self,
        positions: impl ExactSizeIterator<Item = u32>,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let max_events = max_events.min(MAX_READ_EVENTS);
        let mut events = Vec::with_capacity(max_events.min(positions.len()));
        let mut bytes = 0;
        let mut current: Option<(u32, View<'_>)> = None;
        for position in positions.take(max_events) {
            let (segment, slot) = place(position);
            if current.as_ref().is_none_or(|(of, _)| *of != segment) {
                current = self.segment(segment).and_then(Segment::view).map(|view| (segment, view));
            }
            let event = current.as_ref().and_then(|(_, view)| view.event(slot, position));
            let (event, _) = event.ok_or_else(|| nothing_at(position))?;
            bytes += event.payload.len();
            events.push(event);
            if bytes >= MAX_READ_BYTES {
                break;
            }
        }
        Ok(events)
    }

    /// The whole commits that begin after position `from`; without their requests.
    pub(super) fn commits(&self, from: u32, max_events: usize) -> Result<Vec<RecordedCommit>, StoreError> {
        let (mut page, head) = (CommitPage::new(max_events), self.head());
        // The rest of a commit that contains `from` is skipped.
        let mut is_whole = from == 0 || self.event(from)?.1;
        let mut events = Vec::new();
        for position in from.saturating_add(1)..=head {
            if page.is_full() {
                break;
            }
            let (event, ends_commit) = self.event(position)?;
            events.push(event);
            if ends_commit {
                let commit = RecordedCommit { request: None, events: std::mem::take(&mut events) };
                if is_whole && !page.take(commit) {
                    break;
                }
                is_whole = true;
            }
        }
        Ok(page.into_commits())
    }

    fn event(&self, position: u32) -> Result<(StoredEvent, bool), StoreError> {
        let (segment, slot) = place(position);
        let view = self.segment(segment).and_then(Segment::view);
        view.and_then(|view| view.event(slot, position)).ok_or_else(|| nothing_at(position))
    }
}

fn nothing_at(position: u32) -> StoreError {
    StoreError::Corrupt(format!("no event at position {position}"))
}

/// The segment of a position (from 1) and the slot in it.
const fn place(position: u32) -> (u32, usize) {
    let index = position - 1;
    (index / SEGMENT_EVENTS, (index % SEGMENT_EVENTS) as usize)
}

/// The bucket of a segment and its index there.
const fn locate(segment: u32) -> (usize, usize) {
    let bucket = (segment + 1).ilog2();
    (bucket as usize, (segment + 1 - (1 << bucket)) as usize)
}

/// A reader's view of one segment.
enum View<'a> {
    Merged(&'a Merged),
    Block(Arc<Block>),
}

impl Segment {
    fn view(&self) -> Option<View<'_>> {
        if let Some(merged) = self.merged.get() {
            return Some(View::Merged(merged));
        }
        let block = self.block.read().clone();
        // The block is dropped only after the merged form exists.
        block.map(View::Block).or_else(|| self.merged.get().map(View::Merged))
    }

    fn merge(&self) {
        let block = self.block.read().clone();
        let Some(merged) = block.and_then(|block| Merged::of(&block)) else { return };
        if self.merged.set(merged).is_ok() {
            *self.block.write() = None;
        }
    }
}

impl Merged {
    /// `None` when a slot is empty or the payloads are too large to merge.
    fn of(block: &Block) -> Option<Self> {
        let total = block.iter().try_fold(0_usize, |sum, slot| Some(sum + slot.get()?.payload.len()))?;
        if total > MAX_MERGED_BYTES {
            return None;
        }
        let mut payloads = Vec::with_capacity(total);
        let mut entries = Vec::with_capacity(block.len());
        for slot in block.iter().filter_map(OnceLock::get) {
            payloads.extend_from_slice(&slot.payload);
            let end = u32::try_from(payloads.len()).ok()? | if slot.ends_commit { ENDS_COMMIT } else { 0 };
            entries.push(Entry { stream: slot.stream, revision: slot.revision, end });
        }
        Some(Self { entries: entries.into(), payloads: payloads.into() })
    }
}

impl View<'_> {
    /// The event, and whether it is the last of its commit.
    fn event(&self, slot: usize, position: u32) -> Option<(StoredEvent, bool)> {
        let (stream, revision, ends_commit, payload) = match self {
            Self::Block(block) => {
                let slot = block.get(slot)?.get()?;
                (slot.stream, slot.revision, slot.ends_commit, slot.payload.clone())
            }
            Self::Merged(Merged { entries, payloads }) => {
                let entry = entries.get(slot)?;
                let start = slot.checked_sub(1).and_then(|before| entries.get(before)).map_or(0, Entry::end);
                let payload = payloads.slice(start as usize..entry.end() as usize);
                (entry.stream, entry.revision, entry.end & ENDS_COMMIT != 0, payload)
            }
        };
        let (stream, position) = (StreamId(stream), Position(position.into()));
        Some((StoredEvent { stream, revision: revision.into(), position, payload }, ends_commit))
    }
}
