//! The live consumer of one name.
//!
//! A separate task prefetches messages from Redis: see [`PrefetchBuffer`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Value;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared,
    entry::{Entry, Origin},
    malformed,
    progress::Received,
    unavailable,
};
use crate::{
    backends::redis::{pools::Lane, script::Script, values},
    ports::message_bus::{
        BusError, Consumer, Delivery, PrefetchBuffer, Prefetched, Receipt, bounded_reason, run_to_completion,
    },
    telemetry::outage::{Line, Outage},
};

static RECEIVE: Script = Script::new(concat!(include_str!("live.lua"), include_str!("receive.lua")));
static ACK: Script =
    Script::new(concat!(include_str!("../need.lua"), include_str!("live.lua"), include_str!("ack.lua")));
static DEAD_LETTER: Script = Script::new(concat!(
    include_str!("../need.lua"),
    include_str!("record.lua"),
    include_str!("live.lua"),
    include_str!("dead_letter.lua")
));

/// How many messages one call takes.
const TAKE_AT_ONCE: usize = 512;
/// How many ids one call acknowledges.
const ACK_AT_ONCE: usize = 1_000;
/// How often to check without being woken: for messages that another node has replayed, and for a handle that has been replaced there.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The receiving end of one name. See the module.
#[derive(Debug)]
pub(super) struct RedisConsumer {
    inner: Arc<Inner>,
    _taker: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: String,
    handle: String,
    /// Located by the ids of their entries.
    buffer: PrefetchBuffer<String>,
    /// The ids acknowledged here, to be acknowledged in Redis as soon as possible.
    to_ack: Mutex<Vec<String>>,
    received: Mutex<Received>,
    /// Entries of others, which anyone who may write the stream can add.
    strangers: Outage,
}

/// The task's progress: first the messages unacknowledged when the consumer was made, then new ones.
struct ReadPosition {
    unacknowledged_after: Option<String>,
    replayed_after: String,
}

impl RedisConsumer {
    pub(super) fn new(shared: Arc<Shared>, name: String, handle: String) -> Self {
        let buffer = PrefetchBuffer::new(shared.options.ack_wait, shared.options.max_unacked);
        let (to_ack, received, strangers) = (Mutex::default(), Mutex::default(), Outage::new());
        let inner = Arc::new(Inner { shared, name, handle, buffer, to_ack, received, strangers });
        let taker = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&inner).fetch_loop()));
        Self { inner, _taker: taker }
    }
}

impl Inner {
    /// Takes messages while there is room for them, until the consumer is replaced.
    async fn fetch_loop(self: Arc<Self>) {
        let mut position =
            ReadPosition { unacknowledged_after: Some("0-0".to_owned()), replayed_after: "0-0".to_owned() };
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let (arrived, room) = (self.shared.arrived.notified(), self.buffer.more_room());
            // Without room as well, to detect that the consumer has been replaced.
            let count = self.buffer.room().min(TAKE_AT_ONCE);
            match self.take(&mut position, count).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    if self.buffer.fail(error) {
                        return;
                    }
                    sleep(FAILURE_PAUSE).await;
                    continue;
                }
            }
            tokio::select! {
                () = arrived => {}
                () = room => {}
                () = sleep(POLL_INTERVAL) => {}
            }
        }
    }

    /// Takes up to `count` messages; returns whether more may be available at once.
    async fn take(&self, position: &mut ReadPosition, count: usize) -> Result<bool, BusError> {
        self.acknowledge().await?;
        if count == 0 {
            // An empty acknowledgement reveals whether the consumer is the live one.
            self.send_acks(&[], &[]).await?;
            return Ok(false);
        }
        let from = position.unacknowledged_after.as_deref().unwrap_or(">");
        let call = self.shared.consumer_call(&RECEIVE, &self.name, &self.handle, &[]);
        let call = call.number(count).arg(from).arg(&*position.replayed_after);
        let answer = call.run_in(&self.shared.redis, Lane::Reads).await.map_err(unavailable)?;
        if let Some(why) = values::text(&answer) {
            return Err(void(why));
        }
        let lists = values::list(answer).and_then(|lists| <[Value; 2]>::try_from(lists).ok());
        let [news, replayed] = lists.ok_or_else(|| malformed("a consumer"))?.map(read_entries);
        let mut more = news.len() + replayed.len() >= count;
        if position.unacknowledged_after.is_some() {
            // An empty reply means that all have been read.
            position.unacknowledged_after = news.last().map(|last| last.id.clone());
            more = true;
        }
        if let Some(last) = replayed.last() {
            position.replayed_after.clone_from(&last.id);
        }
        self.prefetch(news, replayed);
        Ok(more)
    }

    fn prefetch(&self, news: Vec<Entry>, replayed: Vec<Entry>) {
        let replayed = replayed.into_iter().map(|entry| (format!("r{}", entry.id), entry, true));
        let news = news.into_iter().map(|entry| (entry.id.clone(), entry, false)).inspect(|(id, entry, _)| {
            if let Some(number) = entry_number(id) {
                self.received.lock().add(number, entry.origin);
            }
        });
        self.buffer.extend_with(replayed.chain(news).filter_map(|(location, entry, is_replayed)| {
            if let Some(message) = entry.message {
                return Some(Prefetched { location, message, is_replayed });
            }
            if let Some(Line { unsaid }) = self.strangers.failed("not a message") {
                let server = self.shared.redis.shown();
                tracing::error!(server, id = location, unsaid, "skipping an entry of the bus that is not a message");
            }
            self.finished([location]);
            None
        }));
    }

    /// Records that the messages at these locations are processed.
    fn finished(&self, locations: impl IntoIterator<Item = String>) {
        let mut received = self.received.lock();
        self.to_ack.lock().extend(locations.into_iter().inspect(|location| {
            if let Some(number) = entry_number(location) {
                received.finish(number);
            }
        }));
    }

    /// Acknowledges in Redis the messages that were acknowledged here. A failure is retried with the next.
    async fn acknowledge(&self) -> Result<(), BusError> {
        loop {
            let ids: Vec<_> = {
                let mut to_ack = self.to_ack.lock();
                let count = to_ack.len().min(ACK_AT_ONCE);
                to_ack.drain(..count).collect()
            };
            let processed = self.received.lock().unstored();
            if ids.is_empty() && processed.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.send_acks(&ids, &processed).await {
                self.to_ack.lock().extend(ids);
                return Err(error);
            }
            self.received.lock().stored(&processed);
            self.shared.room.notify_waiters();
            self.buffer.notify_room();
        }
    }

    async fn send_acks(&self, ids: &[String], processed: &[Origin]) -> Result<(), BusError> {
        let record = [self.shared.record.clone()];
        let call = self.shared.consumer_call(&ACK, &self.name, &self.handle, &record).number(processed.len());
        let call = processed.iter().fold(call, |call, Origin { log, position }| call.number(log).number(position));
        let call = ids.iter().fold(call, |call, id| call.arg(id.as_bytes()));
        let answer = call.run(&self.shared.redis).await.map_err(unavailable)?;
        match values::text(&answer).unwrap_or_default() {
            "done" => Ok(()),
            why => Err(void(why)),
        }
    }

    async fn give_up(&self, delivery: &Delivery, id: String, reason: &str) -> Result<(), BusError> {
        let event = delivery.message.event_id();
        let capacity = self.shared.options.max_dead_letters;
        let Shared { record, .. } = &*self.shared;
        let keys = [self.shared.dead_key(&self.name), self.shared.dead_index_key(&self.name), record.clone()];
        let call = self.shared.consumer_call(&DEAD_LETTER, &self.name, &self.handle, &keys);
        let call = call.number(capacity).arg(&*id).arg(event.to_string()).arg(bounded_reason(reason));
        let answer = call.number(delivery.attempt).run(&self.shared.redis).await.map_err(unavailable)?;
        match values::text(&answer).unwrap_or_default() {
            "done" => {}
            "full" => return Err(BusError::DeadLettersFull { capacity }),
            why => return Err(void(why)),
        }
        if let Some(number) = entry_number(&id) {
            self.received.lock().finish(number);
        }
        self.buffer.finish(delivery.receipt);
        self.shared.room.notify_waiters();
        self.buffer.notify_room();
        Ok(())
    }
}

/// Why a script refused the handle of a consumer.
fn void(why: &str) -> BusError {
    match why {
        "lost" => BusError::Unavailable("Redis has lost messages or consumers".to_owned()),
        _ => BusError::Replaced,
    }
}

/// The number of an entry of the stream; `None` for a replayed dead letter.
fn entry_number(location: &str) -> Option<u64> {
    location.strip_prefix("0-")?.parse().ok()
}

fn read_entries(entries: Value) -> Vec<Entry> {
    values::list(entries).unwrap_or_default().into_iter().filter_map(Entry::read).collect()
}

#[async_trait]
impl Consumer for RedisConsumer {
    fn ack_wait(&self) -> Duration {
        self.inner.shared.options.ack_wait
    }

    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        self.inner.buffer.next_batch(max).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        let finished = self.inner.buffer.finish_all(receipts)?;
        self.inner.finished(finished);
        let inner = Arc::clone(&self.inner);
        run_to_completion(async move { inner.acknowledge().await }).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.buffer.extend(receipts)
    }

    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        self.inner.buffer.retry(receipt, after)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let Some(id) = self.inner.buffer.hold(delivery)? else { return Ok(()) };
        let (inner, delivery, reason) = (Arc::clone(&self.inner), delivery.clone(), reason.to_owned());
        run_to_completion(async move { inner.give_up(&delivery, id, &reason).await }).await
    }
}
