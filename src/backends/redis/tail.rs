//! Watches the end of a stream, so that what other nodes add is noticed at once.

use std::time::Duration;

use redis::{Value, aio::MultiplexedConnection};
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

/// Follows the number that was last given to an entry of the stream `key`; each look is answered through `found`, also when nothing is new, with
/// what `seen` had said before it; `None` for the first on a connection, before which the stream may have been put back to an earlier state.
pub(super) fn watch(
    redis: &Redis,
    key: String,
    seen: impl Fn() -> u64 + Send + Sync + 'static,
    found: impl Fn(u64, Option<u64>) + Send + Sync + 'static,
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
    found: &(impl Fn(u64, Option<u64>) + Sync),
) -> Result<(), CallError> {
    // Of its own: a call that blocks would hold up all others.
    let mut held = redis.hold(Lane::Steady).await?;
    let mut is_first = true;
    // A server that is not used any more may answer all the same.
    while redis.is_current(&held) {
        let before = (!is_first).then(seen);
        let last = last_given(&mut held.connection, key).await;
        let last = last.map_err(|error| redis.lost(&held, &error))?;
        found(last, before);
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

/// The number that was last given to an entry; 0 for a stream that is not there, and for one with other numbers than ours.
async fn last_given(connection: &mut MultiplexedConnection, key: &str) -> Result<u64, redis::RedisError> {
    // A plain command, and not the script: these calls are many, and do not have to be one with others.
    let info = match redis::cmd("XINFO").arg("STREAM").arg(key).query_async(connection).await {
        Err(error) if error.code() == Some("ERR") => return Ok(0),
        info => values::list(info?).unwrap_or_default(),
    };
    let last = info.chunks_exact(2).find(|pair| values::text(&pair[0]) == Some("last-generated-id"));
    Ok(last.and_then(|pair| values::entry_number(&pair[1])).unwrap_or_default())
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
