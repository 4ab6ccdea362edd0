//! Processes commands and queries, independently of the protocol.
//!
//! mediator -> pipeline -> command handler or query; the command handler decides on the folded order and appends.

pub mod admission;
pub mod byte_budget;
pub mod command_handler;
pub mod consistency;
pub mod dead_letters;
pub mod error;
pub mod event_filter;
pub mod event_streams;
pub mod fan_out;
pub mod ids;
pub mod limits;
pub mod mediator;
pub mod order_cache;
pub mod order_repository;
mod originator;
pub mod permits;
pub mod pipeline;
pub mod queries;
pub mod requests;
pub mod scope;
pub mod shared_cache;
pub mod stats;
pub mod tokens;
pub mod turns;
pub mod versioned_order;

pub use command_handler::CommandReply;
pub use consistency::Consistency;
pub use error::AppError;
pub use mediator::Mediator;
pub use requests::OrderRequest;
pub use scope::Scope;
pub use versioned_order::VersionedOrder;
