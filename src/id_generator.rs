//! Snowflake ids: unique over nodes and restarts, growing on each node, at most 4 096 000 per second and node.
//!
//! ```text
//!  63 bits:  41 ms since 2024-01-01T00:00:00Z | 5 datacenter | 5 worker | 12 sequence
//! ```
//!
//! The generator is one number, the next free *slot* (`ms << 12 | sequence`) of a node, moved by compare-and-swap. A slot is never
//! handed out twice because it only grows; everything else here decides how far it may run ahead of the clock:
//!
//! - **Saturation.** When the 4096 ids of a millisecond are used up, the generator borrows at most [`MAX_BORROW_MS`] from
//!   the future, so that a caller whose sleep overshoots still gets the full rate, and then makes callers wait.
//! - **A clock stepped back.** Ids continue from the last timestamp: first the rest of its sequence, then one further millisecond for each
//!   millisecond that really passes. So the rate of the layout holds here too, and with fewer ids than that the clock catches up. More than
//!   [`MAX_CLOCK_LEAD_MS`] ahead of the clock the generator refuses.
//! - **Another worker number.** [`IdGenerator::rebase`] lets the generator issue the ids of another number: one that has been leased, or one
//!   unaffected by a clock that was ahead once. Ids grow for as long as a node keeps its number.
//! - **A restart.** A [`HighWaterMark`] is stored ahead of the issued ids, and a new generator starts at it. The hot path never waits for the disk:
//!   it refuses to pass the mark until the mark's keeper has moved it.

mod bulk;
mod error;
mod layout;
mod mark;
mod mark_keeper;
mod numbers;
#[cfg(test)]
mod tests;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU16, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::ports::clock::Clock;
pub use bulk::MAX_TURN;
pub use error::{IdError, StartError};
pub use layout::{EPOCH_UNIX_MS, IdParts, InvalidId, InvalidNodeIdentity, NodeIdentity, parse};
pub use mark::{FileMark, HighWaterMark, MarkError};
pub use numbers::{FolderMarks, OwnNumbers};

use bulk::Share;
use layout::{EPOCH_UNIX_MICROS, MAX_MS, SEQUENCE_BITS, SEQUENCE_MASK};

/// How far saturation may run ahead of a healthy clock, in milliseconds. It covers the overshoot of a sleeping caller and
/// bounds the burst: 4096 ids for each of these.
pub const MAX_BORROW_MS: u64 = 2;
/// How far ids may be ahead of a clock that stepped back, in milliseconds, before the generator refuses.
pub const MAX_CLOCK_LEAD_MS: u64 = 5_000;
/// The maximum number of ids in one reservation of the batch functions: a quarter of a millisecond, so that batches share it fairly.
pub const MAX_RUN: u32 = 1_024;
/// How long one call waits for a free slot, in milliseconds, before it fails with [`IdError::Saturated`].
pub const MAX_WAIT_MS: u64 = 250;
/// How long one async call waits for a mark whose store is slow, in milliseconds, before it fails with [`IdError::MarkBehind`].
pub const MAX_MARK_WAIT_MS: u64 = 2_000;

/// The value of a closed generator: a slot far beyond the 53 bits of a real one.
const CLOSED: u64 = u64::MAX;
/// The bit of the generator's number at which the node begins: after the slot, which may reach 2^53 when the last id has been issued.
const NODE_SHIFT: u32 = 54;
const SLOT_MASK: u64 = (1 << NODE_SHIFT) - 1;
const MICROS_PER_MS: i64 = 1_000;

/// The result of [`IdGenerator::reserve`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reservation {
    /// These ids belong to the caller.
    Ids(IdRun),
    /// Every id that may be issued now is taken: retry after this many microseconds.
    WaitMicros(u64),
}

/// Consecutive ids of one millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRun {
    /// The first id.
    pub first: u64,
    /// How many ids; 0 only if none were requested.
    pub count: u32,
}

impl IdRun {
    /// The ids of the run, growing.
    pub fn ids(self) -> std::ops::Range<u64> {
        self.first..self.first + u64::from(self.count)
    }
}

/// Issues the ids of one node. Shared by reference; safe from any number of threads; see the module for its guarantees.
#[derive(Debug)]
pub struct IdGenerator {
    clock: Arc<dyn Clock>,
    /// The node and its next free slot, `node << 54 | ms << 12 | sequence`, or [`CLOSED`].
    next: AtomicU64,
    /// The node, as last set.
    node: AtomicU16,
    /// Milliseconds of the layout; slots at or past it must not be issued yet.
    mark_ms: AtomicU64,
    /// Whether the last try to store the mark failed: no call waits for it then.
    mark_fails: AtomicBool,
    /// Why it failed, for people.
    mark_failure: Mutex<Option<String>>,
    /// Clock reading in microseconds up to which milliseconds opened *ahead of a stepped-back clock* are paid for.
    opened_micros: AtomicI64,
    /// Held while the mark is written, never on the hot path.
    mark: Option<Mutex<Box<dyn HighWaterMark>>>,
    /// Held by the caller whose turn it is, among those that want many ids.
    turns: tokio::sync::Mutex<()>,
}

impl IdGenerator {
    /// A generator without a mark, for nodes that store nothing on disk.
    ///
    /// It starts past anything that a generator with a healthy clock may have borrowed a moment ago, so a restart repeats no id *as long as the clock
    /// does not step back between or during the runs*. If that matters, use [`IdGenerator::with_mark`].
    ///
    /// # Errors
    /// [`IdError::BeforeEpoch`] and [`IdError::PastEnd`] if the clock is outside of the layout's years, 2024 to 2093.
    pub fn new(node: NodeIdentity, clock: Arc<dyn Clock>) -> Result<Self, IdError> {
        let start_ms = now_ms(&*clock)? + MAX_BORROW_MS + 1;
        Ok(Self::starting_at(start_ms, node, clock, None))
    }

    /// A generator that never repeats an id of an earlier run with the same mark, regardless of the clock in between.
    ///
    /// It blocks on the disk to move the mark once; from then on the owner must run [`IdGenerator::keep_mark_ahead`], or call
    /// [`IdGenerator::advance_mark`] every second.
    ///
    /// If the clock is more than [`MAX_CLOCK_LEAD_MS`] behind the mark no id is issued, and the mark is not moved, until the clock has caught up:
    /// [`IdError::ClockBehind`].
    ///
    /// # Errors
    /// [`StartError::Mark`] if the mark cannot be read, is damaged or cannot be written; [`StartError::Clock`] if the
    /// clock is outside of the layout's years.
    pub fn with_mark(
        node: NodeIdentity,
        clock: Arc<dyn Clock>,
        mark: Box<dyn HighWaterMark>,
    ) -> Result<Self, StartError> {
        let now_ms = now_ms(&*clock)?;
        let start_ms = match mark.load()? {
            // A mark before the epoch has no effect.
            Some(unix_ms) => now_ms.max(unix_ms.saturating_sub(EPOCH_UNIX_MS)),
            None => now_ms + MAX_BORROW_MS + 1,
        };
        let generator = Self::starting_at(start_ms, node, clock, Some(Mutex::new(mark)));
        generator.advance_mark()?;
        Ok(generator)
    }

    /// A generator that issues nothing until [`IdGenerator::rebase`] has set its node, and its mark was moved.
    #[must_use]
    pub fn without_worker_id(node: NodeIdentity, clock: Arc<dyn Clock>, mark: Box<dyn HighWaterMark>) -> Self {
        Self::starting_at(0, node, clock, Some(Mutex::new(mark)))
    }

    fn starting_at(
        start_ms: u64,
        node: NodeIdentity,
        clock: Arc<dyn Clock>,
        mark: Option<Mutex<Box<dyn HighWaterMark>>>,
    ) -> Self {
        Self {
            clock,
            next: AtomicU64::new(u64::from(node.number()) << NODE_SHIFT | start_ms << SEQUENCE_BITS),
            node: AtomicU16::new(node.number()),
            mark_ms: AtomicU64::new(if mark.is_some() { start_ms } else { u64::MAX }),
            mark_fails: AtomicBool::new(false),
            mark_failure: Mutex::default(),
            opened_micros: AtomicI64::new(i64::MIN),
            mark,
            turns: tokio::sync::Mutex::default(),
        }
    }

    /// The node whose ids these are.
    #[must_use]
    pub fn node(&self) -> NodeIdentity {
        NodeIdentity::from_number(self.node.load(Ordering::Acquire))
    }

    /// How many milliseconds the next id is ahead of the clock, if that exceeds the allowed lead, so that no id is issued now.
    #[must_use]
    pub fn is_ahead_by_ms(&self) -> Option<u64> {
        let next = self.next.load(Ordering::Acquire);
        let lead_ms = ((next & SLOT_MASK) >> SEQUENCE_BITS).saturating_sub(now_ms(&*self.clock).ok()?);
        (next != CLOSED && lead_ms > MAX_CLOCK_LEAD_MS).then_some(lead_ms)
    }

    /// Issues ids as `node` from now on, none of them before `from_unix_ms`, which is past all ids ever issued as that node, by this generator too if
    /// it used another node in the meantime. With a mark, which must already be that node's, nothing is issued until [`IdGenerator::advance_mark`]
    /// has stored one. A closed generator stays closed.
    ///
    /// It blocks while a mark is being stored: must be called where blocking is allowed, not by a task of the runtime.
    pub fn rebase(&self, node: NodeIdentity, from_unix_ms: u64) {
        let _mark = self.mark.as_ref().map(|mark| mark.lock());
        if self.mark.is_some() {
            // A thread that has read the old mark loses the exchange below.
            self.mark_ms.store(0, Ordering::Release);
        }
        let from_slot = from_unix_ms.saturating_sub(EPOCH_UNIX_MS).min(MAX_MS + 1) << SEQUENCE_BITS;
        let number = u64::from(node.number()) << NODE_SHIFT;
        let rebased = |next: u64| {
            // Ids issued under another number do not limit those of this one.
            let own_slot = if next >> NODE_SHIFT == number >> NODE_SHIFT { next & SLOT_MASK } else { 0 };
            (next != CLOSED).then(|| number | own_slot.max(from_slot))
        };
        if self.next.fetch_update(Ordering::AcqRel, Ordering::Acquire, rebased).is_ok() {
            self.node.store(node.number(), Ordering::Release);
        }
    }

    /// Reserves up to `max` consecutive ids, at most the rest of one millisecond. It never waits: if no id may be issued now, it returns how long to
    /// sleep.
    ///
    /// # Errors
    /// Every [`IdError`] except [`IdError::Saturated`].
    pub fn reserve(&self, max: u32) -> Result<Reservation, IdError> {
        self.reserve_of(max, Share::WHOLE)
    }

    /// Like [`IdGenerator::reserve`], limited to a share.
    fn reserve_of(&self, max: u32, share: Share) -> Result<Reservation, IdError> {
        loop {
            // Read before the clock: read after it, another thread's progress would look like a clock that stepped back.
            let next = self.next.load(Ordering::Acquire);
            if next == CLOSED {
                return Err(IdError::Sealed);
            }
            let now_micros = layout_micros(&*self.clock)?;
            let number = next >> NODE_SHIFT;
            let mut start = (next & SLOT_MASK).max(whole_ms(now_micros) << SEQUENCE_BITS);
            if start & SEQUENCE_MASK >= share.sequences {
                start = ((start >> SEQUENCE_BITS) + 1) << SEQUENCE_BITS;
            }
            if let Some(wait) = self.wait_before(start, now_micros, share.borrow_ms)? {
                return Ok(Reservation::WaitMicros(wait));
            }
            let left = share.sequences - (start & SEQUENCE_MASK);
            let count = u64::from(max).min(left);
            let after = number << NODE_SHIFT | (start + count);
            if self.next.compare_exchange_weak(next, after, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // Ten bits, so the conversion cannot truncate.
                let node = NodeIdentity::from_number(number as u16);
                let first = node.id_of(start >> SEQUENCE_BITS, start & SEQUENCE_MASK);
                // At most 4096, so the conversion cannot truncate.
                return Ok(Reservation::Ids(IdRun { first, count: count as u32 }));
            }
        }
    }

    /// Microseconds to wait before the slot may be issued, `None` if it may be now.
    fn wait_before(&self, slot: u64, now_micros: i64, borrow_ms: u64) -> Result<Option<u64>, IdError> {
        let (ms, now_ms) = (slot >> SEQUENCE_BITS, whole_ms(now_micros));
        let lead_ms = ms.saturating_sub(now_ms);
        if lead_ms > MAX_CLOCK_LEAD_MS {
            return Err(IdError::ClockBehind { by_ms: lead_ms });
        }
        if ms > MAX_MS {
            return Err(IdError::PastEnd);
        }
        match self.mark_ms.load(Ordering::Acquire) {
            0 => return Err(IdError::Unclaimed),
            mark_ms if ms >= mark_ms => return Err(IdError::MarkBehind),
            _ => {}
        }
        let opens_a_millisecond = slot & SEQUENCE_MASK == 0;
        if !opens_a_millisecond || lead_ms <= borrow_ms {
            return Ok(None);
        }
        if lead_ms <= MAX_BORROW_MS + 1 {
            // Saturated; a healthy clock never gets further ahead than this. Wait for its next millisecond.
            return Ok(Some(until_next_ms(now_micros)));
        }
        Ok(self.wait_to_open_ahead(now_micros))
    }

    /// The clock stepped back: one millisecond may be opened for each one that passes on the stepped-back clock. Winning the exchange is the right to
    /// open one; if it is then not used, only an unused millisecond is lost.
    fn wait_to_open_ahead(&self, now_micros: i64) -> Option<u64> {
        let opened = self.opened_micros.load(Ordering::Acquire);
        let since = now_micros.saturating_sub(opened);
        let paid = if since < 0 {
            // It stepped back once more, and the elapsed time is unknown: count from here.
            now_micros
        } else if since < MICROS_PER_MS {
            return Some((MICROS_PER_MS - since).unsigned_abs());
        } else {
            let credit = MAX_BORROW_MS as i64 * MICROS_PER_MS;
            opened.saturating_add(MICROS_PER_MS).max(now_micros.saturating_sub(credit))
        };
        match self.opened_micros.compare_exchange(opened, paid, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) if since < 0 => Some(MICROS_PER_MS.unsigned_abs()),
            Ok(_) => None,
            // Another thread is opening it right now.
            Err(_) => Some(10),
        }
    }
}

/// Microseconds since the layout's epoch, within its 41 bits of milliseconds.
fn layout_micros(clock: &dyn Clock) -> Result<i64, IdError> {
    let micros = clock.now_micros().saturating_sub(EPOCH_UNIX_MICROS);
    if micros < 0 {
        return Err(IdError::BeforeEpoch);
    }
    if whole_ms(micros) > MAX_MS { Err(IdError::PastEnd) } else { Ok(micros) }
}

fn now_ms(clock: &dyn Clock) -> Result<u64, IdError> {
    layout_micros(clock).map(whole_ms)
}

fn whole_ms(layout_micros: i64) -> u64 {
    (layout_micros / MICROS_PER_MS).unsigned_abs()
}

fn until_next_ms(layout_micros: i64) -> u64 {
    (MICROS_PER_MS - layout_micros % MICROS_PER_MS).unsigned_abs()
}
