//! One suite a trait, run on every backend.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod backend;
mod checkpoint_store;
mod embedded;
mod event_store;
mod lease;
mod message_bus;
mod nats;
mod nats_bus;
mod nats_server;
mod order_cache;
mod projection;
mod read_model;
mod redis;
mod redis_server;
