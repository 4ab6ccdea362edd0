//! The id generator of a node that is not in a cluster.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::StartError;
use crate::{
    clock::Clock,
    config::Config,
    id_generator::{FileMark, IdError, IdGenerator, StartError as IdStartError},
};

/// The longest time that a start waits for the clock to get past the ids that a former process may have issued.
const MAX_CLOCK_WAIT: Duration = Duration::from_secs(15);

/// The generator of a node that keeps its own mark, in its data folder if it has one.
pub(super) async fn id_generator(config: &Config, clock: Arc<dyn Clock>) -> Result<IdGenerator, StartError> {
    let identity = config.node.identity;
    let Some(dir) = &config.node.data_dir else {
        return Ok(IdGenerator::new(identity, clock)?);
    };
    std::fs::create_dir_all(dir).map_err(|error| format!("data dir {}: {error}", dir.display()))?;
    let name = format!("snowflake-{}-{}.mark", identity.datacenter_id(), identity.worker_id());
    let give_up_at = Instant::now() + MAX_CLOCK_WAIT;
    loop {
        let mark = Box::new(FileMark::new(dir.join(&name)));
        match IdGenerator::with_mark(identity, Arc::clone(&clock), mark) {
            // Each quick crash leaves the mark a little further ahead: a supervisor's restarts must not end in a refusal.
            Err(IdStartError::Clock(IdError::ClockBehind { by_ms })) if Instant::now() < give_up_at => {
                tracing::warn!(by_ms, "waiting for the clock to get past ids that may have been issued");
                tokio::time::sleep(Duration::from_millis(by_ms.min(1_000))).await;
            }
            generator => return Ok(generator?),
        }
    }
}
