//! `ordersystem dead-letters`: the definition of its command line.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};

use super::{CliError, Invocation, asking_args, target, timeout_of};
use crate::cli::operator::{Action, DeadLetterCall};
use crate::ports::message_bus::EventId;

pub(super) fn command() -> Command {
    let list = Command::new("list")
        .about("Print them, the oldest first")
        .arg(handler())
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("A JSON object a line instead of a table"));
    let replay = Command::new("replay").about("Hand them to the handler once more");
    let discard = Command::new("discard").about("Drop them for good; the events stay in the log");
    let of_events = |command: Command| {
        let events =
            Arg::new("event").value_name("EVENT_ID").num_args(1..).value_parser(|text: &str| text.parse::<EventId>());
        let all = Arg::new("all").long("all").action(ArgAction::SetTrue);
        command
            .arg(handler())
            .arg(events.help("Which ones, as list shows them"))
            .arg(all.help("All that there are now"))
            .group(ArgGroup::new("which").args(["event", "all"]).required(true))
    };
    Command::new("dead-letters")
        .about("Events that a handler of a running service gave up: list, replay or discard them")
        .after_help(
            "Exit code 0: done; 1: failed, no such handler, or not all of the named events were there; 2: wrong usage.",
        )
        .subcommand_required(true)
        .subcommands([list, of_events(replay), of_events(discard)].map(|command| command.args(asking_args())))
}

fn handler() -> Arg {
    Arg::new("handler").value_name("HANDLER").required(true).help("The name of the handler, such as order-event-logger")
}

pub(super) fn parse(
    matches: &ArgMatches,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, CliError> {
    // clap guarantees a subcommand.
    let Some((name, matches)) = matches.subcommand() else {
        return Err(CliError::Usage("dead-letters needs list, replay or discard".to_owned()));
    };
    let events = || matches.get_many::<EventId>("event").map(|events| events.copied().collect()).unwrap_or_default();
    let action = match name {
        "list" => Action::List { json: matches.get_flag("json") },
        "replay" => Action::Replay(events()),
        _ => Action::Discard(events()),
    };
    Ok(Invocation::DeadLetters(DeadLetterCall {
        target: target(matches, env)?,
        timeout_ms: timeout_of(matches),
        handler: matches.get_one::<String>("handler").cloned().unwrap_or_default(),
        action,
    }))
}
