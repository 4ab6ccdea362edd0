//! Watches the end of a stream, so that entries of other nodes are noticed at once.

use std::time::Duration;

use redis::{RedisError, Value, aio::MultiplexedConnection};
use tokio::{sync::watch, time::sleep};
use tokio_util::task::AbortOnDropHandle;

use super::{
    connection::{CallError, Redis},
    pools::{LONGEST_BLOCK, Lane},
    values,
};

/// How long one check waits for new entries; also the delay after which a missed notification is made up for.
const BLOCK: Duration = LONGEST_BLOCK;
/// On a busy stream it checks this often, and not once per entry.
const PACE: Duration = Duration::from_millis(2);

/// The result of checking the end of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct TailCheck {
    /// The last assigned entry number.
    pub last: u64,
    /// The number known to have been assigned before it; `None` for the first check on a connection, before which the stream may have been restored
    /// to an earlier state.
    pub before: Option<u64>,
    /// Whether the entry that the previous check found last has been replaced: the stream was restored, and has grown since.
    pub is_other: bool,
}

/// Follows the last assigned entry number of the stream `key`; the result of each check goes to `found`, also when nothing is new. `seen` returns the
/// number known to have been assigned.
pub(super) fn watch(
    redis: &Redis,
    key: String,
    seen: impl Fn() -> u64 + Send + Sync + 'static,
    found: impl Fn(TailCheck) + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    let redis = redis.clone();
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            if let Err(error) = follow(&redis, &key, &seen, &found).await {
                tracing::debug!(%error, key, "restarting the watch of a stream");
            }
            sleep(BLOCK).await;
        }
    }))
}

async fn follow(
    redis: &Redis,
    key: &str,
    seen: &(impl Fn() -> u64 + Sync),
    found: &(impl Fn(TailCheck) + Sync),
) -> Result<(), CallError> {
    // A dedicated connection: a blocking call would delay all others.
    let mut held = redis.hold(Lane::Steady).await?;
    let mut is_first = true;
    let mut mark = None;
    // A server that is no longer in use may still reply.
    while redis.is_current(&held) {
        let before = (!is_first).then(seen);
        let looked = async {
            let (last, entry) = last_given(&mut held.connection, key).await?;
            // After the check: a restore between the two is detected here.
            let is_other = match &mark {
                Some(mark) => is_other(&mut held.connection, key, mark).await?,
                None => false,
            };
            mark = entry;
            Ok((last, is_other))
        };
        let (last, is_other) = looked.await.map_err(|error| redis.lost(&held, &error))?;
        found(TailCheck { last, before, is_other });
        is_first = false;
        let mut wait = redis::cmd("XREAD");
        wait.arg("COUNT").arg(1).arg("BLOCK").arg(BLOCK.as_millis() as u64);
        wait.arg("STREAMS").arg(key).arg(format!("0-{last}"));
        // Usually the first call to detect that Redis has gone: it is in flight nearly all the time.
        let waited = wait.query_async::<Value>(&mut held.connection).await;
        waited.map_err(|error| redis.lost(&held, &error))?;
        sleep(PACE).await;
    }
    Ok(())
}

/// The last assigned entry number, and the last existing entry; 0 for a stream that does not exist, and for one with numbers not assigned by us.
async fn last_given(connection: &mut MultiplexedConnection, key: &str) -> Result<(u64, Option<Value>), RedisError> {
    // A plain command, and not the script: these calls are frequent, and need no atomicity with others.
    let info = match redis::cmd("XINFO").arg("STREAM").arg(key).query_async(connection).await {
        Err(error) if error.code() == Some("ERR") => return Ok((0, None)),
        info => values::list(info?).unwrap_or_default(),
    };
    let says = |what: &str| info.chunks_exact(2).find(|pair| values::text(&pair[0]) == Some(what)).map(|pair| &pair[1]);
    let last = says("last-generated-id").and_then(values::entry_number).unwrap_or_default();
    Ok((last, says("last-entry").filter(|entry| matches!(entry, Value::Array(_))).cloned()))
}

/// Whether a different entry is now at the position of `mark`. A missing entry may be intended.
async fn is_other(connection: &mut MultiplexedConnection, key: &str, mark: &Value) -> Result<bool, RedisError> {
    let Value::Array(parts) = mark else { return Ok(false) };
    let Some(id) = parts.first().and_then(values::text) else { return Ok(false) };
    let found = redis::cmd("XRANGE").arg(key).arg(id).arg(id).query_async(connection).await?;
    Ok(values::list(found).unwrap_or_default().first().is_some_and(|found| found != mark))
}

/// Raises `latest` to `number` and wakes its waiters; returns whether it is new.
pub(super) fn announce<T: Copy + PartialOrd>(latest: &watch::Sender<T>, number: T) -> bool {
    latest.send_if_modified(|last| {
        let newer = number > *last;
        if newer {
            *last = number;
        }
        newer
    })
}
