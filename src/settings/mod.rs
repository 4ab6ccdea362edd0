//! The definition of a setting, its value and its source. Each module and each backend declares its own; `config` layers them.
//!
//! A [`Setting`] is one row: flag, environment variable, file key, help text, range check and the line of `ordersystem config` derive from it. Its
//! readers get it from [`Values`], where every value is valid for its [`Kind`].

mod error;
pub mod parse;
pub mod secrets;
mod source;
mod url;
mod values;

pub use error::ConfigError;
pub use source::{ENV_PREFIX, Raw, Source, env_name};
pub use url::{ServerUrl, UrlForm, check_authority};
pub use values::{EffectiveSetting, Values};

/// The kind of a setting's values.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`; as a flag it has no value.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A decimal integer of this range, both ends included.
    Integer {
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
    /// Text with its own syntax, validated by the reader of the setting.
    Text,
    /// The path of a file.
    File,
    /// The path of a folder.
    Folder,
    /// The address of a server; it may contain a password, which is never shown.
    ServerUrl(&'static UrlForm),
    /// Comma separated texts; in a file also a list. May be empty.
    List,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in kebab-case: the flag `--node-id`, the variable `ORDERSYSTEM_NODE_ID`, the file key `node_id`.
    pub key: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// Its default; `None` if it is optional.
    pub default: Option<&'static str>,
    /// The key of the same setting in the `appsettings.json` of the .NET samples.
    pub appsettings_key: Option<&'static str>,
    /// One sentence for `--help` and docs/configuration.md.
    pub help: &'static str,
    /// Whether `-h` shows it, too.
    pub is_common: bool,
}

/// The settings of one section of `--help` and docs/configuration.md.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The name of the section.
    pub heading: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

impl Setting {
    /// A setting with a default.
    #[must_use]
    pub const fn new(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Self {
        Self { key, kind, default: Some(default), appsettings_key: None, help, is_common: false }
    }

    /// A setting without a default.
    #[must_use]
    pub const fn optional(key: &'static str, kind: Kind, help: &'static str) -> Self {
        Self { key, kind, default: None, appsettings_key: None, help, is_common: false }
    }

    /// The same setting, also read from `key` in the samples' `appsettings.json`.
    #[must_use]
    pub const fn or_appsettings(mut self, key: &'static str) -> Self {
        self.appsettings_key = Some(key);
        self
    }

    /// The same setting, shown by `-h` too.
    #[must_use]
    pub const fn common(mut self) -> Self {
        self.is_common = true;
        self
    }

    /// Its name in a configuration file: `node_id`.
    #[must_use]
    pub fn file_key(&self) -> String {
        file_key(self.key)
    }
}

/// The kind of an integer from `min` to `max`, both included.
#[must_use]
pub const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// The maximum of all durations: one day.
pub const DAY_MS: u64 = 86_400_000;

/// The name of a setting in a configuration file: `node_id`.
#[must_use]
pub fn file_key(key: &str) -> String {
    key.replace('-', "_")
}
