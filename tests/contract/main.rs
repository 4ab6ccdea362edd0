//! One suite per trait, run on every backend.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod backend;
mod broker_log;
mod callers;
mod checkpoint_store;
mod embedded;
mod event_store;
mod lease;
mod message_bus;
mod nats;
mod nats_access;
mod nats_bus;
mod nats_cluster_bus;
mod nats_damage;
mod nats_durability;
mod nats_loss;
mod nats_new_stream;
mod nats_readers;
mod nats_remade_log;
mod nats_replicas;
mod order_cache;
mod order_ids;
mod projection;
mod read_model;
mod redis;
mod redis_bus;
mod redis_damage;
mod redis_lost_bus;
mod redis_permissions;
mod redis_replaced;
mod redis_sentinel;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each binary uses a part of it")]
mod support;
mod token_keys;

use support::{nats_cluster, nats_server, proxy, redis_server};
