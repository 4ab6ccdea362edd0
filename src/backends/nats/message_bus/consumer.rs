//! The live consumer of one name.
//!
//! A separate task prefetches messages from the stream, so that a caller that drops its wait loses nothing. The window bounds the prefetched
//! messages: a consumer that acknowledges nothing gets nothing more.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    dead_letters::{DeadLetters, Replayed, Seen},
    dealt::AckedRanges,
    envelope, publisher,
    reader::{Read, Reader},
    registry::{Cursor, Progress},
};
use crate::backends::nats::provision::Made;
use crate::ports::message_bus::{BusError, Consumer, Delivery, DeliveryWindow, EventId, Message, Receipt};

/// How many messages one pull requests.
const PULL_AT_ONCE: usize = 512;
/// How often to check without being woken: for messages that another node has replayed, and for another node that has taken the name over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The receiving end of one name. See the module.
#[derive(Debug)]
pub(super) struct NatsConsumer {
    inner: Arc<Inner>,
    reading: JoinHandle<()>,
}

impl Drop for NatsConsumer {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: String,
    dead_letters: DeadLetters,
    state: Mutex<State>,
    /// Writes of the cursor are serialized; each includes everything acknowledged before it.
    cursor: tokio::sync::Mutex<(Cursor, Written)>,
    /// Notified when there may be messages for a caller.
    ready: Notify,
    /// Notified when there may be room for more messages.
    room: Notify,
}

/// The last change of the state that has been written to the cursor.
#[derive(Debug, Default)]
struct Written(u64);

#[derive(Debug)]
struct State {
    window: DeliveryWindow,
    /// Read from NATS, not in the window yet.
    prefetched: VecDeque<(Place, Message)>,
    /// The places of the messages in the window, by event: one for each time that it was published.
    places: HashMap<EventId, VecDeque<Place>>,
    /// The parts of a message that has not come yet.
    parts: Vec<(u64, Bytes)>,
    /// The incarnation of the stream that the sequences here belong to; `None` until it is known.
    stream: Option<Made>,
    dealt: AckedRanges,
    /// The position of the log up to which all events are processed.
    position: u64,
    /// The positions that this advances to when everything before a sequence is processed; both grow.
    marks: VecDeque<(u64, u64)>,
    /// Counts the changes of `dealt`.
    changes: u64,
    /// Replayed letters that are processed, to be deleted as soon as possible.
    to_delete: Vec<u64>,
    /// The first sequence that has not been read.
    next: u64,
    /// The sequence up to which the dead letters are known.
    replayed_up_to: Seen,
    failure: Option<BusError>,
    is_replaced: bool,
}

/// The place of a message, by its sequence there.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the stream of this incarnation: the sequences of its first part, if it has any, and of itself.
    Stream { stream: Option<Made>, first: u64, last: u64 },
    /// Among the dead letters, to be replayed.
    Replayed(u64),
}

impl NatsConsumer {
    pub(super) fn new(shared: Arc<Shared>, name: String, cursor: Cursor, progress: Progress) -> Self {
        let Progress { stream, dealt, position } = progress;
        let state = State {
            window: DeliveryWindow::new(shared.options.ack_wait, shared.options.max_unacked),
            prefetched: VecDeque::new(),
            places: HashMap::new(),
            next: dealt.floor() + 1,
            parts: Vec::new(),
            stream,
            dealt,
            position,
            marks: VecDeque::new(),
            changes: 0,
            to_delete: Vec::new(),
            replayed_up_to: Seen::default(),
            failure: None,
            is_replaced: false,
        };
        let dead_letters = shared.dead_letters(&name);
        let cursor = tokio::sync::Mutex::new((cursor, Written::default()));
        let (state, ready, room) = (Mutex::new(state), Notify::new(), Notify::new());
        let inner = Arc::new(Inner { shared, name, dead_letters, state, cursor, ready, room });
        let reading = tokio::spawn(Arc::clone(&inner).fetch_loop());
        Self { inner, reading }
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
            let Some((place, message)) = self.prefetched.pop_front() else { break };
            self.places.entry(message.event_id()).or_default().push_back(place);
            if matches!(place, Place::Replayed(_)) {
                self.window.replay(message);
                self.window.redeliver(now, max, &mut batch);
            } else {
                batch.extend(self.window.deliver(message, now));
            }
        }
        batch
    }

    /// Takes a processed message out of the window. Returns its place; `None` if the receipt is void.
    fn finish(&mut self, receipt: Receipt) -> Option<Place> {
        let event = self.window.remove(receipt)?.event_id();
        let places = self.places.get_mut(&event)?;
        let place = places.pop_front();
        if places.is_empty() {
            self.places.remove(&event);
        }
        // The sequences of a stream that has vanished meanwhile are meaningless: the message is redelivered.
        if let Some(Place::Stream { stream, first, last }) = place
            && stream == self.stream
        {
            self.deal_with(first, last);
        }
        place
    }

    fn deal_with(&mut self, first: u64, last: u64) {
        self.dealt.add(first, last);
        self.changes += 1;
        self.raise_position();
    }

    /// Records that all events up to `position` come before `sequence`.
    fn mark(&mut self, sequence: u64, position: u64) {
        if position > self.marks.back().map_or(self.position, |(_, position)| *position) {
            self.marks.push_back((sequence, position));
            self.raise_position();
        }
    }

    fn raise_position(&mut self) {
        while let Some((_, position)) = self.marks.front().filter(|(sequence, _)| self.dealt.floor() + 1 >= *sequence) {
            self.position = *position;
            self.marks.pop_front();
        }
    }

    fn progress(&self) -> Progress {
        Progress { stream: self.stream, dealt: self.dealt.clone(), position: self.position }
    }

    /// Restarts from the beginning if the stream, which is of this incarnation and ends at `last`, is not the previous one. Returns whether it does.
    fn begin_again_if_lost(&mut self, made: Made, last: u64) -> bool {
        // A stream that ends before processed messages has changed, too: its data was restored to an earlier state.
        let is_lost = self.stream.is_some_and(|stream| stream != made) || self.next > last + 1;
        if is_lost {
            (self.next, self.dealt) = (1, AckedRanges::default());
            self.parts.clear();
            self.marks.clear();
            self.changes += 1;
        }
        self.stream = Some(made);
        is_lost
    }

    /// Adds a message that was read from the stream.
    fn prefetch(&mut self, read: Read) {
        let Read { sequence, headers, payload, .. } = read;
        if let Some((made, position)) = envelope::stamped(&headers)
            && self.stream == Some(made)
        {
            self.mark(sequence, position);
        }
        // Messages between the last one and this one no longer exist.
        let (first_missing, next) = (self.next, sequence + 1);
        self.next = self.next.max(next);
        if first_missing < sequence && !self.dealt.contains(sequence - 1) {
            self.deal_with(first_missing, sequence - 1);
        }
        if sequence < first_missing || self.dealt.contains(sequence) {
            return;
        }
        if let Some(number) = envelope::part_number(&headers) {
            if number == 1 {
                self.drop_parts();
            }
            return self.parts.push((sequence, payload));
        }
        let count = envelope::part_count(&headers);
        let whole = if count == 0 { Some((sequence, payload)) } else { self.join_parts(sequence, count) };
        self.drop_parts();
        let first = whole.as_ref().map_or(sequence, |(first, _)| *first);
        match whole.and_then(|(_, payload)| envelope::open(&headers, payload)) {
            Some(message) => {
                let place = Place::Stream { stream: self.stream, first, last: sequence };
                self.prefetched.push_back((place, message));
            }
            None => {
                tracing::error!(
                    sequence,
                    "a message of the stream of events is not one of ours, or not whole, and is passed over"
                );
                self.deal_with(first, sequence);
            }
        }
    }

    /// The parts of the message at `sequence` as one, with the sequence of the first. `None` unless all come directly before it: the oldest may have
    /// been dropped.
    fn join_parts(&mut self, sequence: u64, count: usize) -> Option<(u64, Bytes)> {
        let first = sequence.saturating_sub(count as u64);
        let sequences = self.parts.iter().map(|(at, _)| *at);
        if !sequences.eq(first..sequence) {
            return None;
        }
        let parts: Vec<_> = self.parts.drain(..).map(|(_, part)| part).collect();
        Some((first, Bytes::from(parts.concat())))
    }

    /// Skips parts that no message follows: their publisher has started over.
    fn drop_parts(&mut self) {
        for (sequence, _) in std::mem::take(&mut self.parts) {
            self.deal_with(sequence, sequence);
        }
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

    /// Reads while there is room, until the consumer is replaced.
    async fn fetch_loop(self: Arc<Self>) {
        loop {
            let Err(error) = self.read_on().await;
            let is_over = !error.is_transient();
            self.fail(error);
            if is_over {
                return;
            }
            sleep(FAILURE_PAUSE).await;
        }
    }

    fn fail(&self, error: BusError) {
        self.with(|state| {
            state.is_replaced |= !error.is_transient();
            state.failure = Some(error);
        });
        self.ready.notify_waiters();
    }

    /// Reads from its position until something fails.
    async fn read_on(&self) -> Result<std::convert::Infallible, BusError> {
        self.look().await?;
        self.begin_again_if_lost().await?;
        let (stream, next) = (&self.shared.stream, self.with(|state| state.next));
        let purpose = format!("reads for the consumer {}", self.name);
        let opened = Reader::open(&self.shared.nats, stream, next, &purpose).await;
        let mut reader = opened.map_err(BusError::Unavailable)?;
        let mut look_at = Instant::now() + LOOK_EVERY;
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let (arrived, room) = (self.shared.arrived.notified(), self.room.notified());
            let count = self.with(|state| state.room()).min(PULL_AT_ONCE);
            if count == 0 {
                tokio::select! {
                    () = arrived => {}
                    () = room => {}
                    () = sleep(LOOK_EVERY) => {}
                }
                self.look().await?;
                continue;
            }
            reader.pull(count, LOOK_EVERY).await.map_err(BusError::Unavailable)?;
            self.read_pulled(&mut reader, &mut look_at).await?;
        }
    }

    /// Prefetches the messages of a pull, with checks in between whenever something may have changed.
    async fn read_pulled(&self, reader: &mut Reader, look_at: &mut Instant) -> Result<(), BusError> {
        loop {
            let arrived = self.shared.arrived.notified();
            tokio::select! {
                read = reader.next() => match read.map_err(BusError::Unavailable)? {
                    Some(read) => {
                        self.with(|state| state.prefetch(read));
                        self.ready.notify_waiters();
                    }
                    None if Instant::now() < *look_at => return Ok(()),
                    None => {}
                },
                () = arrived => *look_at = Instant::now(),
            }
            // A stream that never pauses must not prevent the detection of a replacement.
            if Instant::now() >= *look_at {
                self.look().await?;
                *look_at = Instant::now() + LOOK_EVERY;
            }
        }
    }

    /// Checks that it is still the live one, writes pending acknowledgements, and takes the letters to be replayed.
    async fn look(&self) -> Result<(), BusError> {
        self.flush().await?;
        {
            let mut cursor = self.cursor.lock().await;
            self.shared.registry.look(&self.name, &mut cursor.0).await?;
        }
        let seen = self.with(|state| state.replayed_up_to);
        let (replayed, seen) = self.dead_letters.to_replay(seen).await?;
        let came = !replayed.is_empty();
        self.with(|state| {
            state.replayed_up_to = seen;
            let replayed = replayed.into_iter();
            let replayed = replayed.map(|Replayed { sequence, message }| (Place::Replayed(sequence), message));
            state.prefetched.extend(replayed);
        });
        if came {
            self.ready.notify_waiters();
        }
        Ok(())
    }

    /// Restarts from the beginning if the stream is not the one that was read before.
    async fn begin_again_if_lost(&self) -> Result<(), BusError> {
        let stream = publisher::stream(&self.shared).await?;
        let (made, last) = (Made::of(stream.cached_info()), stream.cached_info().state.last_sequence);
        if self.with(|state| state.begin_again_if_lost(made, last)) {
            tracing::error!(consumer = self.name, "the stream of events was lost and is read from its beginning");
        }
        Ok(())
    }

    /// Persists the processed messages. A failure is retried with the next.
    async fn flush(&self) -> Result<(), BusError> {
        let wanted = self.with(|state| state.changes);
        {
            let mut cursor = self.cursor.lock().await;
            let (cursor, written) = &mut *cursor;
            // Another call may have written it together with its own.
            if written.0 < wanted {
                let (changes, progress) = self.with(|state| (state.changes, state.progress()));
                self.shared.registry.save(&self.name, cursor, &progress).await?;
                written.0 = changes;
                self.shared.room.notify_waiters();
            }
        }
        while let Some(sequence) = self.with(|state| state.to_delete.last().copied()) {
            self.dead_letters.delete(sequence).await?;
            self.with(|state| state.to_delete.retain(|&other| other != sequence));
        }
        Ok(())
    }

    /// Persists the processed messages, for a caller; a take-over is detected here too.
    async fn flush_and_notice(&self) -> Result<(), BusError> {
        let flushed = self.flush().await;
        if flushed == Err(BusError::Replaced) {
            self.fail(BusError::Replaced);
        }
        // The window has room, whether the write succeeded or not.
        self.room.notify_waiters();
        flushed
    }

    async fn give_up(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let sequence = self.dead_letters.add(delivery, reason).await?;
        // A replayed letter has been replaced by the new dead letter.
        self.with(|state| state.finish(delivery.receipt));
        let finished = self.flush_and_notice().await;
        if finished == Err(BusError::Replaced) {
            // Another consumer processes the message.
            let _ = self.dead_letters.delete(sequence).await;
        }
        self.ready.notify_waiters();
        finished
    }
}

/// Runs `work` to completion even if the caller is dropped.
async fn run_to_completion<T: Send + 'static>(
    work: impl Future<Output = Result<T, BusError>> + Send + 'static,
) -> Result<T, BusError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(BusError::Unavailable(error.to_string())))
}

#[async_trait]
impl Consumer for NatsConsumer {
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
                if let Some(Place::Replayed(sequence)) = state.finish(receipt) {
                    state.to_delete.push(sequence);
                }
            }
        })?;
        let inner = Arc::clone(&self.inner);
        run_to_completion(async move { inner.flush_and_notice().await }).await
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
        let is_held = self.inner.with_live(|state| {
            // Prevents a redelivery while NATS is asked.
            state.window.extend(delivery.receipt, Instant::now());
            state.window.holds(delivery.receipt)
        })?;
        if !is_held {
            return Ok(());
        }
        let (inner, delivery, reason) = (Arc::clone(&self.inner), delivery.clone(), reason.to_owned());
        run_to_completion(async move { inner.give_up(&delivery, &reason).await }).await
    }
}
