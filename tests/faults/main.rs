//! The real program, killed, starved and misused.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod embedded;
mod program;
