//! The log is deleted and another one takes its place, while the checkpoint of the outbox remains: Redis and NATS keep both apart, so that either can
//! be deleted alone. In memory and in a data folder they end together.

use std::collections::BTreeSet;

use crate::{
    nats_server::NatsServer,
    redis_server::{DURABLE, RedisServer},
    shorter_log::{handled, ids, place, settings},
    support::{Process, run, until},
};

/// Fewer than in the new log: the position of the old one exists in it.
const OLD: u32 = 5;
const NEW: u32 = 8;
const PUBLISHED: &str = "ordersystem_outbox_published_total";
const IS_DISCARDED: &str = "the checkpoint of the outbox is of another log";

enum Broker {
    Redis(RedisServer),
    Nats(NatsServer),
}

impl Broker {
    fn url(&self) -> String {
        match self {
            Self::Redis(server) => server.url(),
            Self::Nats(server) => server.url(),
        }
    }

    fn settings(&self) -> Vec<String> {
        let name = match self {
            Self::Redis(_) => "redis",
            Self::Nats(_) => "nats",
        };
        settings(&["--persistence", name, "--transport", name, &format!("--{name}"), &self.url()])
    }

    async fn delete_log(&self) {
        match self {
            Self::Redis(server) => {
                for kind in ["log", "log-id", "order:*", "requests:*", "request:*"] {
                    let keys = server.cli(&["KEYS", &format!("{{ordersystem}}:{kind}")]);
                    let keys: Vec<_> = keys.lines().collect();
                    if !keys.is_empty() {
                        assert_eq!(server.cli(&[&["DEL"], &keys[..]].concat()), keys.len().to_string(), "{keys:?}");
                    }
                }
            }
            Self::Nats(server) => {
                let raw = server.raw().await;
                for stream in ["ordersystem-log", "ordersystem-requests"] {
                    raw.delete_stream(stream).await.unwrap();
                }
            }
        }
    }

    /// The stored text of a checkpoint; `None` if there is none.
    async fn checkpoint(&self, name: &str) -> Option<String> {
        match self {
            Self::Redis(server) => Some(server.cli(&["GET", &key(name)])).filter(|text| !text.is_empty()),
            Self::Nats(server) => {
                let bucket = server.raw().await.get_key_value("ordersystem-checkpoints").await.unwrap();
                bucket.get(name).await.unwrap().map(|value| String::from_utf8(value.to_vec()).unwrap())
            }
        }
    }

    /// Replaces a checkpoint, or removes it.
    async fn replace_checkpoint(&self, name: &str, text: Option<&str>) {
        match (self, text) {
            (Self::Redis(server), Some(text)) => assert_eq!(server.cli(&["SET", &key(name), text]), "OK"),
            (Self::Redis(server), None) => assert_eq!(server.cli(&["DEL", &key(name)]), "1"),
            (Self::Nats(server), text) => {
                let bucket = server.raw().await.get_key_value("ordersystem-checkpoints").await.unwrap();
                match text {
                    Some(text) => drop(bucket.put(name, text.to_owned().into()).await.unwrap()),
                    None => bucket.delete(name).await.unwrap(),
                }
            }
        }
    }
}

fn key(name: &str) -> String {
    format!("{{ordersystem}}:checkpoint:{name}")
}

fn warnings(node: &Process, words: &str) -> usize {
    node.said().iter().filter(|line| line.contains("WARN") && line.contains(words)).count()
}

async fn until_published(node: &Process) {
    until("the outbox has caught up", async || node.health("outbox").await.1.contains("lag: 0")).await;
}

/// Deletes the log, and copies one with other orders into its place; returns their ids.
async fn another_log(broker: &Broker, what: &str) -> BTreeSet<String> {
    broker.delete_log().await;
    let folder = tempfile::tempdir().unwrap();
    let node = Process::serve_from(folder.path()).await;
    let orders = ids(&place(&node, what, NEW).await);
    node.stop().await;
    let source = format!("embedded:{}", folder.path().display());
    let copied = run(&["copy", "--from", &source, "--to", &broker.url()]).await;
    assert_eq!(copied.code, Some(0), "{copied:?}");
    orders
}

async fn all_of_another_log_is_published(broker: Broker) {
    for has_fingerprint in [true, false] {
        let node = Process::serve(&broker.settings()).await;
        place(&node, &format!("old-{has_fingerprint}"), OLD).await;
        until_published(&node).await;
        node.stop().await;
        let saved = broker.checkpoint("outbox").await.unwrap();
        let (without, _) = saved.rsplit_once(':').unwrap();
        assert_eq!(saved.matches(':').count(), 2, "{saved}");
        if !has_fingerprint {
            broker.replace_checkpoint("outbox", Some(without)).await;
        }
        let new = another_log(&broker, &format!("new-{has_fingerprint}")).await;

        let node = Process::serve(&broker.settings()).await;
        until("all of the new log is handled", async || handled(&node).is_superset(&new)).await;
        until_published(&node).await;
        assert_eq!(node.metric(PUBLISHED).await, f64::from(NEW));
        // The log is read by another task.
        until("it is logged", async || warnings(&node, IS_DISCARDED) > 0).await;
        assert_eq!(warnings(&node, IS_DISCARDED), 1, "{:#?}", node.said());
        assert!(!node.said().iter().any(|line| line.contains("has lost events")), "{:#?}", node.said());
        node.stop().await;
    }
}

/// A restart keeps the position, also that of an earlier version, which did not record to which log it belongs.
async fn the_same_log_is_not_published_again(broker: Broker) {
    let node = Process::serve(&broker.settings()).await;
    place(&node, "first", OLD).await;
    until_published(&node).await;
    node.stop().await;
    let of_log = broker.checkpoint("outbox-log").await.expect("it is recorded");
    for has_id in [true, false] {
        if !has_id {
            broker.replace_checkpoint("outbox-log", None).await;
        }
        let node = Process::serve(&broker.settings()).await;
        let next = ids(&place(&node, &format!("next-{has_id}"), 1).await);
        until("the next one is handled", async || handled(&node).is_superset(&next)).await;
        until_published(&node).await;
        assert_eq!(node.metric(PUBLISHED).await, 1.0);
        assert_eq!(warnings(&node, IS_DISCARDED), 0);
        node.stop().await;
        let now = broker.checkpoint("outbox-log").await.expect("it is recorded");
        assert_eq!(now.rsplit_once(':').unwrap().1, of_log.rsplit_once(':').unwrap().1, "the log is the same");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_another_log_in_redis_is_published() {
    all_of_another_log_is_published(Broker::Redis(RedisServer::start(DURABLE))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_another_log_in_the_nats_of_debian_is_published() {
    all_of_another_log_is_published(Broker::Nats(NatsServer::start(""))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_of_another_log_in_the_current_nats_is_published() {
    all_of_another_log_is_published(Broker::Nats(NatsServer::start_current(""))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_log_in_redis_is_not_published_again() {
    the_same_log_is_not_published_again(Broker::Redis(RedisServer::start(DURABLE))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_log_in_nats_is_not_published_again() {
    the_same_log_is_not_published_again(Broker::Nats(NatsServer::start(""))).await;
}
