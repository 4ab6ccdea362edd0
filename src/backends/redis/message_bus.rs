//! The message bus in Redis: one stream for all messages, and a consumer group for each name.
//!
//! An entry stays until every group has acknowledged it. At capacity, entries that no group needs are dropped; if there are none, publishing
//! waits. Redis keeps delivered but unacknowledged entries in the group's list of pending entries, from which a recreated consumer takes them.
//! Retries, ack-waits and the order of keys are handled by the live consumer alone ([`DeliveryWindow`]).
//!
//! The groups are part of the stream, and vanish with it. A hash beside it records how many entries it must hold, and up to which position of its log
//! each consumer has processed the events. So a stream that was deleted or trimmed is noticed, by the next publish or within about a second, and the
//! events that were not processed are published again from the log (`record.lua`). The consumers are then created again, since they may hold messages
//! of the lost stream.
//!
//! For external listeners every entry is a CloudEvent, and its data is also published on the channel `<prefix>:events:<type>`, to the current
//! subscribers.
//!
//! [`DeliveryWindow`]: crate::ports::message_bus::DeliveryWindow

mod consumer;
mod entry;
mod look;
mod mark;
mod progress;
mod published;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redis::Value;
use tokio::{sync::Notify, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use self::{
    consumer::RedisConsumer,
    entry::Entry,
    mark::Mark,
    published::{Loss, Published},
};
use super::{
    connection::{CallError, Redis},
    script::{Script, ScriptCall},
    tail::{self, TailCheck},
    values,
};
use crate::{
    ports::{
        checkpoint_store::is_valid_name,
        message_bus::{
            BusError, CloudEventAttributes, Consumer, DeadLetter, EventId, MAX_DEAD_LETTERS, Message, MessageBus,
            VolatileMessages,
        },
    },
    telemetry::outage::{Line, Outage},
};

static PUBLISH: Script = Script::new(concat!(
    include_str!("need.lua"),
    include_str!("message_bus/record.lua"),
    include_str!("message_bus/publish.lua")
));
static OPEN: Script = Script::new(concat!(
    include_str!("need.lua"),
    include_str!("message_bus/record.lua"),
    include_str!("message_bus/open.lua")
));
static TAKE_DEAD: Script = Script::new(concat!(include_str!("need.lua"), include_str!("message_bus/take_dead.lua")));
static REMOVE: Script = Script::new(concat!(include_str!("need.lua"), include_str!("message_bus/remove.lua")));

/// How many messages one call publishes: nothing else runs in Redis in the meantime.
const PUBLISH_AT_ONCE: usize = 256;
/// How many dead letters one call removes.
const TAKE_AT_ONCE: usize = 1_000;
/// The longest pause between two tries to publish into a full stream.
const MAX_ROOM_PAUSE: Duration = Duration::from_millis(500);

/// The bounds of a [`RedisMessageBus`], all at least 1, and the attributes of its CloudEvents.
#[derive(Clone, Copy, Debug)]
pub struct RedisBusOptions {
    /// How many messages the stream holds.
    pub capacity_messages: usize,
    /// How many messages a consumer may hold unacknowledged.
    pub max_unacked: usize,
    /// The time after which they are redelivered.
    pub ack_wait: Duration,
    /// How many dead letters a consumer may have.
    pub max_dead_letters: usize,
    /// Describes a message to external listeners.
    pub describe: fn(&Message) -> CloudEventAttributes,
}

impl Default for RedisBusOptions {
    fn default() -> Self {
        Self {
            capacity_messages: 65_536,
            max_unacked: 8_192,
            ack_wait: Duration::from_secs(30),
            max_dead_letters: MAX_DEAD_LETTERS,
            describe: |_| CloudEventAttributes::default(),
        }
    }
}

/// A [`MessageBus`] in Redis. With no consumer registered, messages beyond its capacity push the oldest ones out.
#[derive(Debug)]
pub struct RedisMessageBus {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    redis: Redis,
    options: RedisBusOptions,
    stream: String,
    /// The key of what is recorded about the stream.
    record: String,
    consumers: String,
    mark: Arc<Mark>,
    /// Notified when a consumer may have messages ready.
    arrived: Arc<Notify>,
    /// Notified when the stream may have room again.
    room: Notify,
    /// The last messages were not published to the channels of external listeners.
    unheard: Outage,
    _tail: AbortOnDropHandle<()>,
}

impl RedisMessageBus {
    /// The bus in `redis`, which need not be connected yet. Must be called within a tokio runtime.
    #[must_use]
    pub fn new(redis: Redis, options: RedisBusOptions) -> Self {
        let stream = redis.key("events");
        let (arrived, mark) = (Arc::new(Notify::new()), Arc::new(Mark::default()));
        let (end, woken, compared) = (AtomicU64::new(0), Arc::clone(&arrived), Arc::clone(&mark));
        let on_check = move |TailCheck { last, .. }| {
            if end.swap(last, Ordering::Relaxed) == last {
                // Nothing was published for a while, which would have revealed a loss.
                compared.compare_again();
            } else {
                // Also at an earlier end: that of another stream.
                woken.notify_waiters();
            }
        };
        let tail = tail::watch(&redis, stream.clone(), || 0, on_check);
        let (record, consumers) = (redis.key("bus"), redis.key("consumers"));
        let (room, unheard) = (Notify::new(), Outage::new());
        let shared = Shared { redis, options, stream, record, consumers, mark, arrived, room, unheard, _tail: tail };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes up to [`PUBLISH_AT_ONCE`] of `messages`.
    async fn publish_some(&self, messages: &[Message]) -> Result<Published, BusError> {
        let Shared { redis, options, stream, record, consumers, mark, .. } = &*self.shared;
        let prefix = &redis.options().prefix;
        let messages = &messages[..messages.len().min(PUBLISH_AT_ONCE)];
        let required = mark.required().filter(|_| !messages.is_empty());
        let call = PUBLISH.prepare().key(stream).key(record).key(consumers);
        let call = mark.log().iter().fold(call, |call, log| call.key(&self.shared.published_key(*log)));
        let call = call
            .number(options.capacity_messages)
            .arg(format!("{prefix}:events"))
            .arg(format!("/{prefix}/orders"))
            .arg(text_of(required))
            .arg(text_of(mark.log()))
            .arg(text_of(mark.losses()));
        let call = messages.iter().fold(call, |call, message| entry::add(call, message, (options.describe)(message)));
        let answer = call.run(redis).await.map_err(unavailable)?;
        if let Some(loss) = Loss::read(&answer) {
            match loss {
                Loss::After(last) => mark.fell_to(last),
                Loss::OfStream => mark.compare_again(),
            }
            return Err(BusError::Unavailable("Redis has lost events that it had accepted".to_owned()));
        }
        let published = Published::read(answer).ok_or_else(|| malformed("a publish"))?;
        if let Some(last) = published.accepted.checked_sub(1).and_then(|last| messages.get(last)) {
            mark.accepted(last.position);
        }
        self.report_unheard(&published);
        Ok(published)
    }

    /// Logs when external listeners receive nothing, every half minute while that lasts, and when they receive again.
    fn report_unheard(&self, published: &Published) {
        if published.accepted == 0 {
            return;
        }
        let unheard = &self.shared.unheard;
        if published.unheard.is_empty() {
            if let Some(lasted) = unheard.works() {
                let server = self.shared.redis.shown();
                tracing::info!(
                    server,
                    lasted_ms = lasted.as_millis() as u64,
                    "events are published to the channels again"
                );
            }
            return;
        }
        let why = self.shared.redis.refusal_in_words(&published.unheard);
        if let Some(Line { unsaid }) = unheard.failed(&why) {
            let server = self.shared.redis.shown();
            tracing::error!(server, why, unsaid, "events are in the stream, but cannot be published to the channels");
        }
    }

    async fn take_dead(&self, what: &str, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        let mut taken = 0;
        for events in events.chunks(TAKE_AT_ONCE) {
            let call = TAKE_DEAD
                .prepare()
                .key(&self.shared.dead_key(name))
                .key(&self.shared.dead_index_key(name))
                .key(&self.shared.consumers)
                .key(&self.shared.replayed_key(name))
                .arg(what)
                .arg(name);
            let call = events.iter().fold(call, |call, event| call.arg(event.to_string()));
            match call.run(&self.shared.redis).await.map_err(unavailable)? {
                Value::Int(count) => taken += usize::try_from(count).unwrap_or_default(),
                other if values::text(&other) == Some("unknown") => return Err(BusError::UnknownConsumer),
                _ => return Err(malformed("dead letters")),
            }
        }
        Ok(taken)
    }
}

/// The number, or nothing.
fn text_of(number: Option<impl ToString>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

impl Shared {
    /// The key with the position of the last message of a log.
    fn published_key(&self, log: u32) -> String {
        self.redis.key(&format!("published:{log}"))
    }

    fn replayed_key(&self, name: &str) -> String {
        self.redis.key(&format!("replayed:{name}"))
    }

    fn dead_key(&self, name: &str) -> String {
        self.redis.key(&format!("dead:{name}"))
    }

    fn dead_index_key(&self, name: &str) -> String {
        self.redis.key(&format!("dead-index:{name}"))
    }

    /// A call with the keys that all consumer scripts begin with, the consumer's name and its handle.
    fn consumer_call(&self, script: &'static Script, name: &str, handle: &str, more_keys: &[String]) -> ScriptCall {
        let call = script.prepare().key(&self.stream).key(&self.consumers).key(&self.replayed_key(name));
        more_keys.iter().fold(call, |call, key| call.key(key)).arg(name).arg(handle)
    }
}

fn unavailable(error: CallError) -> BusError {
    BusError::Unavailable(error.to_string())
}

fn malformed(what: &str) -> BusError {
    BusError::Unavailable(format!("Redis returned an unexpected reply to {what}"))
}

#[async_trait]
impl MessageBus for RedisMessageBus {
    fn kind(&self) -> &'static str {
        "redis"
    }

    async fn publish(&self, messages: &[Message]) -> Result<(), BusError> {
        let mut rest = messages;
        let mut pause = Duration::from_millis(20);
        while !rest.is_empty() {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let room = self.shared.room.notified();
            let Published { accepted, .. } = self.publish_some(rest).await?;
            rest = &rest[accepted.min(rest.len())..];
            if accepted > 0 {
                pause = Duration::from_millis(20);
                self.shared.arrived.notify_waiters();
            } else if !rest.is_empty() {
                // A consumer on another node does not notify this one when it has made room.
                tokio::select! {
                    () = room => {}
                    () = sleep(pause) => pause = (pause * 2).min(MAX_ROOM_PAUSE),
                }
            }
        }
        Ok(())
    }

    /// Redis keeps the messages that it has accepted, even if this process ends.
    fn oldest_unpersisted(&self, _consumers: &[String]) -> VolatileMessages {
        VolatileMessages::Nothing
    }

    /// A server that has taken over may lack the last accepted messages, and a stream that was deleted those that its consumers had not processed.
    async fn lost_from(&self, consumers: &[String], log: u32, published_to: u64) -> Result<Option<u64>, BusError> {
        let Shared { redis, mark, .. } = &*self.shared;
        let connections = redis.connections();
        loop {
            let connection = *connections.borrow();
            let is_due = mark.is_due() && redis.unreachable().is_none();
            match mark.lost_from(connection, log, published_to) {
                Ok(lost_from) if lost_from.is_some() || !is_due => return Ok(lost_from),
                _ => {}
            }
            let found = self.shared.look(consumers, log).await?;
            if *connections.borrow() == connection {
                mark.compare(connection, log, published_to, found);
            }
        }
    }

    fn resume(&self) {
        self.shared.mark.resume();
    }

    async fn consumer(&self, name: &str) -> Result<Box<dyn Consumer>, BusError> {
        if !is_valid_name(name) {
            return Err(BusError::InvalidName);
        }
        // Random: a handle from before a removal must not become valid again.
        let handle = format!("{:032x}", fastrand::u128(..));
        let call = OPEN.prepare().key(&self.shared.stream).key(&self.shared.consumers).key(&self.shared.record);
        let call = call.arg(name).arg(&*handle);
        call.run(&self.shared.redis).await.map_err(unavailable)?;
        // Lets the previous consumer notice now that it was replaced.
        self.shared.arrived.notify_waiters();
        Ok(Box::new(RedisConsumer::new(Arc::clone(&self.shared), name.to_owned(), handle)))
    }

    async fn remove_consumer(&self, name: &str) -> Result<(), BusError> {
        let call = REMOVE.prepare().key(&self.shared.stream).key(&self.shared.consumers);
        let call = call.key(&self.shared.replayed_key(name)).key(&self.shared.record).arg(name);
        call.run(&self.shared.redis).await.map_err(unavailable)?;
        self.shared.room.notify_waiters();
        self.shared.arrived.notify_waiters();
        Ok(())
    }

    async fn dead_letters(&self, name: &str, max: usize) -> Result<Vec<DeadLetter>, BusError> {
        let mut command = redis::cmd("XRANGE");
        command.arg(self.shared.dead_key(name)).arg("-").arg("+").arg("COUNT").arg(max.min(MAX_DEAD_LETTERS));
        let letters = self.shared.redis.call(&command).await.map_err(unavailable)?;
        let letters = values::list(letters).unwrap_or_default().into_iter();
        Ok(letters.filter_map(|letter| Entry::read(letter)?.into_dead_letter()).collect())
    }

    async fn replay(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        if events.is_empty() {
            return Ok(0);
        }
        let replayed = self.take_dead("replay", name, events).await;
        self.shared.arrived.notify_waiters();
        replayed
    }

    async fn discard(&self, name: &str, events: &[EventId]) -> Result<usize, BusError> {
        self.take_dead("discard", name, events).await
    }

    fn at_risk(&self) -> Option<String> {
        self.shared.redis.at_risk()
    }

    fn unreachable(&self) -> Option<String> {
        self.shared.redis.unreachable()
    }

    async fn check(&self) -> Result<(), BusError> {
        self.shared.redis.check().await.map_err(BusError::Unavailable)?;
        let Published { room, slowest, .. } = self.publish_some(&[]).await?;
        if room > 0 || slowest.is_empty() {
            return Ok(());
        }
        Err(BusError::Unavailable(format!("the stream is full and waits for the consumer {slowest}")))
    }
}
