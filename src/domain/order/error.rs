//! Domain rejections and corrupt histories.

use std::{error::Error, fmt};

use super::Status;

/// A command that the rules reject. Nothing is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderError {
    /// The order does not exist.
    NotFound,
    /// An order with this id already exists.
    AlreadyExists,
    /// The order's status does not allow the command.
    IllegalTransition {
        /// The status of the order.
        status: Status,
        /// The command, as in the API: "PayOrder".
        command: &'static str,
    },
}

/// Events that no sequence of commands can produce: the log is damaged or was written by another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CorruptHistory {
    /// The first inconsistent revision.
    pub revision: u64,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("there is no such order"),
            Self::AlreadyExists => f.write_str("there is an order with this id already"),
            Self::IllegalTransition { status, command } => {
                write!(f, "{command} is not allowed: the order is {status}")
            }
        }
    }
}

impl fmt::Display for CorruptHistory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the history is inconsistent at revision {}", self.revision)
    }
}

impl Error for OrderError {}
impl Error for CorruptHistory {}
