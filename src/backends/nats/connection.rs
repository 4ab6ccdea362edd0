//! The one connection to NATS, shared by all components of a node.
//!
//! The client library makes it, and reconnects when it is lost: a node may start before its NATS. A call made meanwhile fails after
//! [`NatsOptions::request_timeout`] or waits in the client's bounded queue; nothing is retried here, since only the caller knows whether a retry is
//! safe.
//!
//! The library's own events are not logged by default (they name neither address nor cause); this module logs each change of state once, and a
//! lasting failure every half minute.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, Server, ServerAddr, connection::State, jetstream};
use parking_lot::Mutex;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::{
    monitor::{Contacts, Monitors, Replica, Synced},
    permissions::Forbidden,
    stranger,
};

/// How often it is logged that NATS is still unreachable.
const SAY_AGAIN_EVERY: Duration = Duration::from_secs(30);

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
    /// On how many servers of a cluster each stream is kept: 1, 3 or 5.
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

/// Why a server cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// A temporary failure. Connecting is being retried.
    Retryable(String),
    /// A failure that needs an operator: a wrong password, no JetStream, a stream that would lose data.
    Fatal(String),
}

impl ConnectError {
    /// The human-readable reason.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Retryable(why) | Self::Fatal(why) => why,
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

/// A NATS server, connected or not. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    jetstream: jetstream::Context,
    options: Arc<NatsOptions>,
    /// The hosts of the address.
    hosts: Arc<[String]>,
    /// The same with their ports.
    addresses: Arc<[String]>,
    monitors: Arc<Monitors>,
    /// The state of the connection.
    contact: Arc<Contact>,
}

/// A task that is aborted when its owner is dropped.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nats {
    /// Begins to connect; must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the address is invalid; the message does not contain its password.
    pub async fn start(options: NatsOptions) -> Result<Self, String> {
        let (servers, login) = addresses(&options.url)?;
        let hosts = servers.iter().map(|server| bracketed(server.host())).collect();
        let addresses = servers.iter().map(address).collect();
        let contact = Arc::new(Contact::new(&options.prefix));
        let (told, seen) = (Arc::clone(&contact), Arc::clone(&contact));
        let connect = with_access(login.into_options(), &options.access)?
            .name("ordersystem")
            .event_callback(move |event| {
                let told = Arc::clone(&told);
                async move { told.note(&event) }
            })
            // Does not choose a server: the library passes the result of the last attempt at each server to this callback.
            .reconnect_to_server_callback(move |servers, _| {
                let seen = Arc::clone(&seen);
                async move {
                    attempts(&seen, &servers);
                    None
                }
            })
            .retry_on_initial_connect()
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            // After two pings without a reply the connection is dropped.
            .ping_interval(Duration::from_secs(1));
        let client =
            connect.connect(servers).await.map_err(|error| format!("the address of NATS: {}", error.kind()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.request_timeout);
        Ok(Self { client, jetstream, options: Arc::new(options), hosts, addresses, monitors: Arc::default(), contact })
    }

    /// Waits until connected, at most for the connect timeout.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason, and whether waiting helps.
    pub async fn connected(&self) -> Result<(), ConnectError> {
        self.connected_or(|| false).await
    }

    /// Waits for the result of the first try to connect to every server, at most for the connect timeout.
    ///
    /// # Errors
    /// As [`Nats::connected`].
    pub async fn first_try(&self) -> Result<(), ConnectError> {
        self.connected_or(|| self.contact.with(|talk| talk.all_failed)).await
    }

    /// Waits until connected, or `is_over`; at most for the connect timeout, counted from when the last connection was lost.
    async fn connected_or(&self, is_over: impl Fn() -> bool) -> Result<(), ConnectError> {
        while !self.is_connected() {
            match self.failure() {
                Some(why) if is_denial(&why) => return Err(ConnectError::Fatal(why)),
                why if is_over() || self.down_for() >= self.options.connect_timeout => {
                    return Err(match self.strangers().await {
                        Some(why) => ConnectError::Fatal(why),
                        None => ConnectError::Retryable(why.unwrap_or_else(|| "no answer yet".to_owned())),
                    });
                }
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }

    /// Which other programs answer at all addresses, if NATS has never answered at one: that does not change by waiting.
    async fn strangers(&self) -> Option<String> {
        if self.connections() > 0 {
            return None;
        }
        let looks = self.addresses.iter().map(async |address| (address, stranger::who_is_at(address).await));
        let found = futures_util::future::join_all(looks).await;
        let all_are = found.iter().all(|(_, words)| stranger::is_stranger(words));
        let shown = found.iter().map(|(address, words)| format!("{address}: {words}")).collect::<Vec<_>>().join("; ");
        all_are.then_some(shown)
    }

    /// Why NATS is known to be unreachable: there is no connection.
    pub(super) fn unreachable(&self) -> Option<String> {
        if self.is_connected() {
            return None;
        }
        let why = self.contact.with(|talk| talk.attempts.clone().or_else(|| talk.failure.clone()));
        Some(format!("NATS is unreachable: {}", why.as_deref().unwrap_or("not connected yet")))
    }

    /// Whether waiting for a reply is futile: requests are not sent, and will not be soon. Always false if another server may take over.
    pub(super) fn is_away(&self) -> bool {
        self.hosts.len() == 1 && self.options.replicas == 1 && self.down_for() >= self.options.connect_timeout
    }

    /// For how long there has been no connection.
    fn down_for(&self) -> Duration {
        if self.is_connected() { Duration::ZERO } else { self.contact.with(|talk| talk.down_since.elapsed()) }
    }

    /// Why the last try to connect failed; `None` while connected.
    pub(super) fn failure(&self) -> Option<String> {
        self.contact.failure()
    }

    /// Records that JetStream replies.
    pub(super) fn has_jetstream(&self) {
        self.contact.with(|talk| talk.lacks_jetstream_since = None);
    }

    /// Records that the server reports no JetStream for this account; returns for how long it has reported nothing else.
    pub(super) fn lacks_jetstream(&self) -> Duration {
        self.contact.with(|talk| talk.lacks_jetstream_since.get_or_insert_with(Instant::now).elapsed())
    }

    /// The operations that the server denies this user.
    pub(super) fn forbidden(&self) -> &Forbidden {
        &self.contact.forbidden
    }

    /// Whether the servers that keep these streams sync the messages that they acknowledge; without a cluster, whether the connected server does.
    pub(super) async fn synced(&self, streams: &[&[Replica]]) -> Synced {
        let contacts = Contacts {
            monitors: &self.options.monitors,
            hosts: &self.hosts,
            asserted: self.options.synced,
            connections: self.connections(),
            server: self.client.server_info(),
        };
        self.monitors.synced(contacts, streams).await
    }

    /// How often a connection has been made: if this number changes, the server may be another one.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &NatsOptions {
        &self.options
    }

    /// The client, for operations that JetStream's own calls do not cover.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream on this connection.
    #[must_use]
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The name `{prefix}-<name>` of a stream or bucket, which must not contain dots.
    #[must_use]
    pub fn stream_name(&self, name: &str) -> String {
        format!("{}-{name}", self.options.prefix)
    }

    /// The subject `{prefix}.<name>`.
    #[must_use]
    pub fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.options.prefix)
    }
}

/// The client's identity on the server.
enum Login {
    Nobody,
    Token(String),
    User(String, String),
}

impl Login {
    fn into_options(self) -> ConnectOptions {
        match self {
            Self::Nobody => ConnectOptions::new(),
            Self::Token(token) => ConnectOptions::with_token(token),
            Self::User(user, password) => ConnectOptions::with_user_and_password(user, password),
        }
    }
}

/// The servers without user and password, which the client library would send exactly as they appear in the address, encoded.
fn addresses(url: &str) -> Result<(Vec<ServerAddr>, Login), String> {
    let (mut servers, mut login) = (Vec::new(), Login::Nobody);
    for url in split_servers(url) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        // Everything up to the last '@' is user and password, as in the configuration's parser.
        let (user_info, host) = rest.rsplit_once('@').map_or((None, rest), |(user_info, host)| (Some(user_info), host));
        if let (Some(user_info), Login::Nobody) = (user_info, &login) {
            login = match user_info.split_once(':') {
                Some((user, password)) => Login::User(decode(user), decode(password)),
                None => Login::Token(decode(user_info)),
            };
        }
        let server = format!("{scheme}://{host}").parse().map_err(|_| "the address of NATS is none".to_owned())?;
        servers.push(server);
    }
    Ok((servers, login))
}

/// A comma begins another server only if an address can begin there: passwords may contain commas.
fn split_servers(url: &str) -> Vec<&str> {
    let mut servers = Vec::new();
    let mut rest = url;
    let mut from = 0;
    while let Some(comma) = rest[from..].find(',').map(|at| from + at) {
        let (before, after) = (&rest[..comma], &rest[comma + 1..]);
        let password_goes_on = after.contains('@') && !after.contains("://");
        if password_goes_on {
            from = comma + 1;
        } else {
            servers.push(before);
            (rest, from) = (after, 0);
        }
    }
    servers.push(rest);
    servers
}

/// Decodes percent-encoded special characters; text that is not valid encoding stays unchanged.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| !hex.starts_with('+')).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// An IPv6 address in brackets, any other host as it is.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// Adds the contents of the files.
fn with_access(connect: ConnectOptions, access: &NatsAccess) -> Result<ConnectOptions, String> {
    let mut connect = connect;
    if let Some(file) = &access.credentials {
        let unfit = |_| format!("nats-credentials: {} is not a credentials file with a JWT and a seed", file.display());
        connect = connect.credentials(&read(file, "nats-credentials")?).map_err(unfit)?;
    }
    if let Some(file) = &access.nkey {
        connect = connect.nkey(seed(&read(file, "nats-nkey")?, file)?);
    }
    if let Some(file) = &access.ca {
        read(file, "nats-ca")?;
        connect = connect.add_root_certificates(file.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &access.certificate {
        read(certificate, "nats-cert")?;
        read(key, "nats-key")?;
        connect = connect.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    Ok(connect)
}

fn read(file: &Path, setting: &str) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{setting}: {} cannot be read: {error}", file.display()))
}

/// The seed in the text of a file: the only line that is a seed.
fn seed(text: &str, file: &Path) -> Result<String, String> {
    let seed = text.lines().map(str::trim).find(|line| line.starts_with('S') && line.len() > 40);
    seed.map(str::to_owned).ok_or_else(|| format!("nats-nkey: {} holds no seed of an nkey (SU…)", file.display()))
}

/// The state of the connection.
#[derive(Debug)]
struct Contact {
    talk: Mutex<Talk>,
    forbidden: Forbidden,
}

/// Why connecting fails, and when that was last logged.

#[derive(Debug)]
struct Talk {
    /// When the last connection was lost, or the first one was begun.
    down_since: Instant,
    /// Whether connecting to every server has failed since.
    all_failed: bool,
    /// Why the last try failed; `None` while connected.
    failure: Option<String>,
    /// The failures of the individual servers at the last attempt, with their addresses.
    attempts: Option<String>,
    /// When the failure was last logged; `None` if it was not, or is over.
    said_at: Option<Instant>,
    /// Since when the server has reported no JetStream for this account.
    lacks_jetstream_since: Option<Instant>,
}

impl Default for Talk {
    fn default() -> Self {
        let (failure, attempts, said_at, lacks_jetstream_since) = (None, None, None, None);
        Self { down_since: Instant::now(), all_failed: false, failure, attempts, said_at, lacks_jetstream_since }
    }
}

impl Contact {
    fn new(prefix: &str) -> Self {
        Self { talk: Mutex::default(), forbidden: Forbidden::new(prefix) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Talk) -> T) -> T {
        work(&mut self.talk.lock())
    }

    fn failure(&self) -> Option<String> {
        self.with(|talk| talk.failure.clone())
    }

    fn note(&self, event: &Event) {
        match event {
            Event::Connected => {
                let was_down = self.with(|talk| {
                    (talk.failure, talk.attempts, talk.lacks_jetstream_since, talk.all_failed) =
                        (None, None, None, false);
                    talk.said_at.take().is_some()
                });
                if was_down {
                    tracing::info!("NATS is reached again");
                }
            }
            Event::Disconnected => {
                self.forbidden.forget_subscriptions();
                self.with(|talk| talk.down_since = Instant::now());
                self.fails("the connection was lost".to_owned());
            }
            Event::ServerError(error) if is_forbidden(&error.to_string()) => self.forbidden(&error.to_string()),
            Event::ServerError(error) => self.fails(stranger::in_words(&error.to_string())),
            // The error has no cause unless it is a denial, which is logged with the next attempt.
            Event::ClientError(error) => {
                let why = self.with(|talk| talk.attempts.clone());
                let said = error.to_string();
                self.fails(why.filter(|_| !is_denial(&said)).unwrap_or_else(|| stranger::in_words(&said)));
            }
            _ => {}
        }
    }

    /// Records and logs an operation that this user may not do: a denied request gets no reply.
    fn forbidden(&self, said: &str) {
        if let Some(what) = self.forbidden.note(said, SAY_AGAIN_EVERY) {
            tracing::error!(what, "NATS does not permit this user what the service needs");
        }
    }

    /// Logs that NATS is unreachable, unless that was logged a moment ago.
    fn fails(&self, why: String) {
        let is_to_be_said = self.with(|talk| {
            talk.failure = Some(why.clone());
            // The loss of a connection is not worth a log line: its consequence is.
            let is_due = talk.attempts.is_some() && talk.is_due();
            if is_due {
                talk.said_at = Some(Instant::now());
            }
            is_due
        });
        if is_to_be_said {
            tracing::warn!(why, "NATS is unreachable, it is tried again");
        }
    }
}

/// Records the result of the last attempt at each server.
fn attempts(contact: &Arc<Contact>, servers: &[Server]) {
    let failed = |server: &Server| Some((address(&server.addr), server.last_error.clone()?));
    let failed: Vec<_> = servers.iter().filter_map(failed).collect();
    if failed.is_empty() {
        return;
    }
    let all_failed = failed.len() == servers.len();
    let contact = Arc::clone(contact);
    let is_due = contact.with(Talk::is_due);
    // In a separate task: the library waits for this callback.
    tokio::spawn(async move {
        let mut all = Vec::new();
        for (address, why) in failed {
            let why = if is_due && stranger::is_silence(&why) {
                stranger::who_is_at(&address).await
            } else {
                stranger::in_words(&why)
            };
            all.push(format!("{address}: {why}"));
        }
        let all = all.join("; ");
        let is_down = contact.with(|talk| {
            // The earlier finding is more specific.
            if is_due || talk.attempts.is_none() {
                talk.attempts = Some(all.clone());
            }
            talk.all_failed |= all_failed;
            talk.failure.is_some()
        });
        if is_down {
            contact.fails(contact.with(|talk| talk.attempts.clone()).unwrap_or(all));
        }
    });
}

impl Talk {
    /// Whether it is time to log that NATS is unreachable.
    fn is_due(&mut self) -> bool {
        self.said_at.is_none_or(|at| at.elapsed() >= SAY_AGAIN_EVERY)
    }
}

/// Whether the server accepts the login and denies an operation.
fn is_forbidden(why: &str) -> bool {
    why.to_ascii_lowercase().contains("permissions violation")
}

/// Host and port of a server.
fn address(server: &ServerAddr) -> String {
    format!("{}:{}", bracketed(server.host()), server.port())
}

/// Whether the server knows the user and denies the login.
fn is_denial(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    // A busy server reports an authentication timeout to a client that was slow to log in.
    let was_slow = why.contains("authentication timeout");
    !was_slow && (why.contains("authorization") || why.contains("authentication") || why.contains("signing nonce"))
}
