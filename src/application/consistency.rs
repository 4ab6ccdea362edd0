//! How fresh an answer has to be.

use crate::ports::event_store::Position;

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Whatever this node knows now.
    #[default]
    Eventual,
    /// At least as fresh as this position of the log.
    AtLeast(Position),
    /// At least as fresh as everything committed before the query came.
    Strong,
}
