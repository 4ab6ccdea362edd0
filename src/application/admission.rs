//! Limits concurrent calls by their latency. It decides when the request headers have arrived, so that a refusal is cheap.
//!
//! An overloaded node answers every client late, and finally too late. So each kind of call has a limit that grows while calls are quick and shrinks
//! when they are slow (additive increase, multiplicative decrease), between [`FLOOR`] and `--max-in-flight`. The limit follows the mean latency over
//! a fifth of a second: from the arrival of the headers to the response, without the time spent waiting for the client or for other writers. Commands
//! and reads have separate limits, so that commands that wait for an unavailable store do not block reads; a list or a batch is refused when half of
//! the read limit is in use.
//!
//! A distant store is not an overload. If calls are slow even at the minimum limit, their number is not the cause: the target is then twice their
//! latency.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;

/// The number of concurrent calls of a kind that are always admitted, unless `--max-in-flight` is less.
pub const FLOOR: usize = 512;
/// The limit before the first measurement: a burst after a quiet time is processed.
const INITIAL: usize = 2_048;
/// The target for the mean latency.
const TARGET: Duration = Duration::from_millis(100);
/// The maximum target, for calls that are slow even when few.
const MAX_TARGET: Duration = Duration::from_millis(500);
/// The length of a measurement; the limit is adjusted after it. Two periods of the kernel's quota for the processors of a container: a node that has
/// used up its share does not run for the rest of a period.
const WINDOW: Duration = Duration::from_millis(200);
/// The minimum number of calls in a measurement.
const MIN_CALLS: u32 = 10;

/// The size of a unit: a call counts once more for each unit of its request, since the work grows with the size.
const UNIT_BYTES: usize = 16 * 1024;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Changes an order.
    Command,
    /// Reads one thing.
    Read,
    /// Reads many: a page of a list, a batch.
    BulkRead,
}

/// The limits of a node.
#[derive(Debug)]
pub struct Admission {
    commands: Arc<Limiter>,
    reads: Arc<Limiter>,
    /// Connections that have calls in progress.
    active: Arc<AtomicUsize>,
    refused: [Counter; 3],
}

/// The calls in progress of one connection, among those of all. Cheap to clone; clones are the same connection.
#[derive(Clone, Debug)]
pub struct Caller(Arc<Calls>);

#[derive(Debug)]
struct Calls {
    own: AtomicUsize,
    active: Arc<AtomicUsize>,
}

/// The calls of a kind in progress, and their limit.
#[derive(Debug)]
struct Limiter {
    limit: AtomicUsize,
    busy: AtomicUsize,
    min: usize,
    max: usize,
    window: Mutex<Window>,
    gauge: Gauge,
}

/// The measurements since the last adjustment.
#[derive(Debug)]
struct Window {
    began: Instant,
    calls: u32,
    total: Duration,
    most_busy: usize,
    /// The latency of calls when few are in progress.
    base: Duration,
}

/// An admitted call. It counts until it is dropped.
#[derive(Debug)]
pub struct Call {
    limiter: Arc<Limiter>,
    caller: Option<Caller>,
    time: Mutex<Time>,
}

/// How long a call has been processed, without the time since `since`; `None` while it waits for others and does not count. The call counts `units`
/// times.
#[derive(Debug)]
struct Time {
    since: Option<Instant>,
    worked: Duration,
    units: usize,
}

tokio::task_local! {
    static CALL: Arc<Call>;
}

impl Admission {
    /// Limits of at most `max_in_flight` calls of each kind.
    #[must_use]
    pub fn new(max_in_flight: usize) -> Self {
        let refused = |class| metrics::counter!("ordersystem_requests_shed_total", "class" => class);
        Self {
            commands: Arc::new(Limiter::new("command", max_in_flight)),
            reads: Arc::new(Limiter::new("read", max_in_flight)),
            active: Arc::default(),
            refused: ["command", "read", "bulk_read"].map(refused),
        }
    }

    /// A new connection, without calls in progress.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller(Arc::new(Calls { own: AtomicUsize::new(0), active: Arc::clone(&self.active) }))
    }

    /// Admits a call of `caller`; `None` if it is refused.
    #[must_use]
    pub fn admit(&self, class: Class, caller: Option<&Caller>) -> Option<Arc<Call>> {
        let (limiter, part) = match class {
            Class::Command => (&self.commands, 1),
            Class::Read => (&self.reads, 1),
            Class::BulkRead => (&self.reads, 2),
        };
        let limit = limiter.limit.load(Ordering::Relaxed).div_ceil(part);
        let has_few = caller.is_some_and(|caller| caller.has_less_than_its_share(limit));
        // Never more than the pipeline has permits for: it would refuse the call after its body has been read.
        let room = if has_few { (limit + limit / 2).min(limiter.max.div_ceil(part)) } else { limit };
        let admitted = limiter.enter(room).then(|| Call::begin(limiter, caller.cloned()));
        if admitted.is_none() {
            self.refused[class as usize].increment(1);
        }
        admitted.map(Arc::new)
    }

    /// Whether a command would be admitted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let commands = &self.commands;
        commands.busy.load(Ordering::Relaxed) < commands.limit.load(Ordering::Relaxed)
    }

    /// Admits a command of a stream unconditionally: the stream checks the limit first, and stops reading while it is reached. The command counts by
    /// the `bytes` of its message, like a call of its own.
    #[must_use]
    pub fn join(&self, bytes: usize) -> Arc<Call> {
        self.commands.busy.fetch_add(1, Ordering::Relaxed);
        let call = Call::begin(&self.commands, None);
        call.weigh(bytes);
        Arc::new(call)
    }

    /// Counts a command of a stream that exceeded the limit.
    pub fn shed(&self) {
        self.refused[Class::Command as usize].increment(1);
    }

    /// Publishes gauges that are cheaper to sample than to update on each call.
    pub fn publish_gauges(&self) {
        for limiter in [&self.commands, &self.reads] {
            #[allow(clippy::cast_precision_loss, reason = "a gauge; far below 2^52")]
            limiter.gauge.set(limiter.limit.load(Ordering::Relaxed) as f64);
        }
    }
}

impl Caller {
    /// The only caller of an idle node.
    #[must_use]
    pub fn alone() -> Self {
        Self(Arc::new(Calls { own: AtomicUsize::new(0), active: Arc::default() }))
    }

    fn has_less_than_its_share(&self, limit: usize) -> bool {
        // `active` includes this caller, even before its first call is counted.
        self.own() < limit / self.0.active.load(Ordering::Relaxed).max(1)
    }

    fn own(&self) -> usize {
        self.0.own.load(Ordering::Relaxed)
    }

    fn enter(&self, units: usize) {
        if self.0.own.fetch_add(units, Ordering::Relaxed) == 0 {
            self.0.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leave(&self, units: usize) {
        if self.0.own.fetch_sub(units, Ordering::Relaxed) == units {
            self.0.active.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Limiter {
    fn new(class: &'static str, max: usize) -> Self {
        Self {
            limit: AtomicUsize::new(INITIAL.min(max)),
            busy: AtomicUsize::new(0),
            min: FLOOR.min(max),
            max,
            window: Mutex::new(Window::begin(Instant::now(), Duration::ZERO)),
            gauge: metrics::gauge!("ordersystem_admission_limit", "class" => class),
        }
    }

    fn enter(&self, limit: usize) -> bool {
        self.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |busy| (busy < limit).then_some(busy + 1)).is_ok()
    }

    /// Records that a call took `took`.
    fn took(&self, now: Instant, took: Duration) {
        let busy = self.busy.load(Ordering::Relaxed);
        let mut window = self.window.lock();
        window.calls += 1;
        window.total += took;
        window.most_busy = window.most_busy.max(busy);
        if window.calls < MIN_CALLS || now.duration_since(window.began) < WINDOW {
            return;
        }
        let limit = self.limit.load(Ordering::Relaxed);
        let mean = window.total / window.calls;
        // At its minimum, the limit is not the cause of waiting.
        let base = if limit <= self.min { mean } else { window.base.min(mean) };
        self.limit.store(window.next_limit(limit, mean, base).clamp(self.min, self.max), Ordering::Relaxed);
        *window = Window::begin(now, base);
    }
}

impl Window {
    const fn begin(now: Instant, base: Duration) -> Self {
        Self { began: now, calls: 0, total: Duration::ZERO, most_busy: 0, base }
    }

    fn next_limit(&self, limit: usize, mean: Duration, base: Duration) -> usize {
        let target = (base * 2).clamp(TARGET, MAX_TARGET);
        if mean > target {
            // A limit that is not fully used gives no information about the right limit.
            let used = limit.min(self.most_busy);
            let percent = (target.as_millis() * 100 / mean.as_millis().max(1)).clamp(50, 95);
            return used * usize::try_from(percent).unwrap_or(50) / 100;
        }
        if self.most_busy * 2 < limit {
            return limit;
        }
        limit + if mean < target / 2 { limit / 4 + 4 } else { limit / 20 + 1 }
    }
}

impl Call {
    /// A call that has been counted, from now on.
    fn begin(limiter: &Arc<Limiter>, caller: Option<Caller>) -> Self {
        if let Some(caller) = &caller {
            caller.enter(1);
        }
        let time = Time { since: Some(Instant::now()), worked: Duration::ZERO, units: 1 };
        Self { limiter: Arc::clone(limiter), caller, time: Mutex::new(time) }
    }

    fn leave(&self, units: usize) {
        self.limiter.busy.fetch_sub(units, Ordering::Relaxed);
        if let Some(caller) = &self.caller {
            caller.leave(units);
        }
    }

    /// Counts the call, which has been admitted, as often as its request has parts of [`UNIT_BYTES`].
    fn weigh(&self, bytes: usize) {
        let mut time = self.time();
        let more = (1 + bytes / UNIT_BYTES).saturating_sub(time.units);
        time.units += more;
        if more > 0 && time.since.is_some() {
            self.limiter.busy.fetch_add(more, Ordering::Relaxed);
            if let Some(caller) = &self.caller {
                caller.enter(more);
            }
        }
    }

    /// Runs `work` as this call, and measures it unless it is cancelled.
    pub fn run<F: Future>(self: Arc<Self>, work: F) -> Run<F> {
        Run { work: CALL.scope(Arc::clone(&self), work), call: self }
    }

    /// Measures the call at its end.
    fn ended(&self) {
        let now = Instant::now();
        let worked = {
            let time = self.time();
            time.worked + time.since.map_or(Duration::ZERO, |since| now.duration_since(since))
        };
        self.limiter.took(now, worked);
    }

    /// Stops counting the call while it waits for others.
    pub fn pause(&self) {
        let mut time = self.time();
        if let Some(since) = time.since.take() {
            time.worked += since.elapsed();
            self.leave(time.units);
        }
    }

    /// Counts the call again; returns whether the limit allows it, or nearly.
    pub fn resume(&self) -> bool {
        let mut time = self.time();
        if time.since.is_none() {
            time.since = Some(Instant::now());
            let limit = self.limiter.limit.load(Ordering::Relaxed);
            let has_few = self.caller.as_ref().is_some_and(|caller| caller.has_less_than_its_share(limit));
            let room = if has_few { limit + limit / 2 } else { limit + limit / 4 };
            if let Some(caller) = &self.caller {
                caller.enter(time.units);
            }
            return self.limiter.busy.fetch_add(time.units, Ordering::Relaxed) < room;
        }
        true
    }

    fn time(&self) -> parking_lot::MutexGuard<'_, Time> {
        self.time.lock()
    }
}

pin_project! {
    /// The work of a call. It is a named type, so that the services that run it need not box it.
    #[must_use = "futures do nothing unless polled"]
    pub struct Run<F> {
        #[pin]
        work: TaskLocalFuture<Arc<Call>, F>,
        call: Arc<Call>,
    }
}

impl<F: Future> Future for Run<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let done = ready!(this.work.poll(task));
        this.call.ended();
        Poll::Ready(done)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let time = self.time();
        if time.since.is_some() {
            self.leave(time.units);
        }
    }
}

/// Awaits `work` of other tasks. Meanwhile the call of this task does not count, and its time is not measured.
pub async fn aside<T>(work: impl Future<Output = T>) -> T {
    let call = CALL.try_with(Arc::clone).ok();
    if let Some(call) = &call {
        call.pause();
    }
    let done = work.await;
    if let Some(call) = &call {
        call.resume();
    }
    done
}

/// Counts the call of this task by the `bytes` of its request, now that it is known: later calls find less room.
pub fn weigh(bytes: usize) {
    let _ = CALL.try_with(|call| call.weigh(bytes));
}

#[cfg(test)]
mod tests;
