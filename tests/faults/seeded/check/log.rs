//! The log by itself: revisions without gaps, valid histories, and one effect per call and request id.

use std::collections::HashMap;

use super::{
    super::history::{Event, History},
    Finding,
};

pub fn check(history: &History) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut last: HashMap<u64, &Event> = HashMap::new();
    let (mut calls, mut requests) = (HashMap::new(), HashMap::new());
    for event in &history.log {
        let before = last.insert(event.order, event);
        let place = format!("order {} revision {} ({}, {})", event.order, event.revision, event.to, event.call);
        let revision_before = before.map_or(0, |event| event.revision);
        if event.revision != revision_before + 1 {
            findings.push(Finding::new("revisions have a gap", format!("{place} follows revision {revision_before}")));
        }
        let status = before.map(|event| event.to);
        if !event.to.may_follow(status) {
            findings.push(Finding::new("illegal history", format!("{place} follows {status:?}")));
        }
        if let Some(first) = calls.insert(&event.call, event) {
            findings.push(twice("a call took effect twice", first, &place));
        }
        if !event.request.is_empty()
            && let Some(first) = requests.insert(&event.request, event)
        {
            findings.push(twice("a request id took effect twice", first, &place));
        }
    }
    findings
}

fn twice(kind: &'static str, first: &Event, place: &str) -> Finding {
    Finding::new(kind, format!("{place} and order {} revision {} ({})", first.order, first.revision, first.call))
}
