//! The effective configuration: flags over environment over file over defaults, checked as a whole before anything binds.
//!
//! Every setting is one row of [`settings::GROUPS`]; flag, environment variable, file key, help text, range check and `ordersystem config` derive
//! from the row, and one line in `typed.rs` reads it. An invalid or unknown value from any source is an error: nothing is ignored, defaulted or
//! truncated.

mod error;
mod file;
mod log_address;
mod secrets;
pub mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod typed;
mod url;
mod validate;
mod values;

use std::fmt;

pub use crate::telemetry::{LogConfig, LogFormat};
pub use error::ConfigError;
pub use log_address::{LogAddress, LogRef};
pub use secrets::SecretFiles;
pub use sources::{ENV_PREFIX, FlagValues, Source, Variable, env_name};
pub use typed::{
    BreakerConfig, Config, ConsumerConfig, EventFormat, NatsAccess, NodeConfig, NodeId, OutboxConfig, Persistence,
    ServerConfig, TlsConfig, Transport,
};
pub use url::ServerUrl;

use values::Values;

/// One row of `ordersystem config`: an effective setting, secrets hidden.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// The name of the setting, as its flag spells it.
    pub key: &'static str,
    /// The value as TOML, secrets hidden; `None` for an optional setting that is not set.
    pub value: Option<String>,
    /// The source of the value.
    pub source: Source,
}

impl fmt::Display for EffectiveSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = settings::file_key(self.key);
        match &self.value {
            Some(value) => write!(f, "{key} = {value}  # {}", self.source),
            None => write!(f, "# {key} is not set"),
        }
    }
}

impl Config {
    /// Builds the configuration from the given flags and environment; reads the file that they name, if any.
    ///
    /// `env` is the whole environment; only variables that begin with [`ENV_PREFIX`] are read.
    ///
    /// # Errors
    /// The first error, as one line that names the setting and its source.
    pub fn load(
        flags: &FlagValues,
        env: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
    ) -> Result<Self, ConfigError> {
        let values = Values::new(sources::collect(flags, env)?)?;
        let config = typed::build(&values)?;
        validate::check(&config, &values)?;
        Ok(config)
    }
}

/// One `key = value  # source` line per setting: valid TOML and, with the secrets filled in, a valid `--config` file.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.effective.iter().try_for_each(|setting| writeln!(f, "{setting}"))
    }
}
