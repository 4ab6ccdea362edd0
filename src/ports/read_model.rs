//! The read model: one row an order, to be listed and counted. Fed by a projection; it knows no domain types.
//!
//! What every backend guarantees, held by one contract suite:
//! - **Atomic**: the changes of a batch and its checkpoint take effect together or not at all; no reader sees a part.
//! - **Idempotent**: a change at or below the revision of its row is skipped, so a batch may come again after a crash.
//! - **Pages without gaps or repeats**: a row that is there while a list is paged through is on exactly one of its pages, whatever
//!   is inserted meanwhile.
//! - **Bounded reads**: a page costs as much as its rows, not as the rows that the filter leaves out.
//! - **One log**: it knows which log its rows come from, and takes changes of no other.
//! - **Built anew beside itself**: see [`ShadowReadModel`]. Readers see the old rows until they see all of the new ones.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ports::event_store::{LogId, Position, StoredEvent};

/// The most rows that one page has.
pub const MAX_PAGE_ROWS: usize = 1_000;

/// One order in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number of the order, at most 2^63 - 1.
    pub id: u64,
    /// Who ordered.
    pub customer: Arc<str>,
    /// Where it stands: a code that only the projection understands.
    pub status: u8,
    /// When it was placed, in microseconds since the Unix epoch.
    pub created_at_micros: i64,
    /// When it last changed, in microseconds since the Unix epoch.
    pub updated_at_micros: i64,
    /// Its total, in minor units of `currency`.
    pub amount_minor: i64,
    /// The currency of the total: a code of three ASCII letters.
    pub currency: [u8; 3],
    /// The number of its lines.
    pub item_count: u32,
    /// The revision of the last event that is in this row, at most 2^63 - 1.
    pub revision: u64,
}

/// What one event changes in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// The row is as given here. Replaces a row of an earlier revision.
    Insert(Row),
    /// The row has another status.
    Update {
        /// Which row.
        id: u64,
        /// Where it stands now.
        status: u8,
        /// The revision of the event.
        revision: u64,
        /// When, in microseconds since the Unix epoch.
        updated_at_micros: i64,
    },
}

/// A row in few bytes, to compare many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDigest {
    /// A hash of what never changes.
    placed: u64,
    status: u8,
    updated_at_micros: i64,
    revision: u64,
}

/// All rows of a read model as they are stored at one moment.
#[derive(Debug, Default)]
pub struct StoredRows {
    /// How far it has followed which log.
    pub place: Option<LogCheckpoint>,
    /// The rows, by the number of the order.
    pub rows: HashMap<u64, RowDigest>,
    /// What is wrong with it by itself, for people: rows that cannot be read, totals that are not those of the rows.
    pub wrong: Vec<String>,
}

/// How far a read model has followed a log, and which log that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// The log.
    pub log: LogId,
    /// Up to where events are in the rows.
    pub position: Position,
    /// Tells the event at that position from what another history has there: a log that was put back to an earlier state and has
    /// grown again keeps its id and its positions. 0: not known.
    pub event: u64,
}

/// Why the read model could not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadModelError {
    /// Out of reach, overloaded or full. Trying again may help.
    Unavailable(String),
    /// What it holds is damaged or does not fit the change. Trying again does not help; building it anew from the log does.
    Corrupt(String),
}

/// Which rows. A field that is `None` lets all through; the fields together narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those of this customer.
    pub customer: Option<Arc<str>>,
    /// Only those with this status.
    pub status: Option<u8>,
    /// Only those placed at this time or later, in microseconds since the Unix epoch.
    pub created_from_micros: Option<i64>,
    /// Only those placed before this time, in microseconds since the Unix epoch.
    pub created_to_micros: Option<i64>,
}

/// In which order, by [`RowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// From the newest to the oldest.
    NewestFirst,
    /// From the oldest to the newest.
    OldestFirst,
}

/// The place of a row in a list: by time of placing, and by number where that is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// When the order was placed, in microseconds since the Unix epoch.
    pub created_at_micros: i64,
    /// The number of the order.
    pub id: u64,
}

/// One page of one list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Which rows.
    pub filter: ListFilter,
    /// In which order.
    pub order: ListOrder,
    /// Only the rows that come after this place in that order; a row need not be there (any more).
    pub after: Option<RowKey>,
    /// The most rows; more than [`MAX_PAGE_ROWS`] means that many. None at all: an empty page that does not go on.
    pub limit: usize,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the order asked for.
    pub rows: Vec<Row>,
    /// Where to go on, if rows follow: `after` of the next page.
    pub next: Option<RowKey>,
}

/// The count and the sum of the rows that have one status and one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// The status.
    pub status: u8,
    /// The currency.
    pub currency: [u8; 3],
    /// How many, at least 1.
    pub count: u64,
    /// The sum of their amounts, in minor units of `currency`.
    pub amount_minor: i128,
}

impl Row {
    /// Its place in a list.
    #[must_use]
    pub const fn key(&self) -> RowKey {
        RowKey { created_at_micros: self.created_at_micros, id: self.id }
    }

    /// What tells it from another row of the same order.
    #[must_use]
    pub fn digest(&self) -> RowDigest {
        let mut numbers = [0; 23];
        numbers[..8].copy_from_slice(&self.created_at_micros.to_le_bytes());
        numbers[8..16].copy_from_slice(&self.amount_minor.to_le_bytes());
        numbers[16..20].copy_from_slice(&self.item_count.to_le_bytes());
        numbers[20..].copy_from_slice(&self.currency);
        let placed = xxh3_64_with_seed(self.customer.as_bytes(), xxh3_64(&numbers));
        let Self { status, updated_at_micros, revision, .. } = *self;
        RowDigest { placed, status, updated_at_micros, revision }
    }
}

impl RowDigest {
    /// The same after an update of the row.
    #[must_use]
    pub const fn updated(self, status: u8, revision: u64, updated_at_micros: i64) -> Self {
        Self { status, updated_at_micros, revision, ..self }
    }
}

impl LogCheckpoint {
    /// The place after `event` of `log`.
    #[must_use]
    pub fn after(log: LogId, event: &StoredEvent) -> Self {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&event.stream.0.to_le_bytes());
        place[8..].copy_from_slice(&event.revision.to_le_bytes());
        let hash = xxh3_64_with_seed(&event.payload, xxh3_64(&place));
        Self { log, position: event.position, event: hash.max(1) }
    }

    /// Where a checkpoint at `before` is when it has been told to move here.
    ///
    /// # Errors
    /// [`ReadModelError::Corrupt`] if that is in another log.
    pub fn following(self, before: Option<Self>) -> Result<Self, ReadModelError> {
        match before {
            Some(before) if before.log != self.log => Err(ReadModelError::Corrupt(format!(
                "its rows come from log {}, these changes from log {}",
                before.log.0, self.log.0
            ))),
            Some(before) if before.position >= self.position => Ok(before),
            _ => Ok(self),
        }
    }

    /// Whether a rebuild that is at `new` may take the place of a read model that is at `served`.
    ///
    /// # Errors
    /// [`ReadModelError::Unavailable`] if it is behind: what has been read must not be unread.
    pub fn may_replace(new: Option<Self>, served: Option<Self>) -> Result<(), ReadModelError> {
        match (new, served) {
            (_, None) => Ok(()),
            (Some(new), Some(served)) if new.log != served.log || new.position >= served.position => Ok(()),
            (new, Some(served)) => Err(ReadModelError::Unavailable(format!(
                "the rebuild is at position {} and the read model that serves at {}",
                new.map_or(0, |new| new.position.0),
                served.position
            ))),
        }
    }
}

/// The list of orders and its totals. See the module for what every backend guarantees.
#[async_trait]
pub trait ReadModel: fmt::Debug + Send + Sync + 'static {
    /// Makes `changes`, in this order, and moves the checkpoint to `checkpoint`; it never moves back. All or nothing.
    ///
    /// # Errors
    /// [`ReadModelError::Corrupt`] if a row to be updated is neither there nor inserted before it in `changes`, or if the rows come from
    /// another log; [`ReadModelError::Unavailable`]. Nothing has changed then.
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError>;

    /// The place in the log up to which events are in the rows; `None` when new or cleared.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn checkpoint(&self) -> Result<Option<LogCheckpoint>, ReadModelError>;

    /// A page of the rows.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError>;

    /// The totals of all rows, one for each pair of status and currency that has rows, in the order of that pair. Whoever reads
    /// decides which of them count as revenue.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError>;

    /// Drops all rows and the checkpoint, at once for all readers.
    ///
    /// # Errors
    /// [`ReadModelError`]. Nothing has changed then.
    async fn clear(&self) -> Result<(), ReadModelError>;

    /// Begins an empty one beside this one, which goes on as if nothing were. One at a time: what an earlier rebuild has left is
    /// cleared away, and that rebuild, if it still goes on, fails.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn begin_rebuild(&self) -> Result<Box<dyn ShadowReadModel>, ReadModelError>;

    /// Whether it can be read and fed now.
    ///
    /// # Errors
    /// [`ReadModelError`] says what is wrong.
    async fn check(&self) -> Result<(), ReadModelError>;
}

/// A read model that is built beside the one that serves, and takes its place when it is as far. It may leave the making of what is only
/// needed to read until [`ShadowReadModel::index`]. Nothing of it outlives the process before [`ShadowReadModel::promote`].
#[async_trait]
pub trait ShadowReadModel: fmt::Debug + Send + Sync {
    /// As [`ReadModel::apply`].
    ///
    /// # Errors
    /// As [`ReadModel::apply`]; [`ReadModelError::Unavailable`] when it has been swapped in, discarded, or overtaken by another rebuild.
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError>;

    /// Makes what lists need. To be called once, when most rows are in: it takes time in proportion to them.
    ///
    /// # Errors
    /// As [`ShadowReadModel::apply`].
    async fn index(&self) -> Result<(), ReadModelError>;

    /// Takes the place of the one that serves: a read that begins from here on sees these rows, and one that has begun sees the old ones
    /// to its end. The old ones are dropped.
    ///
    /// # Errors
    /// [`ReadModelError::Unavailable`] if this one is not as far as the one that serves, which then stays, and this one may catch up;
    /// as [`ShadowReadModel::apply`].
    async fn promote(&self) -> Result<(), ReadModelError>;

    /// Gives up: what has been built is cleared away.
    ///
    /// # Errors
    /// [`ReadModelError`]; the next rebuild clears it away then.
    async fn discard(&self) -> Result<(), ReadModelError>;
}

impl fmt::Display for ReadModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) => write!(f, "the read model is unavailable: {why}"),
            Self::Corrupt(what) => write!(f, "the read model is damaged: {what}"),
        }
    }
}

impl std::error::Error for ReadModelError {}
