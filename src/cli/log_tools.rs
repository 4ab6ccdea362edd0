//! `ordersystem copy` and `ordersystem verify`: the definitions of their command lines.

use std::{ffi::OsString, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command};

use super::{CliError, Invocation};
use crate::config::{LogAddress, LogRef, NatsAccess, SETTINGS, SecretFiles, env_name};

/// An environment variable.
type Variable = (OsString, OsString);

/// The arguments of `copy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyArgs {
    /// The source.
    pub from: LogRef,
    /// The target.
    pub to: LogRef,
    /// The number of replicas of a stream created in NATS.
    pub replicas: usize,
    /// Whether to keep following the source.
    pub follow: bool,
}

/// The arguments of `verify`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyArgs {
    /// The log to audit.
    pub log: LogRef,
    /// The log to compare it with.
    pub other: Option<LogRef>,
    /// Whether to print JSON, one object per line.
    pub json: bool,
}

const LOGS: &str = "A log is embedded:DIR, redis://HOST:PORT (or redis:HOST:PORT), redis+sentinel://HOST:PORT,HOST:PORT/SERVICE or \
     nats://HOST:PORT (or nats:HOST:PORT); rediss://, rediss+sentinel:// and tls:// for TLS.";

pub(super) fn copy_command() -> Command {
    let replicas = Arg::new("to-replicas").long("to-replicas").value_name("N").default_value("1");
    let replicas = replicas.value_parser(["1", "3", "5"]);
    let follow = switch("follow", "Go on as the source grows, until interrupted").conflicts_with("until-caught-up");
    Command::new("copy")
        .about("Copy a log into another store: every commit in order, with its request id; goes on where an earlier run ended")
        .after_help(format!(
            "{LOGS}\nA service may use the source meanwhile; nobody may write to the target. Exit code 0: done; 1: failed, interrupted before the \
             end, or the target holds something else than a beginning of the source; 2: wrong usage."
        ))
        .arg(log("from").long("from").required(true).help("The log to copy"))
        .arg(log("to").long("to").required(true).help("Where to: a log that does not exist, or an earlier copy"))
        .arg(prefix("from-prefix", "What keys of the source in Redis, or its streams in NATS, begin with"))
        .arg(prefix("to-prefix", "The same for the target"))
        .arg(replicas.help("On how many servers of a NATS cluster a new target is kept"))
        .args(broker_files())
        .arg(follow)
        .arg(switch("until-caught-up", "End at what the source held at the start (the default)"))
}

pub(super) fn verify_command() -> Command {
    Command::new("verify")
        .about("Audit a log, or compare two: every commit, what it holds, and how it is found")
        .after_help(format!(
            "{LOGS}\nA service may use the logs meanwhile: what they held at the start is looked at. Exit code 0: all is well; 1: something is not, \
             or a log could not be read; 2: wrong usage."
        ))
        .arg(log("log").required(true).help("The log"))
        .arg(log("other").value_name("OTHER").help("A log to compare it with: the same but for positions?"))
        .arg(prefix("prefix", "What keys of the log in Redis, or its streams in NATS, begin with"))
        .arg(prefix("other-prefix", "The same for the other log").requires("other"))
        .args(broker_files())
        .arg(switch("json", "A JSON object a line for each finding, and one for the result"))
}

fn log(name: &'static str) -> Arg {
    // Read as text: clap's own errors repeat the invalid value, which may contain a password.
    Arg::new(name).value_name("LOG")
}

fn prefix(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name("TEXT").help(format!("{help} [default: ordersystem]"))
}

/// The options for credentials and trust of the brokers, as for a node; they apply to every log of the command.
fn broker_files() -> impl Iterator<Item = Arg> {
    SecretFiles::SETTINGS.into_iter().chain(NatsAccess::SETTINGS).filter_map(|key| {
        let setting = SETTINGS.iter().find(|setting| setting.key == key)?;
        let file = Arg::new(key).long(key).value_name("FILE").value_parser(clap::value_parser!(PathBuf));
        Some(file.help(format!("{} [env: {}]", setting.help, env_name(key))))
    })
}

/// The broker options besides the addresses of the logs.
struct Access {
    nats: NatsAccess,
    secrets: SecretFiles,
}

impl Access {
    fn of(matches: &ArgMatches, env: impl IntoIterator<Item = Variable>) -> Result<Self, CliError> {
        let env: Vec<Variable> = env.into_iter().collect();
        let in_env = |key| env.iter().find(|(name, _)| *name == *env_name(key)).map(|(_, value)| PathBuf::from(value));
        let file = |key: &'static str| matches.get_one::<PathBuf>(key).cloned().or_else(|| in_env(key));
        let nats = NatsAccess::of(NatsAccess::SETTINGS.map(file)).map_err(|(key, why)| unusable(key, why))?;
        Ok(Self { nats, secrets: SecretFiles::of(|key| Ok::<_, CliError>(file(key)))? })
    }
}

fn unusable(key: &str, why: impl std::fmt::Display) -> CliError {
    CliError::Usage(format!("--{key}: {why}"))
}

/// Refuses a password file that applies to no log.
fn check_used(matches: &ArgMatches, logs: &[&LogRef]) -> Result<(), CliError> {
    for key in SecretFiles::SETTINGS.into_iter().filter(|key| matches.contains_id(key)) {
        let is_for = |log: &&LogRef| log.lacks_password_of().is_some_and(|broker| key.starts_with(broker));
        if !logs.iter().any(is_for) {
            return Err(unusable(
                key,
                "there is no log that it is for: one on that broker whose address has no password",
            ));
        }
    }
    Ok(())
}

fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

pub(super) fn parse_copy(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = Variable>,
) -> Result<Invocation, CliError> {
    let access = Access::of(matches, env)?;
    let (from, to) = (named(matches, "from", "from-prefix")?, named(matches, "to", "to-prefix")?);
    check_used(matches, &[&from, &to])?;
    let replicas = matches.get_one::<String>("to-replicas").and_then(|text| text.parse().ok()).unwrap_or(1);
    Ok(Invocation::Copy(CopyArgs {
        from: with_access(from, &access)?,
        to: with_access(to, &access)?,
        replicas,
        follow: matches.get_flag("follow"),
    }))
}

pub(super) fn parse_verify(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = Variable>,
) -> Result<Invocation, CliError> {
    let access = Access::of(matches, env)?;
    let other = matches.contains_id("other").then(|| named(matches, "other", "other-prefix")).transpose()?;
    let log = named(matches, "log", "prefix")?;
    check_used(matches, &[Some(&log), other.as_ref()].into_iter().flatten().collect::<Vec<_>>())?;
    let log = with_access(log, &access)?;
    let other = other.map(|other| with_access(other, &access)).transpose()?;
    Ok(Invocation::Verify(VerifyArgs { log, other, json: matches.get_flag("json") }))
}

fn named(matches: &ArgMatches, log: &str, prefix: &str) -> Result<LogRef, CliError> {
    let text = matches.get_one::<String>(log).map_or("", String::as_str);
    let address = text.parse::<LogAddress>().map_err(|why| CliError::Usage(format!("{log}: {why}")))?;
    let given = matches.get_one::<String>(prefix).map(String::as_str);
    LogRef::new(address, given).map_err(|why| unusable(prefix, why))
}

fn with_access(log: LogRef, access: &Access) -> Result<LogRef, CliError> {
    let log = log.with_nats_access(&access.nats).with_secrets(&access.secrets);
    log.map_err(|(key, why)| unusable(key, why))
}
