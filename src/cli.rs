//! The command line: one file for each subcommand, with its arguments and its run.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::{Config, Variable};
use settings::{OfNode, SettingFlags};

mod backup;
mod completions;
mod config;
mod copy;
mod dead_letters;
mod error;
mod health;
mod keys;
mod log_level;
mod logs;
mod man;
pub mod node_client;
mod output;
pub mod probe;
mod progress;
mod projections;
mod serve;
mod settings;
mod signals;
mod target;
mod verify;

pub use backup::BackupCall;
pub use copy::CopyArgs;
pub use dead_letters::{Action, DeadLetterCall};
pub use error::{CliError, Failure};
pub use health::HealthCall;
pub use keys::KeyCall;
pub use log_level::LogLevelCall;
pub use output::print;
pub use projections::RebuildCall;
pub use verify::VerifyArgs;

/// A parsed command line, ready to run.
#[derive(Debug)]
pub enum Invocation {
    /// Run the service.
    Serve(Box<Config>),
    /// Query the health of a running service; the exit code is 0 only if it serves.
    Health(HealthCall),
    /// Manage the dead letters of a running service.
    DeadLetters(DeadLetterCall),
    /// Rebuild the read model of a running service.
    RebuildProjections(RebuildCall),
    /// Show or change the log filter of a running service.
    LogLevel(LogLevelCall),
    /// Make an API key.
    NewKey(KeyCall),
    /// Copy a data folder, whether or not a service uses it.
    Backup(BackupCall),
    /// Copy a log into another store.
    Copy(CopyArgs),
    /// Audit a log, or compare two.
    Verify(VerifyArgs),
    /// Print the effective configuration.
    PrintConfig(Box<Config>),
    /// Print the script that completes commands in a shell.
    Completions(Shell),
    /// Print the manual page, or write all pages into a folder.
    Man(Option<PathBuf>),
}

impl Invocation {
    /// Runs the command. The exit code is 0, or 1 if the answer of the command is no.
    ///
    /// # Errors
    /// One line for humans.
    pub async fn run(self) -> Result<ExitCode, Failure> {
        match self {
            Self::Serve(config) => serve::run(&config).await?,
            Self::Health(call) => call.run().await?,
            Self::DeadLetters(call) => dead_letters::run(call).await?,
            Self::RebuildProjections(call) => projections::run(call).await?,
            Self::LogLevel(call) => call.run().await?,
            Self::NewKey(call) => call.run()?,
            Self::Backup(call) => call.run()?,
            Self::Copy(call) => copy::run(&call).await?,
            Self::Verify(call) if !verify::run(&call).await? => return Ok(ExitCode::FAILURE),
            Self::Verify(_) => {}
            Self::PrintConfig(config) => print(&config.to_string())?,
            Self::Completions(shell) => completions::run(shell, command())?,
            Self::Man(folder) => man::run(folder.as_deref(), command())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An event-sourced order service: gRPC and REST on one port
#[derive(Parser)]
#[command(
    name = "ordersystem",
    version,
    override_usage = "ordersystem [OPTIONS] [COMMAND]",
    after_help = "Run `ordersystem --help` for all settings and examples, `ordersystem COMMAND --help` for those of a command.",
    after_long_help = serve::EXAMPLES
)]
struct CommandLine {
    #[command(flatten)]
    settings: SettingFlags<OfNode>,
    #[command(subcommand)]
    command: Option<CommandArgs>,
}

#[derive(Subcommand)]
enum CommandArgs {
    Serve(serve::ServeArgs),
    Config(config::ConfigArgs),
    #[command(flatten)]
    Tool(Box<ToolArgs>),
}

/// The commands that neither run a node nor accept node settings before their names.
#[derive(Subcommand)]
enum ToolArgs {
    Health(health::HealthArgs),
    DeadLetters(dead_letters::DeadLettersArgs),
    Projections(projections::ProjectionsArgs),
    LogLevel(log_level::LogLevelArgs),
    Keys(keys::KeysArgs),
    Backup(backup::BackupArgs),
    Copy(copy::CopyFlags),
    Verify(verify::VerifyFlags),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Parses the command line, starting with the program's name, together with the environment.
///
/// # Errors
/// See [`CliError`].
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: impl IntoIterator<Item = Variable>,
) -> Result<Invocation, CliError> {
    let matches = command().try_get_matches_from(args)?;
    let CommandLine { settings, command } = CommandLine::from_arg_matches(&matches)?;
    let before = settings.values;
    let load = |flags, env| Ok::<_, CliError>(Box::new(Config::load(&flags, env)?));
    match command {
        None => Ok(Invocation::Serve(load(before, env)?)),
        Some(CommandArgs::Serve(args)) => Ok(Invocation::Serve(load(before.and(args.settings.values)?, env)?)),
        Some(CommandArgs::Config(args)) => Ok(Invocation::PrintConfig(load(before.and(args.settings.values)?, env)?)),
        Some(CommandArgs::Tool(args)) => match before.first() {
            Some(given) => Err(misplaced(given, &matches)),
            None => args.call(env.into_iter().collect()),
        },
    }
}

impl ToolArgs {
    fn call(self, env: Vec<Variable>) -> Result<Invocation, CliError> {
        Ok(match self {
            Self::Health(args) => Invocation::Health(args.call(env)?),
            Self::DeadLetters(args) => Invocation::DeadLetters(args.call(env)?),
            Self::Projections(args) => Invocation::RebuildProjections(args.call(env)?),
            Self::LogLevel(args) => Invocation::LogLevel(args.call(env)?),
            Self::Keys(args) => Invocation::NewKey(args.call()?),
            Self::Backup(args) => Invocation::Backup(args.call(env)?),
            Self::Copy(args) => Invocation::Copy(args.call(&env)?),
            Self::Verify(args) => Invocation::Verify(args.call(&env)?),
            Self::Completions(args) => Invocation::Completions(args.call()),
            Self::Man(args) => Invocation::Man(args.call()),
        })
    }
}

/// The error for a setting before a command to which it does not apply.
fn misplaced(given: &str, matches: &ArgMatches) -> CliError {
    let (mut definition, mut matches, mut line) = (command(), matches, "ordersystem".to_owned());
    while let Some((name, below)) = matches.subcommand() {
        line = format!("{line} {name}");
        definition = definition.find_subcommand(name).cloned().unwrap_or_default();
        matches = below;
    }
    CliError::Usage(if definition.get_arguments().any(|argument| argument.get_id() == given) {
        format!("--{given} belongs after the command: {line} --{given} ...")
    } else {
        format!("--{given} is a node setting; {line} does not accept it")
    })
}

/// The whole command line, for parsing, completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    CommandLine::command()
}

#[cfg(test)]
mod tests;
