//! The ports: the traits that backends implement, and their values. Each trait documents its guarantees, and `tests/contract` verifies every backend.

pub mod backoff;
pub mod checkpoint_store;
pub mod clock;
pub mod deadline;
pub mod event_store;
pub mod health;
pub mod io_errors;
pub mod lease_store;
pub mod message_bus;
pub mod order_cache;
pub mod read_model;
pub mod server_name;
pub mod tls_errors;
