//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.
//!
//! **How an append is atomic**: a commit is one message, stored only if its order has not changed, see [`event_store`]. Several nodes may share one
//! NATS; the leader of the stream decides every append.
//!
//! **What is durable when**: every message that JetStream has acknowledged survives the end of this process and a crash of `nats-server`. It
//! acknowledges before it has synced, with replicas as well, so a power loss of all its servers loses the newest messages, unless they are set to
//! `sync_interval: always` (2.10 or newer). The servers report this setting only on their monitoring ports, not to clients (see `monitor.rs`): if
//! each server of a stream reports it there, or the operator asserts it, an acknowledged message survives a power loss (`machine`), and on three or
//! five servers the loss of a minority of them as well (`quorum`). Otherwise durability is `process`.
//!
//! **What NATS must be set to**: JetStream enabled, with a persistent `store_dir`. The first node to connect creates the streams. Existing streams
//! are checked, and refused if they could lose data: storage in memory, a maximum age, a limit that discards old messages, deleting or purging
//! allowed, and the like. A limit of bytes with `discard: new` loses nothing: the writer gets an error. With replicas nats-server 2.9.25 or newer is
//! needed, see `docs/decisions/0008`, and none of 2.10.20 to 2.10.22.
//!
//! **Its streams and subjects**:
//!
//! ```text
//! ordersystem-log                     stream: all commits; a subject an order
//!   ordersystem.log.id                its first message: which log this is
//!   ordersystem.log.<number>          the commits of one order
//!   ordersystem.log.confirm           markers: only with replicas, see `docs/decisions/0017`
//! ordersystem-requests                stream: request ids that are unique in the log, each with its commit
//!   ordersystem.request.<id, base64>
//! KV_ordersystem-checkpoints          bucket: positions of followers, and as `token-key-<log>` the key that signs the log's tokens
//! ```

mod address;
mod api;
pub mod checkpoint_store;
pub mod connection;
mod contact;
mod descriptor;
pub mod event_store;
mod kv;
pub mod lease;
mod may;
pub mod message_bus;
mod monitor;
mod options;
mod permissions;
mod provision;
mod pull_reader;
mod server;
pub mod settings;
mod stranger;

pub use descriptor::DESCRIPTOR;
