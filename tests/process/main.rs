//! The binary as its operators meet it: flags, exit codes, signals, sockets.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod command_line;
mod node;
mod shutdown;
mod support;
mod tls;
