//! Folded orders in a cache that nodes share: saves the reading and folding of a history.
//!
//! What is found may be behind the log. A command may decide on it all the same, since its append is refused then; a query must look
//! for later events first.

use std::{sync::Arc, time::Duration};

use metrics::Counter;
use tokio::time::timeout;

use super::order_repository::VersionedOrder;
use crate::{
    circuit_breaker::CircuitBreaker,
    codec::{FOLDED_SCHEMA, decode_folded, encode_folded},
    domain::ids::OrderId,
    ports::{
        event_store::{LogId, Position, StreamId},
        order_cache::{CacheError, CacheKey, OrderCache},
    },
};

/// How long the cache may take for an answer: longer, and the log would have been faster.
const GET_TIMEOUT: Duration = Duration::from_millis(250);

/// Finds and leaves folded orders for other nodes.
#[derive(Debug)]
pub struct SharedCache {
    cache: Arc<dyn OrderCache>,
    breaker: Arc<CircuitBreaker>,
    hits: Counter,
    misses: Counter,
    errors: Counter,
}

impl SharedCache {
    /// Works with `cache`, as long as `breaker` lets it.
    #[must_use]
    pub fn new(cache: Arc<dyn OrderCache>, breaker: Arc<CircuitBreaker>) -> Self {
        let lookups = |result| metrics::counter!("ordersystem_shared_cache_lookups_total", "result" => result);
        Self { cache, breaker, hits: lookups("hit"), misses: lookups("miss"), errors: lookups("error") }
    }

    /// The order as some node left it; `None` if it is not there, or the cache does not answer in time.
    pub async fn get(&self, log: LogId, id: OrderId) -> Option<VersionedOrder> {
        let get = async {
            let answer = timeout(GET_TIMEOUT, self.cache.get(key(log, id))).await;
            answer.unwrap_or_else(|_| Err(CacheError("no answer in time".to_owned())))
        };
        match self.breaker.call(get).await {
            Ok(None) => {
                self.misses.increment(1);
                None
            }
            Ok(Some(bytes)) => self.decode(&bytes, id),
            Err(_) => {
                self.errors.increment(1);
                None
            }
        }
    }

    /// Leaves an order for other nodes.
    pub fn put(&self, log: LogId, loaded: &VersionedOrder) {
        self.cache.put(key(log, loaded.order.id), encode_folded(&loaded.order, loaded.position.0));
    }

    /// What is damaged, or is another order, counts as an error and as not there.
    fn decode(&self, bytes: &[u8], id: OrderId) -> Option<VersionedOrder> {
        match decode_folded(bytes) {
            Ok((order, position)) if order.id == id => {
                self.hits.increment(1);
                Some(VersionedOrder { order, position: Position(position) })
            }
            _ => {
                tracing::warn!(order = %id, "what the shared cache holds is not this order");
                self.errors.increment(1);
                None
            }
        }
    }
}

fn key(log: LogId, id: OrderId) -> CacheKey {
    CacheKey { log, schema: FOLDED_SCHEMA, stream: StreamId(id.get()) }
}
