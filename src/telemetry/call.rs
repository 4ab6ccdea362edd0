//! The context of the call that a task serves, for each line that is logged meanwhile.
//!
//! Nothing is formatted unless a line is written: a span of `tracing` for each call would cost more than all of this.

use std::{cell::Cell, future::poll_fn, pin::pin};

use super::{
    call_id::CallId,
    traces::{self, TraceId},
};
use crate::domain::text::Actor;

thread_local! {
    /// The call that the work being polled serves; `None` outside of such work.
    static SERVED: Cell<Option<Known>> = const { Cell::new(None) };
    /// The order that the work being polled is about, 0 for none yet; `None` outside of such work.
    static ORDER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A fact about the current call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Its name in a line.
    pub name: &'static str,
    /// Its value, as it was given.
    pub value: String,
    /// Whether the value may have spaces, so that a line of text quotes it.
    pub is_text: bool,
}

impl Fact {
    fn id(name: &'static str, id: impl ToString) -> Self {
        Self { name, value: id.to_string(), is_text: false }
    }
}

/// The facts about the current call; empty outside of a call. Only called when a line is written.
#[must_use]
pub fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut trace = None;
    if let Some(known) = known() {
        facts.push(Fact::id("call_id", known.id));
        facts.extend(known.caller.map(|caller| Fact { name: "caller", value: caller.to_string(), is_text: true }));
        trace = known.trace;
    }
    facts.extend(trace.or_else(traces::trace_id).map(|trace| Fact::id("trace_id", trace)));
    if let Some(order) = ORDER.get().filter(|order| *order != 0) {
        facts.push(Fact::id("order_id", order));
    }
    facts
}

/// The facts about a call itself.
#[derive(Clone, Debug)]
struct Known {
    id: CallId,
    /// `None` where callers are not identified, and before this one has been.
    caller: Option<Actor>,
    /// `None` if the call has no trace context.
    trace: Option<TraceId>,
}

/// Makes `next` the call that the thread serves, and returns the previous one. On a thread that is ending there is no current call.
fn replace(next: Option<Known>) -> Option<Known> {
    SERVED.try_with(|served| served.replace(next)).ok().flatten()
}

/// A copy of the facts about the current call.
fn known() -> Option<Known> {
    let known = replace(None);
    replace(known.clone());
    known
}

/// The call that some work serves, whose caller and trace may become known on the way. It is moved to the thread for each step and back again, which costs no
/// allocation.
#[derive(Clone, Debug, Default)]
pub struct Served(Option<Known>);

impl Served {
    /// The call with this id.
    #[must_use]
    pub const fn of(id: CallId) -> Self {
        Self(Some(Known { id, caller: None, trace: None }))
    }

    /// Does one step of the work; keeps the caller and the trace that it sets by [`set_caller`] and [`set_trace`].
    pub fn step<T>(&mut self, step: impl FnOnce() -> T) -> T {
        /// Also if the step panics.
        struct Entered<'a>(&'a mut Option<Known>, Option<Known>);

        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                *self.0 = replace(self.1.take());
            }
        }

        let before = replace(self.0.take());
        let _entered = Entered(&mut self.0, before);
        step()
    }
}

/// Records that the current call was made by this verified caller. Outside of [`Served::step`] it does nothing.
pub fn set_caller(caller: &Actor) {
    if let Some(known) = replace(None) {
        replace(Some(Known { caller: Some(caller.clone()), ..known }));
    }
}

/// Records the trace of the current call: its lines have it also where they are written outside of the scope of its span, as the access log is.
/// Outside of [`Served::step`] it does nothing.
pub fn set_trace(trace: TraceId) {
    if let Some(known) = replace(None) {
        replace(Some(Known { trace: Some(trace), ..known }));
    }
}

/// Makes `work`, in another task, a part of this call and of its trace.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let mut served = Served(known());
    let work = traces::carried(work);
    async move {
        let mut work = pin!(work);
        poll_fn(|task| served.step(|| work.as_mut().poll(task))).await
    }
}

/// The order that some work is about, for its log lines. It may become known on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoggedOrder(u64);

impl LoggedOrder {
    /// No order, or not known yet.
    pub const NONE: Self = Self(0);

    /// The order with this id.
    #[must_use]
    pub const fn of(id: u64) -> Self {
        Self(id)
    }

    /// Does one step of the work; keeps the order that it sets by [`set_order`].
    pub fn step<T>(&mut self, step: impl FnOnce() -> T) -> T {
        /// Also if the step panics.
        struct Entered<'a>(&'a mut u64, Option<u64>);

        impl Drop for Entered<'_> {
            fn drop(&mut self) {
                *self.0 = ORDER.replace(self.1).unwrap_or_default();
            }
        }

        let before = ORDER.replace(Some(self.0));
        let _entered = Entered(&mut self.0, before);
        step()
    }
}

/// Records that the current work is about the order with this id. Outside of [`LoggedOrder::step`] it does nothing.
pub fn set_order(id: u64) {
    if ORDER.get().is_some() {
        ORDER.set(Some(id));
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;

    use super::*;

    fn shown() -> String {
        facts().into_iter().map(|fact| format!("{}={} ", fact.name, fact.value)).collect()
    }

    #[test]
    fn a_caller_that_becomes_known_stays_known_and_does_not_leak_into_another_call_on_the_thread() {
        let (mut first, mut second) = (Served::of(CallId::Made(1)), Served::of(CallId::Made(2)));
        let by = |name: &str| set_caller(&Actor::parse(name).unwrap());
        first.step(|| by("shop"));
        by("nobody");
        let seen = first.step(|| (shown(), second.step(shown), shown()));
        let own = "call_id=0000000000000001 caller=shop ".to_owned();
        assert_eq!(seen, (own.clone(), "call_id=0000000000000002 ".to_owned(), own));
        assert_eq!(shown(), "");
        let panics = AssertUnwindSafe(|| first.step(|| panic!("a test")));
        std::panic::catch_unwind(panics).unwrap_err();
        assert_eq!(shown(), "", "a panic leaves no call behind");
    }

    #[tokio::test]
    async fn another_task_does_its_work_as_part_of_the_call() {
        let mut call = Served::of(CallId::Made(1));
        let work = call.step(|| {
            set_trace(TraceId::from(7));
            carried(async {
                tokio::task::yield_now().await;
                shown()
            })
        });
        let own = format!("call_id=0000000000000001 trace_id={:032x} ", 7);
        assert_eq!(tokio::spawn(work).await.unwrap(), own);
        assert_eq!(call.step(shown), own, "and so do its later lines");
        assert_eq!(shown(), "");
    }

    #[test]
    fn an_order_that_becomes_known_stays_known_and_does_not_leak_into_other_work_on_the_thread() {
        let (mut created, mut other) = (LoggedOrder::NONE, LoggedOrder::of(9));
        assert_eq!(created.step(shown), "");
        created.step(|| set_order(8));
        assert_eq!(other.step(shown), "order_id=9 ");
        assert_eq!(created.step(|| (shown(), other.step(shown), shown())), three("8", "9", "8"));
        assert_eq!(shown(), "");
    }

    fn three(first: &str, second: &str, third: &str) -> (String, String, String) {
        let line = |id: &str| format!("order_id={id} ");
        (line(first), line(second), line(third))
    }

    #[test]
    fn a_panic_leaves_no_order_behind() {
        let panics = || LoggedOrder::of(7).step(|| panic!("a test"));
        std::panic::catch_unwind(panics).unwrap_err();
        set_order(8);
        assert_eq!(shown(), "");
    }
}
