//! The live consumer of one name.
//!
//! A separate task prefetches messages from the stream: see [`PrefetchBuffer`].

use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Shared,
    acked_ranges::AckedRanges,
    dead_letters::{DeadLetters, Replayed, Seen},
    envelope, publisher,
    registry::{Cursor, Progress},
    unreadable,
};
use crate::{
    backends::nats::{
        provision::Made,
        pull_reader::{Ending, Read, Reader, Selection},
    },
    ports::message_bus::{BusError, Consumer, Delivery, PrefetchBuffer, Prefetched, Receipt, run_to_completion},
    telemetry::outage::{Line, Outage},
};

/// How many messages one pull requests.
const PULL_AT_ONCE: usize = 512;
/// How often to check without being woken: for messages that another node has replayed, and for another node that has taken the name over.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(200);

/// The receiving end of one name. See the module.
#[derive(Debug)]
pub(super) struct NatsConsumer {
    inner: Arc<Inner>,
    _reading: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    name: String,
    dead_letters: DeadLetters,
    buffer: PrefetchBuffer<Location>,
    state: Mutex<ConsumerState>,
    /// Writes of the cursor are serialized; each includes everything acknowledged before it.
    cursor: tokio::sync::Mutex<(Cursor, Written)>,
}

/// The last change of the state that has been written to the cursor.
#[derive(Debug, Default)]
struct Written(u64);

/// The position in the stream, and the processed messages.
#[derive(Debug)]
struct ConsumerState {
    /// The address of NATS, for messages.
    server: String,
    /// The parts of a message that has not come yet.
    parts: Vec<(u64, Bytes)>,
    /// The incarnation of the stream that the sequences here belong to; `None` until it is known.
    stream: Option<Made>,
    acked: AckedRanges,
    /// The position of the log up to which all events are processed.
    position: u64,
    /// The positions that this advances to when everything before a sequence is processed; both grow.
    marks: VecDeque<(u64, u64)>,
    /// Counts the changes of `acked`.
    changes: u64,
    /// Replayed letters that are processed, to be deleted as soon as possible.
    to_delete: Vec<u64>,
    /// The first sequence that has not been read.
    next: u64,
    /// The sequence up to which the dead letters are known.
    replayed_up_to: Seen,
    /// Messages of others, which anyone who may publish to the stream can add.
    strangers: Outage,
}

/// The location of a message, by its sequence there.
#[derive(Clone, Copy, Debug)]
enum Location {
    /// In the stream of this incarnation: the sequences of its first part, if it has any, and of itself.
    Stream { stream: Option<Made>, first: u64, last: u64 },
    /// Among the dead letters, to be replayed.
    Replayed(u64),
}

impl NatsConsumer {
    pub(super) fn new(shared: Arc<Shared>, name: String, cursor: Cursor, progress: Progress) -> Self {
        let Progress { stream, acked, position } = progress;
        let state = ConsumerState {
            server: shared.nats.server().address().to_owned(),
            next: acked.floor() + 1,
            parts: Vec::new(),
            stream,
            acked,
            position,
            marks: VecDeque::new(),
            changes: 0,
            to_delete: Vec::new(),
            replayed_up_to: Seen::default(),
            strangers: Outage::new(),
        };
        let dead_letters = shared.dead_letters(&name);
        let buffer = PrefetchBuffer::new(shared.options.ack_wait, shared.options.max_unacked);
        let (state, cursor) = (Mutex::new(state), tokio::sync::Mutex::new((cursor, Written::default())));
        let inner = Arc::new(Inner { shared, name, dead_letters, buffer, state, cursor });
        let reading = AbortOnDropHandle::new(tokio::spawn(Arc::clone(&inner).fetch_loop()));
        Self { inner, _reading: reading }
    }
}

impl ConsumerState {
    /// Records that the message at `location` was processed.
    fn finish(&mut self, location: Location) {
        match location {
            // The sequences of a stream that has vanished meanwhile are meaningless: the message is redelivered.
            Location::Stream { stream, first, last } if stream == self.stream => self.acknowledge(first, last),
            Location::Stream { .. } => {}
            Location::Replayed(sequence) => self.to_delete.push(sequence),
        }
    }

    fn acknowledge(&mut self, first: u64, last: u64) {
        self.acked.add(first, last);
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
        while let Some((_, position)) = self.marks.front().filter(|(sequence, _)| self.acked.floor() + 1 >= *sequence) {
            self.position = *position;
            self.marks.pop_front();
        }
    }

    fn progress(&self) -> Progress {
        Progress { stream: self.stream, acked: self.acked.clone(), position: self.position }
    }

    /// Restarts from the beginning if the stream, which is of this incarnation and ends at `last`, is not the previous one. Returns whether it does.
    fn begin_again_if_lost(&mut self, made: Made, last: u64) -> bool {
        // A stream that ends before processed messages has changed, too: its data was restored to an earlier state.
        let is_lost = self.stream.is_some_and(|stream| stream != made) || self.next > last + 1;
        if is_lost {
            (self.next, self.acked) = (1, AckedRanges::default());
            self.parts.clear();
            self.marks.clear();
            self.changes += 1;
        }
        self.stream = Some(made);
        is_lost
    }

    /// Takes in a message that was read from the stream; returns it, if it is whole and new.
    fn prefetch(&mut self, read: Read) -> Option<Prefetched<Location>> {
        let Read { sequence, headers, payload, .. } = read;
        if let Some((made, position)) = envelope::stamped(&headers)
            && self.stream == Some(made)
        {
            self.mark(sequence, position);
        }
        // Messages between the last one and this one no longer exist.
        let (first_missing, next) = (self.next, sequence + 1);
        self.next = self.next.max(next);
        if first_missing < sequence && !self.acked.contains(sequence - 1) {
            self.acknowledge(first_missing, sequence - 1);
        }
        if sequence < first_missing || self.acked.contains(sequence) {
            return None;
        }
        if let Some(number) = envelope::part_number(&headers) {
            if number == 1 {
                self.drop_parts();
            }
            self.parts.push((sequence, payload));
            return None;
        }
        let count = envelope::part_count(&headers);
        let whole = if count == 0 { Some((sequence, payload)) } else { self.join_parts(sequence, count) };
        self.drop_parts();
        let first = whole.as_ref().map_or(sequence, |(first, _)| *first);
        let message = whole.and_then(|(_, payload)| envelope::decode(&headers, payload));
        if message.is_none() {
            if let Some(Line { unsaid }) = self.strangers.failed("not ours") {
                tracing::error!(
                    server = self.server,
                    sequence,
                    unsaid,
                    "skipping a message of the stream of events that is not ours or is incomplete"
                );
            }
            self.acknowledge(first, sequence);
        }
        let location = Location::Stream { stream: self.stream, first, last: sequence };
        message.map(|message| Prefetched { location, message, is_replayed: false })
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
            self.acknowledge(sequence, sequence);
        }
    }
}

impl Inner {
    fn with<T>(&self, work: impl FnOnce(&mut ConsumerState) -> T) -> T {
        work(&mut self.state.lock())
    }

    /// Reads while there is room, until the consumer is replaced.
    async fn fetch_loop(self: Arc<Self>) {
        loop {
            let Err(error) = self.read_on().await;
            if self.buffer.fail(error) {
                return;
            }
            sleep(FAILURE_PAUSE).await;
        }
    }

    /// Reads from its position until something fails.
    async fn read_on(&self) -> Result<std::convert::Infallible, BusError> {
        self.synchronize().await?;
        self.begin_again_if_lost().await?;
        let (stream, next) = (&self.shared.stream, self.with(|state| state.next));
        let purpose = format!("reads for the consumer {}", self.name);
        let selection = Selection { stream, filter: None, from: next };
        let opened = Reader::open(&self.shared.nats, selection, &purpose).await;
        let mut reader = opened.map_err(|error| unreadable(stream, &error))?;
        let mut next_check = Instant::now() + POLL_INTERVAL;
        loop {
            // Created before the check: it is woken from its creation on, even before it is awaited.
            let (arrived, room) = (self.shared.arrived.notified(), self.buffer.more_room());
            let count = self.buffer.room().min(PULL_AT_ONCE);
            if count == 0 {
                tokio::select! {
                    () = arrived => {}
                    () = room => {}
                    () = sleep(POLL_INTERVAL) => {}
                }
                self.synchronize().await?;
                continue;
            }
            reader.pull(count, POLL_INTERVAL, Ending::AtTimeout).await.map_err(|error| unreadable(stream, &error))?;
            self.read_pulled(&mut reader, &mut next_check).await?;
        }
    }

    /// Prefetches the messages of a pull, with checks in between whenever something may have changed.
    async fn read_pulled(&self, reader: &mut Reader, next_check: &mut Instant) -> Result<(), BusError> {
        loop {
            let arrived = self.shared.arrived.notified();
            tokio::select! {
                read = reader.next() => match read.map_err(|error| unreadable(&self.shared.stream, &error))? {
                    Some(read) => {
                        let message = self.with(|state| state.prefetch(read));
                        self.buffer.extend_with(message);
                    }
                    None if Instant::now() < *next_check => return Ok(()),
                    None => {}
                },
                () = arrived => *next_check = Instant::now(),
            }
            // A stream that never pauses must not prevent the detection of a replacement.
            if Instant::now() >= *next_check {
                self.synchronize().await?;
                *next_check = Instant::now() + POLL_INTERVAL;
            }
        }
    }

    /// Checks that it is still the live one, writes pending acknowledgements, and takes the letters to be replayed.
    async fn synchronize(&self) -> Result<(), BusError> {
        self.flush().await?;
        {
            let mut cursor = self.cursor.lock().await;
            self.shared.registry.check_live(&self.name, &mut cursor.0).await?;
        }
        let seen = self.with(|state| state.replayed_up_to);
        let (replayed, seen) = self.dead_letters.to_replay(seen).await?;
        self.with(|state| state.replayed_up_to = seen);
        self.buffer.extend_with(replayed.into_iter().map(|Replayed { sequence, message }| Prefetched {
            location: Location::Replayed(sequence),
            message,
            is_replayed: true,
        }));
        Ok(())
    }

    /// Restarts from the beginning if the stream is not the one that was read before.
    async fn begin_again_if_lost(&self) -> Result<(), BusError> {
        let stream = publisher::stream(&self.shared).await?;
        let (made, last) = (Made::of(stream.cached_info()), stream.cached_info().state.last_sequence);
        if self.with(|state| state.begin_again_if_lost(made, last)) {
            let server = self.shared.nats.server().address();
            tracing::error!(
                server,
                consumer = self.name,
                "the stream of events was lost; reading it from its beginning"
            );
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
            self.buffer.fail(BusError::Replaced);
        }
        // The window has room, whether the write succeeded or not.
        self.buffer.notify_room();
        flushed
    }

    async fn give_up(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        let sequence = self.dead_letters.add(delivery, reason).await?;
        // A replayed letter has been replaced by the new dead letter.
        if let Some(location @ Location::Stream { .. }) = self.buffer.finish(delivery.receipt) {
            self.with(|state| state.finish(location));
        }
        let finished = self.flush_and_notice().await;
        if finished == Err(BusError::Replaced) {
            // Another consumer processes the message.
            let _ = self.dead_letters.delete(sequence).await;
        }
        finished
    }
}

#[async_trait]
impl Consumer for NatsConsumer {
    fn ack_wait(&self) -> Duration {
        self.inner.shared.options.ack_wait
    }

    async fn next_batch(&self, max: usize) -> Result<Vec<Delivery>, BusError> {
        self.inner.buffer.next_batch(max).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        let finished = self.inner.buffer.finish_all(receipts)?;
        self.inner.with(|state| finished.into_iter().for_each(|location| state.finish(location)));
        let inner = Arc::clone(&self.inner);
        run_to_completion(async move { inner.flush_and_notice().await }).await
    }

    async fn extend(&self, receipts: &[Receipt]) -> Result<(), BusError> {
        self.inner.buffer.extend(receipts)
    }

    async fn retry(&self, receipt: Receipt, after: Duration) -> Result<(), BusError> {
        self.inner.buffer.retry(receipt, after)
    }

    async fn dead_letter(&self, delivery: &Delivery, reason: &str) -> Result<(), BusError> {
        if self.inner.buffer.hold(delivery)?.is_none() {
            return Ok(());
        }
        let (inner, delivery, reason) = (Arc::clone(&self.inner), delivery.clone(), reason.to_owned());
        run_to_completion(async move { inner.give_up(&delivery, &reason).await }).await
    }
}
