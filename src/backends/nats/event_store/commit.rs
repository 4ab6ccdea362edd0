//! A commit as one message, which holds all of it.
//!
//! In big endian: the checksum of the rest (XXH3, 8 bytes), the form (1), the commit (16), the stream (8), the sequence of the previous message of
//! its stream (8; 0: none), which is the condition that it was published with, the first revision (8), the scope of the request id (1; 0: no request
//! id), if present its fingerprint (16), length (1) and text, then each event as its length (4) and its bytes. A reservation is the checksum and
//! another form before a whole commit. A marker is the checksum, a third form, the sequence of the last message that its writer had seen (8) and that
//! of the last commit among those (8).
//!
//! The position of an event is the sequence of its message and, in the low eight bits, its index in the commit, counted so that the last event of
//! each commit has 255. So a follower's position shows that it has read a commit to its end, without reading it again.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::ports::event_store::{
    AppendError, Appended, Commit, CommitId, Position, RequestKey, RequestScope, Revision, StoreError, StoredEvent,
    StreamId,
};

/// The maximum number of events in one commit: their indexes fill the low bits of a position.
pub(super) const MAX_EVENTS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 8;
const LAST_INDEX: u64 = MAX_EVENTS as u64 - 1;

/// The maximum number of bytes of a message in addition to the events of its commit: their lengths, the request id, the form of a reservation around
/// it, and the headers of its publish.
pub(super) const AROUND: usize = 4 * 1024;

const CHECKSUM: usize = 8;
const COMMIT: u8 = 1;
const RESERVATION: u8 = 2;
const MARKER: u8 = 3;

/// The position of the last event of the message with this sequence.
pub(super) const fn last_position(sequence: u64) -> Position {
    Position(sequence << INDEX_BITS | LAST_INDEX)
}

/// The first message that may hold events after `position`.
pub(super) const fn sequence_after(position: Position) -> u64 {
    let sequence = position.0 >> INDEX_BITS;
    if position.0 & LAST_INDEX == LAST_INDEX { sequence + 1 } else { sequence }
}

/// The last message that may hold events before `position`.
pub(super) const fn sequence_before(position: Position) -> u64 {
    position.0 >> INDEX_BITS
}

/// A commit as stored in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredCommit {
    pub sequence: u64,
    pub id: CommitId,
    pub stream: StreamId,
    /// The sequence of the previous message of its stream; 0: none.
    pub after: u64,
    pub first_revision: Revision,
    pub request: Option<RequestKey>,
    pub events: Vec<Bytes>,
}

impl StoredCommit {
    pub(super) fn last_revision(&self) -> Revision {
        self.first_revision + self.events.len() as u64 - 1
    }

    pub(super) fn appended(&self, replayed: bool) -> Appended {
        Appended {
            stream: self.stream,
            first_revision: self.first_revision,
            last_revision: self.last_revision(),
            position: last_position(self.sequence),
            replayed,
        }
    }

    /// The payload bytes of all its events.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(Bytes::len).sum()
    }

    /// Its events, in order.
    pub(super) fn stored_events(&self) -> impl DoubleEndedIterator<Item = StoredEvent> {
        let first = last_position(self.sequence).0 + 1 - self.events.len() as u64;
        self.events.iter().enumerate().map(move |(index, payload)| StoredEvent {
            stream: self.stream,
            revision: self.first_revision + index as u64,
            position: Position(first + index as u64),
            payload: payload.clone(),
        })
    }
}

/// The message of `commit`, which follows message `after` of its stream and begins with `first_revision`.
///
/// # Errors
/// [`StoreError::Corrupt`] if it has more events than a message may.
pub(super) fn encode(commit: &Commit, after: u64, first_revision: Revision) -> Result<Bytes, AppendError> {
    let count = commit.events.len();
    if count > MAX_EVENTS {
        let what = format!("a commit of {count} events is more than the {MAX_EVENTS} that one message can hold");
        return Err(StoreError::Corrupt(what).into());
    }
    let size = commit.events.iter().map(|event| event.len() + 4).sum::<usize>();
    let mut message = begin(COMMIT, size + 256);
    message.put_u128(commit.id.0);
    message.put_u64(commit.stream.0);
    message.put_u64(after);
    message.put_u64(first_revision);
    match &commit.request {
        None => message.put_u8(0),
        Some(request) => {
            message.put_u8(if request.scope == RequestScope::Stream { 1 } else { 2 });
            message.put_u128(request.fingerprint);
            let id = request.id.as_bytes();
            message
                .put_u8(u8::try_from(id.len()).map_err(|_| {
                    StoreError::Corrupt(format!("a request id of {} characters is too long", id.len()))
                })?);
            message.put_slice(id);
        }
    }
    for event in &commit.events {
        message.put_u32(
            u32::try_from(event.len())
                .map_err(|_| StoreError::Corrupt(format!("an event of {} bytes is too large", event.len())))?,
        );
        message.put_slice(event);
    }
    Ok(seal(message))
}

/// Reads the message of a commit. Its bytes are copied, so the buffer that they came in is released.
///
/// # Errors
/// A description of the defect.
pub(super) fn decode(sequence: u64, message: &[u8]) -> Result<StoredCommit, String> {
    let mut rest = open(COMMIT, message)?;
    let mut read = || {
        let id = CommitId(rest.try_get_u128().ok()?);
        let stream = StreamId(rest.try_get_u64().ok()?);
        let after = rest.try_get_u64().ok()?;
        let first_revision = rest.try_get_u64().ok()?;
        let request = match rest.try_get_u8().ok()? {
            0 => None,
            scope @ (1 | 2) => Some(decode_request(scope, &mut rest)?),
            _ => return None,
        };
        let mut events = Vec::new();
        while rest.has_remaining() {
            let length = rest.try_get_u32().ok()? as usize;
            (rest.remaining() >= length).then_some(())?;
            events.push(rest.split_to(length));
        }
        let fits = first_revision > 0
            && !events.is_empty()
            && events.len() <= MAX_EVENTS
            && (after == 0) == (first_revision == 1);
        fits.then_some(StoredCommit { sequence, id, stream, after, first_revision, request, events })
    };
    read().ok_or_else(|| "is cut short".to_owned())
}

fn decode_request(scope: u8, rest: &mut Bytes) -> Option<RequestKey> {
    let fingerprint = rest.try_get_u128().ok()?;
    let length = usize::from(rest.try_get_u8().ok()?);
    let id = std::str::from_utf8(rest.get(..length)?).ok()?.into();
    rest.advance(length);
    let scope = if scope == 1 { RequestScope::Stream } else { RequestScope::Log };
    Some(RequestKey { scope, id, fingerprint })
}

/// A request id that is unique in the log, with its commit. Only the log shows whether that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    /// The message of the commit.
    pub message: Bytes,
    /// The decoded commit; it has no sequence itself.
    pub commit: StoredCommit,
}

/// The message of a reservation.
pub(super) fn encode_reservation(message: &[u8]) -> Bytes {
    let mut reservation = begin(RESERVATION, message.len());
    reservation.put_slice(message);
    seal(reservation)
}

/// Reads the message of a reservation.
///
/// # Errors
/// A description of the defect.
pub(super) fn decode_reservation(message: &[u8]) -> Result<Reservation, String> {
    let message = open(RESERVATION, message)?;
    let commit = decode(0, &message)?;
    Ok(Reservation { message, commit })
}

/// A message of the log that holds no commit: it was written to prove that a quorum accepts it. It names the last commit before it, so that a reader
/// of many consecutive markers finds that commit without reading them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marker {
    /// The sequence of the last message that its writer had seen; 0: unknown.
    pub seen: u64,
    /// The sequence of the last commit up to there; 0: none.
    pub last_commit: u64,
}

impl Marker {
    /// The encoded marker.
    pub(super) fn encode(self) -> Bytes {
        let mut message = begin(MARKER, 16);
        message.put_u64(self.seen);
        message.put_u64(self.last_commit);
        seal(message)
    }

    /// Decodes a marker. A damaged one gives no information, and its loss does no harm.
    pub(super) fn decode(message: &[u8]) -> Self {
        let read = || {
            let mut rest = open(MARKER, message).ok()?;
            Some(Self { seen: rest.try_get_u64().ok()?, last_commit: rest.try_get_u64().ok()? })
        };
        read().unwrap_or_default()
    }

    /// The message before this marker, message `sequence`, that may be the last commit: all messages between them are markers.
    pub(super) fn before(self, sequence: u64) -> u64 {
        if self.seen > 0 && self.seen + 1 >= sequence { self.last_commit } else { sequence - 1 }
    }
}

fn begin(form: u8, size: usize) -> BytesMut {
    let mut message = BytesMut::with_capacity(CHECKSUM + 1 + size);
    message.put_u64(0);
    message.put_u8(form);
    message
}

fn seal(mut message: BytesMut) -> Bytes {
    let checksum = xxh3_64(&message[CHECKSUM..]);
    message[..CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    message.freeze()
}

fn open(form: u8, message: &[u8]) -> Result<Bytes, String> {
    let Some((checksum, rest)) = message.split_first_chunk::<CHECKSUM>() else { return Err("is cut short".to_owned()) };
    if xxh3_64(rest) != u64::from_be_bytes(*checksum) {
        return Err("does not match its checksum".to_owned());
    }
    match rest.split_first() {
        Some((found, rest)) if *found == form => Ok(Bytes::copy_from_slice(rest)),
        _ => Err("has a form that this version does not know".to_owned()),
    }
}
