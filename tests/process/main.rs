//! The binary as operators see it: flags, exit codes, signals, sockets.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod access;
mod broker_away;
mod broker_words;
mod certificates;
mod command_line;
mod files;
mod hostile;
mod log_lines;
mod logs;
mod node;
mod otel_variables;
mod redis;
mod secrets;
mod shutdown;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each binary uses a part of it")]
mod support;
mod tls;
mod traces;

use support::{nats_server, redis_server};
