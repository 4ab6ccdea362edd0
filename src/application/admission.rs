//! Limits concurrent calls by their latency. It decides when the request headers have arrived, so that a refusal is cheap.
//!
//! An overloaded node is late for every client, and in the end in time for none. So each kind of call has a limit that grows while calls are quick
//! and shrinks when they are not (additive increase, multiplicative decrease), between [`FLOOR`] and `--max-in-flight`. The limit follows the mean
//! latency over a tenth of a second: from the arrival of the headers to the response, without the time spent waiting for the client or for other
//! writers. Commands and reads have separate limits, so that commands stuck in an absent store keep no reads out; a list or a batch is refused when
//! half of the read limit is in use.
//!
//! A distant store is no overload. If calls are slow even at the minimum limit, their number is not the cause: the target is then twice their
//! latency.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{Counter, Gauge};
use parking_lot::Mutex;

/// Concurrent calls of a kind that are always admitted, unless `--max-in-flight` is less.
pub const FLOOR: usize = 512;
/// The limit before the first measurement.
const INITIAL: usize = 1_024;
/// The target for the mean latency.
const TARGET: Duration = Duration::from_millis(100);
/// The maximum target, for calls that are slow even when few.
const MAX_TARGET: Duration = Duration::from_millis(500);
/// The length of a measurement; the limit is adjusted after it.
const WINDOW: Duration = Duration::from_millis(100);
/// The minimum number of calls in a measurement.
const MIN_CALLS: u32 = 10;

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

/// The calls of a kind that are worked on, and how many may be.
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

/// How long a call has been processed, without the time since `since`; `None` while it waits for others and does not count.
#[derive(Debug)]
struct Time {
    since: Option<Instant>,
    worked: Duration,
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

    /// Admits a command of a stream unconditionally: the stream checks the limit first, and stops reading while it is reached.
    #[must_use]
    pub fn join(&self) -> Arc<Call> {
        self.commands.busy.fetch_add(1, Ordering::Relaxed);
        Arc::new(Call::begin(&self.commands, None))
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
    fn has_less_than_its_share(&self, limit: usize) -> bool {
        // Itself among them, if it has none yet.
        self.own() < limit / self.0.active.load(Ordering::Relaxed).max(1)
    }

    fn own(&self) -> usize {
        self.0.own.load(Ordering::Relaxed)
    }

    fn enter(&self) {
        if self.0.own.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.active.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leave(&self) {
        if self.0.own.fetch_sub(1, Ordering::Relaxed) == 1 {
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

    fn leave(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
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
            // An unused limit says nothing about the right limit.
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
            caller.enter();
        }
        let time = Time { since: Some(Instant::now()), worked: Duration::ZERO };
        Self { limiter: Arc::clone(limiter), caller, time: Mutex::new(time) }
    }

    fn leave(&self) {
        self.limiter.leave();
        if let Some(caller) = &self.caller {
            caller.leave();
        }
    }

    /// Runs `work` as this call, and measures it unless it is cancelled.
    pub async fn run<T>(self: Arc<Self>, work: impl Future<Output = T>) -> T {
        let done = CALL.scope(Arc::clone(&self), work).await;
        let now = Instant::now();
        let worked = {
            let time = self.time();
            time.worked + time.since.map_or(Duration::ZERO, |since| now.duration_since(since))
        };
        self.limiter.took(now, worked);
        done
    }

    /// Stops counting the call while it waits for others.
    pub fn pause(&self) {
        let mut time = self.time();
        if let Some(since) = time.since.take() {
            time.worked += since.elapsed();
            self.leave();
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
                caller.enter();
            }
            return self.limiter.busy.fetch_add(1, Ordering::Relaxed) < room;
        }
        true
    }

    fn time(&self) -> parking_lot::MutexGuard<'_, Time> {
        self.time.lock()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if self.time().since.is_some() {
            self.leave();
        }
    }
}

/// Awaits `work` that others must do: meanwhile the call of this task neither counts nor takes time.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Simulates windows of calls whose latency follows from the limit at `per_second`, with the limit fully used.
    fn settled(limiter: &Limiter, per_second: f64, base: Duration, windows: u32) -> usize {
        let mut now = limiter.window.lock().began;
        for _ in 0..windows {
            let limit = limiter.limit.load(Ordering::Relaxed);
            limiter.busy.store(limit, Ordering::Relaxed);
            let took = Duration::from_secs_f64(limit as f64 / per_second).max(base);
            for _ in 0..MIN_CALLS {
                now += WINDOW / MIN_CALLS;
                limiter.took(now, took);
            }
        }
        limiter.limit.load(Ordering::Relaxed)
    }

    #[test]
    fn the_limit_settles_where_calls_take_as_long_as_they_may() {
        for per_second in [8_000.0, 20_000.0, 60_000.0] {
            let limiter = Limiter::new("command", 10_000);
            let limit = settled(&limiter, per_second, Duration::ZERO, 600);
            let took = limit as f64 / per_second;
            assert!((0.08..0.13).contains(&took), "{limit} at {per_second}/s take {took} s");
        }
        let quick = Limiter::new("command", 1_000);
        assert_eq!(settled(&quick, 1e9, Duration::ZERO, 100), 1_000, "grows to what is configured");
        let hanging = Limiter::new("command", 10_000);
        assert_eq!(settled(&hanging, 0.1, Duration::ZERO, 100), FLOOR);
        assert!(settled(&hanging, 10_000.0, Duration::ZERO, 20) > 300, "and is soon there again");
    }

    #[test]
    fn a_store_that_is_far_away_is_no_overload() {
        let limiter = Limiter::new("command", 10_000);
        assert!(settled(&limiter, 1e9, Duration::from_millis(150), 100) > INITIAL);
        let overloaded = settled(&limiter, 4_000.0, Duration::from_millis(150), 100);
        assert!((FLOOR..2_000).contains(&overloaded), "{overloaded}: bounded all the same");
    }

    #[tokio::test]
    async fn a_call_counts_while_it_is_worked_on_and_commands_keep_no_reads_out() {
        let admission = Admission::new(4);
        let commands: Vec<_> = (0..4).map(|_| admission.admit(Class::Command, None).unwrap()).collect();
        assert!(admission.admit(Class::Command, None).is_none());
        let reads: Vec<_> = (0..2).map(|_| admission.admit(Class::BulkRead, None).unwrap()).collect();
        assert!(admission.admit(Class::BulkRead, None).is_none());
        drop([admission.admit(Class::Read, None).unwrap(), admission.admit(Class::Read, None).unwrap()]);
        drop(reads);
        commands[0].pause();
        commands[0].pause();
        let other = admission.admit(Class::Command, None).unwrap();
        assert!(admission.admit(Class::Command, None).is_none());
        assert!(commands[0].resume(), "one more than fit is as good as room");
        drop((other, commands));
        let call = admission.admit(Class::Command, None).unwrap();
        call.run(aside(async { assert_eq!(admission.commands.busy.load(Ordering::Relaxed), 0) })).await;
        assert_eq!(admission.commands.busy.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn who_makes_few_calls_is_let_in_beside_who_takes_all_there_is() {
        let admission = Admission::new(1_000);
        admission.commands.limit.store(100, Ordering::Relaxed);
        let (flood, few) = (admission.caller(), admission.caller());
        let mut calls = Vec::new();
        while let Some(call) = admission.admit(Class::Command, Some(&flood)) {
            calls.push(call);
        }
        // All of the limit, and what was given to it while it had less than its share: it was alone.
        assert_eq!(calls.len(), 100);
        assert!(admission.admit(Class::Command, None).is_none());
        let mut own = Vec::new();
        while let Some(call) = admission.admit(Class::Command, Some(&few)) {
            own.push(call);
        }
        assert_eq!(own.len(), 50, "half of the limit, which is the share of one of two");
        assert!(admission.admit(Class::Command, Some(&flood)).is_none(), "it has all of its share");
        calls[0].pause();
        assert!(!calls[0].resume(), "there is no room for it while another one needs its share");
        own.clear();
        calls.truncate(10);
        assert_eq!((flood.own(), few.own(), admission.active.load(Ordering::Relaxed)), (10, 0, 1));
        own.extend(admission.admit(Class::Command, Some(&few)));
        own[0].pause();
        own[0].pause();
        assert_eq!((few.own(), admission.active.load(Ordering::Relaxed)), (0, 1), "what waits is not in progress");
        assert!(own[0].resume());
        drop(own);
        drop(calls);
        assert_eq!((flood.own(), few.own(), admission.active.load(Ordering::Relaxed)), (0, 0, 0));
    }

    #[test]
    fn many_connections_are_no_way_around_the_limit() {
        let admission = Admission::new(1_000);
        admission.commands.limit.store(100, Ordering::Relaxed);
        let mut calls = Vec::new();
        for _ in 0..1_000 {
            calls.extend(admission.admit(Class::Command, Some(&admission.caller())));
        }
        assert!(calls.len() <= 150, "{} calls", calls.len());

        // Where the limit is as high as it may be, it is the end for every connection.
        let admission = Admission::new(40);
        let calls: Vec<_> =
            (0..100).filter_map(|_| admission.admit(Class::Command, Some(&admission.caller()))).collect();
        assert_eq!(calls.len(), 40);
    }
}
