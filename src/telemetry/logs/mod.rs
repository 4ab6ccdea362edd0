//! The log of the process: its filter, which can be changed while it runs, and the format of its lines.

mod audited;
mod directives;
mod levels;
mod lines;

use std::io::{IsTerminal as _, stderr};

use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    field::MakeExt as _,
    fmt::{
        self, MakeWriter,
        format::{Format, debug_fn},
    },
    layer::SubscriberExt as _,
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

use self::lines::{JsonLines, TextLines, write_field};
pub use self::{
    directives::{ACCESS, AUDIT, ORDER_EVENTS, check, unknown_targets},
    levels::{InEffect, InvalidFilter, LogLevels},
};

/// The options of logging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// The filter: see [`check`].
    pub level: String,
    /// The format of the lines.
    pub format: LogFormat,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends the log of the process to standard error. The result changes its filter.
///
/// # Errors
/// A description, if the level is not a valid filter or logging is already set up.
pub fn start_logging(config: &LogConfig) -> Result<LogLevels, String> {
    let (filter, levels) = LogLevels::new(&config.level).map_err(|error| error.to_string())?;
    let lines = lines(config.format, stderr().is_terminal(), stderr);
    Registry::default().with(filter).with(lines).try_init().map_err(|error| error.to_string())?;
    levels.warn_of_unknown_targets();
    Ok(levels)
}

/// Writes the lines.
fn lines<S, W>(format: LogFormat, has_colours: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(has_colours);
    match format {
        LogFormat::Text => layer
            .fmt_fields(debug_fn(write_field).delimited(" "))
            .event_format(TextLines(Format::default().with_ansi(has_colours)))
            .boxed(),
        LogFormat::Json => layer.json().event_format(JsonLines(Format::default().json())).boxed(),
    }
}
