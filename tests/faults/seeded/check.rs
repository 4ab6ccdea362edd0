//! Whether a history is one that the service may leave: a pure function, so that it can be fed broken ones.
//!
//! The log gives the order of all commands. That makes the question of linearizability easy to answer in full: a command stands where its
//! event is, an answer that saw an order at a revision stands between the event of that revision and the next, and the history is linearizable
//! if nothing that was answered before another call was sent stands after it.

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

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In a word.
    pub kind: &'static str,
    /// Where, and how.
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

/// Everything that is wrong with a history.
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
