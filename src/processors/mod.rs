//! Background work that follows the log: the outbox relay publishes it, handlers react to what was published, projections keep read models.

pub mod handlers;
pub mod leader;
pub mod outbox;
pub mod projections;
