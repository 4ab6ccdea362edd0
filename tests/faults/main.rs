//! The real program, killed, starved and misused, with its brokers killed and paused.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod audit;
mod bus_loss;
mod cluster;
mod durable;
mod embedded;
mod kill;
mod load;
#[path = "../contract/nats_cluster.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod nats_cluster;
#[path = "../contract/nats_server.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod nats_server;
mod outage;
mod program;
#[path = "../contract/proxy.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod proxy;
mod quorum;
mod read_model_file;
#[path = "../contract/redis_server.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod redis_server;
mod relay;
mod seeded;
mod shorter_log;
mod tokens;
mod two_nodes;
mod whole_log;
mod worker_numbers;
