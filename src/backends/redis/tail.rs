//! Watches the end of a stream, so that what other nodes add is noticed at once.

use std::time::Duration;

use redis::{RedisError, Value, aio::MultiplexedConnection};
use tokio::{sync::watch, time::sleep};

use super::{
    connection::{AbortOnDrop, CallError, Redis},
    pools::{LONGEST_BLOCK, Lane},
    values,
};

/// How long one look waits for something new; also how late a missed notice is made up for.
const BLOCK: Duration = LONGEST_BLOCK;
/// On a busy stream it looks this often, and not once an entry.
const PACE: Duration = Duration::from_millis(2);

/// What a look at the end of a stream shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// The number that was last given to an entry.
    pub last: u64,
    /// What was known to have been given before it; `None` for the first look on a connection, before which the stream may have been put back to
    /// an earlier state.
    pub before: Option<u64>,
    /// Whether the entry that the look before this one found last is another one now: the stream was put back, and has grown since.
    pub is_other: bool,
}

/// Follows the number that was last given to an entry of the stream `key`; each look is answered through `found`, also when nothing is new.
/// `seen` says what is known to have been given.
pub(super) fn watch(
    redis: &Redis,
    key: String,
    seen: impl Fn() -> u64 + Send + Sync + 'static,
    found: impl Fn(Look) + Send + Sync + 'static,
) -> AbortOnDrop {
    let redis = redis.clone();
    AbortOnDrop(tokio::spawn(async move {
        loop {
            if let Err(error) = follow(&redis, &key, &seen, &found).await {
                tracing::debug!(%error, key, "the watch of a stream begins again");
            }
            sleep(BLOCK).await;
        }
    }))
}

async fn follow(
    redis: &Redis,
    key: &str,
    seen: &(impl Fn() -> u64 + Sync),
    found: &(impl Fn(Look) + Sync),
) -> Result<(), CallError> {
    // Of its own: a call that blocks would hold up all others.
    let mut held = redis.hold(Lane::Steady).await?;
    let mut is_first = true;
    let mut mark = None;
    // A server that is not used any more may answer all the same.
    while redis.is_current(&held) {
        let before = (!is_first).then(seen);
        let looked = async {
            let (last, entry) = last_given(&mut held.connection, key).await?;
            // After the look: what was put back between the two shows here.
            let is_other = match &mark {
                Some(mark) => is_other(&mut held.connection, key, mark).await?,
                None => false,
            };
            mark = entry;
            Ok((last, is_other))
        };
        let (last, is_other) = looked.await.map_err(|error| redis.lost(&held, &error))?;
        found(Look { last, before, is_other });
        is_first = false;
        let mut wait = redis::cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        wait.arg("STREAMS").arg(key).arg(format!("0-{last}"));
        // The first to notice that Redis has gone: it is at this call nearly all the time.
        let waited = wait.query_async::<Value>(&mut held.connection).await;
        waited.map_err(|error| redis.lost(&held, &error))?;
        sleep(PACE).await;
    }
    Ok(())
}

/// The number that was last given to an entry, and the last entry that is there; 0 for a stream that is not there, and for one with other numbers
/// than ours.
async fn last_given(connection: &mut MultiplexedConnection, key: &str) -> Result<(u64, Option<Value>), RedisError> {
    // A plain command, and not the script: these calls are many, and do not have to be one with others.
    let info = match redis::cmd("XINFO").arg("STREAM").arg(key).query_async(connection).await {
        Err(error) if error.code() == Some("ERR") => return Ok((0, None)),
        info => values::list(info?).unwrap_or_default(),
    };
    let says = |what: &str| info.chunks_exact(2).find(|pair| values::text(&pair[0]) == Some(what)).map(|pair| &pair[1]);
    let last = says("last-generated-id").and_then(values::entry_number).unwrap_or_default();
    Ok((last, says("last-entry").filter(|entry| matches!(entry, Value::Array(_))).cloned()))
}

/// Whether another entry stands where `mark` stood. That none does may have been wanted.
async fn is_other(connection: &mut MultiplexedConnection, key: &str, mark: &Value) -> Result<bool, RedisError> {
    let Value::Array(parts) = mark else { return Ok(false) };
    let Some(id) = parts.first().and_then(values::text) else { return Ok(false) };
    let found = redis::cmd("XRANGE").arg(key).arg(id).arg(id).query_async(connection).await?;
    Ok(values::list(found).unwrap_or_default().first().is_some_and(|found| found != mark))
}

/// Raises `latest` to `number` and wakes who waits for it; answers whether it is news.
pub(super) fn announce<T: Copy + PartialOrd>(latest: &watch::Sender<T>, number: T) -> bool {
    latest.send_if_modified(|last| {
        let newer = number > *last;
        if newer {
            *last = number;
        }
        newer
    })
}
