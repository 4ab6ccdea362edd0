//! Reads a stream from a sequence on, in order and without gaps, many messages with one request.
//!
//! It uses an ephemeral pull consumer without acknowledgements, created and removed by this node. A consumer is NATS's word for a position in a
//! stream. It keeps only that position, in memory; NATS removes it when it has been idle for a while, or when its server restarts. The server numbers
//! its deliveries: a missing number means that one was lost on the way. After any error the reader must no longer be used: its owner opens another at
//! the same position.

use std::{collections::VecDeque, time::Duration};

use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{api::CallError, connection::Nats};

/// A consumer that is idle for this long is removed by NATS.
const INACTIVE: Duration = Duration::from_secs(30);
/// A pull ends before it exceeds this many bytes, unless one message is larger.
const PULL_BYTES: usize = 8 * 1024 * 1024;
/// The maximum size of a message in addition to its payload.
const AROUND: usize = 64 * 1024;

/// The prefix of the names of our consumers: if a list names a consumer without its state, it is still recognized as a reader.
const NAMES: &str = "ordersystem-reader-";
/// How often the removal of one is tried, and the pause between two tries: a leader may have to be elected first.
const REMOVE_TRIES: usize = 15;
const REMOVE_PAUSE: Duration = Duration::from_secs(1);

/// For this long a new consumer may be unknown to the server that is asked: 5 % of those of a cluster are not known at once.
const NEW_FOR: Duration = Duration::from_secs(2);
/// The pause before the request is repeated.
const NEW_PAUSE: Duration = Duration::from_millis(20);
/// How often to check, while nothing is delivered, that the connection is still the same.
const CONNECTION_CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// A unique name for a reader.
pub(super) fn fresh_name() -> String {
    format!("{NAMES}{:032x}", fastrand::u128(..))
}

/// Whether the consumer of this name is a reader.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(NAMES)
}

/// The messages that a reader delivers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Selection<'a> {
    /// The stream.
    pub stream: &'a str,
    /// Only messages with this subject.
    pub filter: Option<&'a str>,
    /// The first possible sequence.
    pub from: u64,
}

/// When a pull ends, apart from the number of its messages and their size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// When no more messages are stored; the first one may take the time of the pull to come.
    AtEnd,
    /// When its time is over: it delivers messages as they are stored.
    AtTimeout,
}

/// A message of the stream.
#[derive(Debug)]
pub(super) struct Read {
    pub sequence: u64,
    /// When it was published, by the server's clock, in nanoseconds since 1970.
    pub published_at: i128,
    /// How many messages come after it; there may be more by now.
    pub pending: u64,
    pub subject: Subject,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

/// A position in a stream, from which messages are fetched.
#[derive(Debug)]
pub(super) struct Reader {
    nats: Nats,
    consumer: Removed,
    inbox: String,
    replies: Subscriber,
    /// The lowest possible sequence of the next message.
    next: u64,
    /// The number of messages delivered so far: each carries its own count, which shows whether one was lost on its way.
    delivered: u64,
    /// How many messages follow the last one, as reported by NATS; there may be more by now.
    pub pending: u64,
    connections: u64,
    opened: Instant,
    /// How many pulls were sent; each has its own subject for its end.
    pulls: u64,
    /// The request for the messages of `open_pull`.
    pull_body: Bytes,
    open_pull: Option<Pull>,
}

/// A request for messages, in progress.
#[derive(Clone, Copy, Debug)]
struct Pull {
    /// How many messages it may still bring.
    left: usize,
    /// How long NATS may take to deliver the next message.
    most: Duration,
    /// When it must have.
    until: Instant,
    is_sent: bool,
}

/// A consumer that is removed with its owner. NATS removes it as well, unless the consumer's server is unavailable: then every request for the
/// consumers of the stream waits for that server.
#[derive(Debug)]
struct Removed {
    nats: Nats,
    /// The stream and the name.
    name: String,
}

impl Drop for Removed {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (nats, what) = (self.nats.clone(), format!("CONSUMER.DELETE.{}", self.name));
        runtime.spawn(async move {
            for _ in 0..REMOVE_TRIES {
                match nats.ask::<Value>(&what, &()).await {
                    // If its server is unavailable, it is removed without a reply: the next try finds it gone.
                    Err(CallError::Lost(_) | CallError::NotSent(_) | CallError::UnderWay(_)) => {}
                    _ => return,
                }
                sleep(REMOVE_PAUSE).await;
            }
        });
    }
}

#[derive(Deserialize)]
struct ConsumerInfo {
    #[serde(default)]
    num_pending: u64,
}

impl Reader {
    /// Opens a reader. `purpose` is shown to users who inspect the server.
    ///
    /// # Errors
    /// [`CallError`], also if there is no such stream.
    pub(super) async fn open(nats: &Nats, selection: Selection<'_>, purpose: &str) -> Result<Self, CallError> {
        let Selection { stream, filter, from } = selection;
        let connections = nats.connections();
        let name = fresh_name();
        let inbox = nats.client().new_inbox();
        let replies = subscribe(nats, format!("{inbox}.*")).await?;
        // It holds no state worth keeping: after a crash of the server another is created.
        let mut config = json!({
            "name": name, "description": purpose, "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1),
            "ack_policy": "none", "replay_policy": "instant", "inactive_threshold": nanos(INACTIVE), "num_replicas": 1,
            "mem_storage": true,
        });
        let mut what = format!("CONSUMER.CREATE.{stream}.{name}");
        if let Some(filter) = filter {
            config["filter_subject"] = filter.into();
            what = format!("{what}.{filter}");
        }
        // Removed also if the reply does not come.
        let consumer = Removed { nats: nats.clone(), name: format!("{stream}.{name}") };
        let info: ConsumerInfo = nats.ask(&what, &json!({ "stream_name": stream, "config": config })).await?;
        Ok(Self {
            nats: nats.clone(),
            consumer,
            inbox,
            replies,
            next: from,
            delivered: 0,
            pending: info.num_pending,
            connections,
            opened: Instant::now(),
            pulls: 0,
            pull_body: Bytes::new(),
            open_pull: None,
        })
    }

    /// The lowest possible sequence of the next message.
    pub(super) const fn next_sequence(&self) -> u64 {
        self.next
    }

    /// Whether it may still be valid: on another connection NATS may have removed it.
    pub(super) fn is_current(&self) -> bool {
        self.connections == self.nats.connections() && self.nats.is_connected()
    }

    /// Up to `count` further messages, of which the first may take `wait` to come; fewer at the end and at [`PULL_BYTES`]. Empty if none came in
    /// that time.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn fetch(&mut self, count: usize, wait: Duration) -> Result<VecDeque<Read>, CallError> {
        self.pull(count, wait, Ending::AtEnd).await?;
        let mut batch = VecDeque::new();
        while let Some(read) = self.next().await? {
            let is_last = read.pending == 0;
            batch.push_back(read);
            if is_last {
                break;
            }
        }
        Ok(batch)
    }

    /// Requests up to `count` messages, which [`Reader::next`] returns as they come.
    ///
    /// # Errors
    /// [`CallError::NotSent`].
    pub(super) async fn pull(&mut self, count: usize, wait: Duration, ending: Ending) -> Result<(), CallError> {
        let max_bytes = PULL_BYTES.max(self.nats.client().max_payload() + AROUND);
        let mut body = json!({ "batch": count, "max_bytes": max_bytes });
        if ending == Ending::AtEnd {
            body["no_wait"] = true.into();
        }
        if !wait.is_zero() {
            body["expires"] = nanos(wait).into();
        }
        self.pull_body = body.to_string().into();
        let most = wait + self.nats.options().request_timeout;
        let until = Instant::now() + most;
        self.open_pull = Some(Pull { left: count, most, until, is_sent: false });
        self.send_pull().await
    }

    async fn send_pull(&mut self) -> Result<(), CallError> {
        let Some(pull) = &mut self.open_pull else { return Ok(()) };
        self.pulls += 1;
        let (subject, inbox) =
            (format!("$JS.API.CONSUMER.MSG.NEXT.{}", self.consumer.name), format!("{}.{}", self.inbox, self.pulls));
        let sent = self.nats.client().publish_with_reply(subject, inbox, self.pull_body.clone());
        match timeout(self.nats.options().request_timeout, sent).await {
            Ok(Ok(())) => {
                pull.is_sent = true;
                Ok(())
            }
            Ok(Err(error)) => Err(CallError::NotSent(error.to_string())),
            Err(_) => Err(no_room()),
        }
    }

    /// The next requested message; `None` when the pull is complete. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn next(&mut self) -> Result<Option<Read>, CallError> {
        while let Some(Pull { until, is_sent, most, .. }) = self.open_pull.filter(|pull| pull.left > 0) {
            if !is_sent {
                sleep(NEW_PAUSE).await;
                self.send_pull().await?;
            }
            let message = self.next_reply(until, most).await?;
            match message.status {
                None | Some(StatusCode::OK) => {
                    if let Some(pull) = &mut self.open_pull {
                        pull.left -= 1;
                        pull.until = Instant::now() + most;
                    }
                    return self.take(message).map(Some);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                // The end of an earlier pull.
                Some(_) if message.subject.rsplit('.').next() != Some(self.pulls.to_string().as_str()) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => self.open_pull = None,
                Some(status) if status.as_u16() == 409 && is_size(&message) => self.open_pull = None,
                // The server of a new consumer may not be subscribed for it yet.
                Some(StatusCode::NO_RESPONDERS) if self.delivered == 0 && self.opened.elapsed() < NEW_FOR => {
                    if let Some(pull) = &mut self.open_pull {
                        pull.is_sent = false;
                    }
                }
                Some(StatusCode::NO_RESPONDERS) => {
                    return Err(CallError::NotSent("no server of NATS knows the consumer of a read".to_owned()));
                }
                Some(status) => {
                    let text = message.description.unwrap_or_else(|| status.to_string());
                    return Err(CallError::Lost(format!("NATS ended a read: {text}")));
                }
            }
        }
        self.open_pull = None;
        Ok(None)
    }

    async fn next_reply(&mut self, until: Instant, most: Duration) -> Result<Message, CallError> {
        let lost = |why: &str| CallError::Lost(why.to_owned());
        // In short steps, so that the end of the connection is detected at once.
        loop {
            match timeout_at(until.min(Instant::now() + CONNECTION_CHECK_INTERVAL), self.replies.next()).await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err(lost("the connection to NATS was closed")),
                Err(_) if !self.is_current() => return Err(lost("the connection to NATS was lost")),
                Err(_) if Instant::now() >= until => {
                    return Err(CallError::Lost(format!("NATS delivered nothing within {most:?}")));
                }
                Err(_) => {}
            }
        }
    }

    /// Counts a message, and reads its position.
    fn take(&mut self, message: Message) -> Result<Read, CallError> {
        let position = message.reply.as_ref().and_then(|reply| Position::read(reply));
        let Some(Position { sequence, delivered, published_at, pending }) = position else {
            return Err(CallError::Lost("NATS delivered a message without its sequence".to_owned()));
        };
        self.delivered += 1;
        if delivered != self.delivered || sequence < self.next {
            return Err(CallError::Lost("a message was lost on its way from NATS".to_owned()));
        }
        (self.next, self.pending) = (sequence + 1, pending);
        let Message { subject, headers, payload, .. } = message;
        Ok(Read { sequence, published_at, pending, subject, headers: headers.unwrap_or_default(), payload })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether a pull ended for its bytes: no more fit, though there are more.
fn is_size(message: &Message) -> bool {
    message.description.as_ref().is_some_and(|text| text.to_ascii_lowercase().contains("maxbytes"))
}

async fn subscribe(nats: &Nats, subject: String) -> Result<Subscriber, CallError> {
    match timeout(nats.options().request_timeout, nats.client().subscribe(subject)).await {
        Ok(Ok(subscriber)) => Ok(subscriber),
        Ok(Err(error)) => Err(CallError::NotSent(error.to_string())),
        Err(_) => Err(no_room()),
    }
}

fn no_room() -> CallError {
    CallError::NotSent("the NATS client accepts no more requests".to_owned())
}

/// The position of a delivered message, parsed from its acknowledgement subject (ADR-15 of NATS): `$JS.ACK.` and, perhaps after a domain and an
/// account, `<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>`.
#[derive(Debug, PartialEq, Eq)]
struct Position {
    sequence: u64,
    delivered: u64,
    published_at: i128,
    pending: u64,
}

impl Position {
    fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.split('.').collect();
        let first = if tokens.len() >= 11 { 4 } else { 2 };
        let number = |index: usize| tokens.get(first + index)?.parse().ok();
        (tokens.starts_with(&["$JS", "ACK"])).then_some(())?;
        Some(Self { sequence: number(3)?, delivered: number(4)?, published_at: number(5)?.into(), pending: number(6)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_position_of_a_message_is_parsed_with_and_without_a_domain_and_an_account() {
        let position =
            Some(Position { sequence: 17, delivered: 5, published_at: 1_700_000_000_000_000_001, pending: 9 });
        let numbers = "1.17.5.1700000000000000001.9";
        assert_eq!(Position::read(&format!("$JS.ACK.log.reader.{numbers}")), position);
        assert_eq!(Position::read(&format!("$JS.ACK.hub.account.log.reader.{numbers}")), position);
        assert_eq!(Position::read(&format!("$JS.ACK.hub.account.log.reader.{numbers}.token")), position);
        assert_eq!(Position::read("$JS.ACK.log.reader.1.17.5"), None);
        assert_eq!(Position::read(&format!("_INBOX.a.log.reader.{numbers}")), None);
    }
}
