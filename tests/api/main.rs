//! The service from outside: real sockets, and a server for each test.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "how a test fails")]

mod faulty;
#[path = "../support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "each binary uses a part of it")]
mod support;

mod access;
mod admission;
mod bad_input;
mod behind;
mod browsers;
mod call_ids;
mod caller_limits;
mod commands;
mod customers;
mod customers_rest;
mod dead_letters;
mod event_pages;
mod execute;
mod failed_over;
mod faults;
mod fresh_reads;
mod guarded;
mod health;
mod hidden_text;
mod history;
mod ids;
mod kept_connections;
mod limits;
mod metrics;
mod money_bounds;
mod operating;
mod outbox;
mod queries;
mod random_bytes;
mod rebuild;
mod recovery;
mod rescoped;
mod rest;
mod rest_conventions;
mod rest_document;
mod rest_health;
mod rest_input;
mod rest_seeds;
mod rest_streams;
mod retries;
mod shutdown;
mod stalled_readers;
mod subscriptions;
mod system;
mod tokens;
mod trace_ends;
mod trace_links;
mod traces;
mod unconfirmed;
mod unknown_log;
mod waiting;
mod web;
mod wire;
mod withdrawn;
