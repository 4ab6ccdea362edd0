//! The logs named by the arguments of `copy` and `verify`: addresses, prefixes, and files for their brokers.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint, builder::PathBufValueParser, error::Error};

use super::error::CliError;
use crate::config::{
    LogAddress, LogRef, Variable, env_name,
    log_address::{check_files, file_settings, secret_settings},
    settings,
};

/// The options for credentials and trust of the brokers, as for a node; they apply to every log of the command.
pub(super) struct BrokerFiles {
    given: Vec<(&'static str, PathBuf)>,
}

fn keys() -> impl Iterator<Item = &'static str> {
    file_settings().map(|(_, key)| key)
}

impl Args for BrokerFiles {
    fn augment_args(command: Command) -> Command {
        let flag = |key| {
            let setting = settings::find(key)?;
            let help = format!("{} [env: {}]", setting.help, env_name(key));
            let flag = Arg::new(key).long(key).value_name("FILE").help(setting.help).long_help(help);
            let flag = flag.value_parser(PathBufValueParser::new()).value_hint(ValueHint::FilePath);
            Some(flag.help_heading("Access to brokers"))
        };
        command.args(keys().filter_map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for BrokerFiles {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = |key| Some((key, matches.get_one::<PathBuf>(key)?.clone()));
        Ok(Self { given: keys().filter_map(given).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl BrokerFiles {
    /// Gives `logs` the access that these files and the environment have for them.
    ///
    /// # Errors
    /// Contradictory or unreadable files, and a password file on the command line that applies to no log.
    pub(super) fn apply(&self, env: &[Variable], logs: &mut [&mut LogRef]) -> Result<(), CliError> {
        let in_env = |key| env.iter().find(|(name, _)| *name == *env_name(key)).map(|(_, value)| PathBuf::from(value));
        let file = |key: &'static str| self.flag(key).or_else(|| in_env(key));
        check_files(file).map_err(|(key, why)| unusable(key, why))?;
        for key in secret_settings().filter(|key| self.flag(key).is_some()) {
            if !logs.iter().any(|log| log.takes(key)) {
                let why = "no log uses it: it applies to a log on that broker whose address has no password";
                return Err(unusable(key, why));
            }
        }
        for log in logs {
            **log = log.clone().with_files(file).map_err(|(key, why)| unusable(key, why))?;
        }
        Ok(())
    }

    fn flag(&self, key: &str) -> Option<PathBuf> {
        self.given.iter().find(|(given, _)| *given == key).map(|(_, file)| file.clone())
    }
}

/// The log at `address`, of the argument `name`, with the `prefix` of the option `prefix_name`.
///
/// The address is read as text: clap's own errors repeat an invalid value, which may contain a password.
///
/// # Errors
/// An invalid address or prefix.
pub(super) fn log(name: &str, address: &str, prefix_name: &str, prefix: Option<&str>) -> Result<LogRef, CliError> {
    let address = address.parse::<LogAddress>().map_err(|why| CliError::Usage(format!("{name}: {why}")))?;
    LogRef::new(address, prefix).map_err(|why| unusable(prefix_name, why))
}

fn unusable(key: &str, why: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("--{key}: {why}"))
}
