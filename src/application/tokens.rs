//! Cursors, consistency tokens and page tokens: opaque text for clients, validated on return.
//!
//! Each contains the id of its log, since a position means nothing in another one, and is signed with the key of the log: mistyped or forged text is
//! refused. All nodes of a log have its key.
//!
//! The bytes, in base64url: the kind, 4 of the log's id, the body, and the first 12 of a SipHash-2-4 of 128 bits over those, a MAC made for
//! short messages: every event of a stream has a cursor, and an HMAC takes many times as long.

use std::{fmt, hash::Hasher as _, sync::Arc};

use data_encoding::BASE64URL_NOPAD;
use parking_lot::RwLock;
use ring::hmac;
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use subtle::ConstantTimeEq as _;

use crate::ports::event_store::{EventStore, LogId, LogPoint, Position, TokenKey};

/// The length of a signature in bytes. A forger needs one request to the service per guess, and succeeds once in 2^96.
const SIGNATURE_BYTES: usize = 12;

/// The text from which the key of SipHash is derived, by an HMAC with the key of the log: no key has two uses.
const PURPOSE: &[u8] = b"ordersystem tokens, SipHash-2-4-128";

/// The identity of a log, and its signing key.
#[derive(Clone)]
pub struct Signer {
    log: LogId,
    token_key: TokenKey,
    /// With the signing key, and no input yet.
    mac: SipHasher24,
}

impl fmt::Debug for Signer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Signer").field("log", &self.log).finish_non_exhaustive()
    }
}

/// The signer of the log of a store, derived once for each key: deriving it costs as much as two signatures. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct SignerOfStore {
    store: Arc<dyn EventStore>,
    last: Arc<RwLock<Option<Signer>>>,
}

impl SignerOfStore {
    /// The signer of the log of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>) -> Self {
        Self { store, last: Arc::default() }
    }

    /// The signer, once the log is known.
    #[must_use]
    pub fn current(&self) -> Option<Signer> {
        let (log, key) = (self.store.log_id()?, self.store.token_key()?);
        if let Some(signer) = self.last.read().as_ref().filter(|signer| signer.is_of(log, key)) {
            return Some(signer.clone());
        }
        let signer = Signer::new(log, key);
        *self.last.write() = Some(signer.clone());
        Some(signer)
    }
}

impl Signer {
    /// The signer of a log.
    #[must_use]
    pub fn new(log: LogId, key: TokenKey) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.bytes()), PURPOSE);
        let mut own = [0; 16];
        own.copy_from_slice(&derived.as_ref()[..16]);
        Self { log, token_key: key, mac: SipHasher24::new_with_key(&own) }
    }

    /// The signer of the log of `store`, once that is known.
    pub fn of(store: &dyn EventStore) -> Option<Self> {
        Some(Self::new(store.log_id()?, store.token_key()?))
    }

    /// Whether it is the signer of this log with this key.
    fn is_of(&self, log: LogId, key: TokenKey) -> bool {
        self.log == log && self.token_key == key
    }

    fn signature(&self, bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut mac = self.mac;
        mac.write(bytes);
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(&mac.finish128().as_bytes()[..SIGNATURE_BYTES]);
        signature
    }

    fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        self.signature(bytes).ct_eq(signature).into()
    }
}

/// The kind of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Cursor = b'c' as isize,
    Token = b't' as isize,
    Page = b'p' as isize,
}

/// Why a text is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidCursor {
    /// It was not issued by this service, or was damaged in transit.
    Malformed,
    /// It was issued for another log: for example before a restart without persistence.
    AnotherLog,
    /// It is not known yet whether it belongs to this log: the store has not been reached since the start of the node.
    LogUnknown,
    /// A page token issued for a query with other filters.
    AnotherQuery,
}

impl InvalidCursor {
    /// The message for the client.
    #[must_use]
    pub const fn description(self) -> &'static str {
        match self {
            Self::Malformed => "was not issued by this service",
            Self::AnotherLog => "belongs to another log",
            Self::LogUnknown => "cannot be checked before the event store has been reached",
            Self::AnotherQuery => "belongs to a query with other filters",
        }
    }
}

/// The start of a page of a list: after this row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageKey {
    /// The creation time of the row, in microseconds since the Unix epoch.
    pub created_at_micros: i64,
    /// The order of the row.
    pub order_id: u64,
}

/// A point of the log as text. It includes the event's fingerprint, since a restored log keeps its id.
#[must_use]
pub fn encode_cursor(signer: &Signer, point: LogPoint) -> String {
    let position = point.position.0.to_be_bytes();
    let Some(fingerprint) = point.fingerprint else { return seal(Kind::Cursor, signer, &position) };
    let mut body = [0; 12];
    body[..8].copy_from_slice(&position);
    body[8..].copy_from_slice(&fingerprint.to_be_bytes());
    seal(Kind::Cursor, signer, &body)
}

/// The point in a cursor, with or without a fingerprint: cursors of earlier versions have none.
///
/// # Errors
/// [`InvalidCursor`].
pub fn decode_cursor(text: &str, signer: Option<&Signer>) -> Result<LogPoint, InvalidCursor> {
    match open::<8>(Kind::Cursor, text, signer) {
        Err(InvalidCursor::Malformed) => {}
        short => return short.map(|bytes| Position(u64::from_be_bytes(bytes)).into()),
    }
    let body: [u8; 12] = open(Kind::Cursor, text, signer)?;
    let (mut position, mut fingerprint) = ([0; 8], [0; 4]);
    position.copy_from_slice(&body[..8]);
    fingerprint.copy_from_slice(&body[8..]);
    let position = Position(u64::from_be_bytes(position));
    Ok(LogPoint { position, fingerprint: Some(u32::from_be_bytes(fingerprint)) })
}

/// A consistency token: a read with it contains everything up to `position`.
#[must_use]
pub fn encode_token(signer: &Signer, position: Position) -> String {
    seal(Kind::Token, signer, &position.0.to_be_bytes())
}

/// The position in a consistency token; `log` is `None` before the event store has been reached.
///
/// # Errors
/// [`InvalidCursor`].
pub fn decode_token(text: &str, signer: Option<&Signer>) -> Result<Position, InvalidCursor> {
    open(Kind::Token, text, signer).map(|bytes| Position(u64::from_be_bytes(bytes)))
}

/// The start of the next page, as text. `query` is a hash of the filters.
#[must_use]
pub fn encode_page_token(signer: &Signer, query: u64, key: PageKey) -> String {
    let mut body = [0; 24];
    body[..8].copy_from_slice(&query.to_be_bytes());
    body[8..16].copy_from_slice(&key.created_at_micros.to_be_bytes());
    body[16..].copy_from_slice(&key.order_id.to_be_bytes());
    seal(Kind::Page, signer, &body)
}

/// The start of the page that a page token names, if it was issued for the query with the hash `query`.
///
/// # Errors
/// [`InvalidCursor`].
pub fn decode_page_token(text: &str, signer: Option<&Signer>, query: u64) -> Result<PageKey, InvalidCursor> {
    let body: [u8; 24] = open(Kind::Page, text, signer)?;
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

fn seal(kind: Kind, signer: &Signer, body: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len() + SIGNATURE_BYTES);
    bytes.push(kind as u8);
    bytes.extend_from_slice(&signer.log.0.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.extend_from_slice(&signer.signature(&bytes));
    BASE64URL_NOPAD.encode(&bytes)
}

/// The length of the kind and the log id.
const HEAD_BYTES: usize = 5;
/// Longer text cannot be ours and is not decoded.
const MAX_CHARS: usize = 64;

fn open<const N: usize>(kind: Kind, text: &str, signer: Option<&Signer>) -> Result<[u8; N], InvalidCursor> {
    if text.len() > MAX_CHARS {
        return Err(InvalidCursor::Malformed);
    }
    let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| InvalidCursor::Malformed)?;
    if bytes.len() != HEAD_BYTES + N + SIGNATURE_BYTES || bytes[0] != kind as u8 {
        return Err(InvalidCursor::Malformed);
    }
    let signer = signer.ok_or(InvalidCursor::LogUnknown)?;
    // The key of another log is unknown here: foreign text is recognised only by its log id.
    if bytes[1..HEAD_BYTES] != signer.log.0.to_be_bytes() {
        return Err(InvalidCursor::AnotherLog);
    }
    let (signed, signature) = bytes.split_at(HEAD_BYTES + N);
    if !signer.has_signed(signed, signature) {
        return Err(InvalidCursor::Malformed);
    }
    let mut body = [0; N];
    body.copy_from_slice(&signed[HEAD_BYTES..]);
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: LogId = LogId(7);

    fn signer() -> Signer {
        Signer::new(LOG, TokenKey::of([9; TokenKey::BYTES]))
    }

    #[test]
    fn issued_text_decodes_to_the_encoded_values() {
        let signer = signer();
        let known = Some(&signer);
        let key = PageKey { created_at_micros: -5, order_id: u64::MAX };
        for fingerprint in [None, Some(7), Some(u32::MAX)] {
            let point = LogPoint { position: Position(42), fingerprint };
            assert_eq!(decode_cursor(&encode_cursor(&signer, point), known), Ok(point));
        }
        assert_eq!(decode_token(&encode_token(&signer, Position(0)), known), Ok(Position(0)));
        assert_eq!(decode_page_token(&encode_page_token(&signer, 9, key), known, 9), Ok(key));
    }

    #[test]
    fn signatures_do_not_change_from_version_to_version() {
        let point = LogPoint { position: Position(42), fingerprint: Some(7) };
        assert_eq!(encode_cursor(&signer(), point), "YwAAAAcAAAAAAAAAKgAAAAfneiRtfaR7nnI1RRU");
    }

    #[test]
    fn the_longest_text_is_not_too_long() {
        let key = PageKey { created_at_micros: i64::MIN, order_id: u64::MAX };
        assert!(encode_page_token(&signer(), u64::MAX, key).len() <= MAX_CHARS);
    }

    #[test]
    fn foreign_text_is_refused() {
        let signer = signer();
        let known = Some(&signer);
        let cursor = encode_cursor(&signer, LogPoint { position: Position(42), fingerprint: Some(7) });
        let other = Signer::new(LogId(8), TokenKey::of([9; TokenKey::BYTES]));
        assert_eq!(decode_cursor(&cursor, Some(&other)), Err(InvalidCursor::AnotherLog));
        assert_eq!(decode_cursor(&cursor, None), Err(InvalidCursor::LogUnknown));
        assert_eq!(decode_token(&cursor, known), Err(InvalidCursor::Malformed));
        let key = PageKey { created_at_micros: 1, order_id: 2 };
        let page = encode_page_token(&signer, 9, key);
        assert_eq!(decode_page_token(&page, known, 10), Err(InvalidCursor::AnotherQuery));
        for text in ["", "x", "42", "ü", &cursor[1..], &"A".repeat(64), &"A".repeat(100_000)] {
            assert_eq!(decode_cursor(text, known), Err(InvalidCursor::Malformed), "{text:.20}");
            assert_eq!(decode_cursor(text, None), Err(InvalidCursor::Malformed), "{text:.20}");
        }
    }

    #[test]
    fn text_signed_with_another_key_is_refused() {
        let signer = signer();
        let forger = Signer::new(LOG, TokenKey::of([8; TokenKey::BYTES]));
        let token = encode_token(&forger, Position(1 << 50));
        assert_eq!(decode_token(&token, Some(&signer)), Err(InvalidCursor::Malformed));
        // The format of earlier versions, with a checksum that anybody can compute.
        let mut unsigned = vec![b't', 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 42];
        let checksum = xxhash_rust::xxh3::xxh3_64(&unsigned).to_be_bytes();
        unsigned.extend_from_slice(&checksum[..2]);
        assert_eq!(decode_token(&BASE64URL_NOPAD.encode(&unsigned), Some(&signer)), Err(InvalidCursor::Malformed));
    }

    #[test]
    fn any_changed_bit_is_detected() {
        let signer = signer();
        let key = PageKey { created_at_micros: 1, order_id: 2 };
        let cursor = encode_cursor(&signer, LogPoint { position: Position(42), fingerprint: Some(7) });
        let (token, page) = (encode_token(&signer, Position(42)), encode_page_token(&signer, 9, key));
        for text in [&cursor, &token, &page] {
            let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).unwrap();
            for (at, bit) in (0..bytes.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                let changed = BASE64URL_NOPAD.encode(&bytes);
                assert!(decode_cursor(&changed, Some(&signer)).is_err(), "{at} {bit}");
                assert!(decode_token(&changed, Some(&signer)).is_err(), "{at} {bit}");
                assert!(decode_page_token(&changed, Some(&signer), 9).is_err(), "{at} {bit}");
            }
        }
    }
}
