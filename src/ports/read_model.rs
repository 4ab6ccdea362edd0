//! The read model: one row per order, to be listed and counted. A projection feeds it; it knows no domain types.
//!
//! Every backend guarantees the following, held by one contract suite:
//! - **Atomic**: the changes of a batch and its checkpoint take effect together or not at all; no reader sees a partial batch.
//! - **Idempotent**: a change at or below the revision of its row is skipped, so a batch may be applied again after a crash.
//! - **Pages without gaps or repeats**: a row that exists while a list is paged through is on exactly one of its pages, whatever is inserted
//!   in the meantime.
//! - **Bounded reads**: the cost of a page depends on its own rows, not on the rows that the filter excludes.
//! - **One log**: it records the log of its rows, and refuses changes of any other.
//! - **Shadow rebuild**: see [`ShadowReadModel`]. Readers see the old rows until they see all of the new ones.

use std::{collections::HashMap, fmt, sync::Arc};

use async_trait::async_trait;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ports::event_store::{LogId, Position, StoredEvent};

/// The maximum number of rows of a page.
pub const MAX_PAGE_ROWS: usize = 1_000;

/// One order in the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The number of the order, at most 2^63 - 1.
    pub id: u64,
    /// The customer of the order.
    pub customer: Arc<str>,
    /// The status: a code that only the projection understands.
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
    /// The revision of the last event in this row, at most 2^63 - 1.
    pub revision: u64,
}

/// The change that one event makes to the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Sets the whole row. Replaces a row of an earlier revision.
    Insert(Row),
    /// Sets another status.
    Update {
        /// The order.
        id: u64,
        /// The new status.
        status: u8,
        /// The revision of the event.
        revision: u64,
        /// The time of the change, in microseconds since the Unix epoch.
        updated_at_micros: i64,
    },
}

/// A compact digest of a row, to compare many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDigest {
    /// A hash of the immutable fields.
    placed: u64,
    status: u8,
    updated_at_micros: i64,
    revision: u64,
}

/// All rows of a read model as stored at one moment.
#[derive(Debug, Default)]
pub struct StoredRows {
    /// How far it has followed which log.
    pub place: Option<LogCheckpoint>,
    /// The rows, by the number of the order.
    pub rows: HashMap<u64, RowDigest>,
    /// Internal inconsistencies, for humans: unreadable rows, or totals that do not match the rows.
    pub wrong: Vec<String>,
}

/// How far a read model has followed which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCheckpoint {
    /// The log.
    pub log: LogId,
    /// The position up to which events are in the rows.
    pub position: Position,
    /// Distinguishes the event at that position from that of another history: a log that was restored to an earlier state and has grown again keeps
    /// its id and its positions. 0: unknown.
    pub event: u64,
}

/// Why a call of the read model failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadModelError {
    /// The read model is unreachable, overloaded or full. A retry may help.
    #[error("the read model is unavailable: {0}")]
    Unavailable(String),
    /// The stored data is damaged or does not fit the change. A retry does not help; a rebuild from the log does.
    #[error("the read model is damaged: {0}")]
    Corrupt(String),
}

/// Selects rows. A field that is `None` matches all; the fields are combined with AND.
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

/// The sort order, by [`RowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListOrder {
    /// From the newest to the oldest.
    NewestFirst,
    /// From the oldest to the newest.
    OldestFirst,
}

/// The position of a row in a list: by time of placing, then by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// When the order was placed, in microseconds since the Unix epoch.
    pub created_at_micros: i64,
    /// The number of the order.
    pub id: u64,
}

/// A request for one page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// The filter.
    pub filter: ListFilter,
    /// The sort order.
    pub order: ListOrder,
    /// Only the rows after this key in that order; the row itself need not exist (any more).
    pub after: Option<RowKey>,
    /// The maximum number of rows, capped at [`MAX_PAGE_ROWS`]. 0: an empty page without a next one.
    pub limit: usize,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The rows, in the requested order.
    pub rows: Vec<Row>,
    /// If more rows follow: the `after` of the next page.
    pub next: Option<RowKey>,
}

/// The count and the sum of the rows that have one status and one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Totals {
    /// The status.
    pub status: u8,
    /// The currency.
    pub currency: [u8; 3],
    /// The number of rows, at least 1.
    pub count: u64,
    /// The sum of their amounts, in minor units of `currency`.
    pub amount_minor: i128,
}

impl Row {
    /// Its key in a list.
    #[must_use]
    pub const fn key(&self) -> RowKey {
        RowKey { created_at_micros: self.created_at_micros, id: self.id }
    }

    /// A digest that distinguishes it from other versions of the same order's row.
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
    /// The digest after an update of the row.
    #[must_use]
    pub const fn updated(self, status: u8, revision: u64, updated_at_micros: i64) -> Self {
        Self { status, updated_at_micros, revision, ..self }
    }
}

impl LogCheckpoint {
    /// The checkpoint after `event` of `log`.
    #[must_use]
    pub fn after(log: LogId, event: &StoredEvent) -> Self {
        let mut place = [0; 16];
        place[..8].copy_from_slice(&event.stream.0.to_le_bytes());
        place[8..].copy_from_slice(&event.revision.to_le_bytes());
        let hash = xxh3_64_with_seed(&event.payload, xxh3_64(&place));
        Self { log, position: event.position, event: hash.max(1) }
    }

    /// The new checkpoint when one at `before` is moved here.
    ///
    /// # Errors
    /// [`ReadModelError::Corrupt`] if `before` is in another log.
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

    /// Whether a rebuild at `new` may replace a read model at `served`.
    ///
    /// # Errors
    /// [`ReadModelError::Unavailable`] if it is behind: a reader must not go back in time.
    pub fn may_replace(new: Option<Self>, served: Option<Self>) -> Result<(), ReadModelError> {
        match (new, served) {
            (_, None) => Ok(()),
            (Some(new), Some(served)) if new.log != served.log || new.position >= served.position => Ok(()),
            (new, Some(served)) => Err(ReadModelError::Unavailable(format!(
                "the rebuild is at position {} and the active read model at {}",
                new.map_or(0, |new| new.position.0),
                served.position
            ))),
        }
    }
}

/// The list of orders and its totals. See the module for the guarantees of every backend.
#[async_trait]
pub trait ReadModel: fmt::Debug + Send + Sync + 'static {
    /// Applies `changes`, in this order, and moves the checkpoint to `checkpoint`, never backwards. All or nothing.
    ///
    /// # Errors
    /// [`ReadModelError::Corrupt`] if a row to be updated neither exists nor is inserted before it in `changes`, or if the rows come from another
    /// log; [`ReadModelError::Unavailable`]. Nothing changes in these cases.
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError>;

    /// The log position up to which events are in the rows; `None` when new or cleared.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn checkpoint(&self) -> Result<Option<LogCheckpoint>, ReadModelError>;

    /// A page of the rows.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError>;

    /// The totals of all rows, one for each pair of status and currency that has rows, in the order of that pair. The caller decides which of them
    /// count as revenue.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError>;

    /// The totals of the rows of one customer; empty for a customer without rows. No backend stores them: the call reads all rows of the customer,
    /// and only those.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn customer_totals(&self, customer: &str) -> Result<Vec<Totals>, ReadModelError>;

    /// Drops all rows and the checkpoint, at once for all readers.
    ///
    /// # Errors
    /// [`ReadModelError`]. Nothing has changed then.
    async fn clear(&self) -> Result<(), ReadModelError>;

    /// Begins an empty shadow copy; this read model keeps serving unchanged. One rebuild runs at a time: the remains of an earlier rebuild are
    /// removed, and if it is still running it fails.
    ///
    /// # Errors
    /// [`ReadModelError`].
    async fn begin_rebuild(&self) -> Result<Box<dyn ShadowReadModel>, ReadModelError>;

    /// Whether it can be read and updated now.
    ///
    /// # Errors
    /// [`ReadModelError`] gives the reason if it cannot.
    async fn check(&self) -> Result<(), ReadModelError>;
}

/// A shadow copy of the served read model, which replaces it once it has caught up. It may defer building read indexes until
/// [`ShadowReadModel::index`]. Until [`ShadowReadModel::promote`], none of it outlives the process.
#[async_trait]
pub trait ShadowReadModel: fmt::Debug + Send + Sync {
    /// As [`ReadModel::apply`].
    ///
    /// # Errors
    /// As [`ReadModel::apply`]; [`ReadModelError::Unavailable`] if it has been promoted, discarded, or superseded by another rebuild.
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError>;

    /// Builds the indexes for lists. Call it once, when most rows have been applied: its duration grows with their number.
    ///
    /// # Errors
    /// As [`ShadowReadModel::apply`].
    async fn index(&self) -> Result<(), ReadModelError>;

    /// Replaces the served read model: reads that begin from here on see these rows, and running reads see the old rows to their end. The old rows
    /// are dropped.
    ///
    /// # Errors
    /// [`ReadModelError::Unavailable`] if this copy is behind the served one, which then stays, while this one may catch up; as
    /// [`ShadowReadModel::apply`].
    async fn promote(&self) -> Result<(), ReadModelError>;

    /// Abandons the rebuild: the shadow copy is removed.
    ///
    /// # Errors
    /// [`ReadModelError`]; the next rebuild then removes it.
    async fn discard(&self) -> Result<(), ReadModelError>;
}
