//! `ordersystem projections`: the definition of its command line.

use std::ffi::OsString;

use clap::{ArgMatches, Command};

use super::{CliError, Invocation, asking_args, target, timeout_of};
use crate::cli::operator::RebuildCall;

/// The default timeout for the node and for each progress message, in milliseconds. The node sends one every half second.
const TIMEOUT_MS: &str = "10000";

pub(super) fn command() -> Command {
    let arguments = asking_args().into_iter().map(|arg| match arg.get_id() == "timeout-ms" {
        true => arg.default_value(TIMEOUT_MS).help("How long to wait for the service, and for each news of it, ms"),
        false => arg,
    });
    let rebuild = Command::new("rebuild")
        .about("Build the list of orders and its totals anew from the log; the old ones serve until then")
        .after_help("The rebuild goes on in the service if this command is ended.\nExit code 0: done; 1: failed; 2: wrong usage.")
        .args(arguments);
    Command::new("projections")
        .about("What a running service derives from the log: build it anew")
        .subcommand_required(true)
        .subcommand(rebuild)
}

pub(super) fn parse(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, CliError> {
    // clap guarantees a subcommand, and there is only one.
    let Some((_, matches)) = matches.subcommand() else {
        return Err(CliError::Usage("projections needs rebuild".to_owned()));
    };
    Ok(Invocation::RebuildProjections(RebuildCall { target: target(matches, env)?, timeout_ms: timeout_of(matches) }))
}
