//! The effective configuration: flags over environment over file over defaults, checked as a whole before anything binds.
//!
//! Every setting is one row of [`settings::groups`], to which each backend contributes its own; flag, environment variable, file key, help text, range
//! check and `ordersystem config` derive from the row, and one line in `typed.rs`, or in the settings of the backend, reads it. An invalid or unknown
//! value from any source is an error: nothing is ignored, defaulted or truncated.

mod file;
pub mod log_address;
pub mod settings;
mod sources;
#[cfg(test)]
mod tests;
mod typed;
mod validate;

use std::{fmt, sync::Arc};

pub use crate::{
    server::settings::{ServerConfig, TlsConfig},
    settings::{ConfigError, ENV_PREFIX, EffectiveSetting, ServerUrl, Source, env_name},
    telemetry::{LogConfig, LogFormat, TraceConfig},
};
pub use log_address::{LogAddress, LogRef};
pub use sources::{FlagValues, TOKEN_FILE_VARIABLE, Variable};
pub use typed::{
    BreakerConfig, Config, ConfiguredBackend, ConsumerConfig, EventFormat, NodeConfig, NodeId, OutboxConfig,
};

use crate::settings::Values;
use sources::Origin;

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
        build(Arc::new(Origin::new(flags, env)))
    }

    /// The configuration from the same flags and environment, with the current content of the file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        build(Arc::clone(&self.origin))
    }

    /// The settings whose values differ in `other`. A changed password is not reported.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let rows = self.effective.iter().zip(&other.effective);
        rows.filter(|(row, other)| row.value != other.value).map(|(row, _)| row.key).collect()
    }
}

fn build(origin: Arc<Origin>) -> Result<Config, ConfigError> {
    let values = Values::new(settings::groups(), origin.collect()?)?;
    let config = typed::build(&values, origin)?;
    validate::check(&config, &values)?;
    Ok(config)
}

/// One `key = value  # source` line per setting: valid TOML and, with the secrets filled in, a valid `--config` file.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.effective.iter().try_for_each(|setting| writeln!(f, "{setting}"))
    }
}
