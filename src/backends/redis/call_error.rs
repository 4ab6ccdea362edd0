//! The three outcomes of a call that has no result.

use std::fmt;

/// Why a call has no result.
#[derive(Clone, Debug)]
pub enum CallError {
    /// There is no connection: nothing was sent.
    NotSent(String),
    /// No reply came: the call may have been executed, or may still be.
    Lost(String),
    /// Redis replied with an error: the call was not executed.
    Refused {
        /// The error code, such as `OOM`.
        code: String,
        /// The human-readable error.
        text: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) | Self::Refused { text: why, .. } => f.write_str(why),
        }
    }
}
