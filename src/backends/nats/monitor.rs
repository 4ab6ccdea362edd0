//! Determines whether the servers sync the messages that they acknowledge: only their monitoring ports report it, not a client connection.
//!
//! `GET /varz` names the server and returns JetStream's `sync_always` (`sync_interval: always`, nats-server 2.10 or newer; older servers never sync).
//! The addresses asked are those of `--nats-monitor`, or port 8222 of the hosts of `--nats`. A reply counts for the server that it names: a stream is
//! known to be synced when each of its servers has reported so.
//!
//! A server's report stays valid while the server cannot be asked, until the leader of the stream has lost it: it may come back with another setting.
//! While it is lost it acknowledges nothing, and a majority that syncs is enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use async_nats::ServerInfo;
use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::ports::io_errors::plainly;

/// The default monitoring port of nats-server.
const USUAL_PORT: u16 = 8222;
/// How long a server may take to reply.
const ANSWERS_WITHIN: Duration = Duration::from_millis(300);
/// The maximum number of bytes of a reply that are read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// For how long replies are trusted: an operator may restart a server with other settings.
const VALID_FOR: Duration = Duration::from_secs(30);
/// A replica that the leader has had no contact with for this long is lost: normally there is contact about once a second. The server itself reports
/// a replica as offline only minutes after a crash.
const LOST_AFTER: Duration = Duration::from_secs(5);
/// A replica that the leader has had no contact with for this long may be lost.
const LATE_AFTER: Duration = Duration::from_secs(2);

/// Whether acknowledged messages are on the disks of all servers in question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Synced {
    /// Each of them reports it.
    Read,
    /// A majority reports it, and these acknowledge nothing, since they are away.
    Without(Vec<String>),
    /// The operator asserts it (`--nats-synced`), and no server reports otherwise.
    Asserted,
    /// This server reports that it does not sync.
    Not(String),
    /// It is unknown whether this server syncs.
    Unknown(Unread),
}

/// A server that has not reported whether it syncs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unread {
    pub server: String,
    /// The addresses at which it may be, and that do not reply.
    pub silent: Vec<String>,
    /// Whether it may prove to be away within seconds, and the others to be enough.
    pub may_be_away: bool,
}

impl Synced {
    /// The same with another name for the server whose name is `id`.
    fn naming(self, id: &str, name: impl FnOnce() -> String) -> Self {
        match self {
            Self::Not(server) if server == id => Self::Not(name()),
            Self::Unknown(unread) if unread.server == id => Self::Unknown(Unread { server: name(), ..unread }),
            other => other,
        }
    }

    /// Whether messages are synced, as reported or asserted.
    pub(super) const fn holds(&self) -> bool {
        matches!(self, Self::Read | Self::Without(_) | Self::Asserted)
    }
}

impl fmt::Display for Synced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read => f.write_str("synced before it is acknowledged"),
            Self::Without(away) => {
                write!(f, "synced before it is acknowledged, except by {}, now unavailable", away.join(", "))
            }
            Self::Asserted => f.write_str("synced before it is acknowledged, as --nats-synced asserts"),
            Self::Not(server) => {
                write!(f, "not synced before it is acknowledged: {server} has no sync_interval: always")
            }
            Self::Unknown(Unread { server, silent, .. }) => {
                f.write_str("not known to be synced: the monitoring port of ")?;
                match &silent[..] {
                    [] => write!(f, "{server} was not given")?,
                    silent => write!(f, "{server} does not answer at {}", silent.join(" or "))?,
                }
                f.write_str(" (--nats-monitor, or --nats-synced)")
            }
        }
    }
}

/// One of the servers that keep a stream, as seen by the stream's leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Replica {
    pub name: String,
    /// Whether the servers know that it is away.
    pub offline: bool,
    /// For how long the leader has had no contact with it; `None`: since it became leader.
    pub unheard_for: Option<Duration>,
}

/// The servers to ask, and the connected one.
#[derive(Debug)]
pub(super) struct Contacts<'a> {
    /// The configured addresses of monitoring ports.
    pub monitors: &'a [String],
    /// The hosts that the address of NATS names.
    pub hosts: &'a [String],
    /// Whether the operator asserts that all servers sync.
    pub asserted: bool,
    /// How often a connection has been made.
    pub connections: u64,
    /// The connected server.
    pub server: ServerInfo,
}

/// The reports of the servers.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    known: Mutex<Reports>,
}

#[derive(Clone, Debug, Default)]
struct Reports {
    /// The connection on which they were last asked, and when.
    asked: Option<(u64, Instant)>,
    /// The last reports, by address.
    said: BTreeMap<String, Report>,
    /// The addresses that did not reply when last asked.
    silent: Vec<String>,
    /// Since when some have not replied while others have.
    silent_since: Option<Instant>,
    /// Since when this node has known that the leader has never had contact with these servers.
    unheard: BTreeMap<String, Instant>,
}

/// The report of a server.
#[derive(Clone, Debug)]
struct Report {
    /// Its name and its id.
    names: Vec<String>,
    /// Whether it syncs; unknown again after it was away.
    syncs: Option<bool>,
}

/// The fields of `/varz` that are read.
#[derive(Debug, Deserialize)]
struct Varz {
    server_name: Option<String>,
    server_id: String,
    #[serde(default)]
    jetstream: JetStreamVarz,
}

#[derive(Debug, Default, Deserialize)]
struct JetStreamVarz {
    /// `None` while JetStream does not run.
    config: Option<JetStreamConfig>,
}

#[derive(Debug, Default, Deserialize)]
struct JetStreamConfig {
    #[serde(default)]
    sync_always: bool,
}

impl Monitors {
    /// Whether all servers that keep these streams sync; if there are none, whether the connected server does.
    pub(super) async fn synced(&self, contacts: Contacts<'_>, streams: &[&[Replica]]) -> Synced {
        let (mut known, news) = self.ask_all(&contacts).await;
        for (address, why) in news {
            if contacts.monitors.is_empty() {
                tracing::debug!(address, why, "no NATS monitoring at the default port");
            } else {
                tracing::warn!(address, why, "the monitoring port of NATS does not report whether it syncs");
            }
        }
        let info = contacts.server;
        let name = if info.server_name.is_empty() { info.server_id.clone() } else { info.server_name };
        let connected = [Replica { name, offline: false, unheard_for: Some(Duration::ZERO) }];
        let alone: [&[Replica]; 1] = [&connected];
        let streams = if streams.iter().all(|replicas| replicas.is_empty()) { &alone } else { streams };
        let synced = known.evaluate(streams, contacts.asserted);
        *self.known.lock() = known;
        // A server without a configured name is named by its id, which does not help an operator identify it.
        synced.naming(&info.server_id, || format!("{}:{}", contacts.hosts.join(" or "), info.port))
    }

    /// Asks each server and adds its report, unless the reports are new enough. Also returns the servers that have stopped replying, and why.
    async fn ask_all(&self, contacts: &Contacts<'_>) -> (Reports, Vec<(String, String)>) {
        let mut known = self.known.lock().clone();
        let connections = contacts.connections;
        // A server that did not reply may be back. If none has ever replied, monitoring is not enabled.
        let is_complete = known.silent.is_empty() || known.said.is_empty();
        if is_complete && known.asked.is_some_and(|(on, at)| on == connections && at.elapsed() < VALID_FOR) {
            return (known, Vec::new());
        }
        let addresses = addresses(contacts);
        let answers = join_all(addresses.iter().map(|address| ask(address))).await;
        let was_silent = std::mem::take(&mut known.silent);
        let mut news = Vec::new();
        for (address, answer) in addresses.into_iter().zip(answers) {
            match answer {
                Ok((names, syncs)) => known.add(address, names, syncs),
                Err(why) => {
                    if !was_silent.contains(&address) {
                        news.push((address.clone(), why));
                    }
                    known.silent.push(address);
                }
            }
        }
        let some_answer = !known.said.is_empty() && !known.silent.is_empty();
        known.silent_since = some_answer.then(|| known.silent_since.unwrap_or_else(Instant::now));
        known.asked = Some((connections, Instant::now()));
        (known, news)
    }
}

impl Reports {
    /// A server's report replaces its previous one, also at another address.
    fn add(&mut self, address: String, names: Vec<String>, syncs: bool) {
        self.said.retain(|at, said| !self.silent.contains(at) || !said.names.iter().any(|name| names.contains(name)));
        self.said.insert(address, Report { names, syncs: Some(syncs) });
    }

    /// Whether the servers of `streams` sync, or whether those that acknowledge do.
    fn evaluate(&mut self, streams: &[&[Replica]], asserted: bool) -> Synced {
        let replicas = merged(streams);
        self.unheard.retain(|name, _| replicas.get(name).is_some_and(|replica| replica.unheard_for.is_none()));
        // The leader had contact a moment ago with a server that has just crashed.
        let may_have_crashed = self.silent_since.is_some_and(|since| since.elapsed() < LATE_AFTER);
        let (mut away, mut late, mut unread) = (Vec::new(), Vec::new(), Vec::new());
        for (name, replica) in &replicas {
            let unheard_for = replica
                .unheard_for
                .unwrap_or_else(|| self.unheard.entry(name.clone()).or_insert_with(Instant::now).elapsed());
            let is_lost = replica.offline || unheard_for >= LOST_AFTER;
            if is_lost {
                self.forget_silent(name);
            }
            match self.syncs(name) {
                Some(true) => {}
                Some(false) => return Synced::Not(name.clone()),
                None if is_lost => away.push(name.clone()),
                None if replica.unheard_for.is_none() || unheard_for >= LATE_AFTER || may_have_crashed => {
                    late.push(name.clone());
                }
                None => unread.push(name.clone()),
            }
        }
        let are_enough = |without: &[String]| {
            streams.iter().all(|replicas| {
                replicas.iter().filter(|replica| !without.contains(&replica.name)).count() > replicas.len() / 2
            })
        };
        let missing = [&away[..], &late[..]].concat();
        let first = unread.iter().chain(&late).chain(away.iter().filter(|_| !are_enough(&away))).next();
        match first {
            None if away.is_empty() => Synced::Read,
            None => Synced::Without(away),
            Some(_) if asserted => Synced::Asserted,
            Some(server) => Synced::Unknown(Unread {
                server: server.clone(),
                silent: self.silent_addresses(server),
                may_be_away: unread.is_empty() && !late.is_empty() && are_enough(&missing),
            }),
        }
    }

    /// Whether a server syncs, by its current or last report.
    fn syncs(&self, name: &str) -> Option<bool> {
        let said = self.said.values().filter(|said| said.names.iter().any(|known| known == name));
        said.filter_map(|said| said.syncs).min()
    }

    /// A server that was lost and does not reply may have been restarted with another setting when it is next seen.
    fn forget_silent(&mut self, name: &str) {
        for (address, said) in &mut self.said {
            if self.silent.contains(address) && said.names.iter().any(|known| known == name) {
                said.syncs = None;
            }
        }
    }

    /// The addresses of a server that does not reply: those where it once replied, or else those that never replied.
    fn silent_addresses(&self, name: &str) -> Vec<String> {
        let is_its = |address: &&String| {
            self.said.get(*address).is_some_and(|said| said.names.iter().any(|known| known == name))
        };
        let its: Vec<_> = self.silent.iter().filter(is_its).cloned().collect();
        if !its.is_empty() {
            return its;
        }
        self.silent.iter().filter(|address| !self.said.contains_key(*address)).cloned().collect()
    }
}

/// Each server once: it counts as present if the leader of any stream has contact with it.
fn merged(streams: &[&[Replica]]) -> BTreeMap<String, Replica> {
    let mut all: BTreeMap<String, Replica> = BTreeMap::new();
    for replica in streams.iter().copied().flatten() {
        all.entry(replica.name.clone())
            .and_modify(|known| {
                known.offline &= replica.offline;
                known.unheard_for = match (known.unheard_for, replica.unheard_for) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
            })
            .or_insert_with(|| replica.clone());
    }
    all
}

/// Host and port of each address to ask.
fn addresses(contacts: &Contacts<'_>) -> Vec<String> {
    if !contacts.monitors.is_empty() {
        return contacts.monitors.to_vec();
    }
    // Servers on one machine have one usual port.
    let usual: BTreeSet<_> = contacts.hosts.iter().map(|host| format!("{host}:{USUAL_PORT}")).collect();
    usual.into_iter().collect()
}

/// The names of a server, and whether it syncs.
async fn ask(address: &str) -> Result<(Vec<String>, bool), String> {
    let answer = timeout(ANSWERS_WITHIN, get(address)).await;
    let Varz { server_name, server_id, jetstream } =
        answer.map_err(|_| format!("no answer within {ANSWERS_WITHIN:?}"))??;
    let config = jetstream.config.ok_or("its JetStream is not running")?;
    Ok((server_name.into_iter().chain([server_id]).collect(), config.sync_always))
}

fn words(error: impl std::fmt::Display) -> String {
    plainly(&error.to_string())
}

async fn get(address: &str) -> Result<Varz, String> {
    let stream = TcpStream::connect(address).await.map_err(words)?;
    let handshake = hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(words)?;
    let request = http::Request::get("/varz").header(http::header::HOST, address).body(Empty::new());
    let request = request.map_err(words)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(words)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("it answers {status}"));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(words)?;
        serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("its answer is not that of NATS: {error}"))
    };
    tokio::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // The connection may end before the whole reply has been read.
        ended = connection => match ended {
            Ok(()) => exchange.await,
            Err(error) => Err(words(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_report_is_read_with_and_without_jetstream() {
        let read = |text: &str| serde_json::from_str::<Varz>(text).unwrap();
        let with = r#"{"server_id":"NA","server_name":"s1","jetstream":{"config":{"sync_interval":120000000000,"sync_always":true}}}"#;
        let syncs = |varz: Varz| varz.jetstream.config.map(|config| config.sync_always);
        assert_eq!(syncs(read(with)), Some(true));
        let without = r#"{"server_id":"NA","jetstream":{"config":{"sync_interval":120000000000}}}"#;
        assert_eq!(syncs(read(without)), Some(false));
        assert_eq!(syncs(read(r#"{"server_id":"NA","jetstream":{}}"#)), None);
    }

    const THERE: Option<Duration> = Some(Duration::ZERO);
    const LOST: Option<Duration> = Some(LOST_AFTER);

    fn replicas(unheard_for: [Option<Duration>; 3]) -> Vec<Replica> {
        let replica = |(server, unheard_for)| Replica { name: format!("s{server}"), offline: false, unheard_for };
        (0..).zip(unheard_for).map(replica).collect()
    }

    /// The servers that reply are `s0`, `s1` ... at `a0`, `a1` ...; the others do not reply.
    fn asked(known: &mut Reports, answers: [Option<bool>; 3]) {
        known.silent.clear();
        for (server, answer) in answers.into_iter().enumerate() {
            let address = format!("a{server}");
            match answer {
                Some(syncs) => known.add(address, vec![format!("s{server}")], syncs),
                None => known.silent.push(address),
            }
        }
    }

    #[test]
    fn the_last_report_of_a_server_counts_until_the_server_is_lost() {
        let mut known = Reports::default();
        let (yes, no) = (Some(true), Some(false));
        let (all, without_s2) = (replicas([THERE; 3]), replicas([THERE, THERE, LOST]));
        asked(&mut known, [yes; 3]);
        assert_eq!(known.evaluate(&[&all, &all], false), Synced::Read);
        asked(&mut known, [yes, yes, None]);
        assert_eq!(known.evaluate(&[&all], false), Synced::Read, "it was not lost yet");
        assert_eq!(known.evaluate(&[&all, &without_s2], false), Synced::Read, "one leader has contact with it");
        assert_eq!(known.evaluate(&[&without_s2], false), Synced::Without(vec!["s2".to_owned()]));
        let back = known.evaluate(&[&all], false);
        assert!(back.to_string().contains("s2 does not answer at a2"), "{back}");
        assert!(!back.holds() && known.evaluate(&[&all], true) == Synced::Asserted);
        asked(&mut known, [yes, yes, no]);
        assert_eq!(known.evaluate(&[&all], false), Synced::Not("s2".to_owned()), "its current report counts");
    }

    #[test]
    fn a_majority_has_to_sync_and_to_be_present() {
        let lost = replicas([THERE, LOST, LOST]);
        let mut known = Reports::default();
        asked(&mut known, [Some(true), None, None]);
        assert!(!known.evaluate(&[&lost], false).holds());
        let offline: Vec<_> = replicas([THERE; 3])
            .into_iter()
            .map(|replica| Replica { offline: replica.name == "s2", ..replica })
            .collect();
        asked(&mut known, [Some(true), Some(true), None]);
        assert_eq!(known.evaluate(&[&offline], false), Synced::Without(vec!["s2".to_owned()]));
        let never = replicas([THERE, THERE, None]);
        let Synced::Unknown(unread) = known.evaluate(&[&never], false) else { panic!("it may be there") };
        assert!(unread.may_be_away);
        known.silent.clear();
        let not_given = known.evaluate(&[&replicas([THERE; 3])], false);
        assert!(not_given.to_string().contains("s2 was not given"), "{not_given}");
    }
}
