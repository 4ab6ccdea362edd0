//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.
//!
//! **How an append is atomic**: a commit is one message, stored only if its order has not changed, see [`event_store`]. Several nodes may
//! use one NATS; the leader of the stream is the one that decides.
//!
//! **What is durable when**: whatever JetStream has acknowledged survives the end of this process and a crash of `nats-server`. It
//! acknowledges before it has synced, so that one server alone may lose the newest messages with the power of its machine, unless it is set
//! to `sync_interval: always`; it does not tell its clients whether it is (only its monitoring port does, `/jsz` of new versions), and so
//! no more than `process` is claimed. A stream on three servers or five has each message on most of them before it is acknowledged:
//! `quorum`. Set `sync_interval: always` there too if all of them may lose power at once.
//!
//! **What NATS must be set to**: JetStream enabled, with a `store_dir` that lasts. The streams are made by the first node that comes. Ones
//! that are there are looked at, and refused if they would lose anything: storage in memory, a maximum age, a limit that discards old
//! messages, deleting or purging allowed, and the like. A limit of bytes with `discard: new` is no loss: whoever writes is told.
//! With replicas nats-server 2.9.25 or newer is needed, see `docs/decisions/0008`.
//!
//! **Its streams and subjects**:
//!
//! ```text
//! ordersystem-log                     stream: all commits; a subject an order
//!   ordersystem.log.id                its first message: which log this is
//!   ordersystem.log.<number>          the commits of one order
//! ordersystem-requests                stream: request ids that are unique in the log, each with its commit
//!   ordersystem.request.<id, base64>
//! ```

mod api;
pub mod checkpoint_store;
pub mod connection;
pub mod event_store;
mod kv;
pub mod lease;
pub mod message_bus;
mod provision;
mod server;
