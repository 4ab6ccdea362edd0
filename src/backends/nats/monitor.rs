//! Whether the servers sync what they acknowledge: only their monitoring ports tell, not the connection of a client.
//!
//! `GET /varz` names the server and says `sync_always` of JetStream (`sync_interval: always`, nats-server 2.10 or newer; before, none does). What
//! is asked is what `--nats-monitor` names, or port 8222 of the hosts of `--nats`. An answer counts for the server whose name it bears: a
//! stream is known to be synced when each of the servers that keep it has said so.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::connection::Nats;

/// Where nats-server's monitoring usually is.
const USUAL_PORT: u16 = 8222;
/// How long a server may take to answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
/// How much of an answer is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// For how long answers are believed: an operator may start a server again with other settings.
const BELIEVED_FOR: Duration = Duration::from_secs(30);

/// Whether what is acknowledged is on the disks of all servers that were asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// Each of them says so.
    Read,
    /// The operator says so (`--nats-synced`), and none of them says otherwise.
    Asserted,
    /// This one says that it does not.
    Not(String),
    /// Nobody has said anything of this one.
    Unknown(String),
}

impl Synced {
    /// Whether it is, by what was read or asserted.
    pub(super) const fn holds(&self) -> bool {
        matches!(self, Self::Read | Self::Asserted)
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("synced before it is acknowledged"),
            Self::Asserted => f.write_str("synced before it is acknowledged, as --nats-synced asserts"),
            Self::Not(server) => {
                write!(f, "not synced before it is acknowledged: {server} has no sync_interval: always")
            }
            Self::Unknown(server) => {
                write!(
                    f,
                    "not known to be synced: the monitoring port of {server} is not known (--nats-monitor, or --nats-synced)"
                )
            }
        }
    }
}

/// What is known of the servers, by their names.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    answers: Mutex<Option<Answers>>,
}

#[derive(Clone, Debug)]
struct Answers {
    /// On which connection they were asked for.
    connections: u64,
    at: Instant,
    /// Whether each server syncs.
    syncs: BTreeMap<String, bool>,
}

/// What is read of `/varz`.
#[derive(Debug, Deserialize)]
struct Varz {
    server_name: Option<String>,
    server_id: String,
    #[serde(default)]
    jetstream: JetStreamVarz,
}

#[derive(Debug, Default, Deserialize)]
struct JetStreamVarz {
    #[serde(default)]
    config: JetStreamConfig,
}

#[derive(Debug, Default, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

impl Monitors {
    /// Whether all of `servers` sync, by their names; for none, the one that is connected to.
    pub(super) async fn synced(&self, nats: &Nats, servers: &[String]) -> Synced {
        let syncs = self.syncs(nats).await;
        let info = nats.client().server_info();
        let connected = [if info.server_name.is_empty() { info.server_id } else { info.server_name }];
        let servers = if servers.is_empty() { &connected[..] } else { servers };
        if let Some(not) = servers.iter().find(|name| syncs.get(*name) == Some(&false)) {
            return Synced::Not(not.clone());
        }
        match servers.iter().find(|name| !syncs.contains_key(*name)) {
            None => Synced::Read,
            Some(_) if nats.options().synced => Synced::Asserted,
            Some(unknown) => Synced::Unknown(unknown.clone()),
        }
    }

    async fn syncs(&self, nats: &Nats) -> BTreeMap<String, bool> {
        let connections = nats.connections();
        let known = self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known.filter(|known| known.connections == connections && known.at.elapsed() < BELIEVED_FOR)
        {
            return known.syncs;
        }
        let addresses = addresses(nats);
        let answers = join_all(addresses.iter().map(|address| ask(address))).await;
        let mut syncs = BTreeMap::new();
        for (address, answer) in addresses.iter().zip(answers) {
            match answer {
                Ok(Varz { server_name, server_id, jetstream }) => {
                    syncs.insert(server_id, jetstream.config.sync_always);
                    syncs.extend(server_name.map(|name| (name, jetstream.config.sync_always)));
                }
                Err(why) if !nats.options().monitors.is_empty() => {
                    tracing::warn!(address, why, "the monitoring port of NATS does not tell whether it syncs");
                }
                Err(why) => tracing::debug!(address, why, "no monitoring of NATS at the usual port"),
            }
        }
        let answers = Answers { connections, at: Instant::now(), syncs: syncs.clone() };
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner) = Some(answers);
        syncs
    }
}

/// Host and port of what is to be asked.
fn addresses(nats: &Nats) -> Vec<String> {
    let options = nats.options();
    if !options.monitors.is_empty() {
        return options.monitors.clone();
    }
    nats.hosts().iter().map(|host| format!("{host}:{USUAL_PORT}")).collect()
}

async fn ask(address: &str) -> Result<Varz, String> {
    match timeout(ANSWERS_WITHIN, get(address)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {ANSWERS_WITHIN:?}")),
    }
}

async fn get(address: &str) -> Result<Varz, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let handshake = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    let request = http::Request::get("/varz").header(http::header::HOST, address).body(Empty::new());
    let request = request.map_err(|error| error.to_string())?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("its answer is not that of NATS: {error}"))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end before the answer has been read to its end.
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_of_itself_is_read_with_and_without_jetstream() {
        let read = |text: &str| serde_json::from_str::<Varz>(text).unwrap();
        let with = r#"{"server_id":"NA","server_name":"s1","jetstream":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#;
        assert!(read(with).jetstream.config.sync_always);
        let without = read(r#"{"server_id":"NA","jetstream":{"config":{"sync_interval":120000000000}}}"#);
        assert!(!without.jetstream.config.sync_always);
        assert!(!read(r#"{"server_id":"NA","jetstream":{}}"#).jetstream.config.sync_always);
    }
}
