//! Appends many commits in order, several hundred with each call of a script. The script stops at the first commit that cannot be appended.

use redis::Value;

use super::{RedisEventStore, UNEXPECTED_NUMBERING, entry, read, request, store_error};
use crate::{
    backends::redis::{
        connection::CallError,
        script::{Script, ScriptCall},
        tail, values,
    },
    ports::event_store::{AppendError, Commit, EventStore as _, Position, RequestScope, StoreError},
};

static APPEND_ALL: Script = Script::new(concat!(
    include_str!("ours.lua"),
    include_str!("../need.lua"),
    include_str!("last_event.lua"),
    include_str!("append_all.lua")
));

/// The maximum number of commits in one call. Redis runs nothing else during the call, which takes some milliseconds.
const MAX_COMMITS: usize = 256;
/// The maximum payload of one call in bytes, unless a single commit is larger.
const MAX_BYTES: usize = 1024 * 1024;

impl RedisEventStore {
    pub(super) async fn append_in_order(&self, commits: &[Commit]) -> Result<Position, AppendError> {
        let mut rest = commits;
        let mut last = self.head().await?;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(chunk(rest));
            let call = self.append_all_call(now)?;
            match call.run(&self.redis).await {
                Ok(answer) => {
                    let before = last;
                    last = read_answer(&answer, now.len())?;
                    // Entries are numbered without gaps.
                    if last.0 != before.0 + now.iter().map(|commit| commit.events.len() as u64).sum::<u64>() {
                        let what = format!("another writer appends to the log, before position {last}");
                        return Err(StoreError::Unavailable(what).into());
                    }
                }
                // A part of it may be written, always a prefix; the end of the log shows how much.
                Err(CallError::Lost(why)) => return Err(AppendError::OutcomeUnknown(why)),
                Err(CallError::Refused { code, text }) if code == "OOM" => return Err(AppendError::Full(text)),
                Err(other) => return Err(store_error(other).into()),
            }
            rest = later;
        }
        tail::announce(&self.latest, last);
        Ok(last)
    }

    fn append_all_call(&self, commits: &[Commit]) -> Result<ScriptCall, AppendError> {
        let mut call = APPEND_ALL.prepare().key(&self.log);
        for commit in commits {
            call = call.key(&self.index_key(commit.stream));
            if let Some(request) = &commit.request {
                call = call.key(&self.request_key(commit.stream, request));
            }
        }
        call = call.key(&self.redis.log_id_key());
        for commit in commits {
            // A caller that knows the order of commits needs no other condition.
            let before = commit.expected.revision().ok_or_else(|| {
                StoreError::Corrupt("commits that are appended in order must name the revision before them".to_owned())
            })?;
            call = call.number(before).number(commit.events.len());
            call = match &commit.request {
                None => call.arg(""),
                Some(request) => {
                    let (kind, field) = match request.scope {
                        RequestScope::Stream => ("hash", request.id.as_bytes()),
                        RequestScope::Log => ("string", &b""[..]),
                    };
                    let remember = format!("{} {}", request::to_remember(commit, request), before + 1);
                    call.arg(kind).arg(field).arg(remember).arg(request::to_log(request))
                }
            };
            call =
                commit.events.iter().fold(call, |call, event| call.arg(entry::encode(commit.id, commit.stream, event)));
        }
        Ok(call.arg(self.redis.log_id_text()))
    }
}

/// How many of `commits` go into one call.
fn chunk(commits: &[Commit]) -> usize {
    let mut bytes = 0;
    let fits = commits.iter().take(MAX_COMMITS).take_while(|commit| {
        bytes += commit.payload_bytes();
        bytes <= MAX_BYTES
    });
    fits.count().max(1)
}

fn read_answer(answer: &Value, commits: usize) -> Result<Position, AppendError> {
    let unreadable = || AppendError::OutcomeUnknown("the script returned an unexpected reply".to_owned());
    let Value::Array(parts) = answer else { return Err(unreadable()) };
    match &parts[..] {
        [done, position] if values::number(done) == Some(commits as u64) => {
            values::number(position).map(Position).ok_or_else(unreadable)
        }
        [_, Value::Int(-1), actual] => {
            Err(AppendError::Conflict { actual: values::number(actual).ok_or_else(unreadable)? })
        }
        [_, Value::Int(-2)] => Err(AppendError::RequestIdReused),
        [_, Value::Int(-3), error] => {
            let text = values::text(error).ok_or_else(unreadable)?;
            if text.contains("OOM") {
                return Err(AppendError::Full(text.to_owned()));
            }
            if text.contains("WRONGTYPE") || text.contains(UNEXPECTED_NUMBERING) {
                return Err(StoreError::Corrupt(text.to_owned()).into());
            }
            Err(StoreError::Unavailable(text.to_owned()).into())
        }
        [_, Value::Int(-4), at] => Err(read::missing(values::number(at).ok_or_else(unreadable)?).into()),
        _ => Err(unreadable()),
    }
}
