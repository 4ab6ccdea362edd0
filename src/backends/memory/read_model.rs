//! The read model in memory: plain maps under one lock, written once a batch.
//!
//! Rows are kept apart by status, once for all and once for each customer. Every filter is then a merge of at most as many sorted
//! sets as there are statuses, so that a page costs the same whatever the filter and however many rows there are.

mod row_set;
mod table;

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use async_trait::async_trait;

use self::table::{Table, sort_key};
use crate::{
    event_store::Position,
    read_model::{
        ListFilter, ListOrder, ListQuery, MAX_PAGE_ROWS, Page, ReadModel, ReadModelError, Row, RowChange, RowKey,
        Totals,
    },
};

/// A [`ReadModel`] in the memory of this process: it begins empty, at position zero.
#[derive(Debug)]
pub struct MemoryReadModel {
    table: RwLock<Table>,
}

impl MemoryReadModel {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { table: RwLock::new(Table::new()) }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryReadModel {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl ReadModel for MemoryReadModel {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: Position) -> Result<(), ReadModelError> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.check(&changes)?;
        changes.into_iter().for_each(|change| table.change(change));
        table.checkpoint = table.checkpoint.max(checkpoint);
        Ok(())
    }

    async fn checkpoint(&self) -> Result<Position, ReadModelError> {
        Ok(self.table().checkpoint)
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError> {
        Ok(page(&self.table(), query))
    }

    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        Ok(self.table().totals())
    }

    async fn check(&self) -> Result<(), ReadModelError> {
        self.table().check(&[])
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
    // The next row of each set, and what follows it there.
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

/// Which of `keys` comes next.
fn next_head(order: ListOrder, keys: impl Iterator<Item = i128>) -> Option<usize> {
    let keys = keys.enumerate();
    let next = match order {
        ListOrder::OldestFirst => keys.min_by_key(|&(_, key)| key),
        ListOrder::NewestFirst => keys.max_by_key(|&(_, key)| key),
    };
    next.map(|(index, _)| index)
}

/// The first and the last sort key that a page may have; `None` if it can have none.
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
