//! The NATS backend: event store, message bus, leases and checkpoints in JetStream, nats-server 2.9 or newer.

pub mod connection;
