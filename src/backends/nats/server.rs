//! What a NATS server and a stream on it are, as they say themselves: whether they can be used, and what an acknowledged write survives.

use serde_json::Value;

use super::{
    api::{CallError, code},
    connection::{Nats, NotConnected},
};
use crate::event_store::Durability;

/// The oldest version that will do.
const OLDEST: Version = Version(2, 9, 0);
/// The oldest version that will do for a stream on several servers: before, of two publishes under way with one condition both were stored.
const OLDEST_WITH_REPLICAS: Version = Version(2, 9, 25);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl Version {
    /// Reads `2.10.4`, or `2.10.4-beta.1`.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split(['-', '+']).next()?.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?))
    }
}

/// What the server is.
#[derive(Clone, Debug)]
pub(super) struct ServerFacts {
    version: String,
}

impl ServerFacts {
    /// Looks at the server that is connected to.
    ///
    /// # Errors
    /// [`NotConnected`] if it is too old, or has no JetStream for us.
    pub(super) async fn read(nats: &Nats) -> Result<Self, NotConnected> {
        let version = nats.client().server_info().version;
        if Version::read(&version).is_some_and(|found| found < OLDEST) {
            let Version(major, minor, _) = OLDEST;
            return Err(NotConnected::Ever(format!("NATS {version} is too old: {major}.{minor} or newer is needed")));
        }
        match nats.ask::<Value>("INFO", &()).await {
            Ok(_) => Ok(Self { version }),
            Err(error @ CallError::Refused { .. }) => {
                let for_account = error.is(code::NOT_ENABLED_FOR_ACCOUNT) || error.is(code::NOT_ENABLED);
                let why =
                    if for_account { "JetStream is not enabled for this account" } else { "JetStream refuses us" };
                Err(NotConnected::Ever(format!("{why}: {error}")))
            }
            Err(CallError::NotSent(_)) if nats.is_connected() => Err(NotConnected::Ever(
                "this NATS has no JetStream: start it with -js, or give the address of one that has".to_owned(),
            )),
            Err(error) => Err(NotConnected::Yet(error.to_string())),
        }
    }

    /// For the log.
    pub(super) fn summary(&self) -> String {
        format!("NATS {}", self.version)
    }

    /// Why `stream` cannot be used on this server, if so.
    pub(super) fn unfit_for(&self, stream: &StreamFacts) -> Option<String> {
        let is_too_old = Version::read(&self.version).is_some_and(|found| found < OLDEST_WITH_REPLICAS);
        (is_too_old && stream.replicas > 1).then(|| {
            let Version(major, minor, patch) = OLDEST_WITH_REPLICAS;
            format!(
                "NATS {} stores what it should refuse in a stream with replicas, as {} is: {major}.{minor}.{patch} or newer is needed",
                self.version, stream.name
            )
        })
    }
}

/// What a stream is.
#[derive(Clone, Debug)]
pub(super) struct StreamFacts {
    name: String,
    replicas: u64,
    messages: u64,
}

impl StreamFacts {
    /// Reads the answer to `STREAM.INFO` of the stream `name`, which must take `subjects`.
    ///
    /// # Errors
    /// Why the stream cannot be used: it would lose, or refuse, what it must keep.
    pub(super) fn read(name: &str, subjects: &str, info: &Value) -> Result<Self, String> {
        let config = &info["config"];
        let wrong = wrong_settings(subjects, config);
        if !wrong.is_empty() {
            return Err(format!("stream {name} cannot keep a log: {}", wrong.join(", ")));
        }
        let replicas = config["num_replicas"].as_u64().unwrap_or(1);
        Ok(Self { name: name.to_owned(), replicas, messages: info["state"]["messages"].as_u64().unwrap_or_default() })
    }

    /// For the log.
    pub(super) fn summary(&self) -> String {
        format!("stream {} with file storage on {} servers", self.name, self.replicas)
    }

    /// Whether it has no messages.
    pub(super) const fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// What an acknowledged message survives, no more than what is proven.
    ///
    /// A server acknowledges before it has synced, unless it is told otherwise, which it does not tell its clients: one server alone gives
    /// its own process's end and no more. Of three or more a majority has taken in the message before it is acknowledged.
    pub(super) const fn durability(&self) -> Durability {
        if self.replicas >= 3 { Durability::Quorum } else { Durability::Process }
    }
}

/// The settings that would lose data, or keep it from being stored.
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
    need(limit("max_msgs_per_subject").is_none(), "it has a maximum of messages a subject");
    // With discard new a limit is a full store, which is told to whoever writes.
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

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(Version::read("2.10.0") > Version::read("2.9.25"));
        assert_eq!(Version::read("2.11.0-RC.1"), Some(Version(2, 11, 0)));
        assert_eq!(Version::read("latest"), None);
    }
}
