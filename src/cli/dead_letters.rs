//! `ordersystem dead-letters`.

mod text;

use std::time::Duration;

use clap::{Args, Subcommand, value_parser};
use tonic::Request;

use super::{
    error::{CliError, Failure},
    node_client::{NodeChannel, Target},
    output::print,
    target::{MAX_TIMEOUT_MS, TargetArgs},
};
use crate::{
    config::Variable,
    ports::message_bus::EventId,
    proto::catga::system::v1::{
        DiscardDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
        admin_service_client::AdminServiceClient,
    },
    server::{MAX_DEAD_LETTERS_PER_CALL, MAX_PAGE_SIZE},
};
use text::{json_lines, table};

const EXAMPLES: &str = "\
An event becomes a dead letter when a handler has failed on it --consumer-max-attempts times.

Examples:
  ordersystem dead-letters list order-event-logger
  ordersystem dead-letters replay order-event-logger --all
  ordersystem dead-letters discard order-event-logger 7-1 7-2
  ordersystem dead-letters list order-event-logger --token-file operator.key      where callers are identified

Exit codes: 0 for success; 1 for a failure, an unknown handler, or named events that were not all found; 2 for a usage error.";

/// List, replay or discard the dead letters of an event handler
#[derive(Args)]
#[command(after_long_help = EXAMPLES, arg_required_else_help = false)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    action: ActionArgs,
}

#[derive(Subcommand)]
enum ActionArgs {
    /// Print the dead letters of a handler, the oldest first
    #[command(after_long_help = EXAMPLES)]
    List {
        #[command(flatten)]
        of: HandlerArgs,
        /// Print one JSON object per line instead of a table
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Deliver dead letters to the handler again
    #[command(
        after_long_help = EXAMPLES,
        override_usage = "ordersystem dead-letters replay [OPTIONS] <HANDLER> <EVENT_ID... | --all>"
    )]
    Replay(SelectedArgs),
    /// Permanently discard dead letters; their events stay in the log
    #[command(
        after_long_help = EXAMPLES,
        override_usage = "ordersystem dead-letters discard [OPTIONS] <HANDLER> <EVENT_ID... | --all>"
    )]
    Discard(SelectedArgs),
}

// Not a doc comment, which would replace the descriptions of the commands.
#[derive(Args)]
struct SelectedArgs {
    #[command(flatten)]
    of: HandlerArgs,
    #[command(flatten)]
    which: Selection,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Args)]
struct HandlerArgs {
    /// Name of the handler, such as order-event-logger
    #[arg(value_name = "HANDLER")]
    handler: String,
    /// Time limit of each call, ms
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = value_parser!(u64).range(1..=MAX_TIMEOUT_MS))]
    timeout_ms: u64,
}

#[derive(Args)]
#[group(id = "which", required = true, multiple = false)]
struct Selection {
    /// Events, as list shows them
    #[arg(value_name = "EVENT_ID")]
    event: Vec<EventId>,
    /// All dead letters that there are now, instead of named ones
    #[arg(long)]
    all: bool,
}

/// A command on dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterCall {
    /// The node.
    pub target: Target,
    /// The timeout of each call.
    pub timeout_ms: u64,
    /// The handler with the dead letters.
    pub handler: String,
    /// The action.
    pub action: Action,
}

/// An action on dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Print them.
    List {
        /// As JSON, one object per line.
        json: bool,
    },
    /// Redeliver these; all, if none is named.
    Replay(Vec<EventId>),
    /// Permanently discard these; all, if none is named.
    Discard(Vec<EventId>),
}

impl DeadLettersArgs {
    pub(super) fn call(self, env: Vec<Variable>) -> Result<DeadLetterCall, CliError> {
        let (HandlerArgs { handler, timeout_ms }, target, action) = match self.action {
            ActionArgs::List { of, json, target } => (of, target, Action::List { json }),
            ActionArgs::Replay(SelectedArgs { of, which, target }) => (of, target, Action::Replay(which.event)),
            ActionArgs::Discard(SelectedArgs { of, which, target }) => (of, target, Action::Discard(which.event)),
        };
        Ok(DeadLetterCall { target: target.target(env)?, timeout_ms, handler, action })
    }
}

/// Runs the command, and prints the result to standard output.
///
/// # Errors
/// One line: the node is unreachable, it refused, or some of the named events were missing.
pub(super) async fn run(call: DeadLetterCall) -> Result<(), Failure> {
    let DeadLetterCall { target, timeout_ms, handler, action } = call;
    let timeout = Duration::from_millis(timeout_ms);
    let client = AdminServiceClient::new(target.connect(timeout).await?);
    let mut node = Node { client, timeout, target, handler };
    match action {
        Action::List { json } => node.list(json).await,
        Action::Replay(events) => node.replay(&events).await,
        Action::Discard(events) => node.discard(&events).await,
    }
}

struct Node {
    client: AdminServiceClient<NodeChannel>,
    timeout: Duration,
    target: Target,
    handler: String,
}

impl Node {
    /// The message with the timeout of the call.
    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// The node's reply, or a description of the failure.
    async fn answer<T>(&self, answer: Result<tonic::Response<T>, tonic::Status>) -> Result<T, Failure> {
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(self.target.why_failed(&status, self.timeout).await.into()),
        }
    }

    async fn list(&mut self, json: bool) -> Result<(), Failure> {
        let mut letters = Vec::new();
        let mut page_token = String::new();
        loop {
            let page_size = i32::try_from(MAX_PAGE_SIZE).unwrap_or(i32::MAX);
            let request = self.request(ListDeadLettersRequest { handler: self.handler.clone(), page_size, page_token });
            let page = self.client.list_dead_letters(request).await;
            let page = self.answer(page).await?;
            letters.extend(page.dead_letters);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        Ok(print(&if json { json_lines(&letters)? } else { table(&letters) })?)
    }

    async fn replay(&mut self, events: &[EventId]) -> Result<(), Failure> {
        let mut replayed = 0;
        for event_ids in parts(events) {
            let (handler, all) = (self.handler.clone(), event_ids.is_empty());
            let request = self.request(ReplayDeadLettersRequest { handler, event_ids, all });
            let reply = self.client.replay_dead_letters(request).await;
            replayed += self.answer(reply).await?.replayed;
        }
        self.conclude("replayed", replayed, events.len())
    }

    async fn discard(&mut self, events: &[EventId]) -> Result<(), Failure> {
        let mut discarded = 0;
        for event_ids in parts(events) {
            let (handler, all) = (self.handler.clone(), event_ids.is_empty());
            let request = self.request(DiscardDeadLettersRequest { handler, event_ids, all });
            let reply = self.client.discard_dead_letters(request).await;
            discarded += self.answer(reply).await?.discarded;
        }
        self.conclude("discarded", discarded, events.len())
    }

    fn conclude(&self, done: &str, count: i32, named: usize) -> Result<(), Failure> {
        print(&format!("{done}: {count}\n"))?;
        if usize::try_from(count).is_ok_and(|count| count >= named) {
            return Ok(());
        }
        Err(format!("{} has no dead letters for the other named events", self.handler).into())
    }
}

/// The events in chunks of the maximum size of a call; one empty chunk if there are none.
fn parts(events: &[EventId]) -> Vec<Vec<String>> {
    if events.is_empty() {
        return vec![Vec::new()];
    }
    events.chunks(MAX_DEAD_LETTERS_PER_CALL).map(|part| part.iter().map(EventId::to_string).collect()).collect()
}
