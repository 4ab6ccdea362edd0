//! The settings of logging.

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{LogConfig, LogFormat};
use crate::settings::{ConfigError, Kind, Setting, Values, parse::quoted};

/// The settings of logging.
pub const LOGGING: &[Setting] = &[
    Setting::new("log-level", Kind::Text, "info", "Log filter: a level, or directives as in info,ordersystem=debug")
        .common(),
    Setting::new("log-format", Kind::Choice(&["text", "json"]), "text", "Format of the log lines"),
];

impl LogConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting that is invalid, and why.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self { level: values.parse("log-level", log_level)?, format: values.parse("log-format", log_format)? })
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{} is unknown", quoted(other))),
    }
}

/// A lone word must be a level: [`EnvFilter`] would treat a misspelt level as a target, and silently log something else.
fn log_level(text: &str) -> Result<String, String> {
    for directive in text.split(',').map(str::trim) {
        let has_form = directive.contains(['=', '[', ']']);
        // LevelFilter parses an empty text as "error".
        if directive.is_empty() || !has_form && directive.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{} is not a level (off, error, warn, info, debug, trace) nor target=level",
                quoted(directive)
            ));
        }
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| format!("{}: {error}", quoted(text)))
}
