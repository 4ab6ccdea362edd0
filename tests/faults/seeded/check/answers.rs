//! Each reply against the log: acknowledged commands are there, commands that were not executed are not, refusals are true, and retries
//! return the first reply.

use std::collections::{HashMap, HashSet};

use super::{
    super::history::{Answer, Asked, Call, History, OrderId, Row, Status},
    Finding, Index,
};

pub fn check(history: &History, index: &Index<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first_answers: HashMap<&str, (OrderId, Row, &str)> = HashMap::new();
    for call in &history.calls {
        findings.extend(check_call(call, index));
        let Asked::Command { request: Some(request), .. } = &call.asked else { continue };
        let Answer::Done { order, row } = call.answer else { continue };
        let first = *first_answers.entry(request).or_insert((order, row, &call.name));
        if (first.0, first.1) != (order, row) {
            let text = format!(
                "request {request}: {} got {:?}, {} got {:?}",
                first.2,
                (first.0, first.1),
                call.name,
                (order, row)
            );
            findings.push(Finding::new("a retry got another answer", text));
        }
    }
    findings.extend(not_done(history, index));
    findings
}

fn check_call(call: &Call, index: &Index<'_>) -> Option<Finding> {
    let found = |kind, text: String| Some(Finding::new(kind, format!("{}: {text}", describe(call))));
    match (&call.asked, &call.answer) {
        (_, Answer::Wrong { reason, message }) => found("an answer that may not be", format!("{reason}: {message}")),
        (Asked::Command { to, request, .. }, Answer::Done { order, row }) => {
            let by_call = request.is_none().then_some(call.name.as_str());
            let event = index.orders.get(order).and_then(|events| events.get(row.revision.saturating_sub(1) as usize));
            let Some(event) = event else {
                return found(
                    "an acknowledged command is lost",
                    format!("order {order} has no revision {}", row.revision),
                );
            };
            let is_its_own = match by_call {
                Some(name) => event.call == name,
                None => Some(&event.request) == request.as_ref(),
            };
            if !is_its_own || event.to != *to || row.status != *to {
                let text = format!("answered {row:?} of order {order}, where the log has {event:?}");
                return found("an acknowledged command is another in the log", text);
            }
            None
        }
        (Asked::Command { to, order, request, expected }, Answer::Refused { reason, row, revision }) => {
            let order = order.unwrap_or(0);
            let at = index.row(order, *revision);
            if *revision > 0 && (at.is_none() || row.is_some() && *row != at) {
                return found(
                    "a refusal names a state that never was",
                    format!("{reason} at {revision} {row:?}, the log has {at:?}"),
                );
            }
            if !refusal_is_right(reason, *to, *expected, at) {
                return found(
                    "a refusal without a reason",
                    format!("{reason} at {at:?}, expected revision {expected:?}"),
                );
            }
            // Its own effect, or that of an attempt with the same request id, was already in the state on which it was refused.
            let effect = index.calls.get(call.name.as_str()).or_else(|| index.requests.get(request.as_deref()?));
            match effect {
                Some(event) if event.call == call.name && request.is_none() => {
                    found("refused, and done", format!("{reason} at {revision}; the log has {event:?}"))
                }
                Some(event) if event.order == order && event.revision <= *revision => {
                    found("refused, and done", format!("{reason} at {revision}; the log has {event:?}"))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

fn refusal_is_right(reason: &str, to: Status, expected: Option<u64>, at: Option<Row>) -> bool {
    let revision = at.map_or(0, |row| row.revision);
    match reason {
        "ORDER_NOT_FOUND" => at.is_none(),
        "ILLEGAL_TRANSITION" => {
            at.is_some_and(|row| !to.may_follow(Some(row.status)))
                && expected.is_none_or(|expected| expected == revision)
        }
        "REVISION_CONFLICT" => at.is_some() && expected.is_some_and(|expected| expected != revision),
        _ => false,
    }
}

/// "Nothing was written" must be true: of the call, or, if it has a request id, of all calls with that id.
fn not_done(history: &History, index: &Index<'_>) -> Vec<Finding> {
    let may_have_done =
        |call: &Call| matches!(call.answer, Answer::Done { .. } | Answer::Unknown { .. } | Answer::Wrong { .. });
    let explained: HashSet<&str> = history.calls.iter().filter(|call| may_have_done(call)).map(key).collect();
    let wrong = history.calls.iter().filter(|call| {
        matches!(call.answer, Answer::NotDone { .. })
            && !explained.contains(key(call))
            && (index.calls.contains_key(key(call)) || index.requests.contains_key(key(call)))
    });
    wrong.map(|call| Finding::new("said not to be done, and done", describe(call))).collect()
}

/// The identity of an effect: the request id, or the call.
fn key(call: &Call) -> &str {
    match &call.asked {
        Asked::Command { request: Some(request), .. } => request,
        _ => &call.name,
    }
}

/// The call as one line.
pub fn describe(call: &Call) -> String {
    let (from, to) = (call.sent_at as f64 / 1e6, call.answered_at as f64 / 1e6);
    format!(
        "{} at node {} from {from:.3} s to {to:.3} s, {:?}, answered {:?}",
        call.name,
        call.node + 1,
        call.asked,
        call.answer
    )
}
