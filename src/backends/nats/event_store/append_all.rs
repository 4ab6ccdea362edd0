//! Appends many commits in order: many messages in flight, each on the condition that it follows the one before it.
//!
//! In addition to the condition on its order, each message names the sequence of the last message of the whole log: if one is not stored, none after
//! it is. Request ids that are unique in the log are reserved before any commit of a batch is published, so that no commit ever exists without its
//! reservation.

use std::collections::{HashMap, HashSet};

use async_nats::header;
use futures_util::{StreamExt as _, TryStreamExt as _, future::join_all, poll, stream};
use tokio::{
    task::unconstrained,
    time::{Instant, sleep},
};

use super::{
    Shared,
    append::{Conditional, ExpectationCheck, FIRST_PAUSE, RESOLVE_PAUSE, RESOLVE_WITHIN, stored},
    commit::encode_reservation,
    log::head_position,
    streams::End,
};
use crate::{
    backends::nats::api::{CallError, only_after},
    ports::event_store::{AppendError, Commit, Position, RequestKey, RequestScope, StoreError, StreamId},
};

/// The maximum number of messages in flight.
const MAX_COMMITS: usize = 256;
/// The maximum payload in flight in bytes, unless a single commit is larger.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The maximum number of orders that are read concurrently.
const CONCURRENT_READS: usize = 32;

/// A commit with the assumed end of its stream.
struct Planned<'a> {
    commit: &'a Commit,
    end: End,
    message: Conditional,
}

/// Where publishing a batch stopped.
enum Stopped {
    /// The first was refused, and so were all: the log does not end where it was assumed to.
    AtFirst(AppendError),
    /// A later one failed, or the first failed for another reason.
    Later(AppendError),
}

impl Shared {
    pub(super) async fn append_in_order(&self, commits: &[Commit]) -> Result<Position, AppendError> {
        let mut rest = commits;
        let mut last = self.last_sequence().await?;
        let is_replicated = self.log.is_replicated();
        let mut give_up = None;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch(rest, is_replicated));
            let planned = self.plan(now, last).await?;
            self.reserve_all(&planned).await?;
            if is_replicated {
                // Reading the streams may have published a confirmation marker.
                last = self.last_sequence().await?;
            }
            match self.publish_all(&planned, last).await {
                Ok(()) => {
                    (last, rest, give_up) = (last + now.len() as u64, later, None);
                }
                // A marker of another node, or a leader that is behind: none of these commits was written, and reading the end of the log again
                // resolves it.
                Err(Stopped::AtFirst(_))
                    if is_replicated
                        && Instant::now() < *give_up.get_or_insert_with(|| Instant::now() + RESOLVE_WITHIN) =>
                {
                    sleep(RESOLVE_PAUSE).await;
                    last = self.last_sequence().await?;
                }
                Err(Stopped::AtFirst(error) | Stopped::Later(error)) => return Err(error),
            }
        }
        Ok(head_position(last))
    }

    /// Computes the messages under the assumption that all are stored after message `last` of the log.
    async fn plan<'a>(&self, commits: &'a [Commit], last: u64) -> Result<Vec<Planned<'a>>, AppendError> {
        self.read_streams(commits).await?;
        let mut ends: HashMap<StreamId, End> = HashMap::new();
        let mut planned = Vec::with_capacity(commits.len());
        for (commit, sequence) in commits.iter().zip(last + 1..) {
            let end = match ends.get(&commit.stream) {
                Some(end) if commit.expected.holds(end.revision) => *end,
                Some(end) => return Err(AppendError::Conflict { actual: end.revision }),
                None => self.end_for(commit).await?,
            };
            let message = self.encode(commit, end)?;
            let revision = end.revision + commit.events.len() as u64;
            ends.insert(commit.stream, End { sequence, revision });
            let message = Conditional { id: commit.id, stream: commit.stream, after: end.sequence, message };
            planned.push(Planned { commit, end, message });
        }
        Ok(planned)
    }

    /// Reads the streams that these commits continue, unless they are known.
    async fn read_streams(&self, commits: &[Commit]) -> Result<(), AppendError> {
        let mut seen = HashSet::new();
        let first_of_each = commits.iter().filter(|commit| seen.insert(commit.stream));
        let grown = first_of_each.filter(|commit| commit.expected.revision().is_some_and(|revision| revision > 0));
        let looks: Vec<_> = grown.map(|commit| self.end_for(commit)).collect();
        stream::iter(looks).buffer_unordered(CONCURRENT_READS).try_for_each(|_| async { Ok(()) }).await
    }

    /// The end of the stream that `commit` expects.
    async fn end_for(&self, commit: &Commit) -> Result<End, AppendError> {
        let known = self.streams.of(commit.stream);
        let mut state = known.lock().await;
        match self.check_expectation(&mut state, commit, &mut false).await? {
            ExpectationCheck::Holds(end) => Ok(end),
            ExpectationCheck::Replayed(_) => Err(AppendError::RequestIdReused),
            ExpectationCheck::Fails(end) => Err(AppendError::Conflict { actual: end.revision }),
        }
    }

    async fn reserve_all(&self, planned: &[Planned<'_>]) -> Result<(), AppendError> {
        let in_log = planned.iter().filter_map(|planned| {
            let request = planned.commit.request.as_ref()?;
            (request.scope == RequestScope::Log).then_some((request, planned))
        });
        let reservations: Vec<_> =
            in_log.map(|(request, planned)| self.reserve_for(request, &planned.message)).collect();
        stream::iter(reservations).buffer_unordered(MAX_COMMITS).try_for_each(|()| async { Ok(()) }).await
    }

    /// Reserves a request id for a commit, replacing a reservation whose commit was never made.
    async fn reserve_for(&self, request: &RequestKey, planned: &Conditional) -> Result<(), AppendError> {
        let reservation = encode_reservation(&planned.message);
        let mut replaces = 0;
        let give_up = Instant::now() + RESOLVE_WITHIN;
        loop {
            // Whatever the outcome, none of the commits has been written.
            match self.publish_reservation(request, replaces, reservation.clone()).await {
                Ok(_) => return Ok(()),
                Err(error) if error.is_wrong_sequence() => match self.reserved(request).await? {
                    Some(found) if found.is_for(planned) => return Ok(()),
                    Some(found) if found.sequence > replaces => {
                        if self.made(&found).await?.is_some() {
                            return Err(AppendError::RequestIdReused);
                        }
                        replaces = found.sequence;
                        continue;
                    }
                    _ if Instant::now() >= give_up => return Err(self.store_error(error).into()),
                    // A server that is behind refuses it, or returns the existing reservation.
                    _ => {}
                },
                Err(CallError::UnderWay(_)) if Instant::now() < give_up => {}
                Err(error) if error.is_full() => return Err(self.record_full(&error)),
                Err(error) => return Err(self.store_error(error).into()),
            }
            sleep(FIRST_PAUSE).await;
        }
    }

    async fn publish_all(&self, planned: &[Planned<'_>], last: u64) -> Result<(), Stopped> {
        let mut under_way = Vec::with_capacity(planned.len());
        let mut answers: Vec<Option<Result<u64, CallError>>> = Vec::with_capacity(planned.len());
        for (planned, last) in planned.iter().zip(last..) {
            // Started one after the other: the client sends in the order of the calls. Unconstrained, since the runtime would otherwise delay some.
            let mut publish = Box::pin(unconstrained(self.publish_after(&planned.message, last)));
            let answer = match poll!(&mut publish) {
                std::task::Poll::Ready(answer) => Some(answer),
                std::task::Poll::Pending => None,
            };
            let is_refused = matches!(answer, Some(Err(_)));
            answers.push(answer);
            under_way.push(publish);
            if is_refused {
                break;
            }
        }
        let waiting = under_way.iter_mut().zip(&mut answers).filter(|(_, answer)| answer.is_none());
        join_all(waiting.map(|(publish, answer)| async move { *answer = Some(publish.await) })).await;
        for ((planned, sequence), answer) in planned.iter().zip(last + 1..).zip(answers) {
            match answer {
                Some(Ok(found)) if found == sequence => self.made_one(planned, sequence).await,
                Some(Ok(found)) => {
                    let what = format!("message {found} of the log should be message {sequence}");
                    return Err(Stopped::Later(StoreError::Corrupt(what).into()));
                }
                Some(Err(error)) if sequence == last + 1 && error.is_wrong_sequence() => {
                    return Err(Stopped::AtFirst(self.not_published(error)));
                }
                Some(Err(error)) => return Err(Stopped::Later(self.not_published(error))),
                None => {
                    return Err(Stopped::Later(AppendError::OutcomeUnknown("it was not awaited".to_owned())));
                }
            }
        }
        Ok(())
    }

    async fn publish_after(&self, planned: &Conditional, last: u64) -> Result<u64, CallError> {
        let mut headers = only_after(planned.after);
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, last.to_string());
        headers.insert(header::NATS_MESSAGE_ID, format!("{:032x}", planned.id.0));
        let begun = self.confirmations.begin();
        let ack = self.nats.publish(self.subject(planned.stream), headers, planned.message.clone()).await?;
        if !ack.duplicate {
            self.confirmations.acknowledged(begun, ack.seq);
        }
        Ok(ack.seq)
    }

    async fn made_one(&self, planned: &Planned<'_>, sequence: u64) {
        let known = self.streams.of(planned.commit.stream);
        let mut state = known.lock().await;
        let stored = stored(planned.commit, planned.end, sequence);
        self.learn(&mut state, &stored, planned.end);
        self.wrote(stored);
        self.streams.update_weight(planned.commit.stream, &known, &state);
    }

    fn not_published(&self, error: CallError) -> AppendError {
        match error {
            // Another writer has appended to this order or another.
            error if error.is_wrong_sequence() && self.log.is_replicated() => {
                // A message refused by one leader may have been stored by another.
                AppendError::OutcomeUnknown(format!(
                    "another writer appends to the log, or the servers disagree: {error}"
                ))
            }
            error if error.is_wrong_sequence() => {
                StoreError::Unavailable(format!("another writer appends to the log: {error}")).into()
            }
            CallError::Lost(why) | CallError::UnderWay(why) => AppendError::OutcomeUnknown(why),
            error if error.is_full() => match self.record_full(&error) {
                // The server that refused it may be full while the one that stored it has room.
                AppendError::Full(why) if self.log.is_replicated() => AppendError::OutcomeUnknown(why),
                full => full,
            },
            error => self.store_error(error).into(),
        }
    }
}

/// How many of `commits` are in flight at once. With replicas never two of one order: NATS does not check the condition of the second before the
/// first is stored.
fn batch(commits: &[Commit], is_replicated: bool) -> usize {
    let mut bytes = 0;
    let mut streams = HashSet::new();
    let fits = commits.iter().take(MAX_COMMITS).take_while(|commit| {
        bytes += commit.payload_bytes();
        bytes <= MAX_BYTES && (streams.insert(commit.stream) || !is_replicated)
    });
    fits.count().max(1)
}
