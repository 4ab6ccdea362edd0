//! Raw values validated by the kind of their setting, and the accessors for `typed.rs`.

use std::collections::BTreeMap;
use std::fmt;

use super::settings::{self, Kind, Setting, settings};
use super::sources::{Raw, Source};
use super::url::ServerUrl;
use super::{ConfigError, EffectiveSetting};

/// All settings, each value valid for its kind.
pub(super) struct Values {
    raws: BTreeMap<&'static str, Raw>,
}

impl Values {
    pub(super) fn new(raws: BTreeMap<&'static str, Raw>) -> Result<Self, ConfigError> {
        for setting in settings() {
            if let Some(raw) = raws.get(setting.key) {
                check(setting, &raw.value).map_err(|what| error(setting.key, &what, &raw.source))?;
            }
        }
        Ok(Self { raws })
    }

    pub(super) fn source(&self, key: &str) -> &Source {
        self.raws.get(key).map_or(&Source::Default, |raw| &raw.source)
    }

    /// Whether the operator set this value for this program; the samples' `appsettings.json` is written for another one.
    pub(super) fn is_chosen(&self, key: &str) -> bool {
        let samples_key = settings::find(key).and_then(|setting| setting.appsettings_key);
        match self.source(key) {
            Source::Default => false,
            Source::File { key, .. } => samples_key != Some(key.as_str()),
            Source::Flag(_) | Source::Env(_) => true,
        }
    }

    /// An error about this setting that names its source.
    pub(super) fn error(&self, key: &str, what: impl fmt::Display) -> ConfigError {
        error(key, &what, self.source(key))
    }

    /// The value parsed by `parse`, whose error continues "key: ".
    pub(super) fn parse<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parse(self.text(key)?).map_err(|what| self.error(key, what))
    }

    /// As [`Values::parse`], for an optional setting.
    pub(super) fn parse_optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        if self.raws.contains_key(key) { self.parse(key, parse).map(Some) } else { Ok(None) }
    }

    /// An integer; the range of the setting must fit `T`, which a test verifies for the ends of all ranges.
    pub(super) fn integer<T: std::str::FromStr>(&self, key: &str) -> Result<T, ConfigError> {
        self.parse(key, integer)
    }

    /// `true` or `false`.
    pub(super) fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        Ok(self.text(key)? == "true")
    }

    fn text(&self, key: &str) -> Result<&str, ConfigError> {
        match self.raws.get(key) {
            Some(raw) => Ok(&raw.value),
            None => Err(ConfigError::new(format_args!("{key}: is not set and has no default"))),
        }
    }

    /// The rows of `ordersystem config`.
    pub(super) fn effective(&self) -> Vec<EffectiveSetting> {
        let row = |setting: &Setting| EffectiveSetting {
            key: setting.key,
            value: self.raws.get(setting.key).map(|raw| as_toml(setting.kind, &raw.value)),
            source: self.source(setting.key).clone(),
        };
        settings().map(row).collect()
    }
}

pub(super) fn integer<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{} is out of range", quoted(text)))
}

/// The quoted value, safe to print on one line.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.escape_debug())
}

/// The entries of a comma separated list; empty for an empty text.
pub(super) fn list(text: &str) -> Vec<&str> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

fn error(key: &str, what: &dyn fmt::Display, source: &Source) -> ConfigError {
    ConfigError::new(format_args!("{key}: {what} (set by {source})"))
}

fn check(setting: &Setting, value: &str) -> Result<(), String> {
    match setting.kind {
        Kind::Flag if value != "true" && value != "false" => Err(format!("{} is not true or false", quoted(value))),
        Kind::Choice(words) if !words.contains(&value) => {
            Err(format!("{} is not one of {}", quoted(value), words.join(", ")))
        }
        Kind::Integer { min, max } => check_integer(value, min, max),
        Kind::Text | Kind::File | Kind::Folder if value.is_empty() => Err("is empty".to_owned()),
        Kind::ServerUrl => ServerUrl::parse(value, schemes(setting.key)).map(drop),
        Kind::Flag | Kind::Choice(_) | Kind::Text | Kind::File | Kind::Folder | Kind::List => Ok(()),
    }
}

fn check_integer(value: &str, min: u64, max: u64) -> Result<(), String> {
    // u64::from_str accepts a leading '+', which not all file formats do.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse::<u64>() {
        Ok(number) if digits && (min..=max).contains(&number) => Ok(()),
        _ => Err(format!("{} is not an integer from {min} to {max}", quoted(value))),
    }
}

/// The URL schemes of a broker's setting.
pub(super) fn schemes(key: &str) -> &'static [&'static str] {
    if key == "redis" { &["redis", "rediss", "redis+sentinel", "rediss+sentinel"] } else { &["nats", "tls"] }
}

fn as_toml(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Flag => value.to_owned(),
        // Without leading zeros, which TOML does not accept.
        Kind::Integer { .. } => value.parse::<u64>().map_or_else(|_| toml_text(value), |number| number.to_string()),
        Kind::Choice(_) | Kind::Text | Kind::File | Kind::Folder => toml_text(value),
        Kind::ServerUrl => {
            ServerUrl::parse(value, &["redis", "rediss", "redis+sentinel", "rediss+sentinel", "nats", "tls"])
                .map_or_else(|_| toml_text("***"), |url| toml_text(&url.to_string()))
        }
        Kind::List => {
            let texts: Vec<String> = list(value).into_iter().map(toml_text).collect();
            format!("[{}]", texts.join(", "))
        }
    }
}

/// TOML's basic strings are JSON's, except for one control character that JSON does not escape.
fn toml_text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

/// Whether the value comes from the command line.
pub(super) fn is_flag(source: &Source) -> bool {
    matches!(source, Source::Flag(_))
}
