//! Whether a history is one that the service may produce: a pure function, so that it can be tested with invalid ones.
//!
//! The log gives the order of all commands. That makes linearizability easy to check completely: a command takes the position of its event,
//! a reply that saw an order at a revision comes between the event of that revision and the next one, and the history is linearizable if no
//! call that was answered before another one was sent comes after it.

mod answers;
mod lists;
mod log;
mod losses;
mod orders;
mod streams;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

pub use self::losses::Losses;
use super::history::{Event, History, OrderId, Row};

/// A violation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: &'static str,
    /// The place and the details.
    pub text: String,
}

impl Finding {
    pub fn new(kind: &'static str, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.text)
    }
}

/// All violations in a history.
pub fn check(history: &History) -> Vec<Finding> {
    let losses = Losses::of(history);
    let history = losses.rest_of(history);
    let index = Index::of(&history.log);
    let mut findings = log::check(&history);
    findings.extend(answers::check(&history, &index));
    findings.extend(orders::check(&history, &index));
    findings.extend(lists::check(&history));
    findings.extend(streams::check(&history, &losses.orders));
    findings
}

/// The log by order and by call.
struct Index<'a> {
    orders: BTreeMap<OrderId, Vec<&'a Event>>,
    calls: HashMap<&'a str, &'a Event>,
    requests: HashMap<&'a str, &'a Event>,
}

impl<'a> Index<'a> {
    fn of(log: &'a [Event]) -> Self {
        let mut index = Self { orders: BTreeMap::new(), calls: HashMap::new(), requests: HashMap::new() };
        for event in log {
            index.orders.entry(event.order).or_default().push(event);
            index.calls.insert(&event.call, event);
            if !event.request.is_empty() {
                index.requests.insert(&event.request, event);
            }
        }
        index
    }

    /// The order at this revision; `None` if the log has no such event.
    fn row(&self, order: OrderId, revision: u64) -> Option<Row> {
        let event = self.orders.get(&order)?.get(usize::try_from(revision.checked_sub(1)?).ok()?)?;
        Some(Row { revision: event.revision, status: event.to })
    }
}
