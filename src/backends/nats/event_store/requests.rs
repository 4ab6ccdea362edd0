//! Request ids that are unique in the log: reserved with their commits before those are made.

use data_encoding::BASE64URL_NOPAD;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    append::{Belief, Conditional, MAX_TRIES, RESOLVE_PAUSE, RESOLVE_WITHIN, Written, stored},
    commit::{self, Reservation, StoredCommit, decode_reservation, encode_reservation},
    foreign,
};
use crate::{
    backends::nats::api::{CallError, Which, only_after},
    event_store::{AppendError, Appended, Commit, RequestKey, StoreError},
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

    /// The commit as the log has it.
    fn made(&self, sequence: u64) -> StoredCommit {
        StoredCommit { sequence, ..self.reservation.commit.clone() }
    }
}

/// What was found when an id was to be reserved.
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
            let end = match self.believe(&mut state, commit, &mut is_fresh).await? {
                Belief::Holds(end) => end,
                Belief::Replayed(appended) => return Ok(appended),
                Belief::Fails(end) => {
                    let found = self.find_reserved(request).await?;
                    return found.ok_or(AppendError::Conflict { actual: end.revision });
                }
            };
            let message = commit::encode(commit, end.sequence, end.revision + 1)?;
            let conditional = Conditional { id: commit.id, stream: commit.stream, after: end.sequence, message };
            match self.reserve(request, &conditional, replaces).await? {
                Claim::Ours(sequence) => match self.write_reserved(&conditional).await? {
                    Written::At(at) => {
                        let stored = stored(commit, end, at);
                        let appended = stored.appended(false);
                        self.learn(&mut state, &stored, end);
                        self.wrote(stored);
                        return Ok(appended);
                    }
                    Written::Passed => {
                        // The order has moved on, so that the reservation stands for nothing: another takes its place.
                        replaces = sequence;
                        self.refresh(&mut state, commit.stream, false).await?;
                        is_fresh = true;
                    }
                },
                Claim::Theirs(theirs) => match self.settle(&theirs).await? {
                    Some(made) if theirs.reservation.commit.request.as_ref() == Some(request) => {
                        return Ok(made.appended(true));
                    }
                    Some(_) => return Err(AppendError::RequestReused),
                    None => replaces = theirs.sequence,
                },
            }
        }
        Err(StoreError::Unavailable(format!("request {} is tried by many at once", request.id)).into())
    }

    /// The commit that an earlier try of a request has made. One that was only reserved has not been made.
    pub(super) async fn find_reserved(&self, request: &RequestKey) -> Result<Option<Appended>, AppendError> {
        let Some(reserved) = self.reserved(request).await? else { return Ok(None) };
        let Some(made) = self.made(&reserved).await? else { return Ok(None) };
        if reserved.reservation.commit.request.as_ref() == Some(request) {
            Ok(Some(made.appended(true)))
        } else {
            Err(AppendError::RequestReused)
        }
    }

    pub(super) fn request_subject(&self, request: &RequestKey) -> String {
        // A subject gives some characters a meaning of its own.
        self.nats.subject(&format!("request.{}", BASE64URL_NOPAD.encode(request.id.as_bytes())))
    }

    /// The newest reservation of a request.
    pub(super) async fn reserved(&self, request: &RequestKey) -> Result<Option<Reserved>, StoreError> {
        let subject = self.request_subject(request);
        let which = Which { last_by_subj: Some(&subject), ..Which::default() };
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

    /// Reserves a request id for a commit, in the place of the reservation `replaces` (0: of none).
    async fn reserve(
        &self,
        request: &RequestKey,
        conditional: &Conditional,
        replaces: u64,
    ) -> Result<Claim, AppendError> {
        let message = encode_reservation(&conditional.message);
        let publish = || self.nats.store(self.request_subject(request), only_after(replaces), message.clone());
        let mut lost = None;
        let give_up = Instant::now() + RESOLVE_WITHIN;
        loop {
            let look = match publish().await {
                Ok(sequence) => return Ok(Claim::Ours(sequence)),
                Err(error) if error.is_wrong_sequence() => self.reserved(request).await,
                Err(CallError::Lost(why)) => Err(StoreError::Unavailable(lost.get_or_insert(why).clone())),
                Err(error) if lost.is_some() => Err(StoreError::Unavailable(error.to_string())),
                Err(error) if error.is_full() => return Err(self.is_full(&error)),
                Err(error) => return Err(self.store_error(error).into()),
            };
            match (look, &lost) {
                (Ok(Some(found)), _) => return Ok(claim(found, conditional)),
                // A condition fails only where there is something.
                (Ok(None), _) => {
                    let what = format!("the reservation of request {} is gone", request.id);
                    return Err(StoreError::Corrupt(what).into());
                }
                (Err(StoreError::Unavailable(_)), Some(why)) if Instant::now() >= give_up => {
                    return Err(AppendError::OutcomeUnknown(why.clone()));
                }
                (Err(StoreError::Unavailable(_)), Some(_)) => {
                    sleep(RESOLVE_PAUSE.mul_f64(0.5 + fastrand::f64())).await;
                    // If the streams cannot be used yet, the next try says so.
                    let _ = self.ready().await;
                }
                (Err(error), _) => return Err(error.into()),
            }
        }
    }

    /// Writes the commit of a reservation of our own.
    async fn write_reserved(&self, conditional: &Conditional) -> Result<Written, AppendError> {
        // Who finds the reservation may write it as well.
        self.write(conditional, true).await.map_err(|error| match error {
            // The commit may be made yet, by a later try of the request.
            AppendError::Full(why) | AppendError::Store(StoreError::Unavailable(why)) => {
                AppendError::OutcomeUnknown(format!("its request id is reserved, and then: {why}"))
            }
            error => error,
        })
    }

    /// The commit of a reservation, made now if nobody has made it; `None` if it stands for nothing.
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
                self.streams.saw(&made);
                self.wrote(made.clone());
                Ok(Some(made))
            }
            Ok(Written::Passed) => Ok(None),
            // Of the commit that is to be appended nothing has been written.
            Err(AppendError::OutcomeUnknown(why)) => Err(StoreError::Unavailable(why).into()),
            Err(error) => Err(error),
        }
    }

    /// The commit of a reservation, if it has been made.
    pub(super) async fn made(&self, reserved: &Reserved) -> Result<Option<StoredCommit>, StoreError> {
        let commit = &reserved.reservation.commit;
        let next = self.next_commit(commit.stream, commit.after + 1).await?;
        Ok(next.filter(|next| next.id == commit.id))
    }
}

/// Whose reservation it is: an earlier try of ours may have made it, its answer lost.
fn claim(found: Reserved, ours: &Conditional) -> Claim {
    let theirs = &found.reservation.commit;
    if theirs.id == ours.id && theirs.after == ours.after { Claim::Ours(found.sequence) } else { Claim::Theirs(found) }
}
