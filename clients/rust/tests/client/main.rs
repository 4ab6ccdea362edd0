//! The helpers against a server that misbehaves on request, and the README and the example against the real one.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod channel;
mod commands;
mod errors;
mod fake;
mod follow;
mod lists;
mod page;
#[path = "../server/mod.rs"]
mod server;
mod tls;
mod token;
