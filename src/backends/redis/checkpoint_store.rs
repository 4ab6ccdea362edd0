//! Checkpoints as one key each, compared and written by a script.

use async_trait::async_trait;
use redis::{Cmd, Value};

use super::{
    connection::{CallError, Redis},
    pools::Lane,
    script::Script,
    values,
};
use crate::ports::checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore, is_valid_name};

static SAVE: Script = Script::new(include_str!("checkpoint_store/save.lua"));

/// A [`CheckpointStore`] in Redis, shared by all nodes that use the same one.
#[derive(Debug)]
pub struct RedisCheckpointStore {
    redis: Redis,
}

impl RedisCheckpointStore {
    /// The store in `redis`, which need not be connected yet.
    #[must_use]
    pub const fn new(redis: Redis) -> Self {
        Self { redis }
    }

    fn key(&self, name: &str) -> Result<String, CheckpointError> {
        if is_valid_name(name) {
            Ok(self.redis.key(&format!("checkpoint:{name}")))
        } else {
            Err(CheckpointError::InvalidName)
        }
    }
}

fn unavailable(error: CallError) -> CheckpointError {
    CheckpointError::Unavailable(error.to_string())
}

/// Reads the stored value; `None` if there is none.
fn read(stored: &Value) -> Result<Option<Checkpoint>, CheckpointError> {
    if matches!(stored, Value::Nil) {
        return Ok(None);
    }
    match values::text(stored).and_then(Checkpoint::from_text) {
        Some(checkpoint) => Ok(Some(checkpoint)),
        None => Err(CheckpointError::Unavailable("the stored value is not a checkpoint".to_owned())),
    }
}

#[async_trait]
impl CheckpointStore for RedisCheckpointStore {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        read(&self.redis.call_in(Lane::Steady, &Cmd::get(self.key(name)?)).await.map_err(unavailable)?)
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let call = SAVE.prepare().key(&self.key(name)?);
        let call = call.arg(checkpoint.to_text());
        match read(&call.run_in(&self.redis, Lane::Steady).await.map_err(unavailable)?)? {
            None => Ok(()),
            // The stored checkpoint may have moved on, but it still refuses the save.
            Some(current) => current.allows(&checkpoint),
        }
    }
}
