//! The memory backend: all data is lost when the process ends.

pub mod checkpoint_store;
mod descriptor;
pub mod event_store;
pub mod lease;
pub mod message_bus;
mod numbers;
pub mod read_model;

pub use descriptor::DESCRIPTOR;
