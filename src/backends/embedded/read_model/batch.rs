//! A batch of changes: folded in memory first, so that a row that changes several times is written once.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{super::error::DbError, currency_text, load};
use crate::read_model::{ReadModelError, Row, RowChange};

/// The rows that a batch touches, by id: written in that order, which is the order of the table.
#[derive(Default)]
pub(super) struct Batch {
    rows: BTreeMap<u64, Touched>,
}

struct Touched {
    /// As it is in the table.
    before: Option<Row>,
    /// As it is to be; `None` for one that is neither there nor inserted.
    after: Option<Row>,
}

/// What the rows of one status and currency gain or lose.
#[derive(Default)]
struct Change {
    count: i64,
    amount_minor: i128,
}

impl Batch {
    /// Takes in the next change. Reads only.
    pub(super) fn change(&mut self, connection: &Connection, change: RowChange) -> Result<(), ReadModelError> {
        match change {
            RowChange::Insert(row) => {
                let touched = self.touch(connection, row.id)?;
                if touched.after.as_ref().is_none_or(|known| known.revision < row.revision) {
                    touched.after = Some(row);
                }
            }
            RowChange::Update { id, status, revision, updated_at_micros } => {
                let Some(row) = &mut self.touch(connection, id)?.after else {
                    return Err(ReadModelError::Corrupt(format!("revision {revision} of {id}, which has no row")));
                };
                if row.revision < revision {
                    (row.status, row.revision, row.updated_at_micros) = (status, revision, updated_at_micros);
                }
            }
        }
        Ok(())
    }

    fn touch(&mut self, connection: &Connection, id: u64) -> Result<&mut Touched, DbError> {
        Ok(match self.rows.entry(id) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let before = load(connection, id)?;
                entry.insert(Touched { after: before.clone(), before })
            }
        })
    }

    /// Writes what has changed.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), DbError> {
        let mut totals: BTreeMap<(u8, [u8; 3]), Change> = BTreeMap::new();
        for Touched { before, after } in self.rows.values().filter(|touched| touched.before != touched.after) {
            let Some(row) = after else { continue };
            match before {
                None => write_row(connection, INSERT, row)?,
                Some(before) if differs_in_status_only(before, row) => update(connection, row)?,
                Some(_) => write_row(connection, REPLACE, row)?,
            }
            for (row, sign) in before.iter().map(|row| (row, -1)).chain([(row, 1)]) {
                let change = totals.entry((row.status, row.currency)).or_default();
                change.count += sign;
                change.amount_minor += i128::from(row.amount_minor) * i128::from(sign);
            }
        }
        totals.iter().try_for_each(|((status, currency), change)| add(connection, *status, currency, change))
    }
}

/// Whether `after` is what an update makes of `before`.
fn differs_in_status_only(before: &Row, after: &Row) -> bool {
    before.created_at_micros == after.created_at_micros
        && before.customer == after.customer
        && before.amount_minor == after.amount_minor
        && before.currency == after.currency
        && before.item_count == after.item_count
}

fn update(connection: &Connection, row: &Row) -> Result<(), DbError> {
    let sql = "UPDATE orders SET status = ?2, updated_at = ?3, revision = ?4 WHERE id = ?1";
    let params = params![row.id.cast_signed(), row.status, row.updated_at_micros, row.revision.cast_signed()];
    connection.prepare_cached(sql)?.execute(params)?;
    Ok(())
}

/// Not one statement for both: what may have to take another row's place costs SQLite a journal a statement.
const INSERT: &str = "INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const REPLACE: &str = "UPDATE orders SET customer = ?2, status = ?3, created_at = ?4, updated_at = ?5, amount = ?6, \
                       currency = ?7, item_count = ?8, revision = ?9 WHERE id = ?1";

fn write_row(connection: &Connection, sql: &str, row: &Row) -> Result<(), DbError> {
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

fn add(connection: &Connection, status: u8, currency: &[u8; 3], change: &Change) -> Result<(), DbError> {
    let currency = currency_text(currency)?;
    let sql = "SELECT count, amount FROM totals WHERE status = ?1 AND currency = ?2";
    let before = connection
        .prepare_cached(sql)?
        .query_row(params![status, currency], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 16]>(1)?)))
        .optional()?;
    let (count, amount) = before.map_or((0, 0), |(count, amount)| (count, i128::from_be_bytes(amount)));
    let (count, amount) = (count + change.count, amount + change.amount_minor);
    if count > 0 {
        let sql = "INSERT OR REPLACE INTO totals VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute(params![status, currency, count, &amount.to_be_bytes()[..]])?;
    } else {
        let sql = "DELETE FROM totals WHERE status = ?1 AND currency = ?2";
        connection.prepare_cached(sql)?.execute(params![status, currency])?;
    }
    Ok(())
}
