//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.

pub mod checkpoint_store;
pub mod connection;
mod kv;
pub mod lease;
pub mod message_bus;

mod provision;
