//! Guards the body of a gRPC request before it is decoded.

mod body;
mod elements;
mod methods;

pub use body::{RequestBody, RequestBytes};
pub use methods::{Method, replies_many};
