//! Operator commands for a running node: `ordersystem dead-letters`, `ordersystem projections`.

mod rebuild;

use std::{error::Error, fmt::Write as _, io::Write as _, time::Duration};

use serde::Serialize;
use tonic::{Request, transport::Channel};

pub use rebuild::{RebuildCall, rebuild_projections};

use super::node_client::Target;
use crate::server::{MAX_DEAD_LETTERS_PER_CALL, MAX_PAGE_SIZE, rest::time::Rfc3339};
use crate::{
    codec::timestamp_from_proto,
    ports::message_bus::EventId,
    proto::catga::system::v1::{
        DeadLetter, DiscardDeadLettersRequest, ListDeadLettersRequest, ReplayDeadLettersRequest,
        admin_service_client::AdminServiceClient,
    },
};

type Failure = Box<dyn Error + Send + Sync>;

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

/// Runs the command, and prints the result to standard output.
///
/// # Errors
/// One line: the node is unreachable, it refused, or some of the named events were missing.
pub async fn run(call: DeadLetterCall) -> Result<(), Failure> {
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
    client: AdminServiceClient<Channel>,
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
        let text = if json { json_lines(&letters)? } else { table(&letters) };
        match std::io::stdout().write_all(text.as_bytes()) {
            // The reader has closed the pipe (e.g. `| head`).
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => Ok(written?),
        }
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
        println!("{done}: {count}");
        if usize::try_from(count).is_ok_and(|count| count >= named) {
            return Ok(());
        }
        Err(format!("{} has no dead letters of the other events that were named", self.handler).into())
    }
}

/// The events in chunks of the maximum size of a call; one empty chunk if there are none.
fn parts(events: &[EventId]) -> Vec<Vec<String>> {
    if events.is_empty() {
        return vec![Vec::new()];
    }
    events.chunks(MAX_DEAD_LETTERS_PER_CALL).map(|part| part.iter().map(EventId::to_string).collect()).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LetterLine<'a> {
    event_id: &'a str,
    r#type: &'a str,
    order_id: &'a str,
    revision: i64,
    attempts: i32,
    dead_lettered_at: Option<Rfc3339>,
    reason: &'a str,
}

fn json_lines(letters: &[DeadLetter]) -> serde_json::Result<String> {
    let mut text = String::new();
    for letter in letters {
        let line = LetterLine {
            event_id: &letter.event_id,
            r#type: &letter.r#type,
            order_id: &letter.order_id,
            revision: letter.revision,
            attempts: letter.attempts,
            dead_lettered_at: at(letter),
            reason: &letter.reason,
        };
        text.push_str(&serde_json::to_string(&line)?);
        text.push('\n');
    }
    Ok(text)
}

fn at(letter: &DeadLetter) -> Option<Rfc3339> {
    letter.dead_lettered_at.as_ref().and_then(timestamp_from_proto).map(Rfc3339)
}

/// Columns as wide as their content; the reason last, since its length varies most.
fn table(letters: &[DeadLetter]) -> String {
    let head = ["EVENT ID", "KIND", "ORDER", "ATTEMPTS", "TIME", "REASON"].map(str::to_owned);
    let rows = letters.iter().map(|letter| {
        let time = at(letter).map(|at| at.to_string()).unwrap_or_default();
        let texts =
            [&letter.event_id, &letter.r#type, &letter.order_id, &letter.attempts.to_string(), &time, &letter.reason];
        texts.map(|text| printable(text))
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<_> = (0..5).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.push_str(&row[5]);
        text.push('\n');
    }
    text
}

/// One line without terminal control sequences: a reason may quote any input of the handler.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_letter_and_nothing_that_moves_a_cursor() {
        let letter = |event_id: &str, reason: &str| DeadLetter {
            event_id: event_id.to_owned(),
            order_id: "7".to_owned(),
            r#type: "OrderPaid".to_owned(),
            attempts: 3,
            dead_lettered_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            reason: reason.to_owned(),
            ..DeadLetter::default()
        };
        let text = table(&[letter("7-1", "no\nstock \u{1b}[2J"), letter("7-10000", "x")]);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "EVENT ID  KIND       ORDER  ATTEMPTS  TIME                  REASON");
        assert_eq!(lines[1], "7-1       OrderPaid  7      3         2023-11-14T22:13:20Z  no stock  [2J");
        assert_eq!(lines.len(), 3);
    }
}
