//! The service from outside: real sockets, each test a server of its own.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod support;

mod commands;
mod rest;
mod rest_conventions;
mod rest_document;
mod rest_health;
mod rest_input;
mod rest_seeds;
mod rest_streams;
