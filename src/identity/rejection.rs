//! Why credentials were refused.

use std::fmt;

/// Why credentials were refused; the texts are for the caller, and contain nothing of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// They are not those of a caller.
    Invalid(&'static str),
    /// They were valid once.
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
