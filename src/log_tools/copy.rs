//! Copies a log into another store: the same commits in the same order, under other positions.
//!
//! The target itself shows how far an earlier run has come: it must hold the first commits of the source and nothing else, which is compared before
//! anything is written. Commits are appended so that any failure leaves a prefix of the source; after a failure the end of the target is read again,
//! and the copy continues from there.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Meter, compare::difference, cursor::Cursor};
use crate::{
    ports::{
        backoff::Backoff,
        event_store::{AppendError, EventStore, LogWake, Position, RecordedCommit, StoreError},
    },
    telemetry::outage::{Line, Outage},
};

/// How long the stores may fail without anything being copied.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
/// The pauses between two tries.
const RETRIES: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
/// How often another writer may win the same position.
const MAX_CONFLICTS: u32 = 5;
/// How often the source is checked without a notification.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The options of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Whether to continue with new commits of the source until stopped; otherwise up to its end at the beginning.
    pub follow: bool,
}

/// The result of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Events that the target already had.
    pub found: u64,
    /// Events that were appended.
    pub events: u64,
    /// Commits that were appended.
    pub commits: u64,
    /// How long appending took.
    pub took: Duration,
    /// Whether it was stopped before the end.
    pub is_stopped: bool,
}

/// Why not everything was copied; one human-readable line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CopyError {
    /// The target's content is not a prefix of the source.
    #[error("{0}; nothing more was written")]
    NotACopy(String),
    /// A store failed. The copied part stays; the same call resumes.
    #[error("{0}; run the same command again to continue from there")]
    Failed(String),
}

/// Copies all commits of `from` that are not in `to` yet.
///
/// # Errors
/// [`CopyError`].
pub async fn copy(
    from: &Arc<dyn EventStore>,
    to: &Arc<dyn EventStore>,
    options: CopyOptions,
    meter: &Meter,
    stop: &CancellationToken,
) -> Result<Copied, CopyError> {
    // A store knows its log after its first response.
    let until = from.head().await.map_err(|error| failed("source", &error))?;
    let found = to.head().await.map_err(|error| failed("target", &error))?;
    if let (Some(source), Some(target)) = (from.log_id(), to.log_id())
        && source == target
    {
        return Err(CopyError::NotACopy(format!("source and target are the same log, number {}", source.0)));
    }
    let mut copying = Copying { from, to, options, meter, positions: Positions::default(), done: Progress::default() };
    meter.begin("compared", to.distance(Position(0), found));
    copying.catch_up().await.map_err(|failure| failure.named(&copying.positions))?;
    let found = copying.done.found;
    meter.begin("copied", from.distance(copying.positions.from, until));
    let begun = Instant::now();
    let is_stopped = copying.run(until, stop).await?;
    let Progress { events, commits, .. } = copying.done;
    Ok(Copied { found, events, commits, took: begun.elapsed(), is_stopped })
}

/// The positions up to which the two logs are known to be the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Positions {
    from: Position,
    to: Position,
}

#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    found: u64,
    events: u64,
    commits: u64,
}

struct Copying<'a> {
    from: &'a Arc<dyn EventStore>,
    to: &'a Arc<dyn EventStore>,
    options: CopyOptions,
    meter: &'a Meter,
    positions: Positions,
    done: Progress,
}

/// Why a step failed.
enum Failure {
    /// A retry may succeed.
    Passing(String),
    /// Another writer was there first, or seems to have been.
    Conflict(String),
    /// A retry will not succeed.
    Final(CopyError),
}

impl Copying<'_> {
    /// Copies until the end, or until stopped; returns whether it was stopped.
    async fn run(&mut self, until: Position, stop: &CancellationToken) -> Result<bool, CopyError> {
        let (mut tries, mut conflicts, mut last_success) = (0_u32, 0_u32, Instant::now());
        let outage = Outage::new();
        loop {
            let before = self.positions;
            let outcome = self.write_all(until, stop).await;
            if self.positions != before {
                (tries, conflicts, last_success) = (0, 0, Instant::now());
                outage.works();
            }
            let why = match outcome {
                Ok(is_stopped) => return Ok(is_stopped),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) => why,
                Err(Failure::Conflict(why)) => {
                    conflicts += 1;
                    if conflicts > MAX_CONFLICTS {
                        return Err(CopyError::NotACopy(format!("after position {}: {why}", self.positions.to)));
                    }
                    why
                }
            };
            if last_success.elapsed() > GIVE_UP_AFTER {
                return Err(CopyError::Failed(why));
            }
            if let Some(Line { unsaid }) = outage.failed(&why) {
                tracing::warn!(why, unsaid, "copying failed and will be retried");
            }
            tries += 1;
            let pause = RETRIES.after(tries);
            tokio::select! {
                () = stop.cancelled() => return Ok(true),
                () = sleep(pause) => {}
            }
            let found = self.done.found;
            match self.catch_up().await {
                Ok(()) | Err(Failure::Passing(_)) => {}
                Err(failure) => return Err(failure.named(&self.positions)),
            }
            // Written by this call, although it was not acknowledged.
            self.done.events += self.done.found - found;
        }
    }

    /// Advances over the commits that the target already has, which must match the source.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        let to_head = self.to.head().await.map_err(|error| passing("target", error))?;
        let from_head = self.from.head().await.map_err(|error| passing("source", error))?;
        let mut there = Cursor::new(self.to, self.positions.to, to_head);
        let mut here = Cursor::new(self.from, self.positions.from, from_head);
        while let Some(has) = there.next().await.map_err(|error| passing("target", error))? {
            let wanted = here.next().await.map_err(|error| passing("source", error))?;
            let wanted = wanted.ok_or_else(|| {
                Failure::Final(CopyError::NotACopy(format!(
                    "the target has more events, from position {}, than the source",
                    has.events.first().map_or(has.position(), |event| event.position)
                )))
            })?;
            if let Some(difference) = difference(&wanted, &has) {
                let finding = difference.finding;
                let name = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
                return Err(Failure::Final(CopyError::NotACopy(format!(
                    "the target differs from the source at position {} of the source (order {}, revision {}): {}",
                    name(finding.position.map(|position| position.0)),
                    name(finding.stream.map(|stream| stream.0)),
                    name(finding.revision),
                    finding.detail
                ))));
            }
            self.positions = Positions { from: wanted.position(), to: has.position() };
            self.done.found += has.events.len() as u64;
            self.meter.add(has.events.len());
        }
        Ok(())
    }

    /// Appends the source's commits after the positions; returns whether it was stopped.
    async fn write_all(&mut self, mut until: Position, stop: &CancellationToken) -> Result<bool, Failure> {
        let mut wake = LogWake::new(&**self.from);
        loop {
            let mut pages = Cursor::new(self.from, self.positions.from, until);
            loop {
                if stop.is_cancelled() {
                    return Ok(true);
                }
                let page = pages.next_page().await.map_err(|error| passing("source", error))?;
                if page.is_empty() {
                    break;
                }
                self.write(&page).await?;
            }
            if !self.options.follow {
                return Ok(false);
            }
            wake.arm();
            let head = self.from.head().await.map_err(|error| passing("source", error))?;
            if head > until {
                until = head;
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(true),
                // Woken or not, it checks.
                _ = timeout(POLL_INTERVAL, wake.wait()) => {}
            }
        }
    }

    async fn write(&mut self, page: &[RecordedCommit]) -> Result<(), Failure> {
        let (Some(last), events) = (page.last(), page.iter().map(|commit| commit.events.len()).sum::<usize>()) else {
            return Ok(());
        };
        let commits = page.iter().map(RecordedCommit::to_commit).collect();
        let to = self.to.append_all(commits).await.map_err(append_failure)?;
        // If another writer has appended since the last page, its commit precedes these.
        let first = self.to.read_commits(self.positions.to, 1).await.map_err(|error| passing("target", error))?;
        if first.first().zip(page.first()).is_none_or(|(has, wanted)| difference(wanted, has).is_some()) {
            return Err(Failure::Conflict("another writer appends to the target".to_owned()));
        }
        self.positions = Positions { from: last.position(), to };
        self.done.events += events as u64;
        self.done.commits += page.len() as u64;
        self.meter.add(events);
        Ok(())
    }
}

impl Failure {
    fn named(self, positions: &Positions) -> CopyError {
        match self {
            Self::Final(error) => error,
            Self::Passing(why) => CopyError::Failed(why),
            Self::Conflict(why) => CopyError::NotACopy(format!("after position {}: {why}", positions.to)),
        }
    }
}

fn failed(which: &str, error: &StoreError) -> CopyError {
    CopyError::Failed(format!("{which}: {error}"))
}

fn passing(which: &str, error: StoreError) -> Failure {
    match &error {
        StoreError::Unavailable(_) => Failure::Passing(format!("{which}: {error}")),
        StoreError::Corrupt(_) | StoreError::LogReplaced(_) => Failure::Final(failed(which, &error)),
    }
}

fn append_failure(error: AppendError) -> Failure {
    let text = format!("target: {error}");
    match error {
        AppendError::Conflict { .. } | AppendError::RequestIdReused => Failure::Conflict(text),
        AppendError::OutcomeUnknown(_) | AppendError::Store(StoreError::Unavailable(_)) => Failure::Passing(text),
        AppendError::Full(_)
        | AppendError::TooLate
        | AppendError::TooLarge { .. }
        | AppendError::Store(StoreError::Corrupt(_) | StoreError::LogReplaced(_)) => {
            Failure::Final(CopyError::Failed(text))
        }
    }
}
