//! The losses that a fail-over of Sentinel may cause. Redis replicates after it has acknowledged, and the old primary acknowledges until it
//! learns that it has been replaced. A command that was acknowledged in the window of such a fault may be missing from the log, and states
//! of its order that were shown in that window may contradict the log. Outside the windows no deviation is accepted, nor for a window in
//! which nothing was lost. Other faults and other backends have no windows.

use std::collections::BTreeSet;

use super::{
    super::history::{Answer, Asked, Call, Follows, History, Micros, OrderId, Window},
    Index,
};

/// The acknowledged commands that fail-overs have lost.
pub struct Losses {
    /// The order and the revision that each of them had been given.
    pub commands: BTreeSet<(OrderId, u64)>,
    /// All orders whose state may have been shown as it was on the old primary.
    pub orders: BTreeSet<OrderId>,
    calls: BTreeSet<String>,
    /// The windows in which something was lost, each with the affected orders.
    windows: Vec<(Window, BTreeSet<OrderId>)>,
}

impl Losses {
    pub fn of(history: &History) -> Self {
        let index = Index::of(&history.log);
        let mut losses =
            Self { commands: BTreeSet::new(), orders: BTreeSet::new(), calls: BTreeSet::new(), windows: Vec::new() };
        for window in &history.windows {
            let in_window = |call: &&Call| window.from <= call.answered_at && call.answered_at <= window.until;
            let mut orders = BTreeSet::new();
            for call in history.calls.iter().filter(in_window) {
                if let Some((order, revision)) = lost(call, &index) {
                    losses.calls.insert(call.name.clone());
                    losses.commands.insert((order, revision));
                    orders.insert(order);
                }
            }
            if orders.is_empty() {
                continue;
            }
            // A command without a reply may have been written to the old primary, and seen there, as well.
            let open = history.calls.iter().filter(|call| overlaps(call, window));
            orders.extend(open.filter_map(|call| unanswered(call, &index)));
            losses.orders.extend(&orders);
            losses.windows.push((*window, orders));
        }
        losses
    }

    /// The history without the calls that the losses explain: the rest must be valid as if nothing had been lost.
    pub fn rest_of(&self, history: &History) -> History {
        let mut rest = history.clone();
        if self.windows.is_empty() {
            return rest;
        }
        rest.calls = history.calls.iter().filter_map(|call| self.rest_of_call(call)).collect();
        for followed in &mut rest.followed {
            followed.told_at = match followed.what {
                // Its revisions do not say to which log they belong.
                Follows::Order(order) if self.orders.contains(&order) => Some(followed.told_at.unwrap_or(0)),
                _ => followed.told_at.filter(|at| self.is_in_a_window(*at)),
            };
        }
        rest
    }

    fn is_in_a_window(&self, at: Micros) -> bool {
        self.windows.iter().any(|(window, _)| window.from <= at && at <= window.until)
    }

    /// Whether this order was affected in a window that the call overlaps.
    fn is_touched(&self, order: OrderId, call: &Call) -> bool {
        self.windows.iter().any(|(window, orders)| overlaps(call, window) && orders.contains(&order))
    }

    /// The same, or afterwards.
    fn was_touched(&self, order: OrderId, call: &Call) -> bool {
        self.windows.iter().any(|(window, orders)| window.from <= call.answered_at && orders.contains(&order))
    }

    fn rest_of_call(&self, call: &Call) -> Option<Call> {
        if self.calls.contains(&call.name) {
            return None;
        }
        let is_within = self.windows.iter().any(|(window, _)| overlaps(call, window));
        let is_explained = match (&call.asked, &call.answer) {
            (Asked::OrderRepository { freshness, .. }, Answer::Wrong { reason, .. })
                if reason == "CURSOR_OF_ANOTHER_LOG" =>
            {
                is_within || freshness.order().is_some_and(|order| self.was_touched(order, call))
            }
            // A follower of a single order that is gone, or has lost revisions that it had sent.
            (Asked::OrderRepository { ids, .. }, Answer::Wrong { reason, .. })
                if matches!(&**reason, "ORDER_NOT_FOUND" | "NOT_YET_THEN") =>
            {
                ids.iter().any(|order| self.was_touched(*order, call))
            }
            (Asked::Command { order: Some(order), .. }, Answer::Refused { .. }) => self.is_touched(*order, call),
            (Asked::List { .. }, Answer::List(_)) | (Asked::Totals, Answer::Totals { .. }) => is_within,
            _ => false,
        };
        if is_explained {
            return None;
        }
        let mut rest = call.clone();
        if let (Asked::OrderRepository { ids, .. }, Answer::OrderRepository(rows)) = (&mut rest.asked, &mut rest.answer)
        {
            let left = ids.iter().zip(rows.iter()).filter(|(order, _)| !self.is_touched(**order, call));
            let (ids_left, rows_left) = left.map(|(order, row)| (*order, *row)).unzip();
            (*ids, *rows) = (ids_left, rows_left);
        }
        Some(rest)
    }
}

fn overlaps(call: &Call, window: &Window) -> bool {
    window.from <= call.answered_at && call.sent_at <= window.until
}

/// The order and the revision of an acknowledged command that is missing from the log.
fn lost(call: &Call, index: &Index<'_>) -> Option<(OrderId, u64)> {
    let Asked::Command { request, .. } = &call.asked else { return None };
    let Answer::Done { order, row } = call.answer else { return None };
    let at = index.orders.get(&order).and_then(|events| events.get(row.revision.checked_sub(1)? as usize));
    let is_there = at.is_some_and(|event| request.as_ref().is_some_and(|request| event.request == *request));
    (!is_there && !index.calls.contains_key(call.name.as_str())).then_some((order, row.revision))
}

/// The order of a command with an unknown outcome that is missing from the log.
fn unanswered(call: &Call, index: &Index<'_>) -> Option<OrderId> {
    let Asked::Command { order, .. } = call.asked else { return None };
    let is_open = matches!(call.answer, Answer::Unknown { .. }) && !index.calls.contains_key(call.name.as_str());
    order.filter(|_| is_open)
}
