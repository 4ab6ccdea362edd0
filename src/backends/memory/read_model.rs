//! The read model in memory: plain maps under one lock, written once per batch.
//!
//! Rows are separated by status, once for all and once for each customer. Every filter is then a merge of at most as many sorted sets as there are
//! statuses, so a page costs the same for any filter and any number of rows.

mod rebuild;
mod row_set;
mod rows;
mod table;

use std::sync::{Arc, atomic::AtomicU64};

use async_trait::async_trait;
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use self::{rebuild::MemoryRebuild, rows::sort_key, table::Table};
use crate::ports::read_model::{
    ListFilter, ListOrder, ListQuery, LogCheckpoint, MAX_PAGE_ROWS, Page, ReadModel, ReadModelError, Row, RowChange,
    RowKey, ShadowReadModel, Totals,
};

/// A [`ReadModel`] in the memory of this process; initially empty.
#[derive(Debug)]
pub struct MemoryReadModel {
    served: Arc<Served>,
}

/// The rows that are served, and the number of the last rebuild that has begun.
#[derive(Debug)]
struct Served {
    table: RwLock<Table>,
    last_rebuild: AtomicU64,
}

impl MemoryReadModel {
    /// An empty read model.
    #[must_use]
    pub fn new() -> Self {
        let served = Served { table: RwLock::new(Table::new()), last_rebuild: AtomicU64::new(0) };
        Self { served: Arc::new(served) }
    }
}

impl Served {
    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read()
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write()
    }
}

impl Default for MemoryReadModel {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ReadModel for MemoryReadModel {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        self.served.table_mut().apply(changes, checkpoint)
    }

    async fn checkpoint(&self) -> Result<Option<LogCheckpoint>, ReadModelError> {
        Ok(self.served.table().checkpoint)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError> {
        Ok(page(&self.served.table(), query))
    }

    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        Ok(self.served.table().totals())
    }

    async fn customer_totals(&self, customer: &str) -> Result<Vec<Totals>, ReadModelError> {
        Ok(self.served.table().customer_totals(customer))
    }

    async fn clear(&self) -> Result<(), ReadModelError> {
        let old = std::mem::replace(&mut *self.served.table_mut(), Table::new());
        rebuild::drop_aside(old);
        Ok(())
    }

    async fn begin_rebuild(&self) -> Result<Box<dyn ShadowReadModel>, ReadModelError> {
        Ok(Box::new(MemoryRebuild::begin(Arc::clone(&self.served))))
    }

    async fn check(&self) -> Result<(), ReadModelError> {
        self.served.table().check(&[])
    }
}

fn page(table: &Table, query: &ListQuery) -> Page {
    let ListQuery { filter, order, after, limit } = query;
    let limit = (*limit).min(MAX_PAGE_ROWS);
    let Some((first, last)) = bounds(filter, *order, *after).filter(|_| limit > 0) else {
        return Page { rows: Vec::new(), next: None };
    };
    let step = |range: &mut row_set::Range<'_>| match order {
        ListOrder::OldestFirst => range.next(),
        ListOrder::NewestFirst => range.next_back(),
    };
    // The next row of each set, and the iterator over the rows after it.
    let sets = table.sets(filter.customer.as_deref(), filter.status);
    let mut heads: Vec<_> = sets
        .filter_map(|set| {
            let mut range = set.range(first, last, &table.rows);
            step(&mut range).map(|head| (head, range))
        })
        .collect();
    let mut rows: Vec<Row> = Vec::new();
    while rows.len() < limit
        && let Some(index) = next_head(*order, heads.iter().map(|((key, _), _)| *key))
    {
        let ((_, number), range) = &mut heads[index];
        rows.push(table.row(*number));
        match step(range) {
            Some(head) => heads[index].0 = head,
            None => drop(heads.swap_remove(index)),
        }
    }
    let next = rows.last().filter(|_| !heads.is_empty()).map(Row::key);
    Page { rows, next }
}

/// The index of the next one of `keys`.
fn next_head(order: ListOrder, keys: impl Iterator<Item = i128>) -> Option<usize> {
    let keys = keys.enumerate();
    let next = match order {
        ListOrder::OldestFirst => keys.min_by_key(|&(_, key)| key),
        ListOrder::NewestFirst => keys.max_by_key(|&(_, key)| key),
    };
    next.map(|(index, _)| index)
}

/// The first and the last possible sort key of a page; `None` if there is none.
fn bounds(filter: &ListFilter, order: ListOrder, after: Option<RowKey>) -> Option<(i128, i128)> {
    let begin_of = |created_at_micros| sort_key(RowKey { created_at_micros, id: 0 });
    let mut first = filter.created_from_micros.map_or(i128::MIN, begin_of);
    let mut last = match filter.created_to_micros {
        Some(to) => begin_of(to).checked_sub(1)?,
        None => i128::MAX,
    };
    match (order, after.map(sort_key)) {
        (_, None) => {}
        (ListOrder::OldestFirst, Some(after)) => first = first.max(after.checked_add(1)?),
        (ListOrder::NewestFirst, Some(after)) => last = last.min(after.checked_sub(1)?),
    }
    (first <= last).then_some((first, last))
}
