//! The stored record of a request id: `<fingerprint> <stream> <events> <first revision>`, the numbers decimal except for the fingerprint; and the
//! request key in the log, `<scope> <fingerprint> <id>`.

use crate::ports::event_store::{
    AppendError, Appended, Commit, Position, RequestKey, RequestScope, Revision, StoreError, StreamId,
};

/// The stored record of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestRecord {
    pub fingerprint: u128,
    pub stream: StreamId,
    pub first_revision: Revision,
    pub last_revision: Revision,
}

/// The record that the script stores for `commit`, before it adds the first revision.
pub(super) fn to_remember(commit: &Commit, request: &RequestKey) -> String {
    format!("{:032x} {} {}", request.fingerprint, commit.stream, commit.events.len())
}

/// The request key as stored in the log.
pub(super) fn to_log(request: &RequestKey) -> String {
    key_in_log(request.scope, request.fingerprint, &request.id)
}

/// The same of the parts of a key.
pub(super) fn key_in_log(scope: RequestScope, fingerprint: u128, id: &str) -> String {
    let scope = match scope {
        RequestScope::Stream => "stream",
        RequestScope::Log => "log",
    };
    format!("{scope} {fingerprint:032x} {id}")
}

/// Reads a key written by [`to_log`].
pub(super) fn from_log(text: &[u8]) -> Option<RequestKey> {
    let mut parts = std::str::from_utf8(text).ok()?.splitn(3, ' ');
    let scope = match parts.next()? {
        "stream" => RequestScope::Stream,
        "log" => RequestScope::Log,
        _ => return None,
    };
    let fingerprint = u128::from_str_radix(parts.next()?, 16).ok()?;
    Some(RequestKey { scope, id: parts.next()?.into(), fingerprint })
}

impl RequestRecord {
    /// Reads the record and compares it with the request.
    ///
    /// # Errors
    /// [`AppendError::RequestIdReused`] for another payload, [`StoreError::Corrupt`].
    pub(super) fn read(text: &str, request: &RequestKey) -> Result<Self, AppendError> {
        let remembered = Self::parse(text).ok_or_else(|| {
            StoreError::Corrupt(format!("the record of request {} cannot be read: {text:?}", request.id))
        })?;
        if remembered.fingerprint == request.fingerprint { Ok(remembered) } else { Err(AppendError::RequestIdReused) }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let fingerprint = u128::from_str_radix(parts.next()?, 16).ok()?;
        let stream = StreamId(parts.next()?.parse().ok()?);
        let events: u64 = parts.next()?.parse().ok()?;
        let first_revision: u64 = parts.next()?.parse().ok()?;
        let last_revision = first_revision.checked_add(events)?.checked_sub(1)?;
        (parts.next().is_none() && first_revision > 0 && events > 0).then_some(Self {
            fingerprint,
            stream,
            first_revision,
            last_revision,
        })
    }

    /// The commit that it made, whose last event is at `position`.
    pub(super) const fn appended(self, position: Position, replayed: bool) -> Appended {
        Appended {
            stream: self.stream,
            first_revision: self.first_revision,
            last_revision: self.last_revision,
            position,
            replayed,
        }
    }
}
