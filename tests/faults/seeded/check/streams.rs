//! Followers and the bus: nothing missing, no duplicates where that is guaranteed, everything in order.

use std::collections::{BTreeSet, HashMap};

use super::{
    super::history::{Followed, History, OrderId},
    Finding,
};

/// `touched` are the orders that are affected by losses of a fail-over.
pub fn check(history: &History, touched: &BTreeSet<OrderId>) -> Vec<Finding> {
    let mut findings: Vec<_> =
        history.followed.iter().filter_map(|followed| check_follower(followed, history)).collect();
    findings.extend(check_bus(history, touched));
    findings
}

/// A follower was sent exactly the events of the log that match its filter, from the beginning to the end. One that was told that its log
/// is gone has received all events before the first missing one.
fn check_follower(followed: &Followed, history: &History) -> Option<Finding> {
    let mut wanted = history.log.iter().filter(|event| followed.what.wants(event));
    for (place, (order, revision, call)) in followed.events.iter().enumerate() {
        let next = wanted.next();
        let fits = next.is_some_and(|event| (event.order, event.revision, &event.call) == (*order, *revision, call));
        if followed.told_at.is_some() && !fits && !is_there(history, *order, *revision, call) {
            return None;
        }
        if !fits {
            let text = format!(
                "{:?}: event {place} is order {order} revision {revision} ({call}), the log has {next:?}",
                followed.what
            );
            return Some(Finding::new("a follower skipped, repeated or invented", text));
        }
    }
    if followed.told_at.is_some() {
        return None;
    }
    let missing = wanted.count();
    (missing > 0).then(|| {
        let text = format!("{:?}: {missing} events never came, after {}", followed.what, followed.events.len());
        Finding::new("a follower was not sent everything", text)
    })
}

fn is_there(history: &History, order: OrderId, revision: u64, call: &str) -> bool {
    history.log.iter().any(|event| (event.order, event.revision, event.call.as_str()) == (order, revision, call))
}

fn check_bus(history: &History, touched: &BTreeSet<OrderId>) -> Vec<Finding> {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut findings = Vec::new();
    for (order, revision) in &history.bus {
        let last = last.entry(*order).or_default();
        if *revision > *last + 1 && !touched.contains(order) {
            findings.push(Finding::new("the bus skipped", format!("order {order}: revision {revision} after {last}")));
        }
        *last = (*last).max(*revision);
    }
    let mut wanted: HashMap<u64, u64> = HashMap::new();
    for event in &history.log {
        wanted.insert(event.order, event.revision);
    }
    let missing = wanted
        .iter()
        .filter(|(order, revision)| match last.get(order) {
            Some(last) if touched.contains(order) => last < revision,
            last => last != Some(revision),
        })
        .count();
    if missing > 0 {
        findings.push(Finding::new("the bus lacks events", format!("of {missing} of {} orders", wanted.len())));
    }
    if let Some(order) = last.keys().find(|order| !wanted.contains_key(order) && !touched.contains(order)) {
        findings.push(Finding::new("the bus has what the log has not", format!("order {order}")));
    }
    findings
}
