//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.

mod api;
pub mod connection;
pub mod event_store;
mod server;
