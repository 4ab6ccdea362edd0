//! The sources of values.

use std::{fmt, path::PathBuf};

/// The prefix of this program's environment variables. A variable with it that names no setting is an error.
pub const ENV_PREFIX: &str = "ORDERSYSTEM_";

/// The source of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The default.
    Default,
    /// A flag of this setting, without the dashes.
    Flag(&'static str),
    /// This environment variable.
    Env(String),
    /// This key in the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The key in the file, sections joined by dots.
        key: String,
    },
}

impl Source {
    /// Whether the value comes from the command line.
    #[must_use]
    pub const fn is_flag(&self) -> bool {
        matches!(self, Self::Flag(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Flag(key) => write!(f, "--{key}"),
            Self::Env(name) => f.write_str(name),
            Self::File { path, key } => write!(f, "{key} in {}", path.display()),
        }
    }
}

/// A value before validation. The type has no `Debug`: an address may contain a password.
#[derive(Clone)]
pub struct Raw {
    /// The text.
    pub value: String,
    /// Its source.
    pub source: Source,
}

/// The environment variable of a setting: `ORDERSYSTEM_NODE_ID`.
#[must_use]
pub fn env_name(key: &str) -> String {
    format!("{ENV_PREFIX}{}", super::file_key(key).to_ascii_uppercase())
}
