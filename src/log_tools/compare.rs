//! Compares two logs, commit by commit: they are the same if a reader cannot distinguish them except by their positions.

use std::sync::Arc;

use super::{Checked, Finding, FindingKind, Meter, cursor::Cursor};
use crate::ports::event_store::{EventStore, Position, RecordedCommit, RequestKey, StoreError};

/// Compares everything that the logs hold at the call: order of commits, their boundaries, request ids, revisions, and the bytes of events. Reports
/// each commit that differs, and stops where the logs are no longer in step.
///
/// # Errors
/// [`StoreError`] of either store.
pub async fn compare(
    left: &Arc<dyn EventStore>,
    right: &Arc<dyn EventStore>,
    meter: &Meter,
    mut report: impl FnMut(Finding) + Send,
) -> Result<Checked, StoreError> {
    let (left_head, right_head) = (left.head().await?, right.head().await?);
    let total = left.distance(Position(0), left_head).max(right.distance(Position(0), right_head));
    meter.begin("compared", total);
    let mut lefts = Cursor::new(left, Position(0), left_head);
    let mut rights = Cursor::new(right, Position(0), right_head);
    let mut looked = Checked::default();
    loop {
        let (one, other) = (lefts.next().await?, rights.next().await?);
        if let Some(commit) = one.as_ref().or(other.as_ref()) {
            looked.commits += 1;
            looked.events += commit.events.len() as u64;
            meter.add(commit.events.len());
        }
        let difference = match (&one, &other) {
            (None, None) => return Ok(looked),
            (Some(one), Some(other)) => difference(one, other),
            (Some(longer), None) => Some(Difference::of(longer, "the second log ends before this commit".to_owned())),
            (None, Some(longer)) => Some(Difference::of(longer, "the first log ends before this commit".to_owned())),
        };
        if let Some(difference) = difference {
            looked.findings += 1;
            let is_in_step = difference.is_in_step;
            report(difference.finding);
            if !is_in_step {
                return Ok(looked);
            }
        }
    }
}

/// The difference of two commits at the same place of two logs.
pub(super) struct Difference {
    pub finding: Finding,
    /// Whether they are the same commit nevertheless, so that the next ones can be compared.
    is_in_step: bool,
}

impl Difference {
    fn of(commit: &RecordedCommit, detail: String) -> Self {
        let first = commit.events.first();
        let finding = Finding {
            kind: FindingKind::Difference,
            position: first.map(|event| event.position),
            stream: first.map(|event| event.stream),
            revision: first.map(|event| event.revision),
            detail,
        };
        Self { finding, is_in_step: false }
    }
}

/// The difference, if any, ignoring positions. Its position is the one in the log of `one`.
pub(super) fn difference(one: &RecordedCommit, other: &RecordedCommit) -> Option<Difference> {
    let place = |commit: &RecordedCommit| commit.events.first().map(|event| (event.stream, event.revision));
    if place(one) != place(other) {
        let found = place(other).map_or_else(
            || "an empty commit".to_owned(),
            |(stream, revision)| format!("the commit of order {stream} that begins with revision {revision}"),
        );
        let detail = format!("the second log has {found} here, at position {}", other.position());
        return Some(Difference::of(one, detail));
    }
    if one.events.len() != other.events.len() {
        let (here, there) = (one.events.len(), other.events.len());
        let detail = format!("the commit has {here} events in the first log and {there} in the second");
        return Some(Difference::of(one, detail));
    }
    for (event, same) in one.events.iter().zip(&other.events) {
        if (event.stream, event.revision) != (same.stream, same.revision) {
            let detail =
                format!("the second log has revision {} of order {} within this commit", same.revision, same.stream);
            return Some(Difference::of(one, detail));
        }
        if event.payload != same.payload {
            let mut difference = Difference::of(one, "the bytes of the event are different".to_owned());
            (difference.finding.position, difference.finding.revision) = (Some(event.position), Some(event.revision));
            return Some(Difference { is_in_step: true, ..difference });
        }
    }
    if one.request != other.request {
        let detail = format!(
            "the commit has {} in the first log and {} in the second",
            request_name(one.request.as_ref()),
            request_name(other.request.as_ref())
        );
        return Some(Difference { is_in_step: true, ..Difference::of(one, detail) });
    }
    None
}

fn request_name(request: Option<&RequestKey>) -> String {
    request.map_or_else(
        || "no request id".to_owned(),
        |request| format!("request id '{}' (payload {:032x})", request.id, request.fingerprint),
    )
}
