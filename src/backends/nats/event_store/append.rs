//! Appends to a stream, and determines the outcome of an append without a reply.

use std::time::Duration;

use async_nats::header;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    Shared,
    commit::StoredCommit,
    log::FIRST_SEQUENCE,
    streams::{End, StreamState},
};
use crate::{
    backends::nats::api::{CallError, only_after},
    ports::{
        backoff::{Backoff, Pauses},
        event_store::{AppendError, Appended, Commit, CommitId, ExpectedRevision, RequestKey, StoreError, StreamId},
    },
};

/// How long the outcome of an append whose reply was lost is investigated before it is reported as unknown.
pub(super) const RESOLVE_WITHIN: Duration = Duration::from_secs(8);
/// The longest pause between two checks.
pub(super) const RESOLVE_PAUSE: Duration = Duration::from_millis(100);
/// The first pause while another publish is in flight: most complete within a few milliseconds.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How often an append may lose to other writers before it fails; each time one of their commits has been stored.
pub(super) const MAX_TRIES: usize = 100;

/// A message that is stored only if the last one of its order has the sequence `after`.
#[derive(Clone, Debug)]
pub(super) struct Conditional {
    pub id: CommitId,
    pub stream: StreamId,
    pub after: u64,
    pub message: Bytes,
}

/// The outcome of a publish.
pub(super) enum Written {
    /// It is stored.
    At(u64),
    /// It is not stored, and never will be: another commit has been seen in its place. On one server its refusal proves that as well.
    Passed,
}

/// The result of comparing a commit's expectation with its stream.
pub(super) enum ExpectationCheck {
    /// The expectation holds for this end of the stream, as far as is known.
    Holds(End),
    /// An earlier try has made the commit.
    Replayed(Appended),
    /// The expectation does not hold, and that is certain.
    Fails(End),
}

impl Shared {
    pub(super) async fn append_to_stream(&self, commit: &Commit) -> Result<Appended, AppendError> {
        let known = self.streams.of(commit.stream);
        let mut state = known.lock().await;
        let mut is_fresh = false;
        for _ in 0..MAX_TRIES {
            let end = match self.check_expectation(&mut state, commit, &mut is_fresh).await? {
                ExpectationCheck::Holds(end) => end,
                ExpectationCheck::Replayed(appended) => return Ok(appended),
                ExpectationCheck::Fails(end) => return Err(AppendError::Conflict { actual: end.revision }),
            };
            let message = self.encode(commit, end)?;
            let conditional = Conditional { id: commit.id, stream: commit.stream, after: end.sequence, message };
            let written = self.write(&conditional, false).await;
            if matches!(written, Err(AppendError::OutcomeUnknown(_))) {
                // The known state may come from a log that no longer exists.
                *state = StreamState::default();
            }
            match written? {
                Written::At(sequence) => {
                    let stored = stored(commit, end, sequence);
                    let appended = stored.appended(false);
                    self.learn(&mut state, &stored, end);
                    self.wrote(stored);
                    self.streams.update_weight(commit.stream, &known, &state);
                    return Ok(appended);
                }
                Written::Passed => {
                    self.refresh(&mut state, commit.stream, commit.request.is_some()).await?;
                    is_fresh = true;
                }
            }
        }
        Err(StoreError::Unavailable(format!("other writers keep appending to order {}", commit.stream)).into())
    }

    /// Adds a commit of our own, stored after `end`.
    pub(super) fn learn(&self, state: &mut StreamState, stored: &StoredCommit, end: End) {
        if end == End::default() {
            *state = StreamState::empty();
        }
        state.observe(stored);
    }

    /// Compares the expectation of `commit` with the known state of its stream; reads the stream itself before it refuses.
    pub(super) async fn check_expectation(
        &self,
        state: &mut StreamState,
        commit: &Commit,
        is_fresh: &mut bool,
    ) -> Result<ExpectationCheck, AppendError> {
        let in_stream =
            commit.request.as_ref().filter(|request| request.scope == crate::ports::event_store::RequestScope::Stream);
        let is_new = commit.expected.revision() == Some(0);
        if state.end.is_none() && is_new && !*is_fresh {
            // If the stream exists after all, NATS refuses the publish.
            return Ok(ExpectationCheck::Holds(End::default()));
        }
        loop {
            if let Some(request) = in_stream
                && let Some(appended) = state.find(commit.stream, request)?
            {
                return Ok(ExpectationCheck::Replayed(appended));
            }
            let is_known = in_stream.is_none() || state.requests.is_some();
            match state.end.filter(|_| is_known) {
                Some(end) if commit.expected.holds(end.revision) => return Ok(ExpectationCheck::Holds(end)),
                Some(end) if *is_fresh => {
                    let end = self.certain_end(state, commit, end).await?;
                    let holds = commit.expected.holds(end.revision);
                    return Ok(if holds { ExpectationCheck::Holds(end) } else { ExpectationCheck::Fails(end) });
                }
                _ => {
                    self.refresh(state, commit.stream, in_stream.is_some()).await?;
                    *is_fresh = true;
                }
            }
        }
    }

    /// The end of the stream that justifies refusing `commit`: one read from a deposed leader may be too old for that. An order that is past the
    /// expected revision stays past it.
    async fn certain_end(&self, state: &mut StreamState, commit: &Commit, end: End) -> Result<End, StoreError> {
        let is_past = match commit.expected {
            ExpectedRevision::NoStream | ExpectedRevision::Any => true,
            ExpectedRevision::Exists => false,
            ExpectedRevision::Exactly(expected) | ExpectedRevision::After { revision: expected, .. } => {
                end.revision > expected
            }
        };
        if is_past || !self.log.is_replicated() {
            return Ok(end);
        }
        let upto = self.confirm().await?;
        self.confirmed_end(state, commit.stream, upto).await
    }

    /// Updates the known state of a stream up to its end; with `requests` all request ids as well.
    pub(super) async fn refresh(
        &self,
        state: &mut StreamState,
        stream: StreamId,
        requests: bool,
    ) -> Result<(), StoreError> {
        let last = self.last_commit(stream).await?;
        let shown = last.as_ref().map_or(0, |last| last.sequence);
        if self.log.is_replicated() && state.end.is_some_and(|end| end.sequence > shown) {
            // A deposed leader shows less than has already been seen.
            return match requests && state.requests.is_none() {
                true => Err(StoreError::Unavailable(format!("the server that answers lags behind on order {stream}"))),
                false => Ok(()),
            };
        }
        let Some(last) = last else {
            *state = StreamState::empty();
            return Ok(());
        };
        state.observe(&last);
        let is_there = state.end.is_some_and(|end| end.sequence == last.sequence);
        if is_there && (state.requests.is_some() || !requests) {
            return Ok(());
        }
        if !requests {
            let end = End { sequence: last.sequence, revision: last.last_revision() };
            *state = StreamState::ending(end);
            return Ok(());
        }
        *state = StreamState::default();
        let mut whole = StreamState::empty();
        if let Some(commits) = self.walk_back(&last, 1).await? {
            commits.iter().chain([&last]).try_for_each(|commit| whole.follow(commit))?;
            *state = whole;
            return Ok(());
        }
        self.each_commit(stream, FIRST_SEQUENCE + 1, last.sequence, |commit| whole.follow(commit)).await?;
        *state = whole;
        Ok(())
    }

    pub(super) async fn find_in_stream(
        &self,
        stream: StreamId,
        request: &RequestKey,
    ) -> Result<Option<Appended>, AppendError> {
        let known = self.streams.of(stream);
        let mut state = known.lock().await;
        if let Some(found) = state.find(stream, request)? {
            return Ok(Some(found));
        }
        self.refresh(&mut state, stream, true).await?;
        let found = state.find(stream, request)?;
        if found.is_some() || !self.log.is_replicated() {
            return Ok(found);
        }
        let upto = self.confirm().await?;
        self.confirmed_end(&mut state, stream, upto).await?;
        state.find(stream, request)
    }

    /// Publishes a commit with its condition. With `may_exist` another node may have written it too, under the same id: a try of the same request
    /// that has found its reservation.
    ///
    /// # Errors
    /// [`AppendError::Full`] and [`AppendError::Store`]: nothing was written, with replicas as confirmed by a quorum, and a reserved commit is not
    /// written unless its request comes again. [`AppendError::OutcomeUnknown`].
    pub(super) async fn write(&self, conditional: &Conditional, may_exist: bool) -> Result<Written, AppendError> {
        match self.publish(conditional).await {
            Ok(sequence) => Ok(Written::At(sequence)),
            Err(error) if error.is_wrong_sequence() => match self.message_after(conditional, may_exist).await {
                Ok(Some(written)) => Ok(written),
                Ok(None) => self.resolve(conditional, error).await,
                // A message refused by one leader may have been stored by another.
                Err(StoreError::Unavailable(_)) if self.log.is_replicated() => self.resolve(conditional, error).await,
                Err(StoreError::Unavailable(why)) if may_exist => Err(reserved_only(&why)),
                Err(unseen) => Err(unseen.into()),
            },
            Err(error @ (CallError::Lost(_) | CallError::UnderWay(_))) => self.resolve(conditional, error).await,
            Err(error) if error.is_full() => self.refused_as_full(conditional, &error).await,
            // The size was checked before, but a stream may have its own bound.
            Err(CallError::TooLarge(_)) => Err(self.too_large_error(conditional.stream, conditional.message.len())),
            // NATS has refused it: the outcome is certain.
            Err(error @ (CallError::Refused { .. } | CallError::Forbidden(_))) => Err(self.store_error(error).into()),
            Err(error) if may_exist => {
                self.log.doubt();
                Err(reserved_only(&error.to_string()))
            }
            Err(error) => Err(self.store_error(error).into()),
        }
    }

    async fn publish(&self, conditional: &Conditional) -> Result<u64, CallError> {
        let mut headers = only_after(conditional.after);
        // NATS detects duplicates by this id for a while, and users of NATS's tools can identify the commit by it.
        headers.insert(header::NATS_MESSAGE_ID, format!("{:032x}", conditional.id.0));
        let (begun, highest) = (self.confirmations.begin(), self.seen.highest());
        let ack = self.nats.publish(self.subject(conditional.stream), headers, conditional.message.clone()).await?;
        if !ack.duplicate {
            self.must_follow(highest, ack.seq).await?;
            self.confirmations.acknowledged(begun, ack.seq);
        }
        Ok(ack.seq)
    }

    /// The message stored at the position of a refused one: itself, or another. `None`: no message is seen there, so either the leader that refused
    /// it or the server that replied is behind; another server may have stored it.
    async fn message_after(&self, conditional: &Conditional, may_exist: bool) -> Result<Option<Written>, StoreError> {
        let is_replicated = self.log.is_replicated();
        if !may_exist && !is_replicated {
            return Ok(Some(Written::Passed));
        }
        let next = self.next_commit(conditional.stream, conditional.after + 1).await?;
        Ok(match next {
            Some(next) if next.id == conditional.id => Some(Written::At(next.sequence)),
            Some(_) => Some(Written::Passed),
            None if is_replicated => None,
            None => Some(Written::Passed),
        })
    }

    /// Determines the outcome of a commit for which a server reports no space. With replicas that server may be deposed while another has stored the
    /// commit: the commit is reported as not written only if a quorum confirms it.
    async fn refused_as_full(&self, conditional: &Conditional, error: &CallError) -> Result<Written, AppendError> {
        let full = self.record_full(error);
        if !self.log.is_replicated() {
            return Err(full);
        }
        match self.confirmed_after(conditional).await {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(full),
            Err(unseen) => Err(AppendError::OutcomeUnknown(format!(
                "NATS accepts no more writes ({error}), and it is not known whether it stored this one before: {unseen}"
            ))),
        }
    }

    /// The message stored at the position of this one, as confirmed by a quorum; `None`: there is none.
    async fn confirmed_after(&self, conditional: &Conditional) -> Result<Option<Written>, StoreError> {
        let Conditional { stream, after, .. } = *conditional;
        let upto = self.confirm().await?;
        if self.confirmed_end(&mut StreamState::default(), stream, upto).await?.sequence <= after {
            return Ok(None);
        }
        let next = self.next_commit(stream, after + 1).await?;
        let next =
            next.ok_or_else(|| StoreError::Unavailable(format!("order {stream} is read from several servers")))?;
        Ok(Some(if next.id == conditional.id { Written::At(next.sequence) } else { Written::Passed }))
    }

    /// Determines the outcome of a publish that was not acknowledged, for as long as [`RESOLVE_WITHIN`] and while NATS is reachable.
    async fn resolve(&self, conditional: &Conditional, unanswered: CallError) -> Result<Written, AppendError> {
        let mut first = RESOLVE_PAUSE;
        if matches!(unanswered, CallError::Lost(_)) {
            let lost = unanswered.to_string();
            // Debug level: many appends fail at once, and the connection reports the unreachable server itself.
            tracing::debug!(stream = %conditional.stream, lost, "the reply to an append was lost; looking up its outcome");
        } else {
            first = FIRST_PAUSE;
        }
        let pauses = Backoff::new(first, RESOLVE_PAUSE).pauses();
        let found = tokio::select! {
            found = self.look_up(conditional, pauses) => found?,
            // A try that is in progress then would wait for a reply that does not come.
            () = self.until_away() => None,
        };
        found.ok_or_else(|| AppendError::OutcomeUnknown(unanswered.to_string()))
    }

    /// The outcome of a publish that was not acknowledged; `None` if it was not found within [`RESOLVE_WITHIN`].
    async fn look_up(&self, conditional: &Conditional, mut pauses: Pauses) -> Result<Option<Written>, AppendError> {
        let give_up = Instant::now() + RESOLVE_WITHIN;
        while Instant::now() < give_up {
            sleep(pauses.next_pause()).await;
            // It must not be published into a log that has replaced this one.
            if self.ready().await.is_err() {
                if self.log.is_replaced() {
                    break;
                }
                continue;
            }
            let found = match self.publish(conditional).await {
                Ok(sequence) => return Ok(Some(Written::At(sequence))),
                Err(error) if error.is_wrong_sequence() => self.message_after(conditional, true).await,
                // Neither an error nor a timeout reveals the outcome of the earlier try.
                Err(_) => continue,
            };
            match found {
                Ok(Some(written)) => return Ok(Some(written)),
                Ok(None) | Err(StoreError::Unavailable(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// Waits until a reply of NATS is not to be expected.
    async fn until_away(&self) {
        while !self.nats.is_away() {
            sleep(RESOLVE_PAUSE).await;
        }
    }
}

/// The error for a commit whose request id is reserved and which another try of the request may be making.
fn reserved_only(why: &str) -> AppendError {
    AppendError::OutcomeUnknown(format!("its request id is reserved, but then: {why}"))
}

/// A commit as it was stored after `end`.
pub(super) fn stored(commit: &Commit, end: End, sequence: u64) -> StoredCommit {
    StoredCommit {
        sequence,
        id: commit.id,
        stream: commit.stream,
        after: end.sequence,
        first_revision: end.revision + 1,
        request: commit.request.clone(),
        events: commit.events.clone(),
    }
}
