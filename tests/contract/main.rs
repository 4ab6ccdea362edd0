//! One suite per trait, run on every backend.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod backend;
mod checkpoint_store;
mod embedded;
mod event_store;
mod lease;
mod message_bus;
mod nats;
mod nats_access;
mod nats_bus;
#[allow(dead_code, reason = "shared with the tests of faults")]
mod nats_cluster;
mod nats_cluster_bus;
mod nats_damage;
mod nats_durability;
mod nats_loss;
mod nats_readers;
mod nats_replicas;
mod nats_server;
mod order_cache;
mod order_ids;
mod projection;
#[allow(dead_code, reason = "shared with the tests of faults")]
mod proxy;
mod read_model;
mod redis;
mod redis_bus;
mod redis_damage;
mod redis_permissions;
mod redis_replaced;
mod redis_sentinel;
mod redis_server;
mod token_keys;
