//! Request ids that are unique in the log: reserved with their commits before those are made.

use bytes::Bytes;
use data_encoding::BASE64URL_NOPAD;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    append::{Conditional, ExpectationCheck, FIRST_PAUSE, MAX_TRIES, RESOLVE_PAUSE, RESOLVE_WITHIN, Written, stored},
    commit::{Reservation, StoredCommit, decode_reservation, encode_reservation},
    foreign,
    streams::StreamState,
};
use crate::{
    backends::nats::api::{CallError, Which, only_after},
    ports::{
        backoff::Backoff,
        event_store::{AppendError, Appended, Commit, RequestKey, StoreError},
    },
};

/// A reservation with the sequence of its message.
pub(super) struct Reserved {
    pub sequence: u64,
    reservation: Reservation,
}

impl Reserved {
    fn conditional(&self) -> Conditional {
        let Reservation { message, commit } = &self.reservation;
        Conditional { id: commit.id, stream: commit.stream, after: commit.after, message: message.clone() }
    }

    /// Whether it is the reservation of this very message.
    pub(super) fn is_for(&self, message: &Conditional) -> bool {
        let commit = &self.reservation.commit;
        commit.id == message.id && commit.after == message.after
    }

    /// The commit as stored in the log.
    fn made(&self, sequence: u64) -> StoredCommit {
        StoredCommit { sequence, ..self.reservation.commit.clone() }
    }
}

/// The result of reserving an id.
enum Claim {
    /// It is ours, under this sequence.
    Ours(u64),
    /// Another try has it.
    Theirs(Reserved),
}

impl Shared {
    /// Appends a commit whose request id is unique in the log.
    pub(super) async fn append_once(&self, commit: &Commit, request: &RequestKey) -> Result<Appended, AppendError> {
        let known = self.streams.of(commit.stream);
        let mut state = known.lock().await;
        let (mut is_fresh, mut replaces) = (false, 0);
        for _ in 0..MAX_TRIES {
            let end = match self.check_expectation(&mut state, commit, &mut is_fresh).await? {
                ExpectationCheck::Holds(end) => end,
                ExpectationCheck::Replayed(appended) => return Ok(appended),
                ExpectationCheck::Fails(end) => {
                    let found = self.find_reserved(request).await?;
                    return found.ok_or(AppendError::Conflict { actual: end.revision });
                }
            };
            let message = self.encode(commit, end)?;
            let conditional = Conditional { id: commit.id, stream: commit.stream, after: end.sequence, message };
            match self.reserve(request, &conditional, replaces).await? {
                Claim::Ours(sequence) => match self.write(&conditional, true).await? {
                    Written::At(at) => {
                        let stored = stored(commit, end, at);
                        let appended = stored.appended(false);
                        self.learn(&mut state, &stored, end);
                        self.wrote(stored);
                        return Ok(appended);
                    }
                    Written::Passed => {
                        // The order has moved on, so the reservation is void and is replaced.
                        replaces = sequence;
                        self.refresh(&mut state, commit.stream, false).await?;
                        is_fresh = true;
                    }
                },
                Claim::Theirs(theirs) => match self.settle(&theirs).await? {
                    Some(made) if theirs.reservation.commit.request.as_ref() == Some(request) => {
                        return Ok(made.appended(true));
                    }
                    Some(_) => return Err(AppendError::RequestIdReused),
                    None => replaces = theirs.sequence,
                },
            }
        }
        Err(StoreError::Unavailable(format!("too many concurrent attempts at request {}", request.id)).into())
    }

    /// The commit that an earlier try of a request has made. One that was only reserved has not been made.
    pub(super) async fn find_reserved(&self, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let mut reserved = self.reserved(request).await?;
        let mut made = match &reserved {
            Some(reserved) => self.made_as_shown(reserved).await?,
            None => None,
        };
        if made.is_none() && self.log.is_replicated() {
            reserved = self.confirmed_reservation(request).await?;
            if let Some(reserved) = &reserved {
                made = self.made(reserved).await?;
            }
        }
        let (Some(reserved), Some(made)) = (reserved, made) else { return Ok(None) };
        if reserved.reservation.commit.request.as_ref() == Some(request) {
            Ok(Some(made.appended(true)))
        } else {
            Err(AppendError::RequestIdReused)
        }
    }

    pub(super) fn request_subject(&self, request: &RequestKey) -> String {
        // Encoded, since some characters have a special meaning in a subject.
        self.nats.subject(&format!("request.{}", BASE64URL_NOPAD.encode(request.id.as_bytes())))
    }

    /// The newest reservation of a request.
    pub(super) async fn reserved(&self, request: &RequestKey) -> Result<Option<Reserved>, StoreError> {
        let subject = self.request_subject(request);
        self.reservation(request, Which { last_by_subj: Some(&subject), ..Which::default() }).await
    }

    async fn reservation(&self, request: &RequestKey, which: Which<'_>) -> Result<Option<Reserved>, StoreError> {
        let subject = self.request_subject(request);
        let found = self.nats.message(&self.log.requests, which).await.map_err(|error| self.store_error(error))?;
        let Some(found) = found else { return Ok(None) };
        let corrupt = |why: &str| foreign(&self.log.requests, found.sequence, &format!("({subject}) {why}"));
        let reservation = decode_reservation(&found.payload).map_err(|why| corrupt(&why))?;
        let is_of_it = reservation.commit.request.as_ref().is_some_and(|found| found.id == request.id);
        if !is_of_it {
            return Err(corrupt("is a reservation of another request"));
        }
        Ok(Some(Reserved { sequence: found.sequence, reservation }))
    }

    /// Reserves a request id for a commit, replacing the reservation `replaces` (0: none).
    async fn reserve(
        &self,
        request: &RequestKey,
        conditional: &Conditional,
        replaces: u64,
    ) -> Result<Claim, AppendError> {
        let message = encode_reservation(&conditional.message);
        let mut unanswered: Option<CallError> = None;
        let mut pauses = Backoff::new(FIRST_PAUSE, RESOLVE_PAUSE).pauses();
        let give_up = Instant::now() + RESOLVE_WITHIN;
        loop {
            match self.publish_reservation(request, replaces, message.clone()).await {
                Ok(sequence) => return Ok(Claim::Ours(sequence)),
                Err(error) if error.is_wrong_sequence() => match self.reserved(request).await {
                    // It is newer than the one to replace, which is why the publish was refused.
                    Ok(Some(found)) if found.sequence > replaces => return Ok(claim(found, conditional)),
                    // The server that refuses it, or the one that replies, is behind.
                    Ok(_) | Err(StoreError::Unavailable(_)) => drop(unanswered.get_or_insert(error)),
                    Err(error) => return Err(error.into()),
                },
                Err(error @ (CallError::Lost(_) | CallError::UnderWay(_))) => drop(unanswered.get_or_insert(error)),
                // Neither an error nor a timeout reveals the outcome of an earlier try.
                Err(_) if unanswered.is_some() => {}
                Err(error) if error.is_full() => return Err(self.record_full(&error)),
                Err(CallError::TooLarge(_)) => return Err(self.too_large_error(conditional.stream, message.len())),
                Err(error) => return Err(self.store_error(error).into()),
            }
            if Instant::now() >= give_up || self.nats.is_away() {
                let why = unanswered.map_or_else(String::new, |error| error.to_string());
                return Err(AppendError::OutcomeUnknown(why));
            }
            sleep(pauses.next_pause()).await;
            // If the streams cannot be used yet, the next try reports it.
            let _ = self.ready().await;
        }
    }

    /// Publishes a reservation on condition that `replaces` is the newest of its request (0: that there is none).
    pub(super) async fn publish_reservation(
        &self,
        request: &RequestKey,
        replaces: u64,
        message: Bytes,
    ) -> Result<u64, CallError> {
        let begun = self.request_confirmations.begin();
        let ack = self.nats.publish(self.request_subject(request), only_after(replaces), message).await?;
        self.request_confirmations.acknowledged(begun, ack.seq);
        Ok(ack.seq)
    }

    /// The commit of a reservation, made now if it has not been made; `None` if the reservation is void.
    async fn settle(&self, reserved: &Reserved) -> Result<Option<StoredCommit>, AppendError> {
        let commit = &reserved.reservation.commit;
        let next = self.next_commit(commit.stream, commit.after + 1).await?;
        if let Some(next) = next {
            return Ok((next.id == commit.id).then_some(next));
        }
        tracing::info!(stream = %commit.stream, "completing a commit whose request id was reserved");
        match self.write(&reserved.conditional(), true).await {
            Ok(Written::At(sequence)) => {
                let made = reserved.made(sequence);
                self.streams.observe(&made);
                self.wrote(made.clone());
                Ok(Some(made))
            }
            Ok(Written::Passed) => Ok(None),
            // Nothing of the commit to be appended has been written.
            Err(AppendError::OutcomeUnknown(why)) => Err(StoreError::Unavailable(why).into()),
            Err(error) => Err(error),
        }
    }

    /// The commit of a reservation, if a server returns it.
    async fn made_as_shown(&self, reserved: &Reserved) -> Result<Option<StoredCommit>, StoreError> {
        let commit = &reserved.reservation.commit;
        let next = self.next_commit(commit.stream, commit.after + 1).await?;
        Ok(next.filter(|next| next.id == commit.id))
    }

    /// The commit of a reservation, if it has been made; `None` is certain.
    pub(super) async fn made(&self, reserved: &Reserved) -> Result<Option<StoredCommit>, StoreError> {
        let commit = &reserved.reservation.commit;
        let mut next = self.next_commit(commit.stream, commit.after + 1).await?;
        if next.is_none() && self.log.is_replicated() {
            let upto = self.confirm().await?;
            let end = self.confirmed_end(&mut StreamState::default(), commit.stream, upto).await?;
            if end.sequence > commit.after {
                next = self.next_commit(commit.stream, commit.after + 1).await?;
                if next.is_none() {
                    return Err(StoreError::Unavailable(format!(
                        "order {} is read from several servers",
                        commit.stream
                    )));
                }
            }
        }
        Ok(next.filter(|next| next.id == commit.id))
    }

    /// The newest reservation of a request, as confirmed by a quorum: that there is none, or none newer, is certain.
    async fn confirmed_reservation(&self, request: &RequestKey) -> Result<Option<Reserved>, StoreError> {
        let upto = self.confirm_requests().await?;
        let subject = self.request_subject(request);
        let give_up = Instant::now() + self.nats.options().request_timeout;
        loop {
            let counted = self.log.count_requests(&subject).await;
            if let Ok((last, count)) = counted
                && last >= upto
            {
                if count == 0 {
                    return Ok(None);
                }
                if let Some(newest) = self.nth_reservation(request, count).await? {
                    return Ok(Some(newest));
                }
            }
            if Instant::now() >= give_up {
                let why = format!("no server shows request {} up to message {upto} of its stream", request.id);
                return Err(StoreError::Unavailable(why));
            }
            sleep(RESOLVE_PAUSE).await;
        }
    }

    /// The reservation that is message number `count` of a request; there are rarely more than one.
    async fn nth_reservation(&self, request: &RequestKey, count: u64) -> Result<Option<Reserved>, StoreError> {
        let subject = self.request_subject(request);
        let mut newest: Option<Reserved> = None;
        for _ in 0..count {
            let from = newest.as_ref().map_or(1, |newest| newest.sequence + 1);
            let which = Which { seq: Some(from), next_by_subj: Some(&subject), ..Which::default() };
            match self.reservation(request, which).await? {
                Some(next) => newest = Some(next),
                None => return Ok(None),
            }
        }
        Ok(newest)
    }
}

/// Determines the owner of a reservation: an earlier try of this node whose reply was lost may have made it.
fn claim(found: Reserved, ours: &Conditional) -> Claim {
    if found.is_for(ours) { Claim::Ours(found.sequence) } else { Claim::Theirs(found) }
}
