//! Folded orders as one key each that expires.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{connection::Redis, values};
use crate::ports::order_cache::{CacheError, CacheKey, OrderCache};

/// How long an order is cached after its last write, in seconds.
const KEEP_SECONDS: u64 = 3_600;
/// How many orders may wait to be written; further ones are skipped.
const MAX_WAITING: usize = 1_024;

/// An [`OrderCache`] in Redis: the keys `{prefix}:folded:<log>:<schema>:<number>`.
#[derive(Debug)]
pub struct RedisOrderCache {
    redis: Redis,
    waiting: mpsc::Sender<Cmd>,
    /// The task that writes.
    _writer: Arc<AbortOnDropHandle<()>>,
}

impl RedisOrderCache {
    /// The cache in `redis`, which need not be connected yet; must be created within a tokio runtime.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        let (waiting, mut next) = mpsc::channel::<Cmd>(MAX_WAITING);
        let connection = redis.clone();
        let writer = tokio::spawn(async move {
            while let Some(command) = next.recv().await {
                // The result is ignored: the cache gives no guarantee.
                let _ = connection.call(&command).await;
            }
        });
        Self { redis, waiting, _writer: Arc::new(AbortOnDropHandle::new(writer)) }
    }

    fn key(&self, key: CacheKey) -> String {
        self.redis.key(&format!("folded:{}:{}:{}", key.log.0, key.schema, key.stream))
    }
}

#[async_trait]
impl OrderCache for RedisOrderCache {
    async fn get(&self, key: CacheKey) -> Result<Option<Bytes>, CacheError> {
        let value = self.redis.call(&Cmd::get(self.key(key))).await.map_err(error)?;
        Ok(values::bytes(&value).map(Bytes::copy_from_slice))
    }

    fn put(&self, key: CacheKey, folded: Bytes) {
        // Encoding the call is expensive; under load it is not worthwhile.
        if let Ok(place) = self.waiting.try_reserve() {
            place.send(Cmd::set_ex(self.key(key), &*folded, KEEP_SECONDS));
        }
    }

    fn unreachable(&self) -> Option<String> {
        self.redis.unreachable()
    }

    async fn check(&self) -> Result<(), CacheError> {
        match self.redis.call(&redis::cmd("PING")).await {
            Ok(Value::SimpleString(_)) => Ok(()),
            Ok(other) => Err(CacheError(format!("PING was answered with {other:?}"))),
            Err(why) => Err(error(why)),
        }
    }
}

fn error(why: impl fmt::Display) -> CacheError {
    CacheError(why.to_string())
}
