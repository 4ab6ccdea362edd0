//! Tools for a whole log, which process it commit by commit from its beginning: copy, compare with another, audit.

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

use crate::{
    ports::event_store::{Position, Revision, StreamId},
    telemetry::{LogConfig, LogFormat},
};

/// The log output of the tools: retries. The final failure is their error.
#[must_use]
pub fn log_config() -> LogConfig {
    LogConfig { level: "off,ordersystem::log_tools=warn".to_owned(), format: LogFormat::Text }
}

/// A defect or a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// The position in the log; `None` if there is no single one.
    pub position: Option<Position>,
    /// The order concerned, if any.
    pub stream: Option<StreamId>,
    /// The revision in the history of that order.
    pub revision: Option<Revision>,
    /// A human-readable description.
    pub detail: String,
}

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// The store itself reports that its data is damaged.
    Unreadable,
    /// A position is not after the one before it.
    Position,
    /// The revisions of an order are not 1, 2, 3 …
    Revision,
    /// The bytes are not an event that this program can read.
    Undecodable,
    /// The event's own fields do not match its place in the log.
    Misplaced,
    /// The history of an order does not begin with its creation.
    Beginning,
    /// An event that the rules do not allow after those before it.
    Transition,
    /// A request id does not lead to its commit, or is not the one that the event names.
    Request,
    /// An event is not found by its order.
    Stream,
    /// A row or a total of the list of orders does not match the log.
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

/// The totals of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Events; those of two logs are counted once, up to the first place where the logs diverge.
    pub events: u64,
    /// Commits, likewise.
    pub commits: u64,
    /// Orders; zero if they were not counted.
    pub orders: u64,
    /// The number of findings.
    pub findings: u64,
}
