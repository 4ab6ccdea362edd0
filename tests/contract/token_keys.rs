//! The key of a log: created once, the same for all nodes and after a restart, and different for another log.

use std::path::Path;

use async_nats::jetstream::Context;
use ordersystem::{
    backends::{
        embedded::{backup::backup, database::Database, event_store::EmbeddedEventStore},
        nats::{
            connection::{Nats, NatsOptions},
            event_store::NatsEventStore,
        },
        redis::{
            connection::{ConnectError, Redis, RedisOptions},
            event_store::RedisEventStore,
            permissions::Roles,
        },
    },
    ports::event_store::{EventStore, TokenKey},
};
use tokio::task::JoinSet;

use crate::{
    nats_server::{self, NatsServer},
    redis_server::{self, RedisServer},
};

fn key_of(store: &dyn EventStore) -> TokenKey {
    store.token_key().expect("the log has a key")
}

fn embedded_key(dir: &Path) -> TokenKey {
    key_of(&EmbeddedEventStore::new(Database::open(dir).unwrap()))
}

#[test]
fn a_folder_keeps_its_key_and_a_backup_has_another() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let key = embedded_key(&dir);
    assert_eq!(embedded_key(&dir), key, "after a restart");
    backup(&dir, &copy).unwrap();
    let of_copy = embedded_key(&copy);
    assert_ne!(of_copy, key, "a copy is another log");
    assert_eq!(embedded_key(&copy), of_copy);
}

#[test]
fn a_file_without_a_key_gets_one_and_one_that_has_lost_a_part_of_it_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let before = embedded_key(folder.path());
    let file = || rusqlite::Connection::open(folder.path().join("orders.db")).unwrap();
    let deleted = file().execute("DELETE FROM facts WHERE name LIKE 'token_key_%'", []).unwrap();
    assert_eq!(deleted, 4);
    let made = embedded_key(folder.path());
    assert_ne!(made, before);
    assert_eq!(embedded_key(folder.path()), made);
    file().execute("DELETE FROM facts WHERE name = 'token_key_3'", []).unwrap();
    let why = Database::open(folder.path()).unwrap_err().to_string();
    assert!(why.contains("token_key_3"), "{why}");
}

fn redis_key(prefix: &str) -> String {
    format!("{{{prefix}}}:log-key")
}

async fn redis_store(server: &RedisServer, prefix: &str) -> RedisEventStore {
    RedisEventStore::new(server.connect_to(prefix).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_agree_on_the_key_of_a_log_in_redis() {
    let (server, prefix) = (redis_server::shared(), redis_server::fresh_prefix());
    let mut nodes = JoinSet::new();
    for _ in 0..8 {
        let prefix = prefix.clone();
        nodes.spawn(async move { key_of(&redis_store(server, &prefix).await) });
    }
    let keys = nodes.join_all().await;
    assert!(keys.iter().all(|key| *key == keys[0]), "they differ");
    assert_eq!(server.cli(&["GET", &redis_key(&prefix)]), keys[0].to_hex());
    assert_ne!(key_of(&redis_store(server, &redis_server::fresh_prefix()).await), keys[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_an_earlier_version_in_redis_gets_a_key_and_a_lost_one_is_restored() {
    let (server, prefix) = (redis_server::shared(), redis_server::fresh_prefix());
    server.cli(&["SET", &format!("{{{prefix}}}:log-id"), "77"]);
    let store = redis_store(server, &prefix).await;
    assert_eq!(store.log_id().unwrap().0, 77);
    let key = key_of(&store);
    server.cli(&["DEL", &redis_key(&prefix)]);
    store.check().await.unwrap();
    assert_eq!(server.cli(&["GET", &redis_key(&prefix)]), key.to_hex());
    assert_eq!(key_of(&redis_store(server, &prefix).await), key);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_only_reads_makes_no_key_in_redis() {
    let (server, prefix) = (redis_server::shared(), redis_server::fresh_prefix());
    server.cli(&["SET", &format!("{{{prefix}}}:log-id"), "77"]);
    let options = RedisOptions { roles: Roles::READ_LOG, ..RedisOptions::new(server.url(), prefix.as_str()) };
    let redis = Redis::start(options, true).unwrap();
    redis.first_connection().await.unwrap();
    assert!(redis.log_id().is_some() && redis.token_key().is_none());
    assert_eq!(server.cli(&["EXISTS", &redis_key(&prefix)]), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_key_in_redis_is_refused_and_not_shown() {
    let (server, prefix) = (redis_server::shared(), redis_server::fresh_prefix());
    server.cli(&["SET", &redis_key(&prefix), "half-a-secret"]);
    let redis = Redis::start(RedisOptions::new(server.url(), prefix.as_str()), true).unwrap();
    match redis.first_connection().await {
        Err(ConnectError::Fatal(why)) => {
            assert!(why.contains(&redis_key(&prefix)) && !why.contains("half-a-secret"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(redis.token_key(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_takes_no_writes_serves_no_log_without_a_key() {
    let (server, prefix) = (RedisServer::start(&["--save", ""]), "ordersystem");
    server.cli(&["SET", "{ordersystem}:log-id", "77"]);
    let read_only = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    server.cli(&read_only);
    let redis = Redis::start(RedisOptions::new(server.url(), prefix), true).unwrap();
    match redis.first_connection().await {
        Err(ConnectError::Retryable(why)) => assert!(why.contains("log-key"), "{why}"),
        other => panic!("{other:?}"),
    }
    server.cli(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    let key = key_of(&redis_store(&server, prefix).await);
    server.cli(&read_only);
    assert_eq!(key_of(&redis_store(&server, prefix).await), key, "one that is there is only read");
}

async fn nats_store(server: &NatsServer, prefix: &str) -> NatsEventStore {
    server.store_of(prefix).await
}

/// The bucket and the key in it.
async fn nats_key(raw: &Context, prefix: &str, store: &NatsEventStore) -> (async_nats::jetstream::kv::Store, String) {
    let bucket = raw.get_key_value(format!("{prefix}-checkpoints")).await.unwrap();
    (bucket, format!("token-key-{:08x}", store.log_id().unwrap().0))
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_agree_on_the_key_of_a_log_in_nats() {
    let (server, prefix) = (nats_server::shared(), nats_server::fresh_prefix());
    let mut nodes = JoinSet::new();
    for _ in 0..8 {
        let prefix = prefix.clone();
        nodes.spawn(async move { key_of(&nats_store(server, &prefix).await) });
    }
    let keys = nodes.join_all().await;
    assert!(keys.iter().all(|key| *key == keys[0]), "they differ");
    assert_eq!(key_of(&nats_store(server, &prefix).await), keys[0], "after a restart");
    assert_ne!(key_of(&nats_store(server, &nats_server::fresh_prefix()).await), keys[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_nats_without_a_key_gets_one_and_a_lost_one_is_restored() {
    let (server, prefix) = (nats_server::shared(), nats_server::fresh_prefix());
    let raw = server.raw().await;
    let store = nats_store(server, &prefix).await;
    let first = key_of(&store);
    let (bucket, name) = nats_key(&raw, &prefix, &store).await;
    bucket.delete(&name).await.unwrap();
    store.check().await.unwrap();
    assert_eq!(bucket.get(&name).await.unwrap().unwrap(), first.to_hex(), "by a node that knows it");
    // While no node knows it, as in a log of an earlier version.
    drop(store);
    raw.delete_stream(format!("KV_{prefix}-checkpoints")).await.unwrap();
    let store = nats_store(server, &prefix).await;
    assert_ne!(key_of(&store), first);
    assert_eq!(key_of(&nats_store(server, &prefix).await), key_of(&store));
    let (bucket, name) = nats_key(&raw, &prefix, &store).await;
    assert_eq!(bucket.get(&name).await.unwrap().unwrap(), key_of(&store).to_hex());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_token_key_in_nats_is_refused_and_a_reader_loads_none() {
    let (server, prefix) = (nats_server::shared(), nats_server::fresh_prefix());
    let raw = server.raw().await;
    let store = nats_store(server, &prefix).await;
    let (bucket, name) = nats_key(&raw, &prefix, &store).await;
    bucket.put(&name, "half-a-secret".into()).await.unwrap();
    drop(store);
    let nats = server.connect_to(&prefix).await;
    let why = NatsEventStore::new(nats).until_verified().await.unwrap_err();
    assert!(why.why().contains("the key of the log") && !why.why().contains("half-a-secret"), "{}", why.why());
    let reading = NatsOptions { makes_log: false, ..server.options(&prefix) };
    let nats = Nats::start(reading).await.unwrap();
    nats.connected().await.unwrap();
    let reader = NatsEventStore::new(nats);
    reader.until_verified().await.unwrap();
    assert!(reader.log_id().is_some() && reader.token_key().is_none());
}
