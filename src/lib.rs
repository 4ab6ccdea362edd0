//! Catga OrderSystem: an event-sourced CQRS order service.
//!
//! The first block is the flow of a command, top to bottom: upper modules may use lower ones, never the reverse. The second block has the parts
//! beside that flow. `tests/architecture/` defines the exact rows, and checks them. `docs/architecture.md` lists the files to open for a change.
//!
//! ```text
//!  cli                  subcommands: serve a node, or talk to a running one
//!  node                 composition root: build, start, drain, stop
//!  server               gRPC, REST and dashboard on one port: translate only
//!  application          mediator -> pipeline -> command handler, queries, event streams
//!  cluster              membership, worker numbers and progress of the nodes of one log
//!  log_tools            offline tools: copy, compare, audit
//!  processors           log followers: outbox relay, event handlers, projections
//!  codec                domain event <-> stored bytes
//!  ports                traits that a backend implements: event store, message bus, read model, leases, checkpoints
//!  domain               decide and evolve: pure
//!
//!  backends             the registry, and one folder each, behind the ports
//!  circuit_breaker      guards every call to a backend
//!  id_generator         Snowflake ids
//!  identity             who is calling: roles, and the verified caller
//!  config               layers flags, environment and file over the settings of all modules and backends
//!  settings             the definition of a setting, its values and their sources
//!  telemetry            logs, metrics and traces
//!  private_files        files and folders that only this user may read
//!  proto                the API and the stored events: generated from `proto/`
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
pub mod identity;
pub mod log_tools;
pub mod node;
pub mod ports;
pub mod private_files;
pub mod processors;
pub mod proto;
pub mod server;
pub mod settings;
pub mod telemetry;
