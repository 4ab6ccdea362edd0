//! Clients that mean harm, against a node in a process of its own: what they cost, and what others notice.

mod bodies;
mod connections;
mod memory;
mod operators;
mod support;
