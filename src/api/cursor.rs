//! Cursors, consistency tokens and page tokens: opaque text for clients, checked when it comes back.
//!
//! Each carries the id of its log, since a position means nothing in another one, and a checksum, since a mistyped one must
//! not point somewhere else.

use data_encoding::BASE64URL_NOPAD;
use xxhash_rust::xxh3::xxh3_64;

use crate::event_store::{LogId, LogPoint, Position};

/// What the text stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cursor = b'c' as isize,
    Token = b't' as isize,
    Page = b'p' as isize,
}

/// Why text is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCursor {
    /// Never made by this service, or damaged on the way.
    Malformed,
    /// Made for another log: for example before a restart without persistence.
    AnotherLog,
    /// It cannot be told yet whether it is of this log: the store has not been reached since the start of the node.
    LogUnknown,
    /// A page token made for a query with other filters.
    AnotherQuery,
}

impl InvalidCursor {
    /// What to tell the client.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Malformed => "is not one that this service has given out",
            Self::AnotherLog => "belongs to another log, which this service does not have",
            Self::LogUnknown => "cannot be checked before the event store has been reached",
            Self::AnotherQuery => "belongs to a query with other filters",
        }
    }
}

/// Where a list goes on: after this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKey {
    /// The creation time of the row, in microseconds since the Unix epoch.
    pub created_at_micros: i64,
    /// The order of the row.
    pub order_id: u64,
}

/// A point of the log as text. With what tells its event from another one, since a log that was put back to an earlier state keeps its id.
#[must_use]
pub fn encode_cursor(log: LogId, point: LogPoint) -> String {
    let position = point.position.0.to_be_bytes();
    let Some(fingerprint) = point.fingerprint else { return seal(Kind::Cursor, log, &position) };
    let mut body = [0; 12];
    body[..8].copy_from_slice(&position);
    body[8..].copy_from_slice(&fingerprint.to_be_bytes());
    seal(Kind::Cursor, log, &body)
}

/// Takes those with and without a fingerprint: earlier versions have given out the latter.
///
/// # Errors
/// [`InvalidCursor`].
pub fn decode_cursor(text: &str, log: Option<LogId>) -> Result<LogPoint, InvalidCursor> {
    match open::<8>(Kind::Cursor, text, log) {
        Err(InvalidCursor::Malformed) => {}
        short => return short.map(|bytes| Position(u64::from_be_bytes(bytes)).into()),
    }
    let body: [u8; 12] = open(Kind::Cursor, text, log)?;
    let (mut position, mut fingerprint) = ([0; 8], [0; 4]);
    position.copy_from_slice(&body[..8]);
    fingerprint.copy_from_slice(&body[8..]);
    let position = Position(u64::from_be_bytes(position));
    Ok(LogPoint { position, fingerprint: Some(u32::from_be_bytes(fingerprint)) })
}

/// How fresh a reader wants to be, as text.
#[must_use]
pub fn encode_token(log: LogId, position: Position) -> String {
    seal(Kind::Token, log, &position.0.to_be_bytes())
}

/// # Errors
/// [`InvalidCursor`].
pub fn decode_token(text: &str, log: Option<LogId>) -> Result<Position, InvalidCursor> {
    open(Kind::Token, text, log).map(|bytes| Position(u64::from_be_bytes(bytes)))
}

/// Where the next page begins, as text. `query` is a hash of the filters.
#[must_use]
pub fn encode_page_token(log: LogId, query: u64, key: PageKey) -> String {
    let mut body = [0; 24];
    body[..8].copy_from_slice(&query.to_be_bytes());
    body[8..16].copy_from_slice(&key.created_at_micros.to_be_bytes());
    body[16..].copy_from_slice(&key.order_id.to_be_bytes());
    seal(Kind::Page, log, &body)
}

/// # Errors
/// [`InvalidCursor`].
pub fn decode_page_token(text: &str, log: Option<LogId>, query: u64) -> Result<PageKey, InvalidCursor> {
    let body: [u8; 24] = open(Kind::Page, text, log)?;
    let part = |from: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&body[from..from + 8]);
        bytes
    };
    if u64::from_be_bytes(part(0)) != query {
        return Err(InvalidCursor::AnotherQuery);
    }
    Ok(PageKey { created_at_micros: i64::from_be_bytes(part(8)), order_id: u64::from_be_bytes(part(16)) })
}

fn seal(kind: Kind, log: LogId, body: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(7 + body.len());
    bytes.push(kind as u8);
    bytes.extend_from_slice(&log.0.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&checksum(&bytes));
    BASE64URL_NOPAD.encode(&bytes)
}

fn open<const N: usize>(kind: Kind, text: &str, log: Option<LogId>) -> Result<[u8; N], InvalidCursor> {
    // Longer text cannot be ours; it is not worth decoding.
    if text.len() > 64 {
        return Err(InvalidCursor::Malformed);
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| InvalidCursor::Malformed)?;
    if bytes.len() != 7 + N || bytes[0] != kind as u8 || bytes[5 + N..] != checksum(&bytes[..5 + N]) {
        return Err(InvalidCursor::Malformed);
    }
    let log = log.ok_or(InvalidCursor::LogUnknown)?;
    if bytes[1..5] != log.0.to_be_bytes() {
        return Err(InvalidCursor::AnotherLog);
    }
    let mut body = [0; N];
    body.copy_from_slice(&bytes[5..5 + N]);
    Ok(body)
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let hash = xxh3_64(bytes).to_be_bytes();
    [hash[0], hash[1]]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId(7);
    const KNOWN: Option<LogId> = Some(LOG);

    #[test]
    fn what_is_given_out_comes_back() {
        let key = PageKey { created_at_micros: -5, order_id: u64::MAX };
        for fingerprint in [None, Some(7), Some(u32::MAX)] {
            let point = LogPoint { position: Position(42), fingerprint };
            assert_eq!(decode_cursor(&encode_cursor(LOG, point), KNOWN), Ok(point));
        }
        assert_eq!(decode_token(&encode_token(LOG, Position(0)), KNOWN), Ok(Position(0)));
        assert_eq!(decode_page_token(&encode_page_token(LOG, 9, key), KNOWN, 9), Ok(key));
    }

    #[test]
    fn what_is_foreign_is_refused() {
        let cursor = encode_cursor(LOG, LogPoint { position: Position(42), fingerprint: Some(7) });
        assert_eq!(decode_cursor(&cursor, Some(LogId(8))), Err(InvalidCursor::AnotherLog));
        assert_eq!(decode_cursor(&cursor, None), Err(InvalidCursor::LogUnknown));
        assert_eq!(decode_token(&cursor, KNOWN), Err(InvalidCursor::Malformed));
        let key = PageKey { created_at_micros: 1, order_id: 2 };
        assert_eq!(decode_page_token(&encode_page_token(LOG, 9, key), KNOWN, 10), Err(InvalidCursor::AnotherQuery));
        for text in ["", "x", "42", "ü", &cursor[1..], &"A".repeat(64), &"A".repeat(100_000)] {
            assert_eq!(decode_cursor(text, KNOWN), Err(InvalidCursor::Malformed), "{text:.20}");
            assert_eq!(decode_cursor(text, None), Err(InvalidCursor::Malformed), "{text:.20}");
        }
    }

    #[test]
    fn any_changed_character_is_noticed() {
        let cursor = encode_cursor(LOG, LogPoint { position: Position(42), fingerprint: Some(7) });
        let noticed = (0..cursor.len()).filter(|&at| {
            let mut bytes = cursor.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            decode_cursor(&String::from_utf8(bytes).unwrap(), KNOWN).is_err()
        });
        assert_eq!(noticed.count(), cursor.len());
    }
}
