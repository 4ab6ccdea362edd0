//! A batch of changes: folded in memory first, so that a row that changes several times is written once.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{super::error::DbError, currency_text, load, slot::Sql};
use crate::ports::read_model::{ReadModelError, Row, RowChange};

/// The rows that a batch touches, by id: written in that order, which is the order of the table.
pub(super) struct Batch<'a> {
    connection: &'a Connection,
    sql: &'a Sql,
    /// Rows beyond this id do not exist before the batch: most new orders have such ids, and need no look-up.
    last_id: Option<u64>,
    rows: BTreeMap<u64, Touched>,
}

struct Touched {
    /// Its content in the table.
    before: Option<Row>,
    /// Its new content; `None` for a row that neither exists nor is inserted.
    after: Option<Row>,
}

/// The difference in the rows of one status and currency.
#[derive(Default)]
struct Change {
    count: i64,
    amount_minor: i128,
}

impl<'a> Batch<'a> {
    /// An empty batch for the tables of `sql`.
    pub(super) fn new(connection: &'a Connection, sql: &'a Sql) -> Result<Self, DbError> {
        let last_id: Option<i64> = connection.prepare_cached(&sql.last_id)?.query_row([], |row| row.get(0))?;
        Ok(Self { connection, sql, last_id: last_id.map(i64::cast_unsigned), rows: BTreeMap::new() })
    }

    /// Adds the next change. Reads only.
    pub(super) fn change(&mut self, change: RowChange) -> Result<(), ReadModelError> {
        match change {
            RowChange::Insert(row) => {
                let touched = self.touch(row.id)?;
                if touched.after.as_ref().is_none_or(|known| known.revision < row.revision) {
                    touched.after = Some(row);
                }
            }
            RowChange::Update { id, status, revision, updated_at_micros } => {
                let Some(row) = &mut self.touch(id)?.after else {
                    return Err(ReadModelError::Corrupt(format!("revision {revision} of {id}, which has no row")));
                };
                if row.revision < revision {
                    (row.status, row.revision, row.updated_at_micros) = (status, revision, updated_at_micros);
                }
            }
        }
        Ok(())
    }

    fn touch(&mut self, id: u64) -> Result<&mut Touched, DbError> {
        Ok(match self.rows.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let may_be_there = self.last_id.is_some_and(|last| id <= last);
                let before = if may_be_there { load(self.connection, self.sql, id)? } else { None };
                entry.insert(Touched { after: before.clone(), before })
            }
        })
    }

    /// Writes the changes.
    pub(super) fn write(&self) -> Result<(), DbError> {
        let (connection, sql) = (self.connection, self.sql);
        let mut totals: BTreeMap<(u8, [u8; 3]), Change> = BTreeMap::new();
        let mut new = Vec::with_capacity(self.rows.len());
        for Touched { before, after } in self.rows.values().filter(|touched| touched.before != touched.after) {
            let Some(row) = after else { continue };
            match before {
                None => new.push(row),
                Some(before) if differs_in_status_only(before, row) => update(connection, &sql.update, row)?,
                Some(_) => replace(connection, &sql.replace, row)?,
            }
            for (row, sign) in before.iter().map(|row| (row, -1)).chain([(row, 1)]) {
                let change = totals.entry((row.status, row.currency)).or_default();
                change.count += sign;
                change.amount_minor += i128::from(row.amount_minor) * i128::from(sign);
            }
        }
        insert(connection, sql, &new)?;
        totals.iter().try_for_each(|((status, currency), change)| add(connection, sql, *status, currency, change))
    }
}

/// Whether `after` differs from `before` as an update makes it differ.
fn differs_in_status_only(before: &Row, after: &Row) -> bool {
    before.created_at_micros == after.created_at_micros
        && before.customer == after.customer
        && before.amount_minor == after.amount_minor
        && before.currency == after.currency
        && before.item_count == after.item_count
}

fn update(connection: &Connection, sql: &str, row: &Row) -> Result<(), DbError> {
    let params = params![row.id.cast_signed(), row.status, row.updated_at_micros, row.revision.cast_signed()];
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

fn insert(connection: &Connection, sql: &Sql, rows: &[&Row]) -> Result<(), DbError> {
    sql.insert.insert(connection, rows, |values, row| {
        values.add(row.id.cast_signed())?;
        values.add(&*row.customer)?;
        values.add(row.status)?;
        values.add(row.created_at_micros)?;
        values.add(row.updated_at_micros)?;
        values.add(row.amount_minor)?;
        values.add(currency_text(&row.currency)?)?;
        values.add(row.item_count)?;
        values.add(row.revision.cast_signed())
    })
}

fn replace(connection: &Connection, sql: &str, row: &Row) -> Result<(), DbError> {
    connection.prepare_cached(sql)?.execute(params![
        row.id.cast_signed(),
        &*row.customer,
        row.status,
        row.created_at_micros,
        row.updated_at_micros,
        row.amount_minor,
        currency_text(&row.currency)?,
        row.item_count,
        row.revision.cast_signed(),
    ])?;
    Ok(())
}

fn add(connection: &Connection, sql: &Sql, status: u8, currency: &[u8; 3], change: &Change) -> Result<(), DbError> {
    let currency = currency_text(currency)?;
    let before = connection
        .prepare_cached(&sql.total)?
        .query_row(params![status, currency], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?)))
        .optional()?;
    let (count, amount) = before.map_or((0, 0), |(count, amount)| (count, i128::from_be_bytes(amount)));
    let (count, amount) = (count + change.count, amount + change.amount_minor);
    if count > 0 {
        let params = params![status, currency, count, &amount.to_be_bytes()[..]];
        connection.prepare_cached(&sql.set_total)?.execute(params)?;
    } else {
        connection.prepare_cached(&sql.remove_total)?.execute(params![status, currency])?;
    }
    Ok(())
}
