//! The embedded backend: all data of a node in one SQLite file, `orders.db` in its data folder.
//!
//! How an append is atomic: one thread owns the only writing connection. It takes all waiting commits, checks and writes each inside one transaction,
//! and replies only after that transaction has been synced (WAL, `synchronous=FULL`): the more callers wait, the more share one sync. The same thread
//! writes read models, checkpoints and leases, one task after each batch of commits, so that neither can starve the other and no caller ever waits
//! for an SQLite lock.
//!
//! What is durable when: an acknowledged commit, or lease token, survives a power loss. Read model and checkpoints are derived from the log: they
//! survive the end of the process, and after a power loss are in an earlier state, never ahead of the log, since they are written to the same WAL
//! after the commits that they follow.
//!
//! What is detected: every event and request carries a checksum over its content and its position, and revisions and positions have no gaps. Every
//! read verifies both; a mismatch is reported, and the data is not returned. A file that is removed or replaced under a running node is noticed before
//! the next acknowledgement, and by the next check: nothing is read or written until it is back.

pub mod backup;
pub mod checkpoint_store;
pub mod data_dir;
pub mod database;
mod descriptor;
mod end;
mod error;
pub mod event_store;
mod file_header;
pub mod lease;
mod many_rows;
mod new_store;
mod open_marker;
mod opened_file;
pub mod read_model;
mod schema;
mod start_check;

pub use descriptor::{DESCRIPTOR, log_parts};
