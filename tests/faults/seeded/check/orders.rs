//! Linearizability, order by order. See the parent module for why this is sufficient.

use std::collections::{BTreeMap, HashMap};

use super::{
    super::history::{Answer, Asked, Call, Freshness, History, Micros, OrderId},
    Finding, Index,
    answers::describe,
};

/// A change of an order, or an observation of it, at one moment between two times.
struct Placed<'a> {
    /// Revision r is written at slot 2 r and observed at 2 r + 1.
    slot: u64,
    /// The earliest time.
    from: Micros,
    /// The latest time.
    until: Micros,
    what: &'a Call,
}

pub fn check(history: &History, index: &Index<'_>) -> Vec<Finding> {
    let mut placed: BTreeMap<OrderId, Vec<Placed<'_>>> = BTreeMap::new();
    for call in &history.calls {
        for (order, revision, from) in seen(call) {
            let seen = Placed { slot: 2 * revision + 1, from, until: call.answered_at, what: call };
            placed.entry(order).or_default().push(seen);
        }
    }
    for (order, write) in writes(history, index) {
        placed.entry(order).or_default().push(write);
    }
    let mut findings = Vec::new();
    for (order, mut all) in placed {
        all.sort_by_key(|placed| placed.slot);
        findings.extend(in_time_order(order, &all));
    }
    for call in &history.calls {
        findings.extend(at_least_its_token(call));
        findings.extend(rows_that_were(call, index));
    }
    findings
}

/// The revisions of orders that a reply reports, each with the time before which it cannot have been true.
fn seen(call: &Call) -> Vec<(OrderId, u64, Micros)> {
    match (&call.asked, &call.answer) {
        (Asked::Command { order, .. }, Answer::Refused { revision, .. }) => {
            order.iter().map(|order| (*order, *revision, call.sent_at)).collect()
        }
        (Asked::OrderRepository { ids, freshness }, Answer::OrderRepository(rows)) => {
            // With a token the reply may be as old as that.
            let from = if *freshness == Freshness::Strong { call.sent_at } else { 0 };
            ids.iter().zip(rows).map(|(order, row)| (*order, row.map_or(0, |row| row.revision), from)).collect()
        }
        (Asked::List { .. }, Answer::List(rows)) => {
            rows.iter().map(|(order, row)| (*order, row.revision, call.sent_at)).collect()
        }
        _ => Vec::new(),
    }
}

/// Each event of the log, between the time at which its call was sent and the first reply that acknowledged it.
fn writes<'a>(history: &'a History, index: &Index<'_>) -> Vec<(OrderId, Placed<'a>)> {
    let mut acknowledged: HashMap<&str, Micros> = HashMap::new();
    for call in &history.calls {
        if let (Asked::Command { request: Some(request), .. }, Answer::Done { .. }) = (&call.asked, &call.answer) {
            let until = acknowledged.entry(request).or_insert(call.answered_at);
            *until = call.answered_at.min(*until);
        }
    }
    let write = |call: &'a Call| {
        let event = index.calls.get(call.name.as_str())?;
        let own = if matches!(call.answer, Answer::Done { .. }) { call.answered_at } else { Micros::MAX };
        let until = own.min(acknowledged.get(event.request.as_str()).copied().unwrap_or(Micros::MAX));
        Some((event.order, Placed { slot: 2 * event.revision, from: call.sent_at, until, what: call }))
    };
    history.calls.iter().filter_map(write).collect()
}

/// A later slot must not have ended before an earlier one began.
fn in_time_order(order: OrderId, all: &[Placed<'_>]) -> Option<Finding> {
    let mut first_end: Option<&Placed<'_>> = None;
    // Backwards, by slot: `first_end` is that of all later slots which ended first.
    for same in all.chunk_by(|one, other| one.slot == other.slot).rev() {
        if let Some(later) = first_end
            && let Some(late) = same.iter().find(|placed| placed.from > later.until)
        {
            let kind = if late.slot % 2 == 1 { "a stale answer" } else { "an effect before its command" };
            let (late, later) = (describe(late.what), describe(later.what));
            return Some(Finding::new(kind, format!("order {order}: {late}; but before that: {later}")));
        }
        let earliest = same.iter().min_by_key(|placed| placed.until)?;
        if first_end.is_none_or(|first| earliest.until < first.until) {
            first_end = Some(earliest);
        }
    }
    None
}

fn at_least_its_token(call: &Call) -> Option<Finding> {
    let Asked::OrderRepository { ids, freshness: Freshness::AtLeast(order, least) } = &call.asked else { return None };
    let Answer::OrderRepository(rows) = &call.answer else { return None };
    let at = ids.iter().position(|id| id == order)?;
    let revision = rows.get(at)?.map_or(0, |row| row.revision);
    (revision < *least).then(|| Finding::new("older than the token", describe(call)))
}

/// An order that was shown had that state at some time.
fn rows_that_were(call: &Call, index: &Index<'_>) -> Option<Finding> {
    let rows: Vec<_> = match (&call.asked, &call.answer) {
        (Asked::OrderRepository { ids, .. }, Answer::OrderRepository(rows)) => {
            ids.iter().zip(rows).filter_map(|(order, row)| Some((*order, (*row)?))).collect()
        }
        (_, Answer::List(rows)) => rows.clone(),
        _ => Vec::new(),
    };
    let never = rows.iter().find(|(order, row)| index.row(*order, row.revision) != Some(*row));
    never.map(|never| Finding::new("an order that never was so", format!("{never:?} in {}", describe(call))))
}
