//! Background log followers: the outbox relay publishes events, handlers react to published events, projections maintain read models.

pub mod handlers;
pub mod leader;
pub mod outbox;
pub mod owners;
pub mod projections;
