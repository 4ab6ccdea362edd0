//! The embedded backend: everything of a node in one SQLite file, `orders.db` in its data folder.
//!
//! How an append is atomic: one thread owns the one connection that writes. It takes all commits that wait, checks and writes
//! each inside one transaction, and answers them only after that transaction has been synced (WAL, `synchronous=FULL`): the more
//! callers wait, the more share one sync. Read models, checkpoints and leases are written by the same thread, one piece of work
//! after each batch of commits, so that neither can starve the other and nobody ever waits for a lock of SQLite's.
//!
//! What is durable when: a commit and the token of a lease, when it is acknowledged, through a power loss. Read model and
//! checkpoints are derived from the log: they survive the end of the process, and after a power loss stand where an earlier
//! moment left them, never ahead of the log, since they are written to the same WAL after the commits that they follow.
//!
//! What is noticed: every event and request carries a checksum over its content and its place, and revisions and positions have
//! no gaps. Whatever is read is held against both; what does not fit is reported, not returned.

pub mod backup;
pub mod checkpoint_store;
pub mod data_dir;
pub mod database;
mod end;
mod error;
pub mod event_store;
pub mod lease;
mod new_store;
pub mod read_model;
mod schema;
mod start_check;
