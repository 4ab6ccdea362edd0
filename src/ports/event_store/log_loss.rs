//! A log that is no longer in its store.

use std::fmt;

/// What a node has found in the place of the log that it has been working on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// No log, as after a deletion or a start of the store without its data. An operator may put it back.
    Gone,
    /// Another log. This node must be restarted to work on it: everything that it keeps, the numbers of its ids and the key of its tokens included,
    /// belongs to the log that it knows.
    Replaced,
}

/// The log that a node has been working on is not in its store any more. It ends when the log is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLoss {
    /// What is in its place.
    pub kind: LossKind,
    /// What was found, and what an operator can do about it, in one line.
    pub why: String,
}

impl fmt::Display for LogLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}
