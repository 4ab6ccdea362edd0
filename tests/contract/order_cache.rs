//! The shared cache of folded orders.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ordersystem::{
    backends::redis::cache::RedisOrderCache,
    ports::{
        event_store::{LogId, StreamId},
        order_cache::{CacheKey, OrderCache},
    },
};

use crate::{
    redis_server::{DURABLE, RedisServer, shared},
    support::until,
};

const KEY: CacheKey = CacheKey { log: LogId(7), schema: 1, stream: StreamId(42) };

/// The value of `key` as soon as there is one; puts are done in the background.
async fn until_there(cache: &RedisOrderCache, key: CacheKey) -> Bytes {
    until("the put has arrived", async || cache.get(key).await.unwrap()).await
}

#[tokio::test]
async fn a_cached_entry_is_found_by_other_nodes_under_the_same_key_only() {
    let prefix = crate::redis_server::fresh_prefix();
    let one = RedisOrderCache::new(shared().connect_to(&prefix).await);
    let other = RedisOrderCache::new(shared().connect_to(&prefix).await);
    assert_eq!(other.get(KEY).await, Ok(None));
    one.put(KEY, Bytes::from_static(b"first"));
    assert_eq!(until_there(&other, KEY).await, "first");
    for elsewhere in
        [CacheKey { log: LogId(8), ..KEY }, CacheKey { schema: 2, ..KEY }, CacheKey { stream: StreamId(43), ..KEY }]
    {
        assert_eq!(other.get(elsewhere).await, Ok(None), "{elsewhere:?}");
    }
    // A later version replaces the stored one, and expires by itself.
    one.put(KEY, Bytes::from_static(b"second"));
    one.put(CacheKey { schema: 2, ..KEY }, Bytes::from_static(b"marker"));
    until_there(&other, CacheKey { schema: 2, ..KEY }).await;
    assert_eq!(other.get(KEY).await.unwrap().unwrap(), "second");
    let ttl: i64 = shared().cli(&["TTL", &format!("{{{prefix}}}:folded:7:1:42")]).parse().unwrap();
    assert!((3_000..=3_600).contains(&ttl), "{ttl}");
}

#[tokio::test]
async fn without_its_server_the_cache_fails_and_puts_do_not_wait() {
    let mut server = RedisServer::start(DURABLE);
    let cache = RedisOrderCache::new(server.connect().await);
    cache.check().await.unwrap();
    server.kill();
    let started = Instant::now();
    for _ in 0..10_000 {
        cache.put(KEY, Bytes::from_static(b"lost"));
    }
    // Each would take seconds if it waited for a connection.
    assert!(started.elapsed() < Duration::from_secs(300), "{:?}", started.elapsed());
    assert!(cache.get(KEY).await.is_err());
    assert!(cache.check().await.is_err());
    server.start_again();
    for _ in 0..1_000 {
        if cache.check().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the cache is not back");
}
