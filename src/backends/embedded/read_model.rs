//! The read model in SQLite: rows, totals and checkpoint in one transaction.
//!
//! Rows are found by status, once for all and once for each customer. Every filter is then a merge of one index range a status,
//! so that a page costs the same whatever the filter and however many rows there are.

mod batch;
mod list;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Row as SqlRow};

use self::batch::Batch;
use super::{
    database::{Database, Sync},
    error::DbError,
};
use crate::{
    event_store::Position,
    read_model::{ListQuery, Page, ReadModel, ReadModelError, Row, RowChange, Totals},
};

/// A [`ReadModel`] in a data folder. A batch outlives the process at once, and a power loss with the next commit that is synced:
/// until then rows and checkpoint stand together at an earlier batch, and the log gives the rest again.
#[derive(Clone, Debug)]
pub struct EmbeddedReadModel(Arc<Database>);

impl EmbeddedReadModel {
    /// The read model in an open data folder.
    #[must_use]
    pub const fn new(database: Arc<Database>) -> Self {
        Self(database)
    }
}

#[async_trait]
impl ReadModel for EmbeddedReadModel {
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: Position) -> Result<(), ReadModelError> {
        let apply = move |connection: &Connection| {
            let mut batch = Batch::default();
            changes.into_iter().try_for_each(|change| batch.change(connection, change))?;
            batch.write(connection)?;
            Ok(move_checkpoint(connection, checkpoint)?)
        };
        self.0.write(Sync::Later, apply).await
    }

    async fn checkpoint(&self) -> Result<Position, ReadModelError> {
        self.0.read(|connection| Ok(checkpoint(connection)?)).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError> {
        let query = query.clone();
        self.0.read(move |connection| Ok(list::page(connection, &query)?)).await
    }

    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        self.0.read(|connection| Ok(totals(connection)?)).await
    }

    async fn check(&self) -> Result<(), ReadModelError> {
        Ok(self.0.check().await?)
    }
}

fn move_checkpoint(connection: &Connection, to: Position) -> Result<(), DbError> {
    // Positions of this log are numbers of rows in SQLite.
    let to = i64::try_from(to.0).map_err(|_| DbError::Corrupt(format!("position {to} is not in this log")))?;
    let sql = "UPDATE facts SET value = max(value, ?1) WHERE name = 'read_model'";
    connection.prepare_cached(sql)?.execute([to])?;
    Ok(())
}

fn checkpoint(connection: &Connection) -> Result<Position, DbError> {
    let sql = "SELECT value FROM facts WHERE name = 'read_model'";
    let position: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
    Ok(Position(position.cast_unsigned()))
}

fn totals(connection: &Connection) -> Result<Vec<Totals>, DbError> {
    let sql = "SELECT status, currency, count, amount FROM totals ORDER BY status, currency";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut totals = Vec::new();
    while let Some(row) = rows.next()? {
        let amount: [u8; 16] = row.get(3)?;
        totals.push(Totals {
            status: row.get(0)?,
            currency: currency(row, 1)?,
            count: row.get::<_, i64>(2)?.cast_unsigned(),
            amount_minor: i128::from_be_bytes(amount),
        });
    }
    Ok(totals)
}

const SELECT_ROW: &str = "SELECT id, customer, status, created_at, updated_at, amount, currency, item_count, revision \
                          FROM orders WHERE id = ?1";

/// The row in a result of [`SELECT_ROW`].
fn order_row(row: &SqlRow<'_>) -> Result<Row, DbError> {
    Ok(Row {
        id: row.get::<_, i64>(0)?.cast_unsigned(),
        customer: row.get(1)?,
        status: row.get(2)?,
        created_at_micros: row.get(3)?,
        updated_at_micros: row.get(4)?,
        amount_minor: row.get(5)?,
        currency: currency(row, 6)?,
        item_count: row.get(7)?,
        revision: row.get::<_, i64>(8)?.cast_unsigned(),
    })
}

fn load(connection: &Connection, id: u64) -> Result<Option<Row>, DbError> {
    let mut statement = connection.prepare_cached(SELECT_ROW)?;
    let mut rows = statement.query([id.cast_signed()])?;
    rows.next()?.map(order_row).transpose()
}

fn currency(row: &SqlRow<'_>, index: usize) -> Result<[u8; 3], DbError> {
    let text = row.get_ref(index)?.as_str().map_err(|error| DbError::Corrupt(error.to_string()))?;
    text.as_bytes().try_into().map_err(|_| DbError::Corrupt(format!("currency '{text}'")))
}

fn currency_text(code: &[u8; 3]) -> Result<&str, DbError> {
    std::str::from_utf8(code).map_err(|_| DbError::Corrupt("a currency that is no text".to_owned()))
}
