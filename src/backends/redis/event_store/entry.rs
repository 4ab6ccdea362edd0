//! One event as an entry of the log: the fields `r`, its revision, `e`, its encoding, and `q`, the request key of its commit if it is the first event
//! of a commit with one, else empty. The first logs were written without `q`.
//!
//! `e` is 32 bytes and then the payload: the checksum of the rest (XXH3, 8 bytes), the commit (16), the stream (8), all big endian.

use bytes::Bytes;
use redis::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    backends::redis::values,
    ports::event_store::{CommitId, Position, StoreError, StoredEvent, StreamId},
};

const CHECKSUM: usize = 8;
const COMMIT: usize = 16;
const HEADER: usize = CHECKSUM + COMMIT + 8;

/// An event with the commit that it belongs to.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub event: StoredEvent,
    pub commit: CommitId,
    /// The field `q`; `None` if the entry was written without one.
    pub request: Option<Bytes>,
}

/// The field `e` of an event.
pub(super) fn encode(commit: CommitId, stream: StreamId, payload: &[u8]) -> Vec<u8> {
    let mut entry = Vec::with_capacity(HEADER + payload.len());
    entry.extend_from_slice(&[0; CHECKSUM]);
    entry.extend_from_slice(&commit.0.to_be_bytes());
    entry.extend_from_slice(&stream.0.to_be_bytes());
    entry.extend_from_slice(payload);
    let checksum = xxh3_64(&entry[CHECKSUM..]);
    entry[..CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    entry
}

/// Reads an entry as returned by `XRANGE`.
///
/// # Errors
/// [`StoreError::Corrupt`] names the entry and the defect.
pub(super) fn decode(value: Value) -> Result<Entry, StoreError> {
    let mut parts = values::list(value).unwrap_or_default().into_iter();
    let id = parts.next().unwrap_or_default();
    let corrupt = |what: &str| {
        let id = values::text(&id).unwrap_or("without id");
        StoreError::Corrupt(format!("the entry {id} of the log {what}"))
    };
    let position = values::entry_number(&id).ok_or_else(|| corrupt("has an id that this service does not write"))?;
    let fields = parts.next().and_then(values::list).ok_or_else(|| corrupt("is missing"))?;
    let (revision, entry, request) = match <[Value; 6]>::try_from(fields) {
        Ok([r, revision, e, entry, q, request]) if are([&r, &e, &q], ["r", "e", "q"]) => {
            (revision, entry, Some(request))
        }
        Ok(_) => return Err(corrupt("does not have the fields r, e and q")),
        Err(fields) => match <[Value; 4]>::try_from(fields) {
            Ok([r, revision, e, entry]) if are([&r, &e], ["r", "e"]) => (revision, entry, None),
            _ => return Err(corrupt("does not have the fields r and e")),
        },
    };
    let Value::BulkString(entry) = entry else { return Err(corrupt("does not have text in its field e")) };
    let request = request.map(|request| values::bytes(&request).map(Bytes::copy_from_slice).unwrap_or_default());
    let revision = values::number(&revision).ok_or_else(|| corrupt("has no revision"))?;
    let entry = Bytes::from(entry);
    let (Some(checksum), Some(commit), Some(stream)) =
        (number::<CHECKSUM>(&entry, 0), number::<COMMIT>(&entry, CHECKSUM), number::<8>(&entry, CHECKSUM + COMMIT))
    else {
        return Err(corrupt("is cut short"));
    };
    if xxh3_64(&entry[CHECKSUM..]) != u64::from_be_bytes(checksum) {
        return Err(corrupt("does not match its checksum"));
    }
    let event = StoredEvent {
        stream: StreamId(u64::from_be_bytes(stream)),
        revision,
        position: Position(position),
        payload: entry.slice(HEADER..),
    };
    Ok(Entry { event, commit: CommitId(u128::from_be_bytes(commit)), request })
}

fn are<const N: usize>(names: [&Value; N], expected: [&str; N]) -> bool {
    names.map(values::text) == expected.map(Some)
}

/// The `N` bytes starting at `at`.
fn number<const N: usize>(entry: &[u8], at: usize) -> Option<[u8; N]> {
    entry.get(at..at + N)?.try_into().ok()
}
