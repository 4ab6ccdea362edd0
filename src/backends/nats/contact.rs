//! The state of the connection to NATS according to the events of the client library; logs failures and denials, each once.

use std::{sync::Arc, time::Duration};

use async_nats::{Event, Server};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{address::address, permissions::Forbidden, stranger};
use crate::ports::server_name::ServerName;

/// How often it is logged that NATS is still unreachable.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// The state of the connection.
#[derive(Debug)]
pub(super) struct Contact {
    talk: Mutex<Talk>,
    pub server: ServerName,
    pub forbidden: Forbidden,
}

/// Why connecting fails, and when that was last logged.
#[derive(Debug)]
pub(super) struct Talk {
    /// When the last connection was lost, or the first one was begun.
    pub down_since: Instant,
    /// Whether connecting to every server has failed since.
    pub all_failed: bool,
    /// Why the last try failed; `None` while connected.
    pub failure: Option<String>,
    /// The failures of the individual servers at the last attempt, with their addresses.
    pub attempts: Option<String>,
    /// When the failure was last logged; `None` if it was not, or is over.
    pub said_at: Option<Instant>,
    /// Since when the server has reported no JetStream for this account.
    pub lacks_jetstream_since: Option<Instant>,
}

impl Default for Talk {
    fn default() -> Self {
        let (failure, attempts, said_at, lacks_jetstream_since) = (None, None, None, None);
        Self { down_since: Instant::now(), all_failed: false, failure, attempts, said_at, lacks_jetstream_since }
    }
}

impl Contact {
    pub(super) fn new(prefix: &str, server: ServerName) -> Self {
        Self { talk: Mutex::default(), server, forbidden: Forbidden::new(prefix) }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Talk) -> T) -> T {
        work(&mut self.talk.lock())
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.with(|talk| talk.failure.clone())
    }

    pub(super) fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                let was_down = self.with(|talk| {
                    (talk.failure, talk.attempts, talk.lacks_jetstream_since, talk.all_failed) =
                        (None, None, None, false);
                    talk.said_at.take().is_some()
                });
                if was_down {
                    tracing::info!(server = self.server.address(), "NATS is reachable again");
                }
            }
            Event::Disconnected => {
                self.forbidden.forget_subscriptions();
                self.with(|talk| talk.down_since = Instant::now());
                self.fails("the connection was lost".to_owned());
            }
            Event::ServerError(error) if is_forbidden(&error.to_string()) => self.forbidden(&error.to_string()),
            Event::ServerError(error) => self.fails(stranger::in_words(&error.to_string())),
            // The error has no cause unless it is a denial, which is logged with the next attempt.
            Event::ClientError(error) => {
                let why = self.with(|talk| talk.attempts.clone());
                let said = error.to_string();
                self.fails(why.filter(|_| !is_denial(&said)).unwrap_or_else(|| stranger::in_words(&said)));
            }
            _ => {}
        }
    }

    /// Records and logs an operation that this user may not do: a denied request gets no reply.
    fn forbidden(&self, said: &str) {
        if let Some(what) = self.forbidden.note(said, LOG_INTERVAL) {
            let server = self.server.address();
            tracing::error!(server, what, "the NATS user lacks permissions that the service needs");
        }
    }

    /// Logs that NATS is unreachable, unless that was logged a moment ago.
    fn fails(&self, why: String) {
        let why = self.server.named(why);
        let is_to_be_said = self.with(|talk| {
            talk.failure = Some(why.clone());
            // The loss of a connection is not worth a log line: its consequence is.
            let is_due = talk.attempts.is_some() && talk.is_due();
            if is_due {
                talk.said_at = Some(Instant::now());
            }
            is_due
        });
        if is_to_be_said {
            tracing::warn!(why, "NATS is unreachable; retrying");
        }
    }
}

/// Records the result of the last attempt at each server.
pub(super) fn attempts(contact: &Arc<Contact>, servers: &[Server]) {
    let failed = |server: &Server| Some((address(&server.addr), server.last_error.clone()?));
    let failed: Vec<_> = servers.iter().filter_map(failed).collect();
    if failed.is_empty() {
        return;
    }
    let all_failed = failed.len() == servers.len();
    let contact = Arc::clone(contact);
    let is_due = contact.with(Talk::is_due);
    // In a separate task: the library waits for this callback.
    tokio::spawn(async move {
        let mut all = Vec::new();
        for (address, why) in failed {
            let why = if is_due && stranger::is_silence(&why) {
                stranger::who_is_at(&address).await
            } else {
                stranger::in_words(&why)
            };
            all.push(format!("{address}: {why}"));
        }
        let all = all.join("; ");
        let is_down = contact.with(|talk| {
            // The earlier finding is more specific.
            if is_due || talk.attempts.is_none() {
                talk.attempts = Some(all.clone());
            }
            talk.all_failed |= all_failed;
            talk.failure.is_some()
        });
        if is_down {
            contact.fails(contact.with(|talk| talk.attempts.clone()).unwrap_or(all));
        }
    });
}

impl Talk {
    /// Whether it is time to log that NATS is unreachable.
    fn is_due(&mut self) -> bool {
        self.said_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL)
    }
}

/// Whether the server accepts the login and denies an operation.
fn is_forbidden(why: &str) -> bool {
    why.to_ascii_lowercase().contains("permissions violation")
}

/// Whether the server knows the user and denies the login.
pub(super) fn is_denial(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    // A busy server reports an authentication timeout to a client that was slow to log in.
    let was_slow = why.contains("authentication timeout");
    !was_slow && (why.contains("authorization") || why.contains("authentication") || why.contains("signing nonce"))
}
