//! The limits of one caller: its rate, its commands in flight and its open streams.

use std::{
    convert::Infallible,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use quick_cache::sync::Cache;

use super::{
    bounds::{Bounds, LimitEntries},
    principal::Principal,
};

/// The maximum number of callers whose state is kept; beyond it, the state of those that have not called for longest is dropped.
const MAX_CALLERS: usize = 100_000;
/// The retry delay after a limit on concurrent work: it is unknown when any of that work ends.
const RETRY_AFTER_RUNNING: Duration = Duration::from_millis(100);

/// The limits of one caller, and the usage of all callers with its name.
#[derive(Debug)]
pub struct CallerLimits {
    bounds: Bounds,
    scope: String,
    rate: Option<Rate>,
    used: Arc<Used>,
}

/// The usage of all callers with one name together, whatever the bounds of each: a caller must not have a separate rate for each of its sets of
/// roles.
#[derive(Debug, Default)]
struct Used {
    /// The time at which all calls so far are paid for. Each call costs the interval of the rate under which it was made.
    paid_at: Mutex<Option<Instant>>,
    commands: Arc<AtomicU32>,
    streams: Arc<AtomicU32>,
}

/// A rate, in the terms of the generic cell rate algorithm (ITU-T I.371).
#[derive(Debug)]
struct Rate {
    /// The cost of a call.
    interval: Duration,
    /// The maximum of unpaid calls.
    burst: Duration,
    /// In calls per second.
    per_second: NonZeroU32,
    policy: RatePolicy,
}

/// The rate of a caller, as reported to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RatePolicy {
    /// The calls of one window.
    pub quota: NonZeroU32,
    /// The length of a window, in seconds: after it, a quota that was used up is full again.
    pub window_seconds: u32,
}

/// The calls that a caller has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLeft {
    /// Its policy.
    pub policy: RatePolicy,
    /// The calls that it may make at once.
    pub remaining: u32,
    /// The number of seconds until it has more.
    pub reset_seconds: u64,
}

/// A limit that one more call would exceed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit, as in the identity file.
    pub limit: &'static str,
    /// Its value.
    pub max: u32,
    /// The owner of the limit: `name:billing` or `role:customer`.
    pub scope: String,
    /// When to try again.
    pub retry_after: Duration,
    /// The rate, if that was exceeded.
    pub rate: Option<RateLeft>,
}

/// A permit for one command or stream in progress; released when dropped.
#[derive(Debug)]
pub struct Permit(Arc<AtomicU32>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Rate {
    fn of(bounds: &Bounds) -> Option<Self> {
        let per_second = bounds.rate?;
        let quota = bounds.burst.unwrap_or(per_second);
        let interval = (Duration::from_secs(1) / per_second.get()).max(Duration::from_nanos(1));
        let window_seconds = quota.get().div_ceil(per_second.get());
        let policy = RatePolicy { quota, window_seconds };
        Some(Self { interval, burst: interval * quota.get(), per_second, policy })
    }

    fn left(&self, remaining: u32, reset: Duration) -> RateLeft {
        let reset_seconds = reset.as_secs() + u64::from(reset.subsec_nanos() > 0);
        RateLeft { policy: self.policy, remaining, reset_seconds }
    }

    /// Adds a call at `now` to the calls that are paid for at `paid_at`; the error is the time until the call may be made.
    fn check(&self, paid_at: &mut Option<Instant>, now: Instant) -> Result<RateLeft, Duration> {
        let unpaid = paid_at.map_or(Duration::ZERO, |at| at.saturating_duration_since(now)) + self.interval;
        let room = self.burst.checked_sub(unpaid).ok_or_else(|| unpaid.saturating_sub(self.burst))?;
        *paid_at = Some(now + unpaid);
        let remaining = u32::try_from(room.as_nanos() / self.interval.as_nanos()).unwrap_or(u32::MAX);
        Ok(self.left(remaining, unpaid))
    }
}

impl CallerLimits {
    fn new(bounds: Bounds, scope: String, used: Arc<Used>) -> Self {
        Self { bounds, scope, rate: Rate::of(&bounds), used }
    }

    /// Counts one more call; returns the remaining calls, `None` if the rate is not bounded.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn call(&self) -> Result<Option<RateLeft>, Exceeded> {
        let Some(rate) = &self.rate else { return Ok(None) };
        let outcome = rate.check(&mut self.used.paid_at.lock(), Instant::now());
        outcome.map(Some).map_err(|retry_after| Exceeded {
            limit: "rate",
            max: rate.per_second.get(),
            scope: self.scope.clone(),
            retry_after,
            rate: Some(rate.left(0, retry_after)),
        })
    }

    /// Counts one more command; `None` if commands are not bounded.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn command(&self) -> Result<Option<Permit>, Exceeded> {
        self.acquire(&self.used.commands, self.bounds.commands_in_flight, "commands_in_flight")
    }

    /// Counts one more stream; `None` if streams are not bounded.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn stream(&self) -> Result<Option<Permit>, Exceeded> {
        self.acquire(&self.used.streams, self.bounds.streams, "streams")
    }

    fn acquire(
        &self,
        running: &Arc<AtomicU32>,
        max: Option<NonZeroU32>,
        limit: &'static str,
    ) -> Result<Option<Permit>, Exceeded> {
        let Some(max) = max.map(NonZeroU32::get) else { return Ok(None) };
        let more = |now: u32| (now < max).then(|| now + 1);
        match running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Some(Permit(Arc::clone(running)))),
            Err(_) => {
                let (scope, retry_after) = (self.scope.clone(), RETRY_AFTER_RUNNING);
                Err(Exceeded { limit, max, scope, retry_after, rate: None })
            }
        }
    }
}

/// The state of all callers with limits. It outlives a change of the identity file.
#[derive(Debug)]
pub struct Callers(Cache<String, Arc<Used>>);

impl Default for Callers {
    fn default() -> Self {
        Self(Cache::new(MAX_CALLERS))
    }
}

impl Callers {
    /// The limits of `principal`; `None` if it has none. Callers with one name share their usage, each within the bounds of its own roles.
    #[must_use]
    pub fn limits_of(&self, principal: &Principal, entries: &LimitEntries) -> Option<Arc<CallerLimits>> {
        let name = principal.name()?.as_str();
        let (bounds, scope) = bounds_of(name, principal, entries)?;
        let Ok(used) = self.0.get_or_insert_with(name, || Ok::<_, Infallible>(Arc::default()));
        Some(Arc::new(CallerLimits::new(bounds, scope, used)))
    }
}

/// The bounds of the caller's own name, else the lowest of its roles.
fn bounds_of(name: &str, principal: &Principal, entries: &LimitEntries) -> Option<(Bounds, String)> {
    if let Some(bounds) = entries.name.get(name) {
        return Some((*bounds, format!("name:{name}")));
    }
    let of_roles: Vec<_> = entries.role.iter().filter(|(role, _)| principal.roles().has(**role)).collect();
    let names: Vec<_> = of_roles.iter().map(|(role, _)| role.name()).collect();
    let lowest = of_roles.iter().map(|(_, bounds)| **bounds).reduce(lower_of)?;
    Some((lowest, format!("role:{}", names.join("+"))))
}

fn lower_of(one: Bounds, other: Bounds) -> Bounds {
    fn lower(one: Option<NonZeroU32>, other: Option<NonZeroU32>) -> Option<NonZeroU32> {
        match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
    let effective = |bounds: Bounds| bounds.burst.or(bounds.rate);
    Bounds {
        rate: lower(one.rate, other.rate),
        burst: lower(effective(one), effective(other)),
        commands_in_flight: lower(one.commands_in_flight, other.commands_in_flight),
        streams: lower(one.streams, other.streams),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::text::Actor,
        identity::{Role, Roles},
    };

    fn bounds(rate: u32, burst: u32, commands: u32, streams: u32) -> Bounds {
        Bounds {
            rate: NonZeroU32::new(rate),
            burst: NonZeroU32::new(burst),
            commands_in_flight: NonZeroU32::new(commands),
            streams: NonZeroU32::new(streams),
        }
    }

    fn principal(name: &str, roles: &[Role]) -> Principal {
        Principal::verified(Actor::parse(name).unwrap(), Roles::of(roles), None)
    }

    #[test]
    fn a_burst_is_admitted_and_the_next_call_gets_a_retry_delay() {
        let limits = CallerLimits::new(bounds(2, 3, 0, 0), "name:x".to_owned(), Arc::default());
        let policy = RatePolicy { quota: NonZeroU32::new(3).unwrap(), window_seconds: 2 };
        for remaining in [2, 1, 0] {
            let left = limits.call().unwrap().unwrap();
            assert_eq!((left.policy, left.remaining), (policy, remaining));
        }
        let exceeded = limits.call().unwrap_err();
        assert_eq!((exceeded.limit, exceeded.max, &*exceeded.scope), ("rate", 2, "name:x"));
        assert!(exceeded.retry_after > Duration::ZERO && exceeded.retry_after <= Duration::from_millis(500));
        assert_eq!(exceeded.rate.unwrap().remaining, 0);
    }

    #[test]
    fn running_work_counts_until_it_ends() {
        let limits = CallerLimits::new(bounds(0, 0, 2, 1), "role:customer".to_owned(), Arc::default());
        assert_eq!(limits.call().unwrap(), None, "no rate");
        let first = limits.command().unwrap().unwrap();
        let _second = limits.command().unwrap();
        let exceeded = limits.command().unwrap_err();
        assert_eq!((exceeded.limit, exceeded.max), ("commands_in_flight", 2));
        drop(first);
        let _third = limits.command().unwrap();
        let _stream = limits.stream().unwrap();
        assert_eq!(limits.stream().unwrap_err().limit, "streams");
    }

    #[test]
    fn the_limits_of_a_name_override_those_of_its_roles_of_which_the_lowest_count() {
        let mut entries = LimitEntries::default();
        entries.role.insert(Role::Reader, bounds(10, 0, 0, 5));
        entries.role.insert(Role::Writer, bounds(20, 8, 3, 0));
        entries.name.insert("billing".to_owned(), bounds(1_000, 0, 0, 0));
        let of = |name, roles: &[Role]| bounds_of(name, &principal(name, roles), &entries);
        assert_eq!(of("billing", &[Role::Reader]), Some((bounds(1_000, 0, 0, 0), "name:billing".to_owned())));
        let both = of("shop", &[Role::Reader, Role::Writer]);
        assert_eq!(both, Some((bounds(10, 8, 3, 5), "role:reader+writer".to_owned())));
        assert_eq!(of("ops", &[Role::Operator]), None);
    }

    #[test]
    fn one_name_has_one_state_even_when_its_limits_change() {
        let (callers, mut entries) = (Callers::default(), LimitEntries::default());
        entries.role.insert(Role::Reader, bounds(0, 0, 1, 0));
        let of = |entries: &LimitEntries| callers.limits_of(&principal("a", &[Role::Reader]), entries).unwrap();
        let _permit = of(&entries).command().unwrap();
        assert!(of(&entries).command().is_err(), "the same caller, over another connection");
        entries.role.insert(Role::Reader, bounds(0, 0, 2, 0));
        let _second = of(&entries).command().unwrap();
        assert_eq!(of(&entries).command().unwrap_err().max, 2, "the first one still runs");
    }

    #[test]
    fn several_sets_of_roles_give_one_name_no_more_than_one_of_them() {
        let (callers, mut entries) = (Callers::default(), LimitEntries::default());
        entries.role.insert(Role::Reader, bounds(1, 4, 2, 2));
        entries.role.insert(Role::Customer, bounds(1, 3, 1, 1));
        let of = |name, roles: &[Role]| callers.limits_of(&principal(name, roles), &entries).unwrap();
        let (mut calls, mut permits) = (0, Vec::new());
        // As tokens with other roles are verified in turn.
        for _ in 0..50 {
            for limits in [of("a", &[Role::Reader]), of("a", &[Role::Reader, Role::Customer])] {
                calls += u32::from(limits.call().is_ok());
                permits.extend([limits.command(), limits.stream()].into_iter().flatten());
            }
        }
        assert_eq!((calls, permits.len()), (4, 4), "a burst of 4, 2 commands and 2 streams");
        let other = of("b", &[Role::Reader]);
        assert!(other.call().is_ok() && other.command().is_ok() && other.stream().is_ok());
        drop(permits);
        assert!(of("a", &[Role::Customer]).command().is_ok());
    }

    #[test]
    fn a_rate_admits_the_calls_paid_for_since() {
        let rate = Rate::of(&bounds(10, 2, 0, 0)).unwrap();
        let (mut paid_at, begin) = (None, Instant::now());
        let mut calls =
            |millis| rate.check(&mut paid_at, begin + Duration::from_millis(millis)).map(|left| left.remaining);
        assert_eq!([calls(0), calls(0), calls(0)], [Ok(1), Ok(0), Err(Duration::from_millis(100))]);
        assert_eq!([calls(60), calls(100)], [Err(Duration::from_millis(40)), Ok(0)], "a refused call costs nothing");
        assert_eq!([calls(10_000), calls(10_000)], [Ok(1), Ok(0)], "a pause gives one burst");
    }
}
