//! Reads many messages with one request: a consumer of the stream that delivers messages in batches.
//!
//! A consumer is NATS's word for a position in a stream. It keeps only that position, in memory; NATS removes it when it has been idle for a while,
//! or when the server restarts, and then a reader is reopened at the same position.

use std::{collections::VecDeque, time::Duration};

use async_nats::{Message, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::backends::nats::{api::CallError, connection::Nats};

/// A consumer that is idle for this long is removed.
const INACTIVE: Duration = Duration::from_secs(30);
/// A batch ends before it exceeds this many bytes, unless one message is larger.
pub(super) const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The most bytes of a message in addition to its payload.
const AROUND: usize = 64 * 1024;

/// For this long a new consumer may be unknown to the server that is asked: 5 % of those of a cluster are not known at once.
const NEW_FOR: Duration = Duration::from_secs(2);
/// The pause before the request is repeated.
const NEW_PAUSE: Duration = Duration::from_millis(20);

/// A position in a stream, from which messages are fetched.
#[derive(Debug)]
pub(super) struct Reader {
    nats: Nats,
    stream: String,
    consumer: String,
    inbox: String,
    messages: Subscriber,
    /// The lowest possible sequence of the next message.
    next: u64,
    /// The number of messages delivered so far: each carries its own count, which shows whether one was lost on its way.
    delivered: u64,
    /// How many messages follow the last one, as reported by NATS; there may be more by now.
    pub pending: u64,
    connections: u64,
    fetches: u64,
    opened: Instant,
}

/// One message as received, not decoded.
#[derive(Debug)]
pub(super) struct Raw {
    pub sequence: u64,
    pub message: Message,
}

#[derive(Deserialize)]
struct ConsumerInfo {
    #[serde(default)]
    num_pending: u64,
}

impl Reader {
    /// Opens one that begins with message `from` of `stream`, and delivers only messages with subject `filter` if there is one.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn open(nats: &Nats, stream: &str, filter: Option<&str>, from: u64) -> Result<Self, CallError> {
        let connections = nats.connections();
        let consumer = format!("read-{:016x}", fastrand::u64(..));
        let inbox = nats.client().new_inbox();
        let messages = subscribe(nats, format!("{inbox}.*")).await?;
        let mut config = json!({
            "name": consumer, "deliver_policy": "by_start_sequence", "opt_start_seq": from.max(1), "ack_policy": "none",
            "replay_policy": "instant", "inactive_threshold": INACTIVE.as_nanos() as u64, "num_replicas": 1, "mem_storage": true,
        });
        let mut what = format!("CONSUMER.CREATE.{stream}.{consumer}");
        if let Some(filter) = filter {
            config["filter_subject"] = filter.into();
            what = format!("{what}.{filter}");
        }
        let info: ConsumerInfo = nats.ask(&what, &json!({ "stream_name": stream, "config": config })).await?;
        Ok(Self {
            nats: nats.clone(),
            stream: stream.to_owned(),
            consumer,
            inbox,
            messages,
            next: from,
            delivered: 0,
            pending: info.num_pending,
            connections,
            fetches: 0,
            opened: Instant::now(),
        })
    }

    /// The lowest possible sequence of the next message.
    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Whether it may still be valid: on another connection NATS may have removed it.
    pub(super) fn is_current(&self) -> bool {
        self.connections == self.nats.connections() && self.nats.is_connected()
    }

    /// Up to `count` further messages, of which the first may take `wait` to come; fewer at the end and at [`BATCH_BYTES`]. Empty if none came in
    /// that time.
    ///
    /// # Errors
    /// [`CallError`]; the reader must not be used any more.
    pub(super) async fn fetch(&mut self, count: usize, wait: Duration) -> Result<VecDeque<Raw>, CallError> {
        loop {
            match self.fetch_once(count, wait).await {
                // The server of a new consumer may not be subscribed for it yet.
                Err(CallError::NotSent(_)) if self.delivered == 0 && self.opened.elapsed() < NEW_FOR => {
                    sleep(NEW_PAUSE).await;
                }
                fetched => return fetched,
            }
        }
    }

    async fn fetch_once(&mut self, count: usize, wait: Duration) -> Result<VecDeque<Raw>, CallError> {
        self.fetches += 1;
        let inbox = format!("{}.{}", self.inbox, self.fetches);
        let max_bytes = BATCH_BYTES.max(self.nats.client().max_payload() + AROUND);
        let body = json!({
            "batch": count, "max_bytes": max_bytes, "no_wait": true, "expires": wait.as_nanos() as u64,
        });
        let what = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.stream, self.consumer);
        publish(&self.nats, what, Some(inbox.clone()), body.to_string()).await?;
        let most = wait + self.nats.options().request_timeout;
        let mut batch = VecDeque::new();
        while batch.len() < count {
            let message = self.next_message(most).await?;
            match message.status {
                None => {
                    batch.push_back(self.take(message)?);
                    if self.pending == 0 {
                        break;
                    }
                }
                // The end of an earlier batch.
                Some(_) if message.subject.as_str() != inbox => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => break,
                Some(status) if status.as_u16() == 409 && is_size(&message) => break,
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(StatusCode::NO_RESPONDERS) => {
                    return Err(CallError::NotSent("no server of NATS knows the consumer of a read".to_owned()));
                }
                Some(status) => {
                    let text = message.description.unwrap_or_else(|| status.to_string());
                    return Err(CallError::Lost(format!("NATS ended a read: {text}")));
                }
            }
        }
        Ok(batch)
    }

    async fn next_message(&mut self, most: Duration) -> Result<Message, CallError> {
        let deadline = Instant::now() + most;
        // In short steps, so that the end of the connection is detected at once.
        while Instant::now() < deadline {
            match timeout(Duration::from_millis(250), self.messages.next()).await {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => return Err(CallError::Lost("the connection to NATS was closed".to_owned())),
                Err(_) if !self.is_current() => {
                    return Err(CallError::Lost("the connection to NATS was lost".to_owned()));
                }
                Err(_) => {}
            }
        }
        Err(CallError::Lost(format!("NATS delivered nothing within {most:?}")))
    }

    /// Counts a message; returns it with its sequence.
    fn take(&mut self, message: Message) -> Result<Raw, CallError> {
        let place = message.reply.as_ref().and_then(|reply| Place::read(reply));
        let Some(place) = place else {
            return Err(CallError::Lost("NATS delivered a message without its place".to_owned()));
        };
        self.delivered += 1;
        if place.delivered != self.delivered || place.sequence < self.next {
            return Err(CallError::Lost("a message was lost on its way from NATS".to_owned()));
        }
        self.next = place.sequence + 1;
        self.pending = place.pending;
        Ok(Raw { sequence: place.sequence, message })
    }
}

impl Drop for Reader {
    /// Removes the consumer without waiting: however a read ends, even if it is abandoned.
    fn drop(&mut self) {
        let what = format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.consumer);
        let nats = self.nats.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // If this request fails, NATS removes it by itself.
            runtime.spawn(async move { publish(&nats, what, None, String::new()).await });
        }
    }
}

/// Whether a batch ended for its bytes: no more fit, though there are more.
fn is_size(message: &Message) -> bool {
    message.description.as_ref().is_some_and(|text| text.to_ascii_lowercase().contains("maxbytes"))
}

async fn subscribe(nats: &Nats, subject: String) -> Result<Subscriber, CallError> {
    let most = nats.options().request_timeout;
    match timeout(most, nats.client().subscribe(subject)).await {
        Ok(Ok(subscriber)) => Ok(subscriber),
        Ok(Err(error)) => Err(CallError::NotSent(error.to_string())),
        Err(_) => Err(CallError::NotSent("the client of NATS takes nothing more".to_owned())),
    }
}

async fn publish(nats: &Nats, subject: String, reply: Option<String>, body: String) -> Result<(), CallError> {
    let most = nats.options().request_timeout;
    let sent = async {
        match reply {
            Some(reply) => nats.client().publish_with_reply(subject, reply, body.into()).await,
            None => nats.client().publish(subject, body.into()).await,
        }
    };
    match timeout(most, sent).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CallError::NotSent(error.to_string())),
        Err(_) => Err(CallError::NotSent("the client of NATS takes nothing more".to_owned())),
    }
}

/// The position of a delivered message, parsed from its acknowledgement subject (ADR-15 of NATS): `$JS.ACK.` and, perhaps after a domain and an
/// account, `<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>`.
struct Place {
    sequence: u64,
    delivered: u64,
    pending: u64,
}

impl Place {
    fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.split('.').collect();
        let first = if tokens.len() >= 11 { 4 } else { 2 };
        let number = |index: usize| tokens.get(first + index)?.parse().ok();
        (tokens.starts_with(&["$JS", "ACK"])).then_some(())?;
        Some(Self { sequence: number(3)?, delivered: number(4)?, pending: number(6)? })
    }
}
