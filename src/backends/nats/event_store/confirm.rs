//! The guarantees of a read of a replicated stream, and how a quorum confirms more.
//!
//! A deposed leader does not know that it is deposed: it answers `STREAM.MSG.GET` and `STREAM.INFO` for up to 20 s after it was cut off, and for
//! about a second after the partition has ended, so two leaders may answer at once. Messages that it returns were committed by a quorum, so **a
//! message that is returned exists; that a message does not exist is not proven**. Only an acknowledged publish to the log has been accepted by a
//! quorum: every message that was acknowledged before it was sent precedes it.
//!
//! - A **confirmation** is the sequence of a publish to the stream that was sent after the read began and acknowledged: a commit of this node if one
//!   falls into that time, otherwise a *marker*, a message of about 100 bytes on a separate subject that every reader skips. One confirmation serves
//!   all waiting callers. A node has one in flight, and sends at most one each [`PACE`]: 200 a second, 20 kB/s of the log at the very most, under
//!   continuous strong reads. Callers that only append or read eventually never cause one.
//! - A message **does not exist** if one reply to `STREAM.INFO`, of one server, shows that the server has the stream up to the confirmation, and that
//!   the order has as many messages as have been read. Otherwise the question is repeated, as another server may answer it, for at most the request
//!   timeout.
//!
//! The cost in round trips: none on one server, whose reads are authoritative. With replicas a strong read has one for the confirmation, concurrent
//! with the read, and one for the count; so has a refusal. Accepted commands have none.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Shared,
    commit::{Marker, last_position},
    log::FIRST_SEQUENCE,
    ring::Entry,
    streams::{End, StreamState},
};
use crate::{
    backends::nats::api::CallError,
    ports::event_store::{Position, Revision, StoreError, StreamId},
};

/// The shortest interval between two markers.
pub(super) const PACE: Duration = Duration::from_millis(5);
/// The pause before a question is repeated because the server that answered is behind.
const PAUSE: Duration = Duration::from_millis(50);

/// The acknowledged publishes to one stream, by sequence, as proofs for readers.
pub(super) type Confirmations = crate::ports::event_store::Confirmations<u64, CallError>;

impl Shared {
    /// The subject of markers in the log. It cannot be an order's: those are numbers.
    pub(super) fn marker_subject(&self) -> String {
        self.nats.subject("log.confirm")
    }

    /// A sequence of the log that follows every commit acknowledged before this call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no quorum accepts messages.
    pub(super) async fn confirm(&self) -> Result<u64, StoreError> {
        if !self.log.is_replicated() {
            return self.last_sequence().await;
        }
        let publish = async || {
            let (marker, highest) = (self.ring.tip(), self.seen.highest());
            let sequence = self.publish_marker(self.marker_subject(), marker).await?;
            self.must_follow(highest, sequence).await?;
            self.observe(sequence, Ok(Entry::Marker(marker)));
            Ok(sequence)
        };
        self.confirmations.confirm(publish).await.map_err(|error| self.store_error(error))
    }

    /// Like [`Shared::confirm`], for the stream of request ids.
    pub(super) async fn confirm_requests(&self) -> Result<u64, StoreError> {
        // Encoded request ids contain no '~'.
        let publish = || self.publish_marker(self.nats.subject("request.~confirm"), Marker::default());
        self.request_confirmations.confirm(publish).await.map_err(|error| self.store_error(error))
    }

    /// Publishes a marker; retries for at most the request timeout while no server takes it because a leader is being elected.
    async fn publish_marker(&self, subject: String, marker: Marker) -> Result<u64, CallError> {
        let give_up = Instant::now() + self.nats.options().request_timeout;
        loop {
            match self.nats.store(subject.clone(), async_nats::HeaderMap::new(), marker.encode()).await {
                Err(CallError::NotSent(_)) if Instant::now() < give_up && self.nats.is_connected() => {
                    sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    /// The position of the last commit, as confirmed by a quorum.
    pub(super) async fn confirmed_head(&self) -> Result<Position, StoreError> {
        let sequence = self.confirm().await?;
        self.last_commit_at(sequence).await
    }

    /// The position of the last commit at or before message `sequence`, which exists.
    pub(super) async fn last_commit_at(&self, sequence: u64) -> Result<Position, StoreError> {
        let mut at = sequence;
        while at > FIRST_SEQUENCE {
            let tip = self.ring.tip();
            if tip.seen == at {
                at = tip.last_commit;
                break;
            }
            match self.entry(at).await? {
                // A damaged message is not a marker.
                Ok(Entry::Commit(_)) | Err(_) => break,
                Ok(Entry::Marker(marker)) => at = marker.before(at),
            }
        }
        Ok(if at > FIRST_SEQUENCE { last_position(at) } else { Position(0) })
    }

    /// Whether a read of a stream, whose last event then had `revision`, contains everything up to message `upto`.
    pub(super) async fn contains(&self, stream: StreamId, revision: Revision, upto: u64) -> Result<bool, StoreError> {
        if !self.log.is_replicated() || upto <= FIRST_SEQUENCE {
            return Ok(true);
        }
        let known = self.streams.of(stream);
        let mut scratch = StreamState::default();
        // A writer holds the lock of the stream for as long as its append takes.
        let mut held = known.try_lock();
        let state = held.as_deref_mut().unwrap_or(&mut scratch);
        // Events that were read exist, whichever server returned them.
        Ok(self.confirmed_end(state, stream, upto).await?.revision <= revision)
    }

    /// The end of a stream, including everything up to message `upto`; updates `state` to it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: no server that has all of it replies.
    pub(super) async fn confirmed_end(
        &self,
        state: &mut StreamState,
        stream: StreamId,
        upto: u64,
    ) -> Result<End, StoreError> {
        let give_up = Instant::now() + self.nats.options().request_timeout;
        let subject = self.subject(stream);
        loop {
            let why = match self.log.count(&subject).await {
                Ok((last, count)) if last >= upto => match self.bring_to(state, stream, count).await {
                    Ok(Some(end)) => return Ok(end),
                    Ok(None) => "another server shows less of it".to_owned(),
                    Err(StoreError::Unavailable(why)) => why,
                    Err(error) => return Err(error),
                },
                Ok((last, _)) => format!("the server that answers only has messages up to {last}"),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= give_up {
                return Err(StoreError::Unavailable(format!(
                    "order {stream} cannot be read up to message {upto} of the log: {why}"
                )));
            }
            sleep(PAUSE).await;
        }
    }

    /// The end of a stream, if `state`, unchanged or after another read, has `count` commits of it.
    async fn bring_to(&self, state: &mut StreamState, stream: StreamId, count: u64) -> Result<Option<End>, StoreError> {
        if count == 0 && state.end.is_none() {
            *state = StreamState::empty();
        }
        if state.commits().is_none_or(|known| known < count) {
            self.refresh(state, stream, true).await?;
        }
        let is_whole = state.commits().is_some_and(|known| known >= count);
        Ok(state.end.filter(|_| is_whole))
    }

    /// Whether message `sequence`, which the log must have, has been removed from it. Otherwise the server that did not return it is behind.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if no server knows.
    pub(super) async fn is_missing(&self, sequence: u64) -> Result<bool, StoreError> {
        if !self.log.is_replicated() {
            return Ok(true);
        }
        self.log.is_deleted(sequence).await.map_err(|error| self.store_error(error))
    }

    /// The error for message `sequence`, which the log must have and which was not returned.
    pub(super) async fn missing(&self, sequence: u64) -> StoreError {
        match self.is_missing(sequence).await {
            Ok(true) => StoreError::Corrupt(format!("message {sequence} of the log is missing")),
            Ok(false) => StoreError::Unavailable(format!("a server that lags behind does not show message {sequence}")),
            Err(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_leads_past_earlier_markers_to_the_last_commit() {
        let marker = Marker { seen: 41, last_commit: 17 };
        assert_eq!(Marker::decode(&marker.encode()), marker);
        assert_eq!(marker.before(42), 17);
        assert_eq!(marker.before(44), 43, "its writer did not see the messages between");
        assert_eq!(Marker::decode(b"").before(9), 8);
        let mut damaged = marker.encode().to_vec();
        damaged[12] ^= 1;
        assert_eq!(Marker::decode(&damaged), Marker::default());
    }
}
