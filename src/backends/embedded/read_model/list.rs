//! A page of a list: the keys from one index range per status, merged; then the rows of those keys.

use rusqlite::{Connection, params};

use super::{super::error::DbError, load, slot::Sql};
use crate::ports::read_model::{ListFilter, ListOrder, ListQuery, MAX_PAGE_ROWS, Page, Row, RowKey};

/// The first and the last possible key of a page, both included; ids in SQLite's representation.
#[derive(Clone, Copy)]
struct Bounds {
    first: (i64, i64),
    last: (i64, i64),
}

pub(super) fn page(connection: &Connection, query: &ListQuery) -> Result<Page, DbError> {
    let limit = query.limit.min(MAX_PAGE_ROWS);
    let Some(bounds) = bounds(&query.filter, query.order, query.after).filter(|_| limit > 0) else {
        return Ok(Page { rows: Vec::new(), next: None });
    };
    // One snapshot for all of it.
    let snapshot = connection.unchecked_transaction()?;
    let sql = Sql::served(&snapshot)?;
    let mut keys = Vec::new();
    for status in statuses(&snapshot, sql, query.filter.status)? {
        // One more than the page has, to know whether there is a next page.
        keys.extend(keys_of(&snapshot, sql, query, status, bounds, limit + 1)?);
    }
    keys.sort_unstable();
    if query.order == ListOrder::NewestFirst {
        keys.reverse();
    }
    let goes_on = keys.len() > limit;
    keys.truncate(limit);
    let rows = keys.iter().map(|(_, id)| {
        let row = load(&snapshot, sql, id.cast_unsigned())?;
        row.ok_or_else(|| DbError::Corrupt(format!("the index of the read model leads to {id}, which has no row")))
    });
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    let next = rows.last().filter(|_| goes_on).map(Row::key);
    Ok(Page { rows, next })
}

/// The statuses of existing rows, or the requested one.
fn statuses(connection: &Connection, sql: &Sql, wanted: Option<u8>) -> Result<Vec<u8>, DbError> {
    if let Some(status) = wanted {
        return Ok(vec![status]);
    }
    let mut statement = connection.prepare_cached(&sql.statuses)?;
    let statuses = statement.query_map([], |row| row.get(0))?;
    Ok(statuses.collect::<Result<_, _>>()?)
}

/// Up to `limit` keys of one status, from the end where the page begins.
fn keys_of(
    connection: &Connection,
    sql: &Sql,
    query: &ListQuery,
    status: u8,
    Bounds { first, last }: Bounds,
    limit: usize,
) -> Result<Vec<(i64, i64)>, DbError> {
    let limit = limit as i64;
    let key = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let order = usize::from(query.order == ListOrder::NewestFirst);
    let keys = match &query.filter.customer {
        None => {
            let params = params![status, first.0, first.1, last.0, last.1, limit];
            connection.prepare_cached(&sql.by_status[order])?.query_map(params, key)?.collect::<Result<_, _>>()
        }
        Some(customer) => {
            let params = params![status, first.0, first.1, last.0, last.1, limit, &**customer];
            connection.prepare_cached(&sql.by_customer[order])?.query_map(params, key)?.collect::<Result<_, _>>()
        }
    };
    Ok(keys?)
}

/// `None` if the page can have no key.
fn bounds(filter: &ListFilter, order: ListOrder, after: Option<RowKey>) -> Option<Bounds> {
    let mut first = (filter.created_from_micros.unwrap_or(i64::MIN), 0);
    let mut last = match filter.created_to_micros {
        Some(to) => (to.checked_sub(1)?, i64::MAX),
        None => (i64::MAX, i64::MAX),
    };
    match (order, after) {
        (_, None) => {}
        (ListOrder::OldestFirst, Some(after)) => first = first.max(following(after)?),
        (ListOrder::NewestFirst, Some(after)) => last = last.min(preceding(after)?),
    }
    (first <= last).then_some(Bounds { first, last })
}

/// The first key after `key`. Rows have ids up to 2^63 - 1, keys that clients send may have any.
fn following(key: RowKey) -> Option<(i64, i64)> {
    match key.id.checked_add(1).and_then(|id| i64::try_from(id).ok()) {
        Some(id) => Some((key.created_at_micros, id)),
        None => Some((key.created_at_micros.checked_add(1)?, 0)),
    }
}

/// The last key before `key`.
fn preceding(key: RowKey) -> Option<(i64, i64)> {
    match key.id.checked_sub(1) {
        Some(id) => Some((key.created_at_micros, i64::try_from(id).unwrap_or(i64::MAX))),
        None => Some((key.created_at_micros.checked_sub(1)?, i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preceding_and_following_keys_are_neighbours() {
        let key = |created_at_micros, id| RowKey { created_at_micros, id };
        let most = i64::MAX as u64;
        assert_eq!(following(key(5, 7)), Some((5, 8)));
        assert_eq!(following(key(5, most)), Some((6, 0)));
        assert_eq!(following(key(i64::MAX, u64::MAX)), None);
        assert_eq!(preceding(key(5, 7)), Some((5, 6)));
        assert_eq!(preceding(key(5, 0)), Some((4, i64::MAX)));
        assert_eq!(preceding(key(5, u64::MAX)), Some((5, i64::MAX)));
        assert_eq!(preceding(key(i64::MIN, 0)), None);
    }
}
