//! The properties of a Redis server, as it reports them: whether it can be used, and the durability of an acknowledged write.

use redis::{RedisError, aio::MultiplexedConnection};

use super::values;
use crate::ports::event_store::Durability;

/// The oldest supported version: it numbers entries as `0-*`, and accepts `SET` with `NX` and `GET`.
const OLDEST_MAJOR: u32 = 7;

/// The properties found. A setting that Redis did not report is `None`.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    version: String,
    role: String,
    mode: String,
    used_memory: u64,
    max_memory: Option<u64>,
    appendonly: Option<String>,
    appendfsync: Option<String>,
    no_appendfsync_on_rewrite: Option<String>,
    maxmemory_policy: Option<String>,
    last_snapshot: Option<String>,
    last_append: Option<String>,
    min_replicas_to_write: Option<String>,
    /// Another server may take its place, and may lack writes that this one has acknowledged.
    pub(super) has_sentinels: bool,
}

impl ServerFacts {
    /// Asks the server. If `CONFIG` is forbidden its settings stay unknown.
    ///
    /// # Errors
    /// If it does not reply, or forbids `INFO` as well.
    pub async fn read(connection: &mut MultiplexedConnection) -> Result<Self, RedisError> {
        let mut facts = Self::default();
        let info: String = redis::cmd("INFO").query_async(connection).await?;
        for (name, value) in info.lines().filter_map(|line| line.split_once(':')) {
            match name {
                "redis_version" => facts.version = value.to_owned(),
                "role" => facts.role = value.to_owned(),
                "redis_mode" => facts.mode = value.to_owned(),
                "used_memory" => facts.used_memory = value.parse().unwrap_or_default(),
                "maxmemory" => facts.max_memory = value.parse().ok(),
                "rdb_last_bgsave_status" => facts.last_snapshot = Some(value.to_owned()),
                "aof_last_write_status" => facts.last_append = Some(value.to_owned()),
                "maxmemory_policy" => facts.maxmemory_policy = Some(value.to_owned()),
                _ => {}
            }
        }
        match redis::cmd("CONFIG")
            .arg("GET")
            .arg("append*")
            .arg("no-appendfsync-on-rewrite")
            .arg("min-replicas-to-write")
            .query_async(connection)
            .await
        {
            Ok(settings) => facts.take_settings(settings),
            Err(error) if error.is_io_error() => return Err(error),
            Err(error) => tracing::debug!(%error, "cannot read the settings of Redis"),
        }
        Ok(facts)
    }

    fn take_settings(&mut self, settings: redis::Value) {
        let settings = values::list(settings).unwrap_or_default();
        for pair in settings.chunks_exact(2) {
            let (Some(name), Some(value)) = (values::text(&pair[0]), values::text(&pair[1])) else { continue };
            let place = match name {
                "appendonly" => &mut self.appendonly,
                "appendfsync" => &mut self.appendfsync,
                "min-replicas-to-write" => &mut self.min_replicas_to_write,
                "no-appendfsync-on-rewrite" => &mut self.no_appendfsync_on_rewrite,
                _ => continue,
            };
            *place = Some(value.to_owned());
        }
    }

    /// The reason why the server cannot be used at all, if any.
    #[must_use]
    pub fn unfit(&self) -> Option<String> {
        let major = self.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_some_and(|major| major < OLDEST_MAJOR) {
            return Some(format!("Redis {} is too old: {OLDEST_MAJOR}.0 or newer is needed", self.version));
        }
        if self.mode == "sentinel" {
            return Some(
                "this is a Sentinel, which keeps no data: write redis+sentinel://host:port,host:port/SERVICE with all Sentinels and the name of \
                 their service"
                    .to_owned(),
            );
        }
        if self.role != "master" {
            return Some(format!("this Redis is a replica (role: {}): give the address of the primary", self.role));
        }
        None
    }

    /// Whether writes fail for lack of memory.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.max_memory.is_some_and(|most| most > 0 && self.used_memory >= most)
    }

    /// The reason why written data may be evicted to make room, if any.
    #[must_use]
    pub fn evicts(&self) -> Option<String> {
        let policy = self.maxmemory_policy.as_deref().filter(|policy| *policy != "noeviction")?;
        Some(format!(
            "this Redis evicts data when its memory is full (maxmemory-policy {policy}): set it to noeviction, in its configuration and \
             with CONFIG SET maxmemory-policy noeviction"
        ))
    }

    /// A human-readable list of Redis's own disk writes that have failed; empty if none has.
    #[must_use]
    pub fn failed_writes(&self) -> String {
        let failed = |status: &Option<String>| status.as_deref().is_some_and(|status| status != "ok");
        match (failed(&self.last_snapshot), failed(&self.last_append)) {
            (false, false) => String::new(),
            (true, false) => "its last snapshot failed (rdb_last_bgsave_status)".to_owned(),
            (false, true) => "its last write to the append-only file failed (aof_last_write_status)".to_owned(),
            (true, true) => "its last snapshot and its last write to the append-only file failed".to_owned(),
        }
    }

    /// The durability of an acknowledged write, no more than the settings prove.
    ///
    /// Redis is a separate process, so a write survives the end of ours; unless Redis may evict it to make room, which gives no guarantee at all. If
    /// Sentinels may promote a replica, there is no further guarantee: the replica may lack the write, and the write is then discarded when the old
    /// primary comes back, even if that one had synced it.
    #[must_use]
    pub fn durability(&self) -> Durability {
        let evicts = self.maxmemory_policy.as_deref().is_some_and(|policy| policy.starts_with("allkeys"));
        if evicts && self.max_memory != Some(0) {
            return Durability::None;
        }
        let is = |setting: &Option<String>, value: &str| setting.as_deref() == Some(value);
        let synced = is(&self.appendonly, "yes")
            && is(&self.appendfsync, "always")
            && is(&self.no_appendfsync_on_rewrite, "no")
            && is(&self.maxmemory_policy, "noeviction")
            && !self.has_sentinels;
        if synced { Durability::Machine } else { Durability::Process }
    }

    /// The settings that determine durability, for the log.
    #[must_use]
    pub fn summary(&self) -> String {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
        let settings = format!(
            "Redis {}, appendonly {}, appendfsync {}, no-appendfsync-on-rewrite {}, maxmemory-policy {}",
            self.version,
            show(&self.appendonly),
            show(&self.appendfsync),
            show(&self.no_appendfsync_on_rewrite),
            show(&self.maxmemory_policy)
        );
        if !self.has_sentinels {
            return settings;
        }
        let replicas = show(&self.min_replicas_to_write);
        format!(
            "{settings}, min-replicas-to-write {replicas}; a fail-over may lose acknowledged writes that the replica does not have"
        )
    }
}
