//! How many calls are worked on at a time, by how long they take: decided when the head of a request has come, so that a refusal is cheap.
//!
//! A node that takes more than it can do answers everyone late, and in the end nobody in time. So each kind of call has a limit that grows
//! while calls are quick and shrinks when they are not (additive increase, multiplicative decrease), between [`FLOOR`] and
//! `--max-in-flight`. It follows the mean time of a tenth of a second: the time from the arrival of the head to the answer, without that in
//! which the node waits for its client or for others to write. Commands and reads have a limit each, so that commands that hang in an absent
//! store keep no reads out; a list or a batch is refused when half of the reads are being worked on.
//!
//! The limit is shared fairly by the connections that have calls in progress: one that has less than its share of it is let in beyond the
//! limit, up to half of it. Without that, a client that floods the node takes the permits as fast as they are free, and the calls of a client
//! that makes few are refused as often as its own.
//!
//! A store that is far away is no overload. Where so few calls as are always let in take longer than they should, that is not for their number:
//! twice as long is the target then.

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

/// Calls of a kind that are always worked on at a time, unless `--max-in-flight` is less.
pub const FLOOR: usize = 512;
/// The limit before anything has been measured.
const INITIAL: usize = 1_024;
/// How long calls may take on average.
const TARGET: Duration = Duration::from_millis(100);
/// The same where they take long however few there are.
const MAX_TARGET: Duration = Duration::from_millis(500);
/// How long is measured before the limit is set again.
const WINDOW: Duration = Duration::from_millis(100);
/// How many calls that takes at least.
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

/// What has been measured since the limit was set.
#[derive(Debug)]
struct Window {
    began: Instant,
    calls: u32,
    total: Duration,
    most_busy: usize,
    /// What calls take when there are few.
    base: Duration,
}

/// A call that was let in. It counts until it is dropped.
#[derive(Debug)]
pub struct Call {
    limiter: Arc<Limiter>,
    caller: Option<Caller>,
    time: Mutex<Time>,
}

/// How long a call has been worked on, without the time since `since`; `None` while it waits for somebody else and counts for nothing.
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

    /// The calls of a connection that begins.
    #[must_use]
    pub fn caller(&self) -> Caller {
        Caller(Arc::new(Calls { own: AtomicUsize::new(0), active: Arc::clone(&self.active) }))
    }

    /// Lets a call of `caller` in, or not: `None`.
    #[must_use]
    pub fn admit(&self, class: Class, caller: Option<&Caller>) -> Option<Arc<Call>> {
        let (limiter, part) = match class {
            Class::Command => (&self.commands, 1),
            Class::Read => (&self.reads, 1),
            Class::BulkRead => (&self.reads, 2),
        };
        let limit = limiter.limit.load(Ordering::Relaxed).div_ceil(part);
        let has_few = caller.is_some_and(|caller| caller.has_less_than_its_share(limit));
        let room = if has_few { limit + limit / 2 } else { limit };
        let admitted = limiter.enter(room).then(|| Call::begin(limiter, caller.cloned()));
        if admitted.is_none() {
            self.refused[class as usize].increment(1);
        }
        admitted.map(Arc::new)
    }

    /// Whether a command would be let in.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let commands = &self.commands;
        commands.busy.load(Ordering::Relaxed) < commands.limit.load(Ordering::Relaxed)
    }

    /// Lets a command of a stream in, whether or not there is room: the stream has looked for that, and reads no further while there is none.
    #[must_use]
    pub fn join(&self) -> Arc<Call> {
        self.commands.busy.fetch_add(1, Ordering::Relaxed);
        Arc::new(Call::begin(&self.commands, None))
    }

    /// Counts a command of a stream for which there was no room.
    pub fn shed(&self) {
        self.refused[Class::Command as usize].increment(1);
    }

    /// Publishes what is cheaper to read now and then than to count each time.
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

    /// A call has been answered that took so long.
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
        // At its least, the limit is not what makes calls wait.
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
            // What is not used says nothing of how much is too much.
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

    /// Lets `work` run as this call, and measures it unless it is given up.
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

    /// It waits for somebody else from now on, and does not count.
    pub fn pause(&self) {
        let mut time = self.time();
        if let Some(since) = time.since.take() {
            time.worked += since.elapsed();
            self.leave();
        }
    }

    /// It is worked on again; whether there is room for it, or as good as.
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

/// What `work` comes to, which is for others to do: the call of this task neither counts nor takes time meanwhile.
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

    /// Windows of calls that take as long as the limit makes them at `per_second`, all of it in use.
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
        let admission = Admission::new(100);
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
        let admission = Admission::new(100);
        let mut calls = Vec::new();
        for _ in 0..1_000 {
            calls.extend(admission.admit(Class::Command, Some(&admission.caller())));
        }
        assert!(calls.len() <= 150, "{} calls", calls.len());
    }
}
