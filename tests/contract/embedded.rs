//! The embedded backend in the suites, and what it promises beyond them.

use std::{cell::RefCell, sync::Arc};

use ordersystem::backends::embedded::database::Database;
use tempfile::TempDir;

thread_local! {
    /// The folders of this test: they go away with its thread, after the databases in them.
    static FOLDERS: RefCell<Vec<TempDir>> = const { RefCell::new(Vec::new()) };
}

/// An empty data folder of its own, opened.
pub fn scratch() -> Arc<Database> {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::open(folder.path()).unwrap();
    FOLDERS.with_borrow_mut(|folders| folders.push(folder));
    database
}
