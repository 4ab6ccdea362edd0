//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.
//!
//! **How an append is atomic**: a commit is one message, stored only if its order has not changed, see [`event_store`]. Several nodes may
//! use one NATS; the leader of the stream is the one that decides.
//!
//! **What is durable when**: whatever JetStream has acknowledged survives the end of this process and a crash of `nats-server`. It
//! acknowledges before it has synced, with replicas as well, so that a power loss of all its servers takes the newest messages away, unless
//! they are set to `sync_interval: always` (2.10 or newer). They do not tell that to their clients, only to whoever asks their monitoring ports
//! (see `monitor.rs`): where each server of a stream says so there, or the operator asserts it, an acknowledged message survives a power loss
//! (`machine`), and on three servers or five the loss of a minority of them as well (`quorum`). Otherwise it is `process`.
//!
//! **What NATS must be set to**: JetStream enabled, with a `store_dir` that lasts. The streams are made by the first node that comes. Ones
//! that are there are looked at, and refused if they would lose anything: storage in memory, a maximum age, a limit that discards old
//! messages, deleting or purging allowed, and the like. A limit of bytes with `discard: new` is no loss: whoever writes is told.
//! With replicas nats-server 2.9.25 or newer is needed, see `docs/decisions/0008`, and none of 2.10.20 to 2.10.22.
//!
//! **Its streams and subjects**:
//!
//! ```text
//! ordersystem-log                     stream: all commits; a subject an order
//!   ordersystem.log.id                its first message: which log this is
//!   ordersystem.log.<number>          the commits of one order
//!   ordersystem.log.confirm           markers: only where there are replicas, see `docs/decisions/0017`
//! ordersystem-requests                stream: request ids that are unique in the log, each with its commit
//!   ordersystem.request.<id, base64>
//! KV_ordersystem-checkpoints          bucket: how far followers are, and as `token-key-<log>` what signs the tokens of the log
//! ```

mod api;
pub mod checkpoint_store;
pub mod connection;
pub mod event_store;
mod kv;
pub mod lease;
pub mod message_bus;
mod monitor;
mod permissions;
mod provision;
mod server;
mod stranger;
