//! Reads a stream from a sequence on, in order and without gaps.
//!
//! An ephemeral pull consumer without acknowledgements, created and removed by this node. The server numbers its deliveries: a missing number means
//! that one was lost on the way, and the reader must not be used any more. Its owner opens another at the same position.

use std::time::Duration;

use async_nats::{
    HeaderMap, StatusCode, Subscriber,
    client::Request,
    jetstream::{
        Message,
        consumer::{AckPolicy, DeliverPolicy, ReplayPolicy, pull},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout_at};

use crate::backends::nats::{api::CallError, connection::Nats};

/// The time without a pull after which the server removes a reader.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

/// The prefix of the names of our consumers: if a list names a consumer without its state, it is still recognized as a reader.
const NAMES: &str = "ordersystem-reader-";
/// How often the removal of one is tried, and the pause between two tries: a leader may have to be elected first.
const REMOVE_TRIES: usize = 15;
const REMOVE_PAUSE: Duration = Duration::from_secs(1);

/// A unique name for a reader.
pub(super) fn fresh_name() -> String {
    format!("{NAMES}{:032x}", fastrand::u128(..))
}

/// Whether the consumer of this name is a reader.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with(NAMES)
}

/// A message of the stream.
pub(super) struct Read {
    pub sequence: u64,
    /// When it was published, by the server's clock, in nanoseconds since 1970.
    pub published_at: i128,
    /// How many messages come after it.
    pub pending: u64,
    pub headers: HeaderMap,
    pub payload: Bytes,
}

#[derive(Debug)]
pub(super) struct Reader {
    nats: Nats,
    _consumer: Removed,
    pull_subject: String,
    inbox: String,
    replies: Subscriber,
    /// How many deliveries have come.
    delivered: u64,
    /// How many pulls were sent; each has its own subject for its end.
    pulls: u64,
    /// How many messages the current pull may still bring, and until when it must have ended.
    open_pull: Option<(usize, Instant)>,
}

/// A consumer that is removed with its owner. NATS does that too, unless the consumer's server is away; and while it is, every request for the
/// consumers of the stream waits for it.
#[derive(Debug)]
struct Removed {
    nats: Nats,
    /// The stream and the name.
    consumer: String,
}

impl Drop for Removed {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (nats, what) = (self.nats.clone(), format!("CONSUMER.DELETE.{}", self.consumer));
        runtime.spawn(async move {
            for _ in 0..REMOVE_TRIES {
                match nats.ask::<Value>(&what, &()).await {
                    // If its server is away, it is removed without a reply: the next try finds it gone.
                    Err(CallError::Lost(_) | CallError::NotSent(_) | CallError::UnderWay(_)) => {}
                    _ => return,
                }
                sleep(REMOVE_PAUSE).await;
            }
        });
    }
}

impl Reader {
    /// A reader of `stream` from the first message at or after `start` on. `purpose` is shown to users who inspect the server.
    ///
    /// # Errors
    /// A description of the problem with NATS, or that there is no such stream.
    pub(super) async fn open(nats: &Nats, stream: &str, start: u64, purpose: &str) -> Result<Self, String> {
        let name = fresh_name();
        let config = pull::Config {
            name: Some(name.clone()),
            description: Some(purpose.to_owned()),
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: start.max(1) },
            ack_policy: AckPolicy::None,
            replay_policy: ReplayPolicy::Instant,
            inactive_threshold: INACTIVE_THRESHOLD,
            // It holds no state worth keeping: after a crash of the server another is created.
            memory_storage: true,
            num_replicas: 1,
            ..pull::Config::default()
        };
        // Removed also if the reply does not come, or a later step fails.
        let consumer = Removed { nats: nats.clone(), consumer: format!("{stream}.{name}") };
        let made = nats.jetstream().create_consumer_on_stream(config, stream).await;
        made.map_err(|error| format!("the stream {stream} cannot be read: {error}"))?;
        let pull_subject = format!("CONSUMER.MSG.NEXT.{}", consumer.consumer);
        let inbox = nats.client().new_inbox();
        let replies = nats.client().subscribe(format!("{inbox}.*")).await.map_err(|error| error.to_string())?;
        let nats = nats.clone();
        Ok(Self { nats, _consumer: consumer, pull_subject, inbox, replies, delivered: 0, pulls: 0, open_pull: None })
    }

    /// Requests up to `count` messages, which [`Reader::next`] returns as they come; only those available now if `wait` is zero.
    ///
    /// # Errors
    /// If there is no connection.
    pub(super) async fn pull(&mut self, count: usize, wait: Duration) -> Result<(), String> {
        let mut request = json!({ "batch": count });
        if wait.is_zero() {
            request["no_wait"] = true.into();
        } else {
            request["expires"] = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).into();
        }
        self.pulls += 1;
        let inbox = format!("{}.{}", self.inbox, self.pulls);
        let request = Request::new().payload(Bytes::from(request.to_string())).inbox(inbox);
        let sent = self.nats.jetstream().send_request(self.pull_subject.clone(), request).await;
        sent.map_err(|error| error.to_string())?;
        self.open_pull = Some((count, Instant::now() + wait + self.nats.options().request_timeout));
        Ok(())
    }

    /// The next requested message; `None` when the pull is complete. Dropping the future loses nothing.
    ///
    /// # Errors
    /// The reader must not be used any more.
    pub(super) async fn next(&mut self) -> Result<Option<Read>, String> {
        while let Some((left, deadline)) = self.open_pull.filter(|(left, _)| *left > 0) {
            let reply = timeout_at(deadline, self.replies.next()).await;
            let reply = reply.map_err(|_| "NATS does not answer a pull".to_owned())?;
            let reply = reply.ok_or_else(|| "the subscription has ended".to_owned())?;
            match reply.status {
                None | Some(StatusCode::OK) => {
                    self.open_pull = Some((left - 1, deadline));
                    return self.read(reply).map(Some);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                // The end of a pull before this one.
                Some(_) if reply.subject.rsplit('.').next() != Some(self.pulls.to_string().as_str()) => {}
                Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => self.open_pull = None,
                Some(status) => {
                    return Err(format!("a pull has ended: {status} {}", reply.description.unwrap_or_default()));
                }
            }
        }
        self.open_pull = None;
        Ok(None)
    }

    fn read(&mut self, message: async_nats::Message) -> Result<Read, String> {
        let message = Message { message, context: self.nats.jetstream().clone() };
        let info = message.info().map_err(|error| error.to_string())?;
        self.delivered += 1;
        if info.consumer_sequence != self.delivered {
            return Err("a delivery was lost on its way".to_owned());
        }
        let (sequence, pending, published_at) =
            (info.stream_sequence, info.pending, info.published.unix_timestamp_nanos());
        let async_nats::Message { headers, payload, .. } = message.message;
        Ok(Read { sequence, published_at, pending, headers: headers.unwrap_or_default(), payload })
    }
}
