//! The three ways in which a call fails.

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// There is no connection: nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// No reply came: the call may have been executed, or may still be.
    #[error("{0}")]
    Lost(String),
    /// Redis replied with an error: the call was not executed.
    #[error("{text}")]
    Refused {
        /// The error code, such as `OOM`.
        code: String,
        /// The human-readable error.
        text: String,
    },
}
