//! The order as a decider: `decide(state, command) -> events`, `evolve(state, event) -> state`.

pub mod command;
pub mod decider;
pub mod error;
pub mod event;
pub mod item;
pub mod state;

#[cfg(test)]
mod tests;

pub use command::{Action, OrderCommand};
pub use decider::{decide, evolve};
pub use error::{CorruptHistory, OrderError};
pub use event::{Change, EventKind, OrderEvent};
pub use item::{Item, Items, ItemsError, Quantity};
pub use state::*;
