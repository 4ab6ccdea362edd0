//! The errors of the command line and of its commands.

use std::fmt;

use crate::config::ConfigError;

/// Why a command failed; one line for people.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why there is nothing to run.
#[derive(Debug)]
pub enum CliError {
    /// `--help` or `--version`: the text to print to standard output, exit code 0.
    Info(String),
    /// An invalid command line, in one line.
    Usage(String),
    /// An invalid configuration.
    Config(ConfigError),
}

impl CliError {
    /// 0 for help and version, 2 for any error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Info(_) => 0,
            Self::Usage(_) | Self::Config(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info(text) => f.write_str(text),
            Self::Usage(line) => write!(f, "error: {line}"),
            Self::Config(error) => write!(f, "error: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Joins clap's several lines into one: the error, its tips, and the command whose help says more.
impl From<clap::Error> for CliError {
    fn from(error: clap::Error) -> Self {
        let text = error.to_string();
        if !error.use_stderr() {
            return Self::Info(text);
        }
        let lines = || text.lines().map(str::trim);
        let said: Vec<&str> = lines()
            .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
            .filter(|line| !line.is_empty())
            .collect();
        let line = said.join("; ").replace(":; ", ": ");
        let usage = lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or("ordersystem");
        let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase());
        let command: Vec<&str> = usage.split(' ').take_while(is_name).collect();
        Self::Usage(format!("{}; see {} --help", line.strip_prefix("error: ").unwrap_or(&line), command.join(" ")))
    }
}
