//! The freshness that a query requires.

use crate::ports::event_store::Position;

/// The freshness that a query requires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// The current state of this node.
    #[default]
    Eventual,
    /// At least as fresh as this position of the log.
    AtLeast(Position),
    /// At least as fresh as everything committed before the query arrived.
    Strong,
}
