//! The one connection that a node shares among all that it keeps in NATS.
//!
//! The client library makes it, and makes it anew when it is lost: a node may start before its NATS. A call made meanwhile fails after
//! [`NatsOptions::request_timeout`] or waits in the client's bounded queue; nothing is repeated here, since only the caller knows what may be.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr, connection::State, jetstream};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

/// Where NATS is and how long to wait for it.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://[user:password@]host[:port]`, `nats://token@host`, `tls://…`, or `host:port`; several servers of a cluster comma separated,
    /// of which the first names user and password for all.
    pub url: String,
    /// What the names of streams and buckets, and all subjects, begin with: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// On how many servers of a cluster each stream is kept: 1, 3 or 5.
    pub replicas: usize,
    /// Whether a log is made where there is none.
    pub makes_log: bool,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long NATS may take for an answer.
    pub request_timeout: Duration,
}

impl NatsOptions {
    /// The options for `url` with names that begin with `prefix` and times fit for a server in the same data center.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            replicas: 1,
            makes_log: true,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("NatsOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why a server is not served from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotConnected {
    /// Not now. It is being tried again.
    Yet(String),
    /// Not before an operator does something: a wrong password, no JetStream, a stream that would lose data.
    Ever(String),
}

impl NotConnected {
    /// Why, for people.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Yet(why) | Self::Ever(why) => why,
        }
    }
}

/// A NATS server, connected to or not. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    jetstream: jetstream::Context,
    options: Arc<NatsOptions>,
    /// Why the last try to connect failed.
    failure: Arc<Mutex<Option<String>>>,
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Nats {
    /// Begins to connect; to be called within a tokio runtime.
    ///
    /// # Errors
    /// For an address that is not one, without its password.
    pub async fn start(options: NatsOptions) -> Result<Self, String> {
        let (servers, login) = addresses(&options.url)?;
        let failure = Arc::new(Mutex::new(None));
        let told = Arc::clone(&failure);
        let connect = login
            .into_options()
            .name("ordersystem")
            .event_callback(move |event| {
                note(&told, &event);
                std::future::ready(())
            })
            .retry_on_initial_connect()
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            // Two pings without an answer and the connection is given up.
            .ping_interval(Duration::from_secs(1));
        let client =
            connect.connect(servers).await.map_err(|error| format!("the address of NATS: {}", error.kind()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.request_timeout);
        Ok(Self { client, jetstream, options: Arc::new(options), failure })
    }

    /// Waits until connected, as long as a connection may take.
    ///
    /// # Errors
    /// [`NotConnected`] says why not, and whether waiting helps.
    pub async fn connected(&self) -> Result<(), NotConnected> {
        let deadline = Instant::now() + self.options.connect_timeout;
        while !self.is_connected() {
            match self.failure() {
                Some(why) if is_denial(&why) => return Err(NotConnected::Ever(why)),
                why if Instant::now() >= deadline => {
                    return Err(NotConnected::Yet(why.unwrap_or_else(|| "no answer yet".to_owned())));
                }
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }

    /// Why the last try to connect failed; `None` while connected.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a connection has been made: whoever sees another number than before talks to a server that may be another one.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whether it is connected within the time that a connection may take.
    pub async fn first_connection(&self) -> bool {
        let deadline = Instant::now() + self.options.connect_timeout;
        while !self.is_connected() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
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

    /// The client: for what JetStream's own calls do not cover.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream on this connection.
    #[must_use]
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The name `{prefix}-<name>` of a stream or bucket, which must not hold dots.
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

/// Who we are to the server.
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

/// The servers without user and password, which the client library would send as they stand in the address, encoded.
fn addresses(url: &str) -> Result<(Vec<ServerAddr>, Login), String> {
    let (mut servers, mut login) = (Vec::new(), Login::Nobody);
    for url in split_servers(url) {
        let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
        // Up to the last '@' all is user and password, as the configuration reads it too.
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

/// A comma begins another server only where an address can begin: passwords may hold commas.
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

/// Takes back the percent encoding of special characters; what is none stays as it is.
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

/// Remembers why connecting fails.
fn note(failure: &Mutex<Option<String>>, event: &Event) {
    let why = match event {
        Event::Connected => None,
        Event::ServerError(error) => Some(error.to_string()),
        Event::ClientError(error) => Some(error.to_string()),
        _ => return,
    };
    *failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
}

/// Whether the server knows us and does not want us.
fn is_denial(why: &str) -> bool {
    let why = why.to_ascii_lowercase();
    why.contains("authorization") || why.contains("authentication")
}
