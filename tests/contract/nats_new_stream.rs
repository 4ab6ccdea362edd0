//! A stream that the connected server of a cluster does not know yet. JetStream's API is played by a client of a plain server, since a real cluster is
//! late only now and then.

use std::time::Duration;

use async_nats::{Client, Message};
use futures_util::StreamExt as _;
use ordersystem::{
    backends::nats::{
        connection::{Nats, NatsOptions},
        lease::NatsLeaseStore,
    },
    ports::lease_store::LeaseStore,
};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

use crate::nats_server::{NatsServer, fresh_prefix};

/// How long after its creation the stream is shown, and how long after it a message reaches it.
const SHOWN_AFTER: Duration = Duration::from_millis(150);
const REACHED_AFTER: Duration = Duration::from_millis(400);

fn error(status: u32, code: u32) -> Value {
    json!({ "error": { "code": status, "err_code": code, "description": "not found" } })
}

async fn reply(client: &Client, to: &Message, body: Value) {
    client.publish(to.reply.clone().unwrap(), body.to_string().into()).await.unwrap();
}

/// Plays the leader of the only stream, from the creation on, which it is yet to be asked for. If it is `taken`, another node asked a moment before:
/// the subjects are in use, but the name is not yet.
async fn play(client: Client, subject: String, taken: bool) {
    let mut requests = client.subscribe("$JS.API.STREAM.>").await.unwrap();
    let mut created = None::<(Instant, Value)>;
    while let Some(request) = requests.next().await {
        let known = created.as_ref().filter(|(at, _)| at.elapsed() >= SHOWN_AFTER).map(|(_, info)| info.clone());
        let body = match (request.subject.as_str(), known) {
            (name, _) if name.contains(".CREATE.") => {
                let config: Value = serde_json::from_slice(&request.payload).unwrap();
                let never = "0001-01-01T00:00:00Z";
                let info = json!({
                    "config": config, "created": "2026-01-01T00:00:00Z", "cluster": { "name": "c", "leader": "s0" },
                    "state": {
                        "messages": 0, "bytes": 0, "first_seq": 0, "first_ts": never, "last_seq": 0, "last_ts": never,
                        "consumer_count": 0,
                    },
                });
                let now = Instant::now();
                created = Some((now, info.clone()));
                tokio::spawn(accept(client.clone(), subject.clone(), now + REACHED_AFTER));
                if taken { error(400, 10_065) } else { info }
            }
            (_, None) => error(404, 10_059),
            (name, Some(_)) if name.contains(".MSG.GET.") => error(404, 10_037),
            (_, Some(info)) => info,
        };
        reply(&client, &request, body).await;
    }
}

/// Accepts messages from `at` on, but none that is meant for another stream.
async fn accept(client: Client, subject: String, at: Instant) {
    sleep_until(at).await;
    let mut messages = client.subscribe(subject).await.unwrap();
    while let Some(message) = messages.next().await {
        let headers = message.headers.clone().unwrap_or_default();
        let body = match headers.get("Nats-Expected-Stream") {
            Some(_) => error(400, 10_060),
            None => json!({ "stream": "s", "seq": 1 }),
        };
        reply(&client, &message, body).await;
    }
}

async fn playing(server: &NatsServer, prefix: &str, taken: bool) -> JoinHandle<()> {
    let client = async_nats::connect(format!("127.0.0.1:{}", server.port)).await.unwrap();
    let playing = tokio::spawn(play(client.clone(), format!("$KV.{prefix}-leases.>"), taken));
    while client.send_request("$JS.API.STREAM.INFO.x", async_nats::Request::new()).await.is_err() {
        sleep(Duration::from_millis(10)).await;
    }
    playing
}

async fn lease_of_a_new_bucket(taken: bool) {
    let server = NatsServer::start_with("");
    let prefix = fresh_prefix();
    let playing = playing(&server, &prefix, taken).await;
    let nats = Nats::start(NatsOptions::new(format!("127.0.0.1:{}", server.port), &prefix)).await.unwrap();
    nats.connected().await.unwrap();
    let begun = Instant::now();
    let lease = NatsLeaseStore::new(nats).acquire("outbox", "node-1", Duration::from_secs(10)).await;
    assert!(matches!(lease, Ok(Some(_))), "{lease:?}");
    assert!(begun.elapsed() >= REACHED_AFTER, "{:?}", begun.elapsed());
    playing.abort();
}

#[tokio::test]
async fn a_bucket_is_used_once_the_server_lists_it_and_forwards_messages_to_it() {
    lease_of_a_new_bucket(false).await;
}

#[tokio::test]
async fn a_bucket_that_another_node_is_creating_at_this_moment_is_waited_for() {
    lease_of_a_new_bucket(true).await;
}
