//! Raw values validated by the kind of their setting, and the accessors for their readers.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::parse::{integer, list, quoted};
use super::{ConfigError, Group, Kind, Raw, ServerUrl, Setting, Source, file_key};

/// One row of `ordersystem config`: an effective setting, secrets hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The name of the setting, as its flag spells it.
    pub key: &'static str,
    /// The section of `--help` and docs/configuration.md that it is in.
    pub group: &'static str,
    /// The value as TOML, secrets hidden; `None` for an optional setting that is not set.
    pub value: Option<String>,
    /// The source of the value.
    pub source: Source,
}

impl fmt::Display for EffectiveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = file_key(self.key);
        match &self.value {
            Some(value) => write!(f, "{key} = {value}  # {}", self.source),
            None => write!(f, "# {key} is not set"),
        }
    }
}

/// All settings, each value valid for its kind.
pub struct Values {
    table: &'static [Group],
    raws: BTreeMap<&'static str, Raw>,
}

impl Values {
    /// The values of the settings of `table`.
    ///
    /// # Errors
    /// The first one, in the order of the table, that is not of its kind.
    pub fn new(table: &'static [Group], raws: BTreeMap<&'static str, Raw>) -> Result<Self, ConfigError> {
        let values = Self { table, raws };
        for setting in values.settings() {
            if let Some(raw) = values.raws.get(setting.key) {
                check(setting, &raw.value).map_err(|what| error(setting.key, &what, &raw.source))?;
            }
        }
        Ok(values)
    }

    fn settings(&self) -> impl Iterator<Item = &'static Setting> + use<> {
        self.table.iter().flat_map(|group| group.settings)
    }

    /// The source of a setting's value.
    #[must_use]
    pub fn source(&self, key: &str) -> &Source {
        self.raws.get(key).map_or(&Source::Default, |raw| &raw.source)
    }

    /// Whether the operator set this value for this program; the samples' `appsettings.json` is written for another one.
    #[must_use]
    pub fn is_chosen(&self, key: &str) -> bool {
        let samples_key =
            self.settings().find(|setting| setting.key == key).and_then(|setting| setting.appsettings_key);
        match self.source(key) {
            Source::Default => false,
            Source::File { key, .. } => samples_key != Some(key.as_str()),
            Source::Flag(_) | Source::Env(_) => true,
        }
    }

    /// An error about this setting that names its source.
    #[must_use]
    pub fn error(&self, key: &str, what: impl fmt::Display) -> ConfigError {
        error(key, &what, self.source(key))
    }

    /// The value parsed by `parse`, whose error continues "key: ".
    ///
    /// # Errors
    /// That of `parse`; a setting without value and default.
    pub fn parse<T>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<T, ConfigError> {
        parse(self.text(key)?).map_err(|what| self.error(key, what))
    }

    /// As [`Values::parse`], for an optional setting.
    ///
    /// # Errors
    /// That of `parse`.
    pub fn parse_optional<T>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        if self.raws.contains_key(key) { self.parse(key, parse).map(Some) } else { Ok(None) }
    }

    /// An integer; the range of the setting must fit `T`, which a test verifies for the ends of all ranges.
    ///
    /// # Errors
    /// If it does not fit.
    pub fn integer<T: std::str::FromStr>(&self, key: &str) -> Result<T, ConfigError> {
        self.parse(key, integer)
    }

    /// The path that an optional setting names.
    #[must_use]
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.raws.get(key).map(|raw| PathBuf::from(&raw.value))
    }

    /// The files named by those `settings` that have a value.
    #[must_use]
    pub fn files(&self, settings: &[Setting]) -> BTreeMap<&'static str, PathBuf> {
        let files = settings.iter().filter(|setting| matches!(setting.kind, Kind::File));
        files.filter_map(|setting| Some((setting.key, self.path(setting.key)?))).collect()
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// A setting without value and default.
    pub fn switch(&self, key: &str) -> Result<bool, ConfigError> {
        Ok(self.text(key)? == "true")
    }

    fn text(&self, key: &str) -> Result<&str, ConfigError> {
        match self.raws.get(key) {
            Some(raw) => Ok(&raw.value),
            None => Err(ConfigError::new(format_args!("{key}: is not set and has no default"))),
        }
    }

    /// The rows of `ordersystem config`.
    #[must_use]
    pub fn effective(&self) -> Vec<EffectiveSetting> {
        let row = |group: &Group, setting: &Setting| EffectiveSetting {
            key: setting.key,
            group: group.heading,
            value: self.raws.get(setting.key).map(|raw| as_toml(setting.kind, &raw.value)),
            source: self.source(setting.key).clone(),
        };
        self.table.iter().flat_map(|group| group.settings.iter().map(|setting| row(group, setting))).collect()
    }
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
        Kind::ServerUrl(form) => form.parse(value).map(drop),
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

fn as_toml(kind: Kind, value: &str) -> String {
    match kind {
        Kind::Flag => value.to_owned(),
        // Without leading zeros, which TOML does not accept.
        Kind::Integer { .. } => value.parse::<u64>().map_or_else(|_| toml_text(value), |number| number.to_string()),
        Kind::Choice(_) | Kind::Text | Kind::File | Kind::Folder => toml_text(value),
        Kind::ServerUrl(form) => {
            form.parse(value).map_or_else(|_| toml_text("***"), |url: ServerUrl| toml_text(&url.to_string()))
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
