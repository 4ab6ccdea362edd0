//! One suite a trait, run on every backend.

mod backend;
mod checkpoint_store;
mod event_store;
mod lease;
mod message_bus;
mod read_model;
