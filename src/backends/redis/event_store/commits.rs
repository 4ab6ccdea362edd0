//! Whole commits: consecutive entries with the same commit id, and the request key stored in the first of them.
//!
//! The first logs were written without request keys: those of an order are then looked up with the order, and those that are unique in the log are
//! found by scanning all keys once.

use std::collections::{BTreeSet, HashMap};

use futures_util::{StreamExt as _, TryStreamExt as _};
use redis::{Cmd, Value};

use super::{RedisEventStore, entry::Entry, request, request::RequestRecord, store_error};
use crate::{
    backends::redis::values,
    ports::event_store::{
        CommitId, CommitPage, Direction, MAX_READ_EVENTS, Position, RecordedCommit, RequestKey, RequestScope, Revision,
        StoreError, StreamId,
    },
};

/// The maximum number of events in one request when a commit continues past the requested range.
const NEXT_EVENTS: usize = 256;
/// The keys that Redis checks for one reply during a scan of all keys.
const SCAN_KEYS: usize = 1_000;
/// Orders whose requests are read at once.
const ORDERS_AT_ONCE: usize = 64;

/// The requests that are unique in the log, of commits whose entries do not hold them: by order and first revision.
pub(super) type EarlyRequests = HashMap<(StreamId, Revision), RequestKey>;

/// Commits assembled from entries.
struct Gathering {
    from: Position,
    page: CommitPage,
    /// The commit that contains `from`, which is skipped.
    passing: Option<CommitId>,
    /// The entries of a commit that may not be complete.
    open: Vec<Entry>,
    /// Whether each commit of the page was written before the log had request keys.
    is_early: Vec<bool>,
}

impl Gathering {
    /// Adds the next entry; returns whether there is room for more.
    fn add(&mut self, entry: Entry) -> Result<bool, StoreError> {
        if entry.event.position <= self.from {
            self.passing = Some(entry.commit);
            return Ok(true);
        }
        if self.passing == Some(entry.commit) {
            return Ok(true);
        }
        self.passing = None;
        let goes_on = self.open.first().is_none_or(|first| first.commit == entry.commit);
        if !goes_on && !self.close()? {
            return Ok(false);
        }
        self.open.push(entry);
        Ok(!self.page.is_full())
    }

    /// Adds the open commit, which is complete, to the page; returns whether it fits.
    fn close(&mut self) -> Result<bool, StoreError> {
        let open = std::mem::take(&mut self.open);
        let Some(first) = open.first() else { return Ok(true) };
        let request = match &first.request {
            None => None,
            Some(text) if text.is_empty() => None,
            Some(text) => Some(request::from_log(text).ok_or_else(|| {
                let position = first.event.position;
                StoreError::Corrupt(format!("the request of the entry 0-{position} of the log cannot be read"))
            })?),
        };
        let is_early = first.request.is_none();
        let is_taken =
            self.page.take(RecordedCommit { request, events: open.into_iter().map(|entry| entry.event).collect() });
        if is_taken {
            self.is_early.push(is_early);
        }
        Ok(is_taken)
    }
}

impl RedisEventStore {
    pub(super) async fn commits_after(
        &self,
        from: Position,
        max_events: usize,
    ) -> Result<Vec<RecordedCommit>, StoreError> {
        // The event at `from` shows whether it is the end of its commit.
        match self.commits_beside(from, Position(from.0.saturating_sub(1)), max_events).await {
            // If that event is gone, the boundary is unknown: the entries after it are taken as they are.
            Err(StoreError::Corrupt(_)) if from.0 > 0 && self.is_missing(from.0).await? => {
                self.commits_beside(from, from, max_events).await
            }
            read => read,
        }
    }

    /// The commits after `from`, read from the entries after `last`.
    async fn commits_beside(
        &self,
        from: Position,
        last: Position,
        max_events: usize,
    ) -> Result<Vec<RecordedCommit>, StoreError> {
        let page = CommitPage::new(max_events);
        let (mut last, mut found) = (last, None);
        // One more event shows whether the last commit is complete.
        let mut count = max_events.min(MAX_READ_EVENTS) + 2;
        let mut gathering = Gathering { from, page, passing: None, open: Vec::new(), is_early: Vec::new() };
        'pages: while !gathering.page.is_full() {
            let (entries, is_end) = match self.entries(last, Direction::Forward, count).await {
                // A caller that asks for one event, such as an audit of a damaged log, gets the events before the damage: they may be the whole
                // commit.
                Err(damage @ StoreError::Corrupt(_)) if max_events == 1 => {
                    let before = self.entries_before(last, count).await?;
                    found = Some(damage);
                    (before, true)
                }
                read => read?,
            };
            last = entries.last().map_or(last, |entry| entry.event.position);
            for entry in entries {
                if !gathering.add(entry)? {
                    break 'pages;
                }
            }
            if is_end {
                gathering.close()?;
                break;
            }
            count = NEXT_EVENTS;
        }
        let mut commits = gathering.page.into_commits();
        if let Some(damage) = found.filter(|_| commits.is_empty()) {
            return Err(damage);
        }
        let early = commits.iter_mut().zip(gathering.is_early).filter(|(_, is_early)| *is_early);
        self.add_early_requests(early.map(|(commit, _)| commit).collect()).await?;
        Ok(commits)
    }

    /// Up to `count` entries after `last`, as far as they are readable.
    async fn entries_before(&self, last: Position, count: usize) -> Result<Vec<Entry>, StoreError> {
        let (mut last, mut before) = (last, Vec::new());
        while before.len() < count {
            match self.entries(last, Direction::Forward, 1).await {
                Ok((next, _)) => match next.into_iter().next() {
                    Some(entry) => {
                        last = entry.event.position;
                        before.push(entry);
                    }
                    None => break,
                },
                Err(StoreError::Corrupt(_)) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(before)
    }

    async fn add_early_requests(&self, commits: Vec<&mut RecordedCommit>) -> Result<(), StoreError> {
        if commits.is_empty() {
            return Ok(());
        }
        let in_log = self.early_requests.get_or_try_init(|| self.find_early_requests()).await?;
        let streams: BTreeSet<StreamId> =
            commits.iter().filter_map(|commit| Some(commit.events.first()?.stream)).collect();
        let in_streams: Vec<EarlyRequests> = futures_util::stream::iter(streams)
            .map(|stream| self.requests_of(stream))
            .buffer_unordered(ORDERS_AT_ONCE)
            .try_collect()
            .await?;
        let in_streams: EarlyRequests = in_streams.into_iter().flatten().collect();
        for commit in commits {
            let Some(first) = commit.events.first() else { continue };
            let place = (first.stream, first.revision);
            commit.request = in_log.get(&place).or_else(|| in_streams.get(&place)).cloned();
        }
        Ok(())
    }

    /// The requests that an order has seen.
    async fn requests_of(&self, stream: StreamId) -> Result<EarlyRequests, StoreError> {
        let all = Cmd::hgetall(self.redis.key(&format!("requests:{stream}")));
        let all = self.redis.call(&all).await.map_err(store_error)?;
        let pairs = match all {
            Value::Map(pairs) => pairs,
            other => {
                let mut pairs = Vec::new();
                let mut values = values::list(other).unwrap_or_default().into_iter();
                while let (Some(id), Some(remembered)) = (values.next(), values.next()) {
                    pairs.push((id, remembered));
                }
                pairs
            }
        };
        pairs.iter().map(|(id, remembered)| remembered_request(RequestScope::Stream, id, remembered)).collect()
    }

    /// Scans all keys for the requests that are unique in the log.
    async fn find_early_requests(&self) -> Result<EarlyRequests, StoreError> {
        let prefix = self.redis.key("request:");
        let mut found = EarlyRequests::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_KEYS);
            let answer = self.redis.call(&scan).await.map_err(store_error)?;
            let (next, keys) = read_scan(answer)?;
            if !keys.is_empty() {
                let mut get = redis::cmd("MGET");
                get.arg(&keys);
                let values = values::list(self.redis.call(&get).await.map_err(store_error)?).unwrap_or_default();
                for (key, remembered) in keys.iter().zip(&values) {
                    let id = Value::BulkString(key.strip_prefix(&prefix).unwrap_or_default().into());
                    let (place, request) = remembered_request(RequestScope::Log, &id, remembered)?;
                    found.insert(place, request);
                }
            }
            if next == "0" {
                return Ok(found);
            }
            cursor = next;
        }
    }
}

pub(super) fn read_scan(answer: Value) -> Result<(String, Vec<String>), StoreError> {
    let unreadable = || StoreError::Unavailable("Redis returned an unexpected reply to SCAN".to_owned());
    let mut parts = values::list(answer).unwrap_or_default().into_iter();
    let cursor = parts.next().and_then(|cursor| values::text(&cursor).map(str::to_owned)).ok_or_else(unreadable)?;
    let keys = parts.next().and_then(values::list).ok_or_else(unreadable)?;
    let keys = keys.iter().filter_map(|key| values::text(key).map(str::to_owned)).collect();
    Ok((cursor, keys))
}

fn remembered_request(
    scope: RequestScope,
    id: &Value,
    remembered: &Value,
) -> Result<((StreamId, Revision), RequestKey), StoreError> {
    let id = values::text(id).unwrap_or_default();
    let read = values::text(remembered)
        .and_then(RequestRecord::parse)
        .ok_or_else(|| StoreError::Corrupt(format!("the record of request {id} cannot be read")))?;
    let request = RequestKey { scope, id: id.into(), fingerprint: read.fingerprint };
    Ok(((read.stream, read.first_revision), request))
}
