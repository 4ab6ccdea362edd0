//! The logs that `copy` and `verify` are given: addresses, prefixes, and files for their brokers.

use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint, builder::PathBufValueParser, error::Error};

use super::error::CliError;
use crate::config::{LogAddress, LogRef, NatsAccess, SecretFiles, Variable, env_name, settings};

/// What the help of both commands says of addresses.
pub(super) const LOGS: &str = "\
A LOG is embedded:DIR, redis://HOST:PORT (or redis:HOST:PORT), redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or nats://HOST:PORT \
(or nats:HOST:PORT); rediss://, rediss+sentinel:// and tls:// use TLS.";

/// The options for credentials and trust of the brokers, as for a node; they apply to every log of the command.
pub(super) struct BrokerFiles {
    given: Vec<(&'static str, PathBuf)>,
}

fn keys() -> impl Iterator<Item = &'static str> {
    SecretFiles::SETTINGS.into_iter().chain(NatsAccess::SETTINGS)
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
        let nats = NatsAccess::of(NatsAccess::SETTINGS.map(file)).map_err(|(key, why)| unusable(key, why))?;
        let secrets = SecretFiles::of(|key| Ok::<_, CliError>(file(key)))?;
        for key in SecretFiles::SETTINGS.into_iter().filter(|key| self.flag(key).is_some()) {
            let is_for = |log: &&mut LogRef| log.lacks_password_of().is_some_and(|broker| key.starts_with(broker));
            if !logs.iter().any(is_for) {
                let why = "there is no log that it is for: one on that broker whose address has no password";
                return Err(unusable(key, why));
            }
        }
        for log in logs {
            let with_access = log.clone().with_nats_access(&nats).with_secrets(&secrets);
            **log = with_access.map_err(|(key, why)| unusable(key, why))?;
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
/// An address or a prefix that is none.
pub(super) fn log(name: &str, address: &str, prefix_name: &str, prefix: Option<&str>) -> Result<LogRef, CliError> {
    let address = address.parse::<LogAddress>().map_err(|why| CliError::Usage(format!("{name}: {why}")))?;
    LogRef::new(address, prefix).map_err(|why| unusable(prefix_name, why))
}

fn unusable(key: &str, why: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("--{key}: {why}"))
}
