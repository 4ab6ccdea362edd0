//! An order as of a point of the log.

use crate::{domain::order::Order, ports::event_store::Position};

/// An order with the log position of its last event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedOrder {
    /// The order.
    pub order: Order,
    /// The position of its last event.
    pub position: Position,
}
