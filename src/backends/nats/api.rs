//! Requests to JetStream: each has one of a few outcomes, and nothing is retried here.

use std::time::Duration;

use async_nats::{HeaderMap, Message, Request, client::RequestErrorKind, header};
use bytes::Bytes;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, timeout, timeout_at};

use super::connection::Nats;
use crate::ports::io_errors;

/// JetStream's error numbers, as in its `errors.json`.
pub(super) mod code {
    /// No servers for a stream: too few, or not all of them available (yet).
    pub(crate) const NO_PEERS: u64 = 10_005;
    /// There is no such message.
    pub(crate) const NO_MESSAGE: u64 = 10_037;
    /// JetStream is not enabled for the account.
    pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10_039;
    /// A stream of this name exists with other settings.
    pub(crate) const STREAM_NAME_IN_USE: u64 = 10_058;
    /// Another stream has these subjects; also reported while another node creates the same stream.
    pub(crate) const SUBJECTS_OVERLAP: u64 = 10_065;
    /// There is no such stream.
    pub(crate) const STREAM_NOT_FOUND: u64 = 10_059;
    /// The settings of a stream are invalid.
    pub(crate) const INVALID_SETTINGS: u64 = 10_052;
    /// Replicas were requested from a server that is not in a cluster.
    pub(crate) const NO_CLUSTER: u64 = 10_074;
    /// JetStream is not enabled at all.
    pub(crate) const NOT_ENABLED: u64 = 10_076;
    /// The condition of a publish does not hold.
    pub(crate) const WRONG_LAST_SEQUENCE: u64 = 10_071;
    /// No space: of the account, of the server, for storage, for memory.
    pub(crate) const NO_SPACE: [u64; 4] = [10_002, 10_023, 10_047, 10_028];
    /// A message with this id is in flight.
    pub(crate) const ID_IN_FLIGHT: u64 = 10_158;
    /// A conditional publish to the same subject, or one with the same id, is in flight: nothing was decided, retry in a moment.
    pub(crate) const UNDECIDED: [u64; 2] = [ID_IN_FLIGHT, 10_164];
    /// The message is larger than the stream takes.
    pub(crate) const MESSAGE_TOO_LARGE: u64 = 10_054;
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// Nothing was sent, or no server received it.
    #[error("{0}")]
    NotSent(String),
    /// The reply did not come, or was inconclusive: the request may have been executed, or may still be.
    #[error("{0}")]
    Lost(String),
    /// JetStream replied with an error: the request was not executed.
    #[error("{text}")]
    Refused {
        /// The status, as in HTTP.
        status: u64,
        /// JetStream's number for the error.
        code: u64,
        /// The human-readable error.
        text: String,
    },
    /// Another publish to the same subject, or an earlier one of this message, is in flight, so the condition was not checked: retry in a moment.
    #[error("{0}")]
    UnderWay(String),
    /// The message is larger than the server accepts, and was not sent.
    #[error("{0}")]
    TooLarge(String),
    /// The user may not send it, and NATS has delivered it to no one: nothing was executed.
    #[error("{0}")]
    Forbidden(String),
}

impl CallError {
    /// Whether the condition of a publish did not hold.
    pub(super) fn is_wrong_sequence(&self) -> bool {
        self.is(code::WRONG_LAST_SEQUENCE)
    }

    /// Whether there is no space.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused { code, text, .. } if is_full(*code, text))
    }

    /// Whether the error may be temporary.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Refused { status, code, .. } => passes(*status, *code),
            Self::TooLarge(_) | Self::Forbidden(_) => false,
            Self::NotSent(_) | Self::Lost(_) | Self::UnderWay(_) => true,
        }
    }

    /// The same with the address of the server.
    fn at(self, nats: &Nats) -> Self {
        match self {
            Self::NotSent(why) => Self::NotSent(nats.named(why)),
            Self::Lost(why) => Self::Lost(nats.named(why)),
            Self::UnderWay(why) => Self::UnderWay(nats.named(why)),
            other => other,
        }
    }

    /// Whether it is an error with this number.
    pub(super) fn is(&self, number: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == number)
    }
}

/// The error in a JetStream reply.
#[derive(Debug, Deserialize)]
struct ApiError {
    #[serde(default)]
    code: u64,
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    error: Option<ApiError>,
}

/// The acknowledgement of a stored message.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PublishAck {
    /// The sequence of the message.
    pub seq: u64,
    /// Whether it was stored by an earlier publish with its id. The leader decides this alone, without asking the other replicas.
    #[serde(default)]
    pub duplicate: bool,
}

/// One message of a stream.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub subject: String,
    pub sequence: u64,
    pub payload: Bytes,
}

#[derive(Debug, Deserialize)]
struct MessageAnswer {
    message: MessageJson,
}

#[derive(Debug, Deserialize)]
struct MessageJson {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
}

/// Selects a message of a stream.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Which<'a> {
    /// This sequence; with `next_by_subj` it or the first after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The last message with this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_by_subj: Option<&'a str>,
    /// The next message with this subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_by_subj: Option<&'a str>,
}

impl Nats {
    /// Calls JetStream's API; `what` is the subject after `$JS.API.`.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn ask<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize) -> Result<T, CallError> {
        self.ask_within(what, body, self.options().request_timeout).await
    }

    /// Like [`Nats::ask`], with `most` as the maximum time for the reply.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn ask_within<T: DeserializeOwned>(
        &self,
        what: &str,
        body: &impl Serialize,
        most: Duration,
    ) -> Result<T, CallError> {
        let body = serde_json::to_vec(body).map_err(|error| CallError::NotSent(error.to_string()))?;
        let request = Request::new().payload(body.into()).timeout(Some(most));
        let answer = self.request(format!("$JS.API.{what}"), request, most).await?;
        read_answer(&answer.payload).map_err(|error| error.at(self))
    }

    /// Publishes to the stream that takes `subject`, and returns the sequence of the message: that of the first try for a message with an id that the
    /// stream still remembers.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn store(&self, subject: String, headers: HeaderMap, payload: Bytes) -> Result<u64, CallError> {
        self.publish(subject, headers, payload).await.map(|ack| ack.seq)
    }

    /// Like [`Nats::store`], with the whole acknowledgement.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<PublishAck, CallError> {
        let request = Request::new().headers(headers).payload(payload);
        let answer = self.request(subject, request, self.options().request_timeout).await?;
        read_answer(&answer.payload).map_err(|error| error.at(self))
    }

    /// One message of `stream`, read from its leader.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn message(&self, stream: &str, which: Which<'_>) -> Result<Option<Stored>, CallError> {
        let MessageAnswer { message } = match self.ask(&format!("STREAM.MSG.GET.{stream}"), &which).await {
            Err(error) if error.is(code::NO_MESSAGE) => return Ok(None),
            answer => answer?,
        };
        let payload = BASE64
            .decode(message.data.as_bytes())
            .map_err(|_| CallError::Lost("a message has an unexpected encoding".to_owned()).at(self))?;
        Ok(Some(Stored { subject: message.subject, sequence: message.seq, payload: payload.into() }))
    }

    async fn request(&self, subject: String, request: Request, most: Duration) -> Result<Message, CallError> {
        if !self.is_connected() {
            return Err(CallError::NotSent(self.failure().unwrap_or_else(|| self.named("not connected"))));
        }
        let asked_at = Instant::now();
        // A timeout here as well: the client waits for a slot in its queue without a limit.
        let answer = timeout(most + Duration::from_millis(100), self.client().send_request(subject.clone(), request));
        let answer = tokio::select! {
            answer = answer => answer,
            refused = self.forbidden().publish_to(&subject, asked_at) => return Err(CallError::Forbidden(refused)),
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(match error.kind() {
                RequestErrorKind::NoResponders => CallError::NotSent(self.named(NO_STREAM)),
                RequestErrorKind::InvalidSubject => CallError::NotSent(self.named(error.to_string())),
                RequestErrorKind::MaxPayloadExceeded => CallError::TooLarge(error.to_string()),
                RequestErrorKind::TimedOut => self.no_answer(asked_at, format!("no answer within {most:?}")),
                RequestErrorKind::Other => self.no_answer(asked_at, in_words(&error)),
            }),
            Err(_) => Err(self.no_answer(asked_at, format!("no answer within {most:?}"))),
        }
    }
}

impl Nats {
    /// The reason for a missing reply: a reply that the user may not receive never comes.
    fn no_answer(&self, asked_at: Instant, why: String) -> CallError {
        let forbidden = self.forbidden().subscription().or_else(|| self.forbidden().since(asked_at));
        CallError::Lost(self.named(forbidden.unwrap_or(why)))
    }

    /// Whether a publish to `subject` would be decided: the server that decides all publishes refuses one whose condition cannot hold before it
    /// proposes it to others. Nothing is stored.
    ///
    /// # Errors
    /// The reason why not.
    pub(super) async fn probe(&self, subject: String, deadline: Instant) -> Result<(), CallError> {
        match timeout_at(deadline, self.store(subject.clone(), only_after(u64::from(u32::MAX)), "probe".into())).await {
            // Another probe may be in flight.
            Ok(Err(error)) if error.is_wrong_sequence() || matches!(error, CallError::UnderWay(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Ok(Ok(sequence)) => {
                Err(CallError::Lost(format!("message {sequence} was stored although its condition could not hold")))
            }
            Err(_) => {
                let forbidden = self.forbidden().subscription();
                Err(CallError::Lost(self.named(forbidden.unwrap_or_else(|| "no answer in time".to_owned()))))
            }
        }
    }
}

/// What it means that no server takes a message.
const NO_STREAM: &str = "no stream accepts it: there is none, or it has no leader";
/// What JetStream says where the servers of a stream, or of JetStream itself, have no leader.
const NO_LEADER: &str = "JetStream system temporarily unavailable";

/// An error of the client library with its cause, in plain words.
pub(super) fn in_words(error: &dyn std::error::Error) -> String {
    jetstream_words(&with_sources(error))
}

fn with_sources(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => {
            format!("{error}: {}", with_sources(source))
        }
        _ => error.to_string(),
    }
}

/// What the client library or JetStream says, in plain words.
pub(super) fn jetstream_words(said: &str) -> String {
    if said.to_ascii_lowercase().contains("no responders") {
        return NO_STREAM.to_owned();
    }
    let said = said.rsplit("etstream error: ").next().unwrap_or(said).rsplit("etStream error: ").next().unwrap_or(said);
    let said = said.split(" (code ").next().unwrap_or(said);
    if said.contains(NO_LEADER) {
        return format!("{said}: its servers have no quorum, or are electing a leader");
    }
    io_errors::plainly(said)
}

fn read_answer<T: DeserializeOwned>(payload: &[u8]) -> Result<T, CallError> {
    let unreadable = |error: serde_json::Error| CallError::Lost(format!("JetStream's answer cannot be read: {error}"));
    // Check for an error first: an error reply may hold the other fields as well, without meaning.
    let Refusal { error } = serde_json::from_slice(payload).map_err(unreadable)?;
    match error {
        None => serde_json::from_slice(payload).map_err(unreadable),
        Some(error) if code::UNDECIDED.contains(&error.err_code) => Err(CallError::UnderWay(error.description)),
        Some(error) if error.is_passing() => Err(CallError::Lost(jetstream_words(&error.description))),
        Some(error) if error.err_code == code::MESSAGE_TOO_LARGE => Err(CallError::TooLarge(error.description)),
        Some(error) => Err(CallError::Refused { status: error.code, code: error.err_code, text: error.description }),
    }
}

impl ApiError {
    /// Whether it does not reveal the outcome of the request: a leader is being elected.
    fn is_passing(&self) -> bool {
        let is_answer = is_full(self.err_code, &self.description)
            || [code::NOT_ENABLED, code::NOT_ENABLED_FOR_ACCOUNT].contains(&self.err_code);
        self.code == 503 && !is_answer
    }
}

/// Whether an error reports a lack of space: by its number, or as the cause of a message that could not be stored (10077), as when a stream has
/// reached its own bounds.
fn is_full(number: u64, text: &str) -> bool {
    let says = |what: &str| text.contains(what);
    code::NO_SPACE.contains(&number) || says("maximum bytes") || says("maximum messages") || says("no space left")
}

/// Whether a refusal with this status and number is temporary. A 4xx status means that the request is wrong and stays wrong; a 5xx status concerns
/// the servers, such as no leader, no quorum, or a server that is just starting.
pub(super) fn passes(status: u64, number: u64) -> bool {
    let is_settled = [code::INVALID_SETTINGS, code::NO_CLUSTER].contains(&number);
    let awaits_servers = number == code::NO_PEERS || code::NO_SPACE.contains(&number);
    awaits_servers || (status >= 500 && !is_settled)
}

/// The headers of a message that is stored only if the last one with its subject has the sequence `last`.
pub(super) fn only_after(last: u64) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, last.to_string());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_servers_are_temporary_and_those_of_the_request_are_permanent() {
        for (status, number, may_pass) in [
            (400, 10_005, true),
            (503, 10_008, true),
            (500, 10_009, true),
            (503, 10_023, true),
            (500, 10_047, true),
            (500, 10_118, true),
            (400, 10_002, true),
            (500, 10_052, false),
            (500, 10_074, false),
            (400, 10_027, false),
            (400, 10_065, false),
        ] {
            assert_eq!(passes(status, number), may_pass, "{number}");
        }
    }
}
