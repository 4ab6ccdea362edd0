//! Malicious clients against a node in its own process: their cost, and their effect on others.

mod bodies;
mod connections;
mod memory;
mod operators;
mod support;
mod unread;
