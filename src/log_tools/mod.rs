//! What is done with a whole log, commit by commit from its beginning: copy it, compare it with another, audit it.

mod audit;
mod compare;
mod copy;
mod cursor;
mod meter;
mod patient;
mod rows;

pub use audit::audit;
pub use compare::compare;
pub use copy::{Copied, CopyError, CopyOptions, copy};
pub use meter::{Meter, Reading};
pub use patient::{Passing, Patience, PatientStore};
pub use rows::audit_rows;

use crate::ports::event_store::{Position, Revision, StreamId};

/// Something that should not be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: FindingKind,
    /// Where it is in the log; `None` if it is not at one place.
    pub position: Option<Position>,
    /// Which order it is about, if one.
    pub stream: Option<StreamId>,
    /// Where it is in the history of that order.
    pub revision: Option<Revision>,
    /// What it is, for people.
    pub detail: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The store itself says that what it holds is damaged.
    Unreadable,
    /// A position is not after the one before it.
    Position,
    /// The revisions of an order are not 1, 2, 3 …
    Revision,
    /// The bytes are no event that this program can read.
    Undecodable,
    /// What the event says of itself is not where it stands.
    Misplaced,
    /// The history of an order does not begin with its creation.
    Beginning,
    /// An event that the rules do not allow after those before it.
    Transition,
    /// A request id does not lead to its commit, or is not the one that the event names.
    Request,
    /// An event is not found by its order.
    Stream,
    /// A row or a total of the list of orders is not what the log gives.
    Row,
    /// Two logs are not the same.
    Difference,
}

impl FindingKind {
    /// The name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unreadable => "unreadable",
            Self::Position => "position",
            Self::Revision => "revision",
            Self::Undecodable => "undecodable",
            Self::Misplaced => "misplaced",
            Self::Beginning => "beginning",
            Self::Transition => "transition",
            Self::Request => "request",
            Self::Stream => "stream",
            Self::Row => "row",
            Self::Difference => "difference",
        }
    }
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Events, of both logs together if there are two.
    pub events: u64,
    /// Commits, likewise.
    pub commits: u64,
    /// Orders; zero where they were not counted.
    pub orders: u64,
    /// How many things are not as they should be.
    pub findings: u64,
}
