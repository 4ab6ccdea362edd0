//! The single type of configuration errors: a line that names the setting and its source.

use std::fmt;

/// An invalid configuration. Displays as one line without secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}")]
pub struct ConfigError {
    line: String,
}

impl ConfigError {
    /// Control characters (a line break in a value, a parser's several lines) are escaped or joined here, for all errors.
    #[must_use]
    pub fn new(line: impl fmt::Display) -> Self {
        let line = line.to_string();
        let lines: Vec<&str> = line.lines().map(str::trim).filter(|part| !part.is_empty()).collect();
        Self { line: lines.join(" ").replace(char::is_control, "?") }
    }
}
