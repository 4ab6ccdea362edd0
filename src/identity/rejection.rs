//! Why credentials were refused.

use std::fmt;

/// Why credentials were refused; the texts are for the caller, and contain no part of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// They do not identify a caller.
    Invalid(&'static str),
    /// They are no longer valid.
    Expired(&'static str),
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) | Self::Expired(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Rejection {}
