//! The ports: traits that a backend implements, and the values that pass through them. What each trait guarantees is in its documentation, and
//! `tests/contract` holds every backend to it.

pub mod backoff;
pub mod checkpoint_store;
pub mod clock;
pub mod deadline;
pub mod event_store;
pub mod health;
pub mod lease_store;
pub mod message_bus;
pub mod order_cache;
pub mod read_model;
