//! What the body of a gRPC request passes before anything of it is decoded.

mod body;
mod elements;
mod methods;

pub use body::{RequestBody, RequestBytes};
pub use methods::{Method, replies_many};
