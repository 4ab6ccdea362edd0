//! The errors of the command line and of its commands.

use crate::config::ConfigError;

/// Why a command failed; one line for humans.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// `--help` or `--version`: the text to print to standard output, exit code 0.
    #[error("{0}")]
    Info(String),
    /// An invalid command line, in one line.
    #[error("error: {0}")]
    Usage(String),
    /// An invalid configuration.
    #[error("error: {0}")]
    Config(#[from] ConfigError),
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
