//! Appending to a stream, and finding out what became of it when nobody says.

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
        backoff::Backoff,
        event_store::{AppendError, Appended, Commit, CommitId, ExpectedRevision, RequestKey, StoreError, StreamId},
    },
};

/// How long an append whose answer was lost is looked into before its outcome is called unknown.
pub(super) const RESOLVE_WITHIN: Duration = Duration::from_secs(8);
/// The pause between two looks, at the most.
pub(super) const RESOLVE_PAUSE: Duration = Duration::from_millis(100);
/// The first pause, where another publish is under way: most are there in a few milliseconds.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How often an append finds that others were first before it gives up; each time one of them has been stored.
pub(super) const MAX_TRIES: usize = 100;

/// A message to be stored if the last of its order has the sequence `after`.
#[derive(Clone, Debug)]
pub(super) struct Conditional {
    pub id: CommitId,
    pub stream: StreamId,
    pub after: u64,
    pub message: Bytes,
}

/// What has become of it.
pub(super) enum Written {
    /// It is stored.
    At(u64),
    /// It is not, and never will be: another commit has been seen in its place. On one server its refusal proves that as well.
    Passed,
}

/// What a try of an append did.
pub(super) enum ExpectationCheck {
    /// The expectation holds for this end of the stream, as far as known.
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
                // What is known may be of a log that is no more.
                *state = StreamState::default();
            }
            match written? {
                Written::At(sequence) => {
                    let stored = stored(commit, end, sequence);
                    let appended = stored.appended(false);
                    self.learn(&mut state, &stored, end);
                    self.wrote(stored);
                    self.streams.weigh(commit.stream, &known, &state);
                    return Ok(appended);
                }
                Written::Passed => {
                    self.refresh(&mut state, commit.stream, commit.request.is_some()).await?;
                    is_fresh = true;
                }
            }
        }
        Err(StoreError::Unavailable(format!("others append to order {} all the time", commit.stream)).into())
    }

    /// Takes in a commit of our own, stored after `end`.
    pub(super) fn learn(&self, state: &mut StreamState, stored: &StoredCommit, end: End) {
        if end == End::default() {
            *state = StreamState::empty();
        }
        state.saw(stored);
    }

    /// Compares what `commit` expects with what is known of its stream; looks at the stream itself before it says no.
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
            // If there is a stream after all, NATS says so.
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

    /// The end of the stream on which `commit` is refused: read from a leader that has been deposed it may be too old for that. An order that is
    /// past what is expected stays past it.
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

    /// Brings what is known of a stream up to its end; with `requests` all request ids as well.
    pub(super) async fn refresh(
        &self,
        state: &mut StreamState,
        stream: StreamId,
        requests: bool,
    ) -> Result<(), StoreError> {
        let last = self.last_commit(stream).await?;
        let shown = last.as_ref().map_or(0, |last| last.sequence);
        if self.log.is_replicated() && state.end.is_some_and(|end| end.sequence > shown) {
            // A leader that has been deposed shows less than has been seen.
            return match requests && state.requests.is_none() {
                true => Err(StoreError::Unavailable(format!("the server that answers is behind with order {stream}"))),
                false => Ok(()),
            };
        }
        let Some(last) = last else {
            *state = StreamState::empty();
            return Ok(());
        };
        state.saw(&last);
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

    /// Publishes a commit with its condition. With `look` another may have written it too, under the same id: a try of the same request, which
    /// has found its reservation.
    ///
    /// # Errors
    /// [`AppendError::Full`] and [`AppendError::Store`]: nothing was written, with replicas as a quorum shows, and of a commit that is reserved
    /// nothing is written unless its request comes again. [`AppendError::OutcomeUnknown`].
    pub(super) async fn write(&self, conditional: &Conditional, look: bool) -> Result<Written, AppendError> {
        match self.publish(conditional).await {
            Ok(sequence) => Ok(Written::At(sequence)),
            Err(error) if error.is_wrong_sequence() => match self.look_after(conditional, look).await {
                Ok(Some(written)) => Ok(written),
                Ok(None) => self.resolve(conditional, error).await,
                // What was refused by one leader another may have stored.
                Err(StoreError::Unavailable(_)) if self.log.is_replicated() => self.resolve(conditional, error).await,
                Err(StoreError::Unavailable(why)) if look => Err(reserved_only(&why)),
                Err(unseen) => Err(unseen.into()),
            },
            Err(error @ (CallError::Lost(_) | CallError::UnderWay(_))) => self.resolve(conditional, error).await,
            Err(error) if error.is_full() => self.refused_as_full(conditional, &error).await,
            // It is checked before: a stream may have a bound of its own.
            Err(CallError::TooLarge(_)) => Err(self.is_too_large(conditional.stream, conditional.message.len())),
            // NATS has said no: there is nothing to find out.
            Err(error @ (CallError::Refused { .. } | CallError::Forbidden(_))) => Err(self.store_error(error).into()),
            Err(error) if look => {
                self.log.doubt();
                Err(reserved_only(&error.to_string()))
            }
            Err(error) => Err(self.store_error(error).into()),
        }
    }

    async fn publish(&self, conditional: &Conditional) -> Result<u64, CallError> {
        let mut headers = only_after(conditional.after);
        // By this NATS knows a message again for a while; and whoever looks at the stream with its tools knows the commit.
        headers.insert(header::NATS_MESSAGE_ID, format!("{:032x}", conditional.id.0));
        let begun = self.confirmations.begin();
        let ack = self.nats.publish(self.subject(conditional.stream), headers, conditional.message.clone()).await?;
        if !ack.duplicate {
            self.confirmations.acknowledged(begun, ack.seq);
        }
        Ok(ack.seq)
    }

    /// What stands where a refused message was to stand: it itself, or another. `None`: nothing is seen there, so that a leader has refused it
    /// which is behind, or the one that shows it is; another may have stored it.
    async fn look_after(&self, conditional: &Conditional, look: bool) -> Result<Option<Written>, StoreError> {
        let is_replicated = self.log.is_replicated();
        if !look && !is_replicated {
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

    /// What became of a commit for which a server says that it has no space. With replicas that may be one that has been deposed while another
    /// has stored it: that nothing was written is said only where a quorum shows it.
    async fn refused_as_full(&self, conditional: &Conditional, error: &CallError) -> Result<Written, AppendError> {
        let full = self.is_full(error);
        if !self.log.is_replicated() {
            return Err(full);
        }
        match self.confirmed_after(conditional).await {
            Ok(Some(written)) => Ok(written),
            Ok(None) => Err(full),
            Err(unseen) => Err(AppendError::OutcomeUnknown(format!(
                "NATS takes no more ({error}), and whether it has taken this before is not known: {unseen}"
            ))),
        }
    }

    /// What stands where a message was to stand, as a quorum has it; `None`: nothing does.
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

    /// Finds out what became of a publish that was not acknowledged, for as long as [`RESOLVE_WITHIN`] and NATS is not away: there is nobody to
    /// ask then.
    async fn resolve(&self, conditional: &Conditional, unanswered: CallError) -> Result<Written, AppendError> {
        let mut first = RESOLVE_PAUSE;
        if matches!(unanswered, CallError::Lost(_)) {
            let lost = unanswered.to_string();
            // Of many appends at once, and their server says by itself that it is unreachable.
            tracing::debug!(stream = %conditional.stream, lost, "the answer to an append was lost, looking for what became of it");
        } else {
            first = FIRST_PAUSE;
        }
        let mut pauses = Backoff::new(first, RESOLVE_PAUSE).pauses();
        let give_up = Instant::now() + RESOLVE_WITHIN;
        while Instant::now() < give_up && !self.nats.is_away() {
            sleep(pauses.next_pause()).await;
            // Not into a log that has come in the place of this one.
            if self.ready().await.is_err() {
                continue;
            }
            let found = match self.publish(conditional).await {
                Ok(sequence) => return Ok(Written::At(sequence)),
                Err(error) if error.is_wrong_sequence() => self.look_after(conditional, true).await,
                // Neither an error nor silence tells of the earlier try.
                Err(_) => continue,
            };
            match found {
                Ok(Some(written)) => return Ok(written),
                Ok(None) | Err(StoreError::Unavailable(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppendError::OutcomeUnknown(unanswered.to_string()))
    }
}

/// What is said of a commit whose request id is reserved and which may be being made by another try of the request.
fn reserved_only(why: &str) -> AppendError {
    AppendError::OutcomeUnknown(format!("its request id is reserved, and then: {why}"))
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
