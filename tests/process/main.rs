//! The binary as operators see it: flags, exit codes, signals, sockets.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod broker_away;
mod certificates;
mod command_line;
mod files;
mod hostile;
#[path = "../contract/nats_server.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod nats_server;
mod node;
mod redis;
#[path = "../contract/redis_server.rs"]
#[allow(dead_code, reason = "shared with the contract suites")]
mod redis_server;
mod secrets;
mod shutdown;
mod support;
mod tls;
