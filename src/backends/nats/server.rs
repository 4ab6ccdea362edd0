//! The properties of a NATS server and of its streams, as they report them: whether they can be used, and the durability of an acknowledged write.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::{
    api::{CallError, code},
    connection::{ConnectError, Nats},
    monitor::{Replica, Synced},
};
use crate::ports::event_store::Durability;

/// The oldest supported version.
const OLDEST: Version = Version(2, 9, 0);
/// The oldest supported version for a replicated stream: before it, two publishes in flight with the same condition were both stored.
const OLDEST_WITH_REPLICAS: Version = Version(2, 9, 25);
/// The oldest version that can be set to sync before it acknowledges (`sync_interval: always`).
const OLDEST_THAT_SYNCS: Version = Version(2, 10, 0);
/// The first and the last version that may lose a replicated stream when a server crashes.
const LOSE_REPLICAS: (Version, Version) = (Version(2, 10, 20), Version(2, 10, 22));

/// For how long a server must report that it has no JetStream for us before that is accepted.
const SETTLES_WITHIN: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// Reads `2.10.4`, or `2.10.4-beta.1`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(['-', '+']).next()?.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

/// The server's properties.
#[derive(Clone, Debug)]
pub(super) struct ServerFacts {
    version: String,
}

impl ServerFacts {
    /// Checks the server of the current connection.
    ///
    /// # Errors
    /// [`ConnectError`] if it is too old, or has no JetStream for us.
    pub(super) async fn read(nats: &Nats) -> Result<Self, ConnectError> {
        let answer = nats.ask::<Value>("INFO", &()).await;
        // Not earlier: before the connection is made the client knows no version, and any check of it would pass.
        let version = nats.client().server_info().version;
        if Version::read(&version).is_some_and(|found| found < OLDEST) {
            let Version(major, minor, _) = OLDEST;
            return Err(ConnectError::Fatal(format!("NATS {version} is too old: {major}.{minor} or newer is needed")));
        }
        let Some(lack) = answer.as_ref().err().and_then(|error| Lack::of(nats, error)) else {
            nats.has_jetstream();
            return match (answer, nats.forbidden().subscription()) {
                (Ok(_), _) => Ok(Self { version }),
                // Without this permission no reply ever comes.
                (Err(CallError::Lost(_)), Some(why)) | (Err(CallError::Forbidden(why)), _) => {
                    Err(ConnectError::Fatal(why))
                }
                (Err(error), _) => Err(ConnectError::Retryable(error.to_string())),
            };
        };
        let lacks_for = nats.lacks_jetstream();
        Err(match lack {
            Lack::Settled(why) => ConnectError::Fatal(why),
            Lack::Perhaps(why) if lacks_for >= SETTLES_WITHIN => ConnectError::Fatal(why),
            Lack::Perhaps(why) | Lack::OfOthers(why) => ConnectError::Retryable(why),
        })
    }

    /// A summary for the log.
    pub(super) fn summary(&self) -> String {
        format!("NATS {}", self.version)
    }

    /// The reason why this server cannot sync before it acknowledges, as `--nats-synced` asserts, if there is one.
    pub(super) fn unfit_for_sync(&self) -> Option<String> {
        let version = Version::read(&self.version).filter(|version| *version < OLDEST_THAT_SYNCS)?;
        let Version(major, minor, _) = OLDEST_THAT_SYNCS;
        Some(format!(
            "--nats-synced asserts what NATS {version} cannot do: sync_interval: always needs nats-server {major}.{minor} or newer; use \
             one, or start without --nats-synced and with durability process"
        ))
    }

    /// The reason why `stream` cannot be used on this server, if any, given that `wanted` replicas were requested.
    pub(super) fn unfit_for(&self, stream: &StreamFacts, wanted: usize) -> Option<String> {
        let StreamFacts { name, replicas, .. } = stream;
        too_few_replicas(name, *replicas, wanted)
            .map(|why| format!("stream {name} {why}"))
            .or_else(|| self.unfit_for_replicas(*replicas))
    }

    /// The reason why this server cannot keep streams with so many replicas, if any.
    pub(super) fn unfit_for_replicas(&self, replicas: u64) -> Option<String> {
        let version = Version::read(&self.version).filter(|_| replicas > 1)?;
        let (first, last) = LOSE_REPLICAS;
        if version < OLDEST_WITH_REPLICAS {
            return Some(format!(
                "NATS {version} stores messages that it should refuse in a stream with replicas: {OLDEST_WITH_REPLICAS} or newer is needed"
            ));
        }
        let loses = (first..=last).contains(&version);
        loses.then(|| format!("NATS {version} may lose a stream with replicas when a server crashes: take another than {first} to {last}"))
    }
}

/// The connected server has no JetStream for us, with the conclusion to draw.
enum Lack {
    /// It has none.
    Settled(String),
    /// It reports so; a server that starts or stops also reports it for a moment.
    Perhaps(String),
    /// It has none, but others of its cluster may have.
    OfOthers(String),
}

impl Lack {
    /// Interprets the refusal of the most harmless request; `None` if it is not about JetStream.
    fn of(nats: &Nats, error: &CallError) -> Option<Self> {
        if error.is(code::NOT_ENABLED_FOR_ACCOUNT) || error.is(code::NOT_ENABLED) {
            return Some(Self::Perhaps(format!("JetStream is not enabled for this account: {error}")));
        }
        let server = nats.client().server_info();
        match error {
            CallError::Refused { .. } if !error.passes() => {
                Some(Self::Settled(format!("JetStream refuses access: {error}")))
            }
            CallError::NotSent(_) if !nats.is_connected() => None,
            CallError::NotSent(_) if server.jetstream => {
                Some(Self::Perhaps("the JetStream of this NATS does not answer this user".to_owned()))
            }
            CallError::NotSent(_) if server.cluster.is_some() => {
                Some(Self::OfOthers("no server of this NATS cluster has a JetStream that answers".to_owned()))
            }
            CallError::NotSent(_) => Some(Self::Settled(
                "this NATS has no JetStream: start it with -js, or give the address of one that has".to_owned(),
            )),
            _ => None,
        }
    }
}

/// The properties of a stream.
#[derive(Clone, Debug)]
pub(super) struct StreamFacts {
    name: String,
    replicas: u64,
    /// The servers that keep it; empty without a cluster.
    servers: Vec<Replica>,
    messages: u64,
}

impl StreamFacts {
    /// Reads the reply to `STREAM.INFO` of the stream `name`, which must take `subjects`.
    ///
    /// # Errors
    /// The reason why the stream cannot be used: it would lose, or refuse, messages that it must keep.
    pub(super) fn read(name: &str, subjects: &str, info: &Value) -> Result<Self, String> {
        let config = &info["config"];
        let wrong = wrong_settings(subjects, config);
        if !wrong.is_empty() {
            return Err(format!("stream {name} cannot keep a log: {}", wrong.join(", ")));
        }
        let replicas = config["num_replicas"].as_u64().unwrap_or(1);
        let messages = info["state"]["messages"].as_u64().unwrap_or_default();
        Ok(Self { name: name.to_owned(), replicas, servers: servers(&info["cluster"]), messages })
    }

    /// The servers that keep it; empty without a cluster.
    pub(super) fn servers(&self) -> &[Replica] {
        &self.servers
    }

    /// Whether it is kept on several servers.
    pub(super) const fn is_replicated(&self) -> bool {
        self.replicas > 1
    }

    /// Whether it has no messages.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// The durability of an acknowledged message, no more than is known. A server acknowledges before it has synced, unless configured otherwise, and
    /// so do three or five of them: a majority has received the message by then, and a power loss of all servers loses it.
    pub(super) fn durability(&self, synced: &Synced) -> Durability {
        match (synced.holds(), self.replicas) {
            (true, 3..) => Durability::Quorum,
            (true, _) => Durability::Machine,
            (false, _) => Durability::Process,
        }
    }

    /// A human-readable summary of the stream.
    pub(super) fn summary(&self, synced: &Synced) -> String {
        format!("stream {}: {}", self.name, self.survival(synced))
    }

    /// A human-readable statement of the durability of an acknowledged message, and its basis.
    pub(super) fn survival(&self, synced: &Synced) -> String {
        let replicas = &self.replicas;
        let survives = match (synced.holds(), replicas) {
            (true, 3..) => "survives the loss of a minority of servers, and a power loss",
            (true, _) => "survives a power loss",
            (false, 3..) => "survives the loss of a minority of servers, not a power loss of all",
            (false, _) => "survives the end of this process, not a power loss",
        };
        format!("{}, {synced}; {survives}", counted(*replicas))
    }
}

/// The servers of a stream, as listed in `STREAM.INFO`: its leader replies.
fn servers(cluster: &Value) -> Vec<Replica> {
    let replicas = cluster["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let replica = |replica: &Value| {
        let is = |key: &str| replica[key].as_bool().unwrap_or_default();
        // 0 and not current: the leader has never had contact with it.
        let unheard_for = replica["active"].as_u64().filter(|nanos| *nanos > 0 || is("current"));
        let name = replica["name"].as_str()?.to_owned();
        Some(Replica { name, offline: is("offline"), unheard_for: unheard_for.map(Duration::from_nanos) })
    };
    let leader = cluster["leader"].as_str().filter(|name| !name.is_empty());
    let leader =
        leader.map(|name| Replica { name: name.to_owned(), offline: false, unheard_for: Some(Duration::ZERO) });
    replicas.iter().filter_map(replica).chain(leader).collect()
}

/// The settings that would lose data, or prevent it from being stored.
fn wrong_settings(subjects: &str, config: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut need = |holds: bool, what: &str| {
        if !holds {
            wrong.push(what.to_owned());
        }
    };
    let limit = |key: &str| config[key].as_i64().filter(|limit| *limit > 0);
    let is = |key: &str| config[key].as_bool().unwrap_or_default();
    let has = |key: &str| !config[key].is_null();
    let discards_new = config["discard"].as_str() == Some("new");
    need(config["storage"].as_str() == Some("file"), "its storage is not file");
    need(config["retention"].as_str() == Some("limits"), "its retention is not by limits");
    need(limit("max_age").is_none(), "it has a maximum age");
    need(limit("max_msgs_per_subject").is_none(), "it has a maximum of messages per subject");
    // With discard new a limit means a full store, which is reported to the writer.
    need(discards_new || limit("max_msgs").is_none(), "it has a maximum of messages and discards old ones");
    need(discards_new || limit("max_bytes").is_none(), "it has a maximum of bytes and discards old messages");
    need(is("deny_delete"), "messages may be deleted (deny_delete)");
    need(is("deny_purge"), "it may be purged (deny_purge)");
    need(!is("no_ack"), "it does not acknowledge");
    need(!is("sealed"), "it is sealed");
    need(!is("allow_msg_ttl"), "messages may expire (allow_msg_ttl)");
    need(
        config["persist_mode"].as_str().is_none_or(|mode| mode != "async"),
        "it acknowledges before it writes (persist_mode)",
    );
    need(!has("mirror") && !has("sources"), "it copies another stream");
    need(!has("subject_transform"), "it renames subjects");
    let takes = config["subjects"].as_array().map_or(&[][..], Vec::as_slice);
    need(matches!(takes, [only] if only.as_str() == Some(subjects)), &format!("its subjects are not {subjects} alone"));
    wrong
}

fn counted(replicas: u64) -> String {
    if replicas == 1 { "1 replica".to_owned() } else { format!("{replicas} replicas") }
}

/// The reason why a stream with `found` replicas is not enough if `wanted` were requested, if so.
pub(super) fn too_few_replicas(name: &str, found: u64, wanted: usize) -> Option<String> {
    (found < wanted as u64).then(|| {
        format!(
            "has {}, and --nats-replicas asks for {wanted}: change it (nats stream edit {name} --replicas {wanted}), or ask for {found}",
            counted(found)
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{ServerFacts, StreamFacts, Version, servers, too_few_replicas};
    use crate::{
        backends::nats::monitor::{Synced, Unread},
        ports::event_store::Durability,
    };

    fn stream(replicas: u64) -> StreamFacts {
        StreamFacts { name: "a-log".to_owned(), replicas, servers: Vec::new(), messages: 0 }
    }

    #[test]
    fn only_writes_known_to_be_synced_survive_a_power_loss() {
        let unknown = Synced::Unknown(Unread { server: "s1".to_owned(), silent: Vec::new(), may_be_away: false });
        for (replicas, synced, durability, says) in [
            (1, Synced::Read, Durability::Machine, "survives a power loss"),
            (1, unknown.clone(), Durability::Process, "not a power loss"),
            (3, Synced::Read, Durability::Quorum, "minority of servers, and a power loss"),
            (3, Synced::Asserted, Durability::Quorum, "as --nats-synced asserts"),
            (3, Synced::Not("s2".to_owned()), Durability::Process, "s2 has no sync_interval: always"),
            (5, unknown, Durability::Process, "3 replicas, not known to be synced"),
        ] {
            let facts = stream(replicas);
            assert_eq!(facts.durability(&synced), durability, "{replicas} {synced}");
            let says = says.replace("3 replicas", &format!("{replicas} replicas"));
            assert!(facts.summary(&synced).contains(&says), "{}", facts.summary(&synced));
        }
    }

    #[test]
    fn versions_that_lose_replicated_streams_are_refused_with_replicas_only() {
        for (version, replicas, fits) in [
            ("2.9.24", 3, false),
            ("2.9.24", 1, true),
            ("2.9.25", 3, true),
            ("2.10.19", 3, true),
            ("2.10.20", 3, false),
            ("2.10.21", 3, false),
            ("2.10.22", 5, false),
            ("2.10.22", 1, true),
            ("2.10.23", 3, true),
            ("2.15.2", 3, true),
        ] {
            let server = ServerFacts { version: version.to_owned() };
            assert_eq!(server.unfit_for(&stream(replicas), 1).is_none(), fits, "{version} {replicas}");
        }
    }

    #[test]
    fn an_assertion_of_syncing_is_rejected_for_a_server_that_cannot_sync() {
        for (version, can) in [("2.9.25", false), ("2.9.0", false), ("2.10.0", true), ("2.15.2", true), ("dev", true)] {
            let why = ServerFacts { version: version.to_owned() }.unfit_for_sync();
            assert_eq!(why.is_none(), can, "{version}");
            assert!(why.is_none_or(|why| why.contains(version) && why.contains("2.10 or newer")));
        }
    }

    #[test]
    fn a_stream_with_too_few_replicas_is_refused_with_the_command_that_changes_it() {
        assert_eq!(too_few_replicas("a-log", 3, 1), None);
        assert_eq!(too_few_replicas("a-log", 3, 3), None);
        let why = too_few_replicas("a-log", 1, 3).unwrap();
        assert!(why.starts_with("has 1 replica, ") && why.contains("nats stream edit a-log --replicas 3"), "{why}");
    }

    #[test]
    fn the_servers_of_a_stream_are_its_leader_and_its_replicas() {
        let replicas = json!([
            {"name": "s1", "current": true, "active": 7},
            {"name": "s3", "current": false, "active": 0},
            {"name": "s4", "offline": true, "active": 8_000_000_000_u64},
        ]);
        let servers_of = |cluster| {
            let servers = servers(&cluster).into_iter();
            servers.map(|server| (server.name, server.offline, server.unheard_for.map(|time| time.as_nanos())))
        };
        let found: Vec<_> = servers_of(json!({"leader": "s2", "replicas": replicas})).collect();
        let expected =
            [("s1", false, Some(7)), ("s3", false, None), ("s4", true, Some(8_000_000_000)), ("s2", false, Some(0))];
        assert_eq!(found, expected.map(|(name, offline, unheard_for)| (name.to_owned(), offline, unheard_for)));
        assert!(servers(&json!(null)).is_empty());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(Version::read("2.10.0") > Version::read("2.9.25"));
        assert_eq!(Version::read("2.11.0-RC.1"), Some(Version(2, 11, 0)));
        assert_eq!(Version::read("latest"), None);
    }
}
