//! Why a server of a backend cannot be used, and whether waiting helps.

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// A temporary failure. Connecting is being retried.
    #[error("{0}")]
    Retryable(String),
    /// A failure that needs an operator: a wrong password, a server that is too old or has the wrong role, a stream that would lose data.
    #[error("{0}")]
    Fatal(String),
}

impl ConnectError {
    /// The human-readable reason.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Retryable(why) | Self::Fatal(why) => why,
        }
    }
}
