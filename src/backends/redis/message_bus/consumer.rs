//! The live consumer of one name.
//!
//! A separate task prefetches messages from Redis, so that a caller that drops its wait loses nothing. The window bounds the prefetched messages: a
//! consumer that acknowledges nothing gets nothing more.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{Shared, entry::Entry, malformed, unavailable};
use crate::{
    backends::redis::{connection::AbortOnDrop, pools::Lane, script::Script, values},
    ports::message_bus::{BusError, Consumer, Delivery, DeliveryWindow, EventId, Message, Receipt, bounded_reason},
};

static RECEIVE: Script = Script::new(include_str!("receive.lua"));
static ACK: Script = Script::new(concat!(include_str!("../need.lua"), include_str!("ack.lua")));
static DEAD_LETTER: Script = Script::new(concat!(include_str!("../need.lua"), include_str!("dead_letter.lua")));

/// How many messages one call takes.
const TAKE_AT_ONCE: usize = 512;
/// How many ids one call acknowledges.
const ACK_AT_ONCE: usize = 1_000;
/// How often to check without being woken: for messages that another node has replayed, and for a handle that has been replaced there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The receiving end of one name. See the module.
#[derive(Debug)]
pub(super) struct RedisConsumer {
    inner: Arc<Inner>,
    _taker: AbortOnDrop,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: String,
    handle: String,
    state: Mutex<State>,
    /// Notified when there may be messages for a caller.
    ready: Notify,
    /// Notified when there may be room for more messages.
    room: Notify,
}

#[derive(Debug)]
struct State {
    window: DeliveryWindow,
    /// Taken from Redis, not in the window yet.
    prefetched: VecDeque<Taken>,
    /// The ids of the messages in the window, by event: one for each time that it was published.
    ids: HashMap<EventId, VecDeque<String>>,
    /// Acknowledged here, to be acknowledged in Redis as soon as possible.
    to_ack: Vec<String>,
    failure: Option<BusError>,
    is_replaced: bool,
}

#[derive(Debug)]
struct Taken {
    id: String,
    message: Message,
    replayed: bool,
}

/// The task's progress: first the messages unacknowledged when the consumer was made, then new ones.
struct Place {
    unacknowledged_after: Option<String>,
    replayed_after: String,
}

impl RedisConsumer {
    pub(super) fn new(shared: Arc<Shared>, name: String, handle: String) -> Self {
        let state = State {
            window: DeliveryWindow::new(shared.options.ack_wait, shared.options.max_unacked),
            prefetched: VecDeque::new(),
            ids: HashMap::new(),
            to_ack: Vec::new(),
            failure: None,
            is_replaced: false,
        };
        let (ready, room) = (Notify::new(), Notify::new());
        let inner = Arc::new(Inner { shared, name, handle, state: Mutex::new(state), ready, room });
        let taker = AbortOnDrop(tokio::spawn(Arc::clone(&inner).fetch_loop()));
        Self { inner, _taker: taker }
    }
}

impl State {
    fn room(&self) -> usize {
        self.window.room().saturating_sub(self.prefetched.len())
    }

    /// The ready messages, up to `max`.
    fn take(&mut self, max: usize) -> Vec<Delivery> {
        let now = Instant::now();
        let mut batch = Vec::new();
        self.window.redeliver(now, max, &mut batch);
        while batch.len() < max {
            let Some(Taken { id, message, replayed }) = self.prefetched.pop_front() else { break };
            self.ids.entry(message.event_id()).or_default().push_back(id);
            if replayed {
                self.window.replay(message);
                self.window.redeliver(now, max, &mut batch);
            } else {
                batch.extend(self.window.deliver(message, now));
            }
        }
        batch
    }

    /// The id to acknowledge for a processed event.
    fn forget(&mut self, event: EventId) -> Option<String> {
        let ids = self.ids.get_mut(&event)?;
        let id = ids.pop_front();
        if ids.is_empty() {
            self.ids.remove(&event);
        }
        id
    }
}

impl Inner {
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Like `with`, for a caller, which gets an error if the consumer has been replaced.
    fn with_live<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T, BusError> {
        self.with(|state| if state.is_replaced { Err(BusError::Replaced) } else { Ok(work(state)) })
    }

    /// Takes messages while there is room for them, until the consumer is replaced.
    async fn fetch_loop(self: Arc<Self>) {
        let mut place = Place { unacknowledged_after: Some("0-0".to_owned()), replayed_after: "0-0".to_owned() };
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let (arrived, room) = (self.shared.arrived.notified(), self.room.notified());
            // Without room as well, to detect that the consumer has been replaced.
            let count = self.with(|state| state.room()).min(TAKE_AT_ONCE);
            match self.take(&mut place, count).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let is_over = !error.is_transient();
                    self.with(|state| {
                        state.is_replaced |= is_over;
                        state.failure = Some(error);
                    });
                    self.ready.notify_waiters();
                    if is_over {
                        return;
                    }
                    sleep(FAILURE_PAUSE).await;
                    continue;
                }
            }
            tokio::select! {
                () = arrived => {}
                () = room => {}
                () = sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Takes up to `count` messages; returns whether more may be available at once.
    async fn take(&self, place: &mut Place, count: usize) -> Result<bool, BusError> {
        self.acknowledge().await?;
        if count == 0 {
            // An empty acknowledgement reveals whether the consumer is the live one.
            self.send_acks(&[]).await?;
            return Ok(false);
        }
        let from = place.unacknowledged_after.as_deref().unwrap_or(">");
        let call = self.shared.consumer_call(&RECEIVE, &self.name, &self.handle, &[]);
        let call = call.number(count).arg(from).arg(&*place.replayed_after);
        let answer = call.run_in(&self.shared.redis, Lane::Reads).await.map_err(unavailable)?;
        match values::text(&answer) {
            Some("replaced") => return Err(BusError::Replaced),
            Some(_) => return Err(BusError::Unavailable("Redis has lost all consumers".to_owned())),
            None => {}
        }
        let lists = values::list(answer).and_then(|lists| <[Value; 2]>::try_from(lists).ok());
        let [news, replayed] = lists.ok_or_else(|| malformed("a consumer"))?.map(read_entries);
        let mut more = news.len() + replayed.len() >= count;
        if place.unacknowledged_after.is_some() {
            // An empty reply means that all have been read.
            place.unacknowledged_after = news.last().map(|last| last.id.clone());
            more = true;
        }
        if let Some(last) = replayed.last() {
            place.replayed_after.clone_from(&last.id);
        }
        self.prefetch(news, replayed);
        Ok(more)
    }

    fn prefetch(&self, news: Vec<Entry>, replayed: Vec<Entry>) {
        if news.is_empty() && replayed.is_empty() {
            return;
        }
        let replayed = replayed.into_iter().map(|entry| (format!("r{}", entry.id), entry, true));
        let news = news.into_iter().map(|entry| (entry.id.clone(), entry, false));
        self.with(|state| {
            for (id, entry, replayed) in replayed.chain(news) {
                match entry.message {
                    Some(message) => state.prefetched.push_back(Taken { id, message, replayed }),
                    None => {
                        tracing::error!(id, "an entry of the bus is not a message and is passed over");
                        state.to_ack.push(id);
                    }
                }
            }
        });
        self.ready.notify_waiters();
    }

    /// Acknowledges in Redis the messages that were acknowledged here. A failure is retried with the next.
    async fn acknowledge(&self) -> Result<(), BusError> {
        loop {
            let ids = self.with(|state| {
                let count = state.to_ack.len().min(ACK_AT_ONCE);
                state.to_ack.drain(..count).collect::<Vec<_>>()
            });
            if ids.is_empty() {
                return Ok(());
            }
            if let Err(error) = self.send_acks(&ids).await {
                self.with(|state| state.to_ack.extend(ids));
                return Err(error);
            }
            self.shared.room.notify_waiters();
            self.room.notify_waiters();
        }
    }

    async fn send_acks(&self, ids: &[String]) -> Result<(), BusError> {
        let call = self.shared.consumer_call(&ACK, &self.name, &self.handle, &[]);
        let call = ids.iter().fold(call, |call, id| call.arg(id.as_bytes()));
        let answer = call.run(&self.shared.redis).await.map_err(unavailable)?;
        if values::text(&answer) == Some("done") { Ok(()) } else { Err(BusError::Replaced) }
    }

    async fn give_up(&self, delivery: &Delivery, id: String, reason: &str) -> Result<(), BusError> {
        let event = delivery.message.event_id();
        let capacity = self.shared.options.max_dead_letters;
        let keys = [self.shared.dead_key(&self.name), self.shared.dead_index_key(&self.name)];
        let call = self.shared.consumer_call(&DEAD_LETTER, &self.name, &self.handle, &keys);
        let call = call.number(capacity).arg(id).arg(event.to_string()).arg(bounded_reason(reason));
        let answer = call.number(delivery.attempt).run(&self.shared.redis).await.map_err(unavailable)?;
        match values::text(&answer) {
            Some("done") => {}
            Some("full") => return Err(BusError::DeadLettersFull { capacity }),
            _ => return Err(BusError::Replaced),
        }
        self.with(|state| {
            state.window.remove(delivery.receipt);
            state.forget(event);
        });
        self.shared.room.notify_waiters();
        self.room.notify_waiters();
        self.ready.notify_waiters();
        Ok(())
    }
}

fn read_entries(entries: Value) -> Vec<Entry> {
    values::list(entries).unwrap_or_default().into_iter().filter_map(Entry::read).collect()
}

/// Runs `work` to completion even if the caller is dropped.
async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, BusError>> + Send + 'static,
) -> Result<T, BusError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(BusError::Unavailable(error.to_string())))
}

#[async_trait]
impl Consumer for RedisConsumer {
    fn ack_wait(&self) -> Duration {
        self.inner.shared.options.ack_wait
    }

    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let ready = self.inner.ready.notified();
            let (batch, failure, next_due) = self.inner.with_live(|state| {
                let batch = state.take(max.max(1));
                // Reported once; the task keeps retrying.
                let failure = if batch.is_empty() { state.failure.take() } else { None };
                (batch, failure, state.window.next_due())
            })?;
            match (batch.is_empty(), failure) {
                (false, _) => return Ok(batch),
                (true, Some(failure)) => return Err(failure),
                (true, None) => {}
            }
            match next_due {
                Some(due) => {
                    tokio::select! {
                        () = ready => {}
                        () = sleep_until(due) => {}
                    }
                }
                None => ready.await,
            }
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.with_live(|state| {
            for &receipt in receipts {
                if let Some(message) = state.window.remove(receipt) {
                    let id = state.forget(message.event_id());
                    state.to_ack.extend(id);
                }
            }
        })?;
        let inner = Arc::clone(&self.inner);
        run_to_completion(async move { inner.acknowledge().await }).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.with_live(|state| {
            let now = Instant::now();
            receipts.iter().for_each(|&receipt| state.window.extend(receipt, now));
        })
    }

    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        let now = Instant::now();
        // A delay beyond the end of time must not panic.
        let not_before = now.checked_add(after).unwrap_or(now + Duration::from_secs(u64::from(u32::MAX)));
        self.inner.with_live(|state| state.window.retry(receipt, not_before))?;
        self.inner.ready.notify_waiters();
        Ok(())
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let id = self.inner.with_live(|state| {
            if !state.window.holds(delivery.receipt) {
                return None;
            }
            // Prevents a redelivery while Redis is asked.
            state.window.extend(delivery.receipt, Instant::now());
            state.ids.get(&delivery.message.event_id()).and_then(|ids| ids.front().cloned())
        })?;
        let Some(id) = id else { return Ok(()) };
        let (inner, delivery, reason) = (Arc::clone(&self.inner), delivery.clone(), reason.to_owned());
        run_to_completion(async move { inner.give_up(&delivery, id, &reason).await }).await
    }
}
