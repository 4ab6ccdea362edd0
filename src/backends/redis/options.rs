//! The options of a Redis connection.

use std::{fmt, path::PathBuf, time::Duration};

use super::permissions::Roles;

/// Redis's address and the timeouts.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis[s]://[user[:password]@]host[:port][/db]`, `host:port`, or
    /// `redis[s]+sentinel://[user[:password]@]host[:port],…/service[/db]`.
    pub url: String,
    /// PEM file with the authorities that sign the certificates of the servers and Sentinels, in place of those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The hash tag that all keys begin with: `{prefix}:…`, so that they live on one node of a Redis Cluster.
    pub prefix: String,
    /// How long connecting may take, and how long a call waits for a connection that is being made.
    pub connect_timeout: Duration,
    /// How long Redis may take to reply.
    pub response_timeout: Duration,
    /// How many calls may be in flight; further ones wait to be sent, for at most the response timeout.
    pub max_in_flight: usize,
    /// Whether a log is created if there is none.
    pub makes_log: bool,
    /// The roles that Redis has here, which determine the permissions that its user needs.
    pub roles: Roles,
}

impl RedisOptions {
    /// The options for `url` with the keys `{prefix}:…` and timeouts suited to a server in the same data center.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca: None,
            prefix: prefix.into(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            max_in_flight: 8_192,
            makes_log: true,
            roles: Roles::ALL,
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is left out, since it may hold a password.
        f.debug_struct("RedisOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
