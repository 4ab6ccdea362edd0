//! The read model of a data folder for read-only callers, whether or not a service uses the folder.

use std::{collections::HashMap, path::Path};

use rusqlite::Connection;

use super::{order_row, slot::Sql, totals_of};
use crate::{
    backends::embedded::{
        data_dir::{self, DATABASE},
        database::open_reader,
        error::{DbError, OpenError},
        schema,
    },
    ports::read_model::{StoredRows, Totals},
};

/// All rows of the list of orders in the folder `dir`, in their state at one moment; `None` in a file of a version that had another list.
///
/// # Errors
/// [`OpenError`] names the folder.
pub fn stored_rows(dir: &Path) -> Result<Option<StoredRows>, OpenError> {
    read(dir).map_err(|error| error.at(dir))
}

fn read(dir: &Path) -> Result<Option<StoredRows>, OpenError> {
    let connection = open_reader(&data_dir::database_in(dir)?)?;
    match schema::check(&connection)? {
        0 => Err(OpenError::new(format!("there is no log in {DATABASE}"))),
        earlier if earlier < schema::READ_MODELS_SINCE => Ok(None),
        _ => Ok(Some(rows(&connection)?)),
    }
}

fn rows(connection: &Connection) -> Result<StoredRows, DbError> {
    let snapshot = connection.unchecked_transaction()?;
    let sql = Sql::served(&snapshot)?;
    let mut stored = StoredRows { place: sql.place(&snapshot)?, rows: HashMap::new(), wrong: Vec::new() };
    let mut counted: HashMap<(u8, [u8; 3]), (u64, i128)> = HashMap::new();
    let mut statement = snapshot.prepare(&sql.all)?;
    let mut found = statement.query([])?;
    loop {
        let row = match found.next() {
            Ok(Some(row)) => order_row(row),
            Ok(None) => break,
            Err(error) => {
                stored.wrong.push(format!("the read model cannot be read to its end: {error}"));
                return Ok(stored);
            }
        };
        match row {
            Ok(row) => {
                let (count, amount) = counted.entry((row.status, row.currency)).or_default();
                (*count, *amount) = (*count + 1, *amount + i128::from(row.amount_minor));
                stored.rows.insert(row.id, row.digest());
            }
            Err(error) => stored.wrong.push(format!("a row of the read model cannot be read: {error:?}")),
        }
    }
    match totals_of(&snapshot, sql) {
        Ok(totals) => stored.wrong.extend(wrong_totals(&totals, counted)),
        Err(error) => stored.wrong.push(format!("the totals cannot be read: {error:?}")),
    }
    Ok(stored)
}

/// The totals that differ from those of the rows.
fn wrong_totals(totals: &[Totals], mut counted: HashMap<(u8, [u8; 3]), (u64, i128)>) -> Vec<String> {
    let named = |status: u8, currency: [u8; 3]| {
        format!("the total of status {status} in {}", String::from_utf8_lossy(&currency))
    };
    let mut wrong = Vec::new();
    for Totals { status, currency, count, amount_minor } in totals {
        let (rows, sum) = counted.remove(&(*status, *currency)).unwrap_or_default();
        if (rows, sum) != (*count, *amount_minor) {
            let what = named(*status, *currency);
            wrong.push(format!(
                "{what} is {count} orders of {amount_minor}, but its rows are {rows} of {sum} (minor units)"
            ));
        }
    }
    for ((status, currency), (rows, sum)) in counted {
        let what = named(status, currency);
        wrong.push(format!("{what} is missing: there are {rows} orders of {sum} (minor units)"));
    }
    wrong
}
