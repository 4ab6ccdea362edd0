//! The rules of an order: pure, std only. No clock, no ids, no I/O: time and ids arrive in the command.

pub mod ids;
pub mod money;
pub mod order;
pub mod text;
pub mod timestamp;
pub mod visible;
