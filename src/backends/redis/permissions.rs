//! The permissions that the Redis user needs, and the messages for missing ones.
//!
//! Redis does not roll back a script's writes when it refuses one of the script's later commands. A user that lacks a command is therefore refused
//! when a connection is made and detected by each check, and every script checks before its first write (`need.lua`).

use redis::{RedisError, aio::MultiplexedConnection};

use super::{script::Script, values};

static PERMISSIONS: Script = Script::new(include_str!("permissions.lua"));

/// The roles of Redis for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// It reads the log.
    pub reads_log: bool,
    /// It writes the log, and stores leases and checkpoints next to it.
    pub writes_log: bool,
    /// It publishes and consumes events, and stores the leases of handlers.
    pub bus: bool,
    /// It caches folded orders.
    pub cache: bool,
}

impl Roles {
    /// All roles.
    pub const ALL: Self = Self { reads_log: true, writes_log: true, bus: true, cache: true };
    /// A log that is only read.
    pub const READ_LOG: Self = Self { reads_log: true, writes_log: false, bus: false, cache: false };

    /// Whether it writes data that must not be lost.
    pub(super) const fn writes(self) -> bool {
        self.writes_log || self.bus
    }

    /// The commands, with the keys and channels that they use; `{p}` stands for the hash tag.
    fn commands(self) -> impl Iterator<Item = &'static str> {
        let lists = [
            (true, EVERYBODY),
            (self.reads_log, READ_LOG),
            (self.writes_log, WRITE_LOG),
            (self.writes_log || self.bus, WRITE),
            (self.bus, BUS),
            (self.cache, CACHE),
        ];
        lists.into_iter().filter(|(needed, _)| *needed).flat_map(|(_, commands)| commands.iter().copied())
    }
}

const EVERYBODY: &[&str] = &["EVAL - 0", "EVALSHA - 0", "INFO server", "PING", "UNWATCH"];
const READ_LOG: &[&str] = &[
    "GET {p}:log-id",
    "EXISTS {p}:log",
    "XRANGE {p}:log - +",
    "XREVRANGE {p}:log + -",
    "XREAD COUNT 1 STREAMS {p}:log 0-0",
    "XINFO STREAM {p}:log",
    "LLEN {p}:order:0",
    "LRANGE {p}:order:0 0 0",
    "LINDEX {p}:order:0 0",
    "GET {p}:request:-",
    "MGET {p}:request:-",
    "HGET {p}:requests:0 -",
    "HGETALL {p}:requests:0",
    "SCAN 0",
];
const WRITE_LOG: &[&str] = &[
    "SET {p}:log-id 1 NX",
    "GET {p}:log-key",
    "SET {p}:log-key - NX",
    "XADD {p}:log 0-* r 1",
    "XLEN {p}:log",
    "RPUSH {p}:order:0 1",
    "EXISTS {p}:request:-",
    "SET {p}:request:- -",
    "HEXISTS {p}:requests:0 -",
    "HSET {p}:requests:0 - -",
    "GET {p}:checkpoint:-",
    "SET {p}:checkpoint:- -",
];
/// Leases, and the write of a check.
const WRITE: &[&str] = &[
    "GET {p}:lease:-",
    "INCR {p}:lease-token:-",
    "SET {p}:lease:- - PX 1000",
    "PEXPIRE {p}:lease:- 1000",
    "DEL {p}:lease:-",
    "SET {p}:health 1",
    "DEL {p}:health",
];
const BUS: &[&str] = &[
    "EXISTS {p}:events",
    "XLEN {p}:events",
    "XINFO STREAM {p}:events",
    "XINFO GROUPS {p}:events",
    "XPENDING {p}:events -",
    "XADD {p}:events 0-* f -",
    "XTRIM {p}:events MAXLEN 1",
    "XRANGE {p}:events - +",
    "XREAD COUNT 1 STREAMS {p}:events 0-0",
    "XGROUP CREATE {p}:events - 0 MKSTREAM",
    "XGROUP DESTROY {p}:events -",
    "XREADGROUP GROUP - - COUNT 1 STREAMS {p}:events >",
    "XACK {p}:events - 0-0",
    "GET {p}:published:0",
    "SET {p}:published:0 0",
    "HGET {p}:bus -",
    "HGETALL {p}:bus",
    "HSET {p}:bus - -",
    "HDEL {p}:bus -",
    "HGET {p}:consumers -",
    "HGETALL {p}:consumers",
    "HEXISTS {p}:consumers -",
    "HSET {p}:consumers - -",
    "HDEL {p}:consumers -",
    "XRANGE {p}:dead:- - +",
    "XADD {p}:dead:- * f -",
    "XDEL {p}:dead:- 0-0",
    "XLEN {p}:dead:-",
    "HSET {p}:dead-index:- - -",
    "HDEL {p}:dead-index:- -",
    "XADD {p}:replayed:- * f -",
    "XRANGE {p}:replayed:- - +",
    "XDEL {p}:replayed:- 0-0",
    "DEL {p}:replayed:-",
    "PUBLISH {channel}:- -",
];
const CACHE: &[&str] = &["GET {p}:folded:-", "SETEX {p}:folded:- 1 -"];

/// The permissions that the user lacks for `roles`, one sentence each.
pub(super) async fn lacking(
    connection: &mut MultiplexedConnection,
    roles: Roles,
    user: &str,
    prefix: &str,
) -> Result<Vec<String>, RedisError> {
    let (tag, channel) = (format!("{{{prefix}}}"), format!("{prefix}:events"));
    let mut call = PERMISSIONS.prepare();
    for command in roles.commands() {
        let words: Vec<_> =
            command.split(' ').map(|word| word.replace("{p}", &tag).replace("{channel}", &channel)).collect();
        call = call.number(words.len());
        call = words.into_iter().fold(call, |call, word| call.arg(word));
    }
    let refused = values::list(call.run_on(connection).await?).unwrap_or_default();
    let mut lacking: Vec<String> =
        refused.iter().filter_map(values::text).map(|refusal| in_words(refusal, user, prefix)).collect();
    // The same command is needed for several keys.
    let mut seen = std::collections::HashSet::new();
    lacking.retain(|sentence| seen.insert(sentence.clone()));
    Ok(lacking)
}

/// How to resolve a refusal: `[command argument] why`, as the scripts report it, or Redis's reply to a command itself.
pub(super) fn in_words(refusal: &str, user: &str, prefix: &str) -> String {
    let inner = refusal.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    let (command, why) = match inner {
        Some((command, why)) => (command, why),
        // "… has no permissions to run the 'xinfo|stream' command"
        None => (refusal.split('\'').nth(1).unwrap_or_default(), refusal),
    };
    let (name, argument) = command.split_once(' ').unwrap_or((command, ""));
    if why.contains("channel") {
        let channel = if argument.is_empty() { "of published events" } else { argument };
        return format!(
            "the Redis user {user} may not publish on the channel {channel}: grant &{prefix}:events:* with ACL SETUSER"
        );
    }
    if why.contains("the keys") || why.contains("access a key") || why.contains("one of the keys") {
        let what = match (name, argument) {
            // Redis itself names neither.
            ("", _) => "the keys of the service".to_owned(),
            (_, "") => format!("a key with {name}"),
            _ => format!("{argument} with {name}"),
        };
        return format!("the Redis user {user} may not use {what}: grant ~{{{prefix}}}:* with ACL SETUSER");
    }
    if command.is_empty() {
        return format!("the Redis user {user} lacks a permission: {refusal}");
    }
    let command = if matches!(name, "XINFO" | "XGROUP" | "CONFIG") && !argument.is_empty() {
        format!("{name}|{argument}")
    } else {
        name.to_owned()
    };
    let (shown, granted) = (command.replace('|', " ").to_uppercase(), command.to_lowercase());
    format!("the Redis user {user} may not run {shown}: grant +{granted} with ACL SETUSER")
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn a_denial_names_the_permission_to_grant() {
        for (refusal, expected) in [
            (
                "[RPUSH {o}:order:0] ERR The user executing the script can't run this command or subcommand",
                "grant +rpush ",
            ),
            (
                "[XINFO STREAM] ACL failure in script: User x has no permissions to run the 'xinfo|stream' command",
                "grant +xinfo|stream ",
            ),
            ("[EVALSHA -] ERR This Redis command is not allowed from script", "grant +evalsha "),
            (
                "[GET {o}:log] ERR The user executing the script can't access at least one of the keys mentioned in the command arguments",
                "use {o}:log with GET: grant ~{o}:* ",
            ),
            ("[GET {o}:log] ACL failure in script: No permissions to access a key", "grant ~{o}:* "),
            (
                "[PUBLISH o:events:-] ERR The user executing the script can't publish to the channel mentioned in the command",
                "channel o:events:-: grant &o:events:* ",
            ),
            (
                "NOPERM this user has no permissions to run the 'config|get' command",
                "may not run CONFIG GET: grant +config|get ",
            ),
            (
                "NOPERM this user has no permissions to access one of the keys used as arguments",
                "use the keys of the service: grant ~{o}:* with ACL SETUSER",
            ),
            ("NOPERM No permissions to access a key", "use the keys of the service: grant ~{o}:* "),
        ] {
            let words = in_words(refusal, "app", "o");
            assert!(words.starts_with("the Redis user app may not ") && words.contains(expected), "{words}");
            assert!(!words.contains(" with :"), "{words}");
        }
    }
}
