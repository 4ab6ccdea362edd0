//! The options of a NATS connection.

use std::{fmt, path::PathBuf, time::Duration};

/// NATS's address and the timeouts.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://[user:password@]host[:port]`, `nats://token@host`, `tls://…`, or `host:port`; several servers of a cluster are comma separated, and
    /// the first names user and password for all.
    pub url: String,
    /// Credentials and trusted certificates, in addition to those in the address.
    pub access: NatsAccess,
    /// The prefix of the names of streams and buckets, and of all subjects: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// The number of servers of a cluster that keep each stream: 1, 3 or 5.
    pub replicas: usize,
    /// The monitoring ports of the servers, `host:port`; if empty, port 8222 of the hosts of `url`.
    pub monitors: Vec<String>,
    /// Whether the operator asserts that all servers sync before they acknowledge.
    pub synced: bool,
    /// Whether a log is created if there is none.
    pub makes_log: bool,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long NATS may take to reply.
    pub request_timeout: Duration,
}

/// A client's credentials and trusted certificates: files that are read at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsAccess {
    /// A credentials file (`.creds`), with a JWT and the seed of an nkey.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an nkey alone.
    pub nkey: Option<PathBuf>,
    /// PEM file with the certificates that sign the server's, in addition to those that the system trusts.
    pub ca: Option<PathBuf>,
    /// PEM files with the client certificate and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

impl NatsOptions {
    /// The options for `url` with the name prefix `prefix` and timeouts suited to a server in the same data center.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            access: NatsAccess::default(),
            prefix: prefix.into(),
            replicas: 1,
            monitors: Vec::new(),
            synced: false,
            makes_log: true,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address is left out, since it may hold a password.
        f.debug_struct("NatsOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
