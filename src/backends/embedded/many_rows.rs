//! Inserts of many rows, several in one statement: to begin and to end a statement costs about as much as a row.

use rusqlite::{CachedStatement, Connection, ToSql};

use super::error::DbError;

/// How many rows a statement inserts, the most first.
const SIZES: [usize; 4] = [64, 16, 4, 1];

/// The statements that insert into one table.
#[derive(Debug)]
pub(super) struct InsertMany {
    /// By the number of rows.
    statements: [(usize, String); SIZES.len()],
}

/// The next values of a statement, column by column and row by row.
pub(super) struct Values<'a, 'c> {
    statement: &'a mut CachedStatement<'c>,
    bound: usize,
}

impl InsertMany {
    pub(super) fn into_table(table: &str, columns: usize) -> Self {
        let row = format!("({})", vec!["?"; columns].join(","));
        let statements = SIZES.map(|size| {
            // A failure ends the transaction, which its caller then begins again or gives up. If only the statement failed, SQLite would keep a
            // journal to undo it alone: a copy of each page that it changes.
            (size, format!("INSERT OR ROLLBACK INTO {table} VALUES {}", vec![&*row; size].join(",")))
        });
        Self { statements }
    }

    /// Inserts `rows` in their order; `bind` gives the values of each. Must be called in a transaction, which an error has ended or invalidates.
    pub(super) fn insert<T>(
        &self,
        connection: &Connection,
        rows: &[T],
        bind: impl Fn(&mut Values<'_, '_>, &T) -> Result<(), DbError>,
    ) -> Result<(), DbError> {
        let mut left = rows;
        for (size, sql) in &self.statements {
            if left.len() < *size {
                continue;
            }
            let mut statement = connection.prepare_cached(sql)?;
            while let Some((rows, after)) = left.split_at_checked(*size) {
                let mut values = Values { statement: &mut statement, bound: 0 };
                rows.iter().try_for_each(|row| bind(&mut values, row))?;
                statement.raw_execute()?;
                left = after;
            }
        }
        Ok(())
    }
}

impl Values<'_, '_> {
    /// Adds the value of the next column.
    pub(super) fn add(&mut self, value: impl ToSql) -> Result<(), DbError> {
        self.bound += 1;
        Ok(self.statement.raw_bind_parameter(self.bound, value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> (Connection, InsertMany) {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (a INTEGER NOT NULL PRIMARY KEY, b TEXT NOT NULL) STRICT").unwrap();
        (connection, InsertMany::into_table("t", 2))
    }

    fn insert(connection: &Connection, into: &InsertMany, numbers: &[i64]) -> Result<(), DbError> {
        into.insert(connection, numbers, |values, number| {
            values.add(number)?;
            values.add(format!("row {number}"))
        })
    }

    fn rows(connection: &Connection) -> Vec<(i64, String)> {
        let mut statement = connection.prepare("SELECT a, b FROM t ORDER BY a").unwrap();
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn any_number_of_rows_is_inserted() {
        for count in (0..=90).chain([128, 149, 300]) {
            let (connection, into) = table();
            let numbers: Vec<i64> = (1..=count).collect();
            insert(&connection, &into, &numbers).unwrap();
            let expected: Vec<_> = numbers.iter().map(|number| (*number, format!("row {number}"))).collect();
            assert_eq!(rows(&connection), expected, "{count} rows");
        }
    }

    #[test]
    fn a_row_that_is_refused_ends_the_transaction() {
        let (connection, into) = table();
        insert(&connection, &into, &[70]).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let refused = insert(&connection, &into, &(1..=100).collect::<Vec<_>>());
        assert!(matches!(refused, Err(DbError::Corrupt(_))), "{refused:?}");
        assert!(connection.is_autocommit());
        assert_eq!(rows(&connection), [(70, "row 70".to_owned())]);
        insert(&connection, &into, &(1..=69).collect::<Vec<_>>()).expect("the statements are usable again");
    }
}
