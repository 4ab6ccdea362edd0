//! The command line: subcommands, and the flags of every setting.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::{PathBufValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::cli::node_client::{ClientTls, Target, Trust};
use crate::cli::operator::{DeadLetterCall, RebuildCall};
use crate::config::settings::{Kind, SETTINGS, Setting};
use crate::config::{Config, ConfigError, FlagValues, env_name};

mod dead_letters;
mod log_tools;
pub mod node_client;
pub mod operator;
pub mod probe;
mod projections;

pub use log_tools::{CopyArgs, VerifyArgs};

/// The default timeout of `ordersystem health` and `ordersystem dead-letters`, in milliseconds.
const HEALTH_TIMEOUT_MS: &str = "2000";
/// The maximum `--timeout-ms`: one hour.
const HEALTH_TIMEOUT_MAX_MS: u64 = 3_600_000;

/// A parsed command line.
#[derive(Debug)]
pub enum Invocation {
    /// Run the service.
    Serve(Box<Config>),
    /// Query the health of a running service; the exit code is 0 only if it serves.
    Health {
        /// The node, and how to reach it.
        target: Target,
        /// The gRPC service to query; empty for the whole server.
        service: String,
        /// The timeout.
        timeout_ms: u64,
    },
    /// Manage the dead letters of a running service.
    DeadLetters(DeadLetterCall),
    /// Rebuild the read model of a running service.
    RebuildProjections(RebuildCall),
    /// Copy a data folder, whether or not a service uses it.
    Backup {
        /// The data folder.
        data_dir: PathBuf,
        /// The target: a folder without a copy yet.
        target: PathBuf,
    },
    /// Copy a log into another store.
    Copy(CopyArgs),
    /// Audit a log, or compare two.
    Verify(VerifyArgs),
    /// Print the effective configuration.
    PrintConfig(Box<Config>),
}

/// Why there is nothing to run.
#[derive(Debug)]
pub enum CliError {
    /// `--help` or `--version`: the text to print to standard output, exit code 0.
    Info(String),
    /// An invalid command line, in one line.
    Usage(String),
    /// An invalid configuration.
    Config(ConfigError),
}

impl CliError {
    /// 0 for help and version, 2 for any error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Info(_) => 0,
            Self::Usage(_) | Self::Config(_) => 2,
        }
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Info(text) => f.write_str(text),
            Self::Usage(line) => write!(f, "error: {line}"),
            Self::Config(error) => write!(f, "error: {error}"),
        }
    }
}

impl std::error::Error for CliError {}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Parses the command line, starting with the program's name, together with the environment.
///
/// # Errors
/// See [`CliError`].
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, CliError> {
    let matches = command().try_get_matches_from(args).map_err(usage_error)?;
    let before = flags(&matches);
    if let Some((name, _)) = matches.subcommand()
        && !matches!(name, "serve" | "config")
        && let Some(given) = before.first()
    {
        return Err(CliError::Usage(format!("--{given} belongs after the command: ordersystem {name} --{given} ...")));
    }
    match matches.subcommand() {
        Some(("health", matches)) => health(matches, env),
        Some(("dead-letters", matches)) => dead_letters::parse(matches, env),
        Some(("projections", matches)) => projections::parse(matches, env),
        Some(("backup", matches)) => backup(matches, env),
        Some(("copy", matches)) => log_tools::parse_copy(matches, env),
        Some(("verify", matches)) => log_tools::parse_verify(matches, env),
        Some(("config", matches)) => {
            Ok(Invocation::PrintConfig(Box::new(Config::load(&before.and(flags(matches))?, env)?)))
        }
        Some((_serve, matches)) => Ok(Invocation::Serve(Box::new(Config::load(&before.and(flags(matches))?, env)?))),
        None => Ok(Invocation::Serve(Box::new(Config::load(&before, env)?))),
    }
}

/// The whole command line, for parsing and for the check of the README.
#[must_use]
pub fn command() -> Command {
    let serve = Command::new("serve").about("Run the service (what happens without a command, too)");
    let config = Command::new("config").about("Print the effective configuration and where each value comes from");
    Command::new("ordersystem")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An event-sourced order service: gRPC and REST on one port")
        .after_help("Each setting is also an environment variable and a key of the --config file; flags win over the\nenvironment, the environment over the file. `ordersystem config` prints what is in effect.")
        .args(setting_args())
        .subcommand(serve.args(setting_args()))
        .subcommand(health_command())
        .subcommand(dead_letters::command())
        .subcommand(projections::command())
        .subcommand(backup_command())
        .subcommand(log_tools::copy_command())
        .subcommand(log_tools::verify_command())
        .subcommand(config.args(setting_args()))
}

fn health_command() -> Command {
    let service = Arg::new("service").long("service").value_name("NAME").default_value("");
    Command::new("health")
        .about("Ask a running service for its health; exit code 0 if it serves")
        .arg(service.help("Which gRPC service to ask for; empty for the whole server").hide_default_value(true))
        .args(asking_args())
}

/// The arguments of a command for a running service.
fn asking_args() -> Vec<Arg> {
    let address = Arg::new("address").long("address").value_name("HOST:PORT");
    let timeout = Arg::new("timeout-ms").long("timeout-ms").value_name("N").default_value(HEALTH_TIMEOUT_MS);
    let millis = clap::value_parser!(u64).range(1..=HEALTH_TIMEOUT_MAX_MS);
    let own = [
        address.help("Where to ask [default: the port of the configuration, on this machine]"),
        timeout.value_parser(millis).help("How long to wait, ms"),
    ];
    let settings = setting_args().into_iter().map(|arg| arg.hide(true).conflicts_with("address"));
    own.into_iter().chain(target_args()).chain(settings).collect()
}

/// The TLS options for a node. With `--address`, `--ca` enables TLS; without, the configuration decides.
fn target_args() -> [Arg; 4] {
    let file =
        |name, help| Arg::new(name).long(name).value_name("FILE").value_parser(PathBufValueParser::new()).help(help);
    let name = Arg::new("server-name").long("server-name").value_name("NAME");
    [
        file(
            "ca",
            "With TLS: PEM file with who signs the server's certificate [default: trust the configured certificate]",
        ),
        name.help("With TLS: the name that the certificate must have [default: the host of the address]")
            .requires("ca"),
        file("cert", "With TLS: PEM file with the certificate to show").requires("key"),
        file("key", "With TLS: PEM file with the key of that certificate").requires("cert"),
    ]
}

fn backup_command() -> Command {
    let target = Arg::new("target").value_name("DIR").required(true).value_parser(PathBufValueParser::new());
    Command::new("backup")
        .about("Copy the data folder of a service, which may go on running, into another folder")
        .arg(target.help("Where to: a folder that has no copy yet; the copy is a data folder itself"))
        .args(setting_args().into_iter().map(|arg| {
            let is_hidden = arg.get_id() != "data-dir" && arg.get_id() != "config";
            arg.hide(is_hidden)
        }))
}

fn setting_args() -> Vec<Arg> {
    let file = Arg::new("config").long("config").value_name("FILE").value_parser(PathBufValueParser::new());
    let file = file.help(format!("Configuration file, .toml or .json [env: {}]", env_name("config")));
    std::iter::once(file).chain(SETTINGS.iter().map(setting_arg)).collect()
}

fn setting_arg(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.key).long(setting.key).help(help(setting));
    let arg = match setting.kind {
        Kind::Flag => return arg.action(ArgAction::SetTrue),
        Kind::Choice(_) => arg.value_name("NAME"),
        // So that -1 produces our error with the range instead of "unexpected argument".
        Kind::Integer { .. } => arg.value_name("N").allow_negative_numbers(true),
        Kind::Text => arg.value_name("TEXT"),
        Kind::ServerUrl => arg.value_name("ADDRESS"),
        Kind::List => arg.value_name("LIST"),
    };
    // All sources are validated in one place; here any text is accepted, even an empty one.
    arg.value_parser(ValueParser::os_string())
}

fn help(setting: &Setting) -> String {
    let default = match setting.default {
        Some("") | None => "none",
        Some(value) => value,
    };
    let words = match setting.kind {
        Kind::Choice(words) => format!(": {}", words.join(", ")),
        _ => String::new(),
    };
    format!("{}{words} [default: {default}] [env: {}]", setting.help, env_name(setting.key))
}

fn flags(matches: &ArgMatches) -> FlagValues {
    let value_of = |setting: &Setting| match setting.kind {
        Kind::Flag => matches.get_flag(setting.key).then(|| OsString::from("true")),
        _ => matches.get_one::<OsString>(setting.key).cloned(),
    };
    FlagValues {
        config_file: matches.get_one::<PathBuf>("config").cloned(),
        values: SETTINGS.iter().filter_map(|setting| Some((setting.key, value_of(setting)?))).collect(),
    }
}

fn health(matches: &ArgMatches, env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Invocation, CliError> {
    let service = matches.get_one::<String>("service").cloned().unwrap_or_default();
    Ok(Invocation::Health { target: target(matches, env)?, service, timeout_ms: timeout_of(matches) })
}

fn timeout_of(matches: &ArgMatches) -> u64 {
    // Never absent, since the argument has a default; 0 would only time out at once.
    matches.get_one::<u64>("timeout-ms").copied().unwrap_or_default()
}

/// The target service of a command: the one at `--address`, else the one of this configuration.
fn target(matches: &ArgMatches, env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Target, CliError> {
    let file = |name| matches.get_one::<PathBuf>(name).cloned();
    let signed_by = file("ca").map(Trust::SignedBy);
    let (address, trust) = match matches.get_one::<String>("address") {
        Some(address) => (checked_address(address)?, signed_by),
        None => {
            let config = Config::load(&flags(matches), env)?;
            let own = config.server.tls.as_ref().map(|tls| Trust::Exactly(tls.cert.clone()));
            (address_of(&config)?, signed_by.or(own))
        }
    };
    let (server_name, identity) = (matches.get_one::<String>("server-name").cloned(), file("cert").zip(file("key")));
    if trust.is_none() && identity.is_some() {
        return Err(CliError::Usage("--cert is for TLS: say with --ca whom to trust".to_owned()));
    }
    Ok(Target { address, tls: trust.map(|trust| ClientTls { trust, server_name, identity }) })
}

fn backup(matches: &ArgMatches, env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Invocation, CliError> {
    let config = Config::load(&flags(matches), env)?;
    let data_dir = config.node.data_dir;
    let data_dir = data_dir.ok_or_else(|| CliError::Usage("--data-dir is needed: which folder to copy".to_owned()))?;
    // Never absent, since the argument is required.
    let target = matches.get_one::<PathBuf>("target").cloned().unwrap_or_default();
    Ok(Invocation::Backup { data_dir, target })
}

fn checked_address(address: &str) -> Result<String, CliError> {
    let valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if valid {
        Ok(address.to_owned())
    } else {
        Err(CliError::Usage(format!("--address: '{}' is not host:port", address.escape_debug())))
    }
}

/// The gRPC address of the service of this configuration, as seen from the same machine.
fn address_of(config: &Config) -> Result<String, CliError> {
    let mut address = config.server.grpc_address().unwrap_or_else(|| config.server.address());
    if address.port() == 0 {
        return Err(CliError::Usage("--address is needed: the configured port is 0, any free one".to_owned()));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address.to_string())
}

/// Joins clap's several lines into one: the error, its tips, and the hint at `--help`.
fn usage_error(error: clap::Error) -> CliError {
    let text = error.to_string();
    if !error.use_stderr() {
        return CliError::Info(text);
    }
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more information"))
        .filter(|line| !line.is_empty())
        .collect();
    let line = said.join("; ");
    CliError::Usage(format!("{}; see ordersystem --help", line.strip_prefix("error: ").unwrap_or(&line)))
}

#[cfg(test)]
mod tests;
