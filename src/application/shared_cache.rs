//! Folded orders in a cache that nodes share: avoids reading and folding a history.
//!
//! A cached order may be behind the log. A command may still decide on it, since a stale append is refused; a query must check for later events
//! first.

use std::{sync::Arc, time::Duration};

use metrics::Counter;
use tokio::time::timeout;

use super::versioned_order::VersionedOrder;
use crate::{
    circuit_breaker::CircuitBreaker,
    codec::{FOLDED_SCHEMA, decode_folded, encode_folded},
    domain::ids::OrderId,
    ports::{
        event_store::{LogId, Position, StreamId},
        order_cache::{CacheError, CacheKey, OrderCache},
    },
    telemetry::outage::{Line, Outage},
};

/// The timeout of a cache read: beyond it, the log would have been faster.
const GET_TIMEOUT: Duration = Duration::from_millis(250);

/// Reads and stores folded orders that nodes share.
#[derive(Debug)]
pub struct SharedCache {
    cache: Arc<dyn OrderCache>,
    breaker: Arc<CircuitBreaker>,
    hits: Counter,
    misses: Counter,
    errors: Counter,
    damaged: Outage,
}

impl SharedCache {
    /// Uses `cache`, as long as `breaker` permits it.
    #[must_use]
    pub fn new(cache: Arc<dyn OrderCache>, breaker: Arc<CircuitBreaker>) -> Self {
        let lookups = |result| metrics::counter!("ordersystem_shared_cache_lookups_total", "result" => result);
        let (hits, misses, errors) = (lookups("hit"), lookups("miss"), lookups("error"));
        Self { cache, breaker, hits, misses, errors, damaged: Outage::new() }
    }

    /// The order as some node stored it; `None` if it is missing, or the cache times out.
    pub async fn get(&self, log: LogId, id: OrderId) -> Option<VersionedOrder> {
        let get = async {
            let answer = timeout(GET_TIMEOUT, self.cache.get(key(log, id))).await;
            answer.unwrap_or_else(|_| Err(CacheError(self.named("no answer in time"))))
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

    fn named(&self, why: &str) -> String {
        self.cache.server().map_or_else(|| why.to_owned(), |server| server.named(why.to_owned()))
    }

    /// Stores an order for other nodes.
    pub fn put(&self, log: LogId, loaded: &VersionedOrder) {
        self.cache.put(key(log, loaded.order.id), encode_folded(&loaded.order, loaded.position.0));
    }

    /// Decodes an entry; a damaged one, or one of another order, counts as an error and as missing.
    fn decode(&self, bytes: &[u8], id: OrderId) -> Option<VersionedOrder> {
        match decode_folded(bytes) {
            Ok((order, position)) if order.id == id => {
                self.hits.increment(1);
                Some(VersionedOrder { order, position: Position(position) })
            }
            _ => {
                if let Some(Line { unsaid }) = self.damaged.failed("not this order") {
                    tracing::warn!(order_id = %id, unsaid, "the entry in the shared cache is not this order");
                }
                self.errors.increment(1);
                None
            }
        }
    }
}

fn key(log: LogId, id: OrderId) -> CacheKey {
    CacheKey { log, schema: FOLDED_SCHEMA, stream: StreamId(id.get()) }
}
