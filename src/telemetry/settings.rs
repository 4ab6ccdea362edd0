//! The settings of logging and of traces.

use super::{LogConfig, LogFormat, TraceConfig, logs};
use crate::settings::{ConfigError, Kind, Setting, Values, parse::quoted};

/// The settings of logging.
pub const LOGGING: &[Setting] = &[
    Setting::new("log-level", Kind::Text, "info", "Log filter: a level, or directives as in info,ordersystem=debug")
        .common(),
    Setting::new("log-format", Kind::Choice(&["text", "json"]), "text", "Format of the log lines"),
];

/// The settings of traces.
pub const TRACES: &[Setting] = &[
    Setting::optional(
        "otlp-endpoint",
        Kind::Text,
        "Address of an OpenTelemetry collector, http://host:port, which receives spans over OTLP with gRPC; without it none are made",
    ),
    Setting::new(
        "trace-sample-ratio",
        Kind::Text,
        "1.0",
        "Share of traces that are recorded, 0.0 to 1.0, where the caller has not decided",
    ),
];

impl TraceConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting that is invalid, and why.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            endpoint: values.parse_optional("otlp-endpoint", otlp_endpoint)?,
            sample_ratio: values.parse("trace-sample-ratio", sample_ratio)?,
        })
    }
}

fn otlp_endpoint(text: &str) -> Result<String, String> {
    let uri: http::Uri = text.parse().map_err(|error| format!("{} is not http://host:port: {error}", quoted(text)))?;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http"), Some(authority)) if authority.as_str().contains('@') => {
            Err("an address with a user or a password is not supported: set OTEL_EXPORTER_OTLP_HEADERS".to_owned())
        }
        (Some("http"), Some(authority)) if uri.path().len() <= 1 && uri.query().is_none() => {
            // Without one it would be that of web servers, and not the usual one of collectors.
            let is_complete = !authority.host().is_empty() && authority.port_u16().is_some_and(|port| port != 0);
            let wrong = || format!("{} is not http://host:port: it has no valid port; collectors usually have 4317", quoted(text));
            if is_complete { Ok(text.to_owned()) } else { Err(wrong()) }
        }
        (Some("https"), _) => {
            Err("https is not supported: send to a collector on this machine or in this cluster, which may use TLS to others".to_owned())
        }
        _ => Err(format!("{} is not http://host:port", quoted(text))),
    }
}

fn sample_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| format!("{} is not a number from 0.0 to 1.0", quoted(text)))
}

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

fn log_level(text: &str) -> Result<String, String> {
    logs::check(text).map(|()| text.to_owned())
}
