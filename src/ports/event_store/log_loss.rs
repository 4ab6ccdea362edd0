//! A log that is no longer in its store.

use std::fmt;

/// The content of a store in place of the log of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// No log, as after a deletion or a start of the store without its data. An operator may put it back.
    Gone,
    /// Another log. This node must be restarted to work on it: everything in its memory, including the numbers of its ids and the key of its tokens,
    /// belongs to the log that it knows.
    Replaced,
}

/// The log of a node is no longer in its store. It ends when the log is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLoss {
    /// The content of the store in its place.
    pub kind: LossKind,
    /// The finding and the remedy for an operator, in one line.
    pub why: String,
}

impl fmt::Display for LogLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
