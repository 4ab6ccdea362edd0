//! The two sets of tables of a read model, and the statements for each.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::super::{error::DbError, many_rows::InsertMany};
use crate::ports::{
    event_store::{LogId, Position},
    read_model::LogCheckpoint,
};

/// The statements for one set of tables.
#[derive(Debug)]
pub(super) struct Sql {
    pub(super) slot: i64,
    pub(super) create: String,
    pub(super) indexes: [String; 2],
    /// Each takes a while, so each is a separate task.
    pub(super) drop: [String; 4],
    pub(super) load: String,
    pub(super) all: String,
    pub(super) last_id: String,
    pub(super) insert: InsertMany,
    pub(super) replace: String,
    pub(super) update: String,
    pub(super) statuses: String,
    pub(super) totals: String,
    pub(super) customer_totals: String,
    pub(super) total: String,
    pub(super) set_total: String,
    pub(super) remove_total: String,
    /// Keys by status alone and by customer as well; the oldest first and the newest first.
    pub(super) by_status: [String; 2],
    pub(super) by_customer: [String; 2],
}

static SQL: LazyLock<[Sql; 2]> = LazyLock::new(|| [sql(0, ""), sql(1, "_1")]);

fn sql(slot: i64, suffix: &str) -> Sql {
    let (orders, totals) = (format!("orders{suffix}"), format!("totals{suffix}"));
    let keys = |index: &str, more: &str, direction: &str| {
        format!(
            "SELECT created_at, id FROM {orders} INDEXED BY {orders}_by_{index} WHERE status = ?1 \
             AND (created_at, id) >= (?2, ?3) AND (created_at, id) <= (?4, ?5) {more} \
             ORDER BY created_at {direction}, id {direction} LIMIT ?6"
        )
    };
    let by = |index, more| [keys(index, more, "ASC"), keys(index, more, "DESC")];
    Sql {
        slot,
        create: format!(
            "CREATE TABLE {orders} (id INTEGER NOT NULL PRIMARY KEY, customer TEXT NOT NULL, status INTEGER NOT NULL, \
             created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL, amount INTEGER NOT NULL, currency TEXT NOT NULL, \
             item_count INTEGER NOT NULL, revision INTEGER NOT NULL) STRICT, WITHOUT ROWID; \
             CREATE TABLE {totals} (status INTEGER NOT NULL, currency TEXT NOT NULL, count INTEGER NOT NULL, \
             amount BLOB NOT NULL, PRIMARY KEY (status, currency)) STRICT, WITHOUT ROWID;"
        ),
        indexes: [
            format!("CREATE INDEX {orders}_by_status ON {orders} (status, created_at)"),
            format!("CREATE INDEX {orders}_by_customer ON {orders} (customer, status, created_at)"),
        ],
        drop: [
            format!("DROP INDEX IF EXISTS {orders}_by_status"),
            format!("DROP INDEX IF EXISTS {orders}_by_customer"),
            format!("DROP TABLE IF EXISTS {orders}"),
            format!("DROP TABLE IF EXISTS {totals}"),
        ],
        load: format!(
            "SELECT id, customer, status, created_at, updated_at, amount, currency, item_count, revision \
             FROM {orders} WHERE id = ?1"
        ),
        all: format!(
            "SELECT id, customer, status, created_at, updated_at, amount, currency, item_count, revision FROM {orders}"
        ),
        last_id: format!("SELECT max(id) FROM {orders}"),
        // Not one statement for both: if an insert may replace another row, SQLite keeps a journal for each statement.
        insert: InsertMany::into_table(&orders, 9),
        replace: format!(
            "UPDATE {orders} SET customer = ?2, status = ?3, created_at = ?4, updated_at = ?5, amount = ?6, \
             currency = ?7, item_count = ?8, revision = ?9 WHERE id = ?1"
        ),
        update: format!("UPDATE {orders} SET status = ?2, updated_at = ?3, revision = ?4 WHERE id = ?1"),
        statuses: format!("SELECT DISTINCT status FROM {totals}"),
        totals: format!("SELECT status, currency, count, amount FROM {totals} ORDER BY status, currency"),
        // The sum of 64-bit amounts may have more than 64 bits: the upper and the lower half of each are added up apart.
        customer_totals: format!(
            "SELECT status, currency, count(*), sum(amount >> 32), sum(amount & 4294967295) \
             FROM {orders} INDEXED BY {orders}_by_customer WHERE customer = ?1 GROUP BY status, currency ORDER BY status, currency"
        ),
        total: format!("SELECT count, amount FROM {totals} WHERE status = ?1 AND currency = ?2"),
        set_total: format!("INSERT OR REPLACE INTO {totals} VALUES (?1, ?2, ?3, ?4)"),
        remove_total: format!("DELETE FROM {totals} WHERE status = ?1 AND currency = ?2"),
        by_status: by("status", ""),
        by_customer: by("customer", "AND customer = ?7"),
    }
}

impl Sql {
    /// The statements for the set number `slot`.
    pub(super) fn of(slot: i64) -> Result<&'static Self, DbError> {
        let sql = SQL.iter().find(|sql| sql.slot == slot);
        sql.ok_or_else(|| DbError::Corrupt(format!("a read model in slot {slot}")))
    }

    /// The statements for the other set.
    pub(super) fn other(&self) -> &'static Self {
        if self.slot == SQL[0].slot { &SQL[1] } else { &SQL[0] }
    }

    /// The set that serves. Must be read in the same transaction as the set itself.
    pub(super) fn served(connection: &Connection) -> Result<&'static Self, DbError> {
        let sql = "SELECT slot FROM read_models WHERE is_served = 1";
        Self::of(connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
    }

    /// The log that this set has followed, and its checkpoint.
    pub(super) fn place(&self, connection: &Connection) -> Result<Option<LogCheckpoint>, DbError> {
        let sql = "SELECT log, position, event FROM read_models WHERE slot = ?1";
        let number = |row: &rusqlite::Row<'_>, index| row.get::<_, i64>(index).map(i64::cast_unsigned);
        let (log, position, event) = connection
            .prepare_cached(sql)?
            .query_row([self.slot], |row| Ok((row.get::<_, u32>(0)?, number(row, 1)?, number(row, 2)?)))?;
        Ok((log != 0).then_some(LogCheckpoint { log: LogId(log), position: Position(position), event }))
    }

    pub(super) fn set_place(&self, connection: &Connection, place: Option<LogCheckpoint>) -> Result<(), DbError> {
        let LogCheckpoint { log, position, event } =
            place.unwrap_or(LogCheckpoint { log: LogId(0), position: Position(0), event: 0 });
        let position = i64::try_from(position.0)
            .map_err(|_| DbError::Corrupt(format!("position {position} is too large for this file")))?;
        let sql = "UPDATE read_models SET log = ?2, position = ?3, event = ?4 WHERE slot = ?1";
        connection.prepare_cached(sql)?.execute(params![self.slot, log.0, position, event.cast_signed()])?;
        Ok(())
    }

    /// The number of the rebuild that fills this set, if it does not serve.
    pub(super) fn build(&self, connection: &Connection) -> Result<Option<i64>, DbError> {
        let sql = "SELECT build FROM read_models WHERE slot = ?1 AND is_served = 0";
        Ok(connection.prepare_cached(sql)?.query_row([self.slot], |row| row.get(0)).optional()?)
    }
}

/// Drops the set that does not serve, if it exists: the remains of an interrupted rebuild.
pub(in super::super) fn clear_left_over(connection: &Connection) -> Result<(), DbError> {
    let left_over = Sql::served(connection)?.other();
    if left_over.build(connection)?.is_some() {
        tracing::info!("removing the remains of a rebuild of the read model");
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {}; DELETE FROM read_models WHERE is_served = 0; COMMIT;",
            left_over.drop.join("; ")
        ))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{super::super::schema, *};

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        schema::migrate(&connection).unwrap();
        let other = &SQL[1];
        connection.execute_batch(&format!("{}; {}", other.create, other.indexes.join("; "))).unwrap();
        connection
    }

    fn plan(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        statement.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn every_list_reads_one_index_range_without_sorting() {
        let connection = database();
        for sql in SQL.iter().flat_map(|sql| sql.by_status.iter().chain(&sql.by_customer)) {
            let plan = plan(&connection, sql);
            let [only] = &plan[..] else { panic!("{plan:?}") };
            assert!(only.contains("COVERING INDEX") && only.contains("(created_at,id)>"), "{only}");
            assert!(only.contains("(created_at,id)<"), "{only}");
        }
    }

    #[test]
    fn no_statement_scans_the_orders_or_sorts() {
        let connection = database();
        for sql in SQL.iter() {
            for text in [&sql.load, &sql.update, &sql.replace, &sql.total, &sql.remove_total] {
                let plan = plan(&connection, text).join("; ");
                assert!(plan.starts_with("SEARCH ") && plan.contains("PRIMARY KEY"), "{text}: {plan}");
            }
            let of_customer = plan(&connection, &sql.customer_totals);
            assert!(
                of_customer[0].starts_with("SEARCH ") && of_customer[0].contains("(customer=?)"),
                "{of_customer:?}"
            );
            // The totals have a row for each status and currency; the last id is the end of the table.
            for text in [&sql.statuses, &sql.totals, &sql.last_id] {
                let plan = plan(&connection, text).join("; ");
                assert!(!plan.contains("B-TREE"), "{text}: {plan}");
            }
        }
    }

    #[test]
    fn both_sets_have_the_same_columns_and_indexes() {
        let connection = database();
        let columns = |table: &str| -> Vec<(String, String, bool, i64)> {
            let mut statement = connection.prepare(&format!("PRAGMA table_info({table})")).unwrap();
            let rows = statement.query_map([], |row| Ok((row.get(1)?, row.get(2)?, row.get(3)?, row.get(5)?)));
            rows.unwrap().collect::<Result<_, _>>().unwrap()
        };
        let indexes = |table: &str| -> Vec<String> {
            let sql = "SELECT sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND sql IS NOT NULL";
            let mut statement = connection.prepare(&format!("{sql} ORDER BY name")).unwrap();
            let rows = statement.query_map([table], |row| row.get::<_, String>(0)).unwrap();
            rows.map(|sql| sql.unwrap().replace("orders_1", "orders")).collect()
        };
        for table in ["orders", "totals"] {
            let other = format!("{table}_1");
            assert!(!columns(table).is_empty());
            assert_eq!(columns(table), columns(&other));
            assert_eq!(indexes(table), indexes(&other));
        }
        assert_eq!(indexes("orders").len(), 2);
    }
}
