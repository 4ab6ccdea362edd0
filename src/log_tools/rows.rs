//! Checks the rows of a read model against the log that they come from.

use std::{collections::HashMap, sync::Arc};

use super::{Finding, FindingKind, Meter};
use crate::{
    ports::{
        event_store::{Direction, EventStore, MAX_READ_EVENTS, Position, StoreError, StreamId},
        read_model::{LogCheckpoint, RowChange, RowDigest, StoredRows},
    },
    processors::projections::row_change,
};

/// Findings beyond this number are not reported.
const MAX_FINDINGS: u64 = 1_000;

/// Compares the stored list of orders with the rows computed from the log up to the same position; returns the number of findings.
///
/// # Errors
/// [`StoreError`] if the store cannot be reached.
pub async fn audit_rows(
    store: &Arc<dyn EventStore>,
    stored: &StoredRows,
    meter: &Meter,
    mut report: impl FnMut(Finding) + Send,
) -> Result<u64, StoreError> {
    let mut found = 0;
    let mut say = |position: Option<Position>, stream: Option<StreamId>, detail: String| {
        found += 1;
        if found <= MAX_FINDINGS {
            report(Finding { kind: FindingKind::Row, position, stream, revision: None, detail });
        }
    };
    for what in &stored.wrong {
        say(None, None, what.clone());
    }
    let Some(place) = stored.place else {
        if !stored.rows.is_empty() {
            let what = format!("the read model has {} rows, but has followed no log", stored.rows.len());
            say(None, None, what);
        }
        return Ok(found);
    };
    if store.log_id().is_some_and(|log| log != place.log) {
        let what = format!("the read model belongs to log {}, which is not this one", place.log.0);
        say(None, None, what);
        return Ok(found);
    }
    let expected = match fold(store, place, meter).await? {
        Ok(expected) => expected,
        Err(what) => {
            say(Some(place.position), None, what);
            return Ok(found);
        }
    };
    for difference in differences(stored, &expected) {
        say(None, Some(difference.0), difference.1);
    }
    Ok(found)
}

/// The rows computed from the log up to `place`; or the reason why they cannot be computed.
async fn fold(
    store: &Arc<dyn EventStore>,
    place: LogCheckpoint,
    meter: &Meter,
) -> Result<Result<HashMap<u64, RowDigest>, String>, StoreError> {
    meter.begin("rows compared with", store.distance(Position(0), place.position));
    let mut rows: HashMap<u64, RowDigest> = HashMap::new();
    let mut last = Position(0);
    while last < place.position {
        let page = match store.read_log(last, Direction::Forward, MAX_READ_EVENTS).await {
            Ok(page) => page,
            Err(StoreError::Corrupt(what)) => return Ok(Err(format!("the rows are not compared: {what}"))),
            Err(error) => return Err(error),
        };
        if page.is_empty() {
            break;
        }
        for event in page.iter().take_while(|event| event.position <= place.position) {
            last = event.position;
            let is_other = place.event != 0 && LogCheckpoint::after(place.log, event).event != place.event;
            if event.position == place.position && is_other {
                let what = "the event at this position is not the last one that the read model has applied";
                return Ok(Err(what.to_owned()));
            }
            match row_change(event) {
                Ok(RowChange::Insert(row)) => drop(rows.insert(row.id, row.digest())),
                Ok(RowChange::Update { id, status, revision, updated_at_micros }) => {
                    if let Some(row) = rows.get_mut(&id) {
                        *row = row.updated(status, revision, updated_at_micros);
                    }
                }
                // The audit of the log has reported it.
                Err(_) => {}
            }
        }
        meter.add(page.len());
        if page.last().is_some_and(|event| event.position > place.position) {
            break;
        }
    }
    if last < place.position {
        return Ok(Err(format!("the read model has reached this position, but the log ends at {last}")));
    }
    Ok(Ok(rows))
}

/// The orders whose rows do not match the log, the lowest number first.
fn differences(stored: &StoredRows, expected: &HashMap<u64, RowDigest>) -> Vec<(StreamId, String)> {
    let mut different: Vec<_> = Vec::new();
    for (id, row) in &stored.rows {
        match expected.get(id) {
            None => different.push((StreamId(*id), "has a row in the read model, but no event in the log")),
            Some(expected) if expected != row => {
                different.push((StreamId(*id), "its row in the read model does not match its events"));
            }
            Some(_) => {}
        }
    }
    let missing = expected.keys().filter(|id| !stored.rows.contains_key(id));
    different.extend(missing.map(|id| (StreamId(*id), "has no row in the read model")));
    different.sort_unstable_by_key(|(id, _)| *id);
    let remedy = "ordersystem projections rebuild rebuilds the read model";
    different.into_iter().map(|(id, what)| (id, format!("{what} ({remedy})"))).collect()
}
