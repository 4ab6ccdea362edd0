//! The real program, killed, starved and misused, with its brokers killed and paused.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod audit;
mod bus_loss;
mod cluster;
mod durable;
mod embedded;
mod kill;
mod load;
mod log_gone;
mod new_log;
mod outage;
mod quorum;
mod read_model_file;
mod relay;
mod seeded;
mod shorter_log;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each binary uses a part of it")]
mod support;
mod tokens;
mod trimmed_log;
mod two_nodes;
mod whole_log;
mod worker_numbers;

use support::{nats_cluster, nats_server, proxy, redis_server};
