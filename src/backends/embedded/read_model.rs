//! The read model in SQLite: rows, totals and checkpoint in one transaction.
//!
//! There are two sets of tables: one serves, and the other one exists during a rebuild of the read model. A row records which one serves; every read
//! checks it in its own snapshot.
//!
//! Rows are indexed by status, once for all and once for each customer. Every filter is then a merge of one index range per status, so a page costs
//! the same for any filter and any number of rows.

pub mod at_rest;
mod batch;
mod list;
mod rebuild;
pub(super) mod slot;

use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::{Connection, Row as SqlRow};

use self::{batch::Batch, rebuild::EmbeddedRebuild, slot::Sql};
use super::{
    database::{Database, Sync},
    error::DbError,
};
use crate::ports::read_model::{
    ListQuery, LogCheckpoint, Page, ReadModel, ReadModelError, Row, RowChange, ShadowReadModel, Totals,
};

/// A [`ReadModel`] in a data folder. A batch survives the end of the process at once, and a power loss with the next synced commit: until then rows
/// and checkpoint are consistent at an earlier batch, and the rest is read again from the log.
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
    async fn apply(&self, changes: Vec<RowChange>, checkpoint: LogCheckpoint) -> Result<(), ReadModelError> {
        let apply = move |connection: &Connection| apply(connection, Sql::served(connection)?, changes, checkpoint);
        self.0.write(Sync::Later, apply).await
    }

    async fn checkpoint(&self) -> Result<Option<LogCheckpoint>, ReadModelError> {
        let checkpoint = |connection: &Connection| {
            let snapshot = connection.unchecked_transaction().map_err(DbError::from)?;
            Ok(Sql::served(&snapshot)?.place(&snapshot)?)
        };
        self.0.read(checkpoint).await
    }

    async fn list(&self, query: &ListQuery) -> Result<Page, ReadModelError> {
        let query = query.clone();
        self.0.read(move |connection| Ok(list::page(connection, &query)?)).await
    }

    async fn totals(&self) -> Result<Vec<Totals>, ReadModelError> {
        self.0.read(|connection| Ok(totals(connection)?)).await
    }

    async fn customer_totals(&self, customer: &str) -> Result<Vec<Totals>, ReadModelError> {
        let customer = customer.to_owned();
        self.0.read(move |connection| Ok(customer_totals(connection, &customer)?)).await
    }

    async fn clear(&self) -> Result<(), ReadModelError> {
        let clear = |connection: &Connection| {
            let sql = Sql::served(connection)?;
            connection.execute_batch(&sql.drop.join("; "))?;
            connection.execute_batch(&format!("{} {}", sql.create, sql.indexes.join("; ")))?;
            sql.set_place(connection, None)
        };
        Ok(self.0.write(Sync::Later, clear).await?)
    }

    async fn begin_rebuild(&self) -> Result<Box<dyn ShadowReadModel>, ReadModelError> {
        Ok(Box::new(EmbeddedRebuild::begin(Arc::clone(&self.0)).await?))
    }

    async fn check(&self) -> Result<(), ReadModelError> {
        Ok(self.0.check().await?)
    }
}

/// Applies the changes to the tables of `sql`; must be called in a transaction.
fn apply(
    connection: &Connection,
    sql: &Sql,
    changes: Vec<RowChange>,
    checkpoint: LogCheckpoint,
) -> Result<(), ReadModelError> {
    let moved = checkpoint.following(sql.place(connection)?)?;
    let mut batch = Batch::new(connection, sql)?;
    changes.into_iter().try_for_each(|change| batch.change(change))?;
    batch.write()?;
    Ok(sql.set_place(connection, Some(moved))?)
}

fn totals(connection: &Connection) -> Result<Vec<Totals>, DbError> {
    // One snapshot for the choice of the tables and their content.
    let snapshot = connection.unchecked_transaction()?;
    totals_of(&snapshot, Sql::served(&snapshot)?)
}

fn totals_of(connection: &Connection, sql: &Sql) -> Result<Vec<Totals>, DbError> {
    let mut statement = connection.prepare_cached(&sql.totals)?;
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

fn customer_totals(connection: &Connection, customer: &str) -> Result<Vec<Totals>, DbError> {
    let snapshot = connection.unchecked_transaction()?;
    let mut statement = snapshot.prepare_cached(&Sql::served(&snapshot)?.customer_totals)?;
    let mut rows = statement.query([customer])?;
    let mut totals = Vec::new();
    while let Some(row) = rows.next()? {
        let (high, low): (i64, i64) = (row.get(3)?, row.get(4)?);
        totals.push(Totals {
            status: row.get(0)?,
            currency: currency(row, 1)?,
            count: row.get::<_, i64>(2)?.cast_unsigned(),
            amount_minor: (i128::from(high) << 32) + i128::from(low),
        });
    }
    Ok(totals)
}

/// The row in a result of [`Sql::load`].
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

fn load(connection: &Connection, sql: &Sql, id: u64) -> Result<Option<Row>, DbError> {
    let mut statement = connection.prepare_cached(&sql.load)?;
    let mut rows = statement.query([id.cast_signed()])?;
    rows.next()?.map(order_row).transpose()
}

fn currency(row: &SqlRow<'_>, index: usize) -> Result<[u8; 3], DbError> {
    let text = row.get_ref(index)?.as_str().map_err(|error| DbError::Corrupt(error.to_string()))?;
    text.as_bytes().try_into().map_err(|_| DbError::Corrupt(format!("currency '{text}'")))
}

fn currency_text(code: &[u8; 3]) -> Result<&str, DbError> {
    std::str::from_utf8(code).map_err(|_| DbError::Corrupt("a currency that is not text".to_owned()))
}
