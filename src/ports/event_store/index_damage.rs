//! Defects of the indexes beside a log.

use super::{Position, Revision, StreamId};

/// An entry of an index that does not lead to what it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexDamage {
    /// The position that the index names, if it names one.
    pub position: Option<Position>,
    /// The order concerned, if it is known.
    pub stream: Option<StreamId>,
    /// The revision that the index has there.
    pub revision: Option<Revision>,
    /// Whether the index is one of request ids, and not of the events of an order.
    pub of_request: bool,
    /// The index and the defect, in words.
    pub what: String,
}

impl IndexDamage {
    /// A defect without a place of its own.
    #[must_use]
    pub fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }
}
