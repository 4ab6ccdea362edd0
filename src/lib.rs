//! Catga OrderSystem: an event-sourced CQRS order service.
//!
//! The flow of a command, top to bottom. Upper modules may use lower ones, never the reverse; `tests/architecture/` checks that.
//!
//! ```text
//!  cli                  subcommands: serve a node, or talk to a running one
//!  node                 composition root: build, start, drain, stop
//!  server               gRPC, REST and dashboard on one port: translate only
//!  application          mediator -> pipeline -> command handler, queries, event streams
//!  processors           log followers: outbox relay, event handlers, projections
//!  cluster              membership, worker numbers and progress of the nodes of one log
//!  log_tools            offline tools: copy, compare, audit
//!  codec                domain event <-> stored bytes
//!  ports                traits that a backend implements: event store, message bus, read model, leases, checkpoints
//!  domain               decide and evolve: pure
//!
//!  backends             the registry, and one folder each, behind the ports
//!  circuit_breaker      guards every call to a backend
//!  id_generator         Snowflake ids
//!  config               layers flags, environment and file over the settings of all modules and backends
//!  settings             what a setting is, its values and their sources
//!  telemetry            logs and metrics
//!  private_files        files and folders that only this user may read
//! ```

pub mod application;
pub mod backends;
pub mod circuit_breaker;
pub mod cli;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod domain;
pub mod id_generator;
pub mod log_tools;
pub mod node;
pub mod ports;
pub mod private_files;
pub mod processors;
pub mod proto;
pub mod server;
pub mod settings;
pub mod telemetry;
