//! Catga OrderSystem: an event-sourced CQRS order service.
//!
//! The way of a command, top to bottom; upper modules may use lower ones, never the reverse:
//!
//! ```text
//!  cli, config          what the operator asked for
//!  app, lifecycle       composition root; start, drain, stop
//!  api                  gRPC, REST and dashboard: translate only
//!  application          mediator -> pipeline -> command handler, queries
//!  outbox, subscriptions, projections     what follows the log
//!  cluster              names, worker numbers and places of many nodes on one log
//!  whole_log            what is done with all of a log: copy, compare, audit
//!  codec                domain event <-> stored bytes
//!  event_store, message_bus, read_model, lease, checkpoint_store, cache    the traits
//!  domain               decide and evolve: pure
//!
//!  backends             one folder each, behind the traits
//!  resilience           circuit breakers before the backends
//!  recovery             starts again what has ended, repairs what does not come back by itself
//!  health, telemetry    how the node is: checks, logs, metrics
//!  deadline             until when the client of a call waits
//!  outage               a failure that lasts is one line in the log, not thousands
//!  byte_budget          bounds on what is held for many callers
//!  id_generator, clock  Snowflake ids, and the time they are made from
//!  private_files        what is on disk is for this user alone
//! ```

pub mod api;
pub mod app;
pub mod application;
pub mod backends;
pub mod byte_budget;
pub mod cache;
pub mod checkpoint_store;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod deadline;
pub mod domain;
pub mod event_store;
pub mod health;
pub mod id_generator;
pub mod lease;
pub mod lifecycle;
pub mod message_bus;
pub mod outage;
pub mod outbox;
pub mod private_files;
pub mod projections;
pub mod proto;
pub mod read_model;
pub mod recovery;
pub mod resilience;
pub mod subscriptions;
pub mod telemetry;
pub mod whole_log;
