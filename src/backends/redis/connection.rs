//! The one connection that a node shares among all that it keeps in Redis, and its replacement when it fails.
//!
//! It is made by a task of its own, again and again until it is there: a node may start before its Redis. Whoever makes a call learns
//! which of three things happened to it ([`CallError`]); nothing is repeated here, since only the caller knows what may be.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::server::ServerFacts;
use crate::event_store::LogId;

/// Where Redis is and how long to wait for it.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis[s]://[user[:password]@]host[:port][/db]`, or `host:port`.
    pub url: String,
    /// The hash tag that all keys begin with: `{prefix}:…`, so that they live on one node of a Redis Cluster.
    pub prefix: String,
    /// How long making a connection may take, and how long a call waits for one that is being made.
    pub connect_timeout: Duration,
    /// How long Redis may take for an answer.
    pub response_timeout: Duration,
    /// How many calls may wait for their answers; further ones wait to be sent, for as long as an answer may take.
    pub max_in_flight: usize,
    /// Whether a log is made where there is none.
    pub makes_log: bool,
}

impl RedisOptions {
    /// The options for `url` with the keys `{prefix}:…` and times fit for a server in the same data center.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            max_in_flight: 8_192,
            makes_log: true,
        }
    }
}

impl fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("RedisOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Why a server is not connected to.
#[derive(Clone, Debug)]
pub enum NotConnected {
    /// Not now. It is being tried again.
    Yet(String),
    /// Not before an operator does something: a wrong password, a replica, a server too old.
    Ever(String),
}

/// What became of a call that has no result.
#[derive(Clone, Debug)]
pub enum CallError {
    /// There is no connection: nothing was sent.
    NotSent(String),
    /// The answer did not come: it may have been done, or may be done yet.
    Lost(String),
    /// Redis answered with an error: it was not done.
    Refused {
        /// The error code, such as `OOM`.
        code: String,
        /// The error for people.
        text: String,
    },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSent(why) | Self::Lost(why) | Self::Refused { text: why, .. } => f.write_str(why),
        }
    }
}

/// A Redis server, connected to or not. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    /// The task that connects; ends with the last clone.
    _keeper: Arc<AbortOnDrop>,
}

struct Shared {
    options: RedisOptions,
    client: Client,
    state: watch::Sender<State>,
    lost: Notify,
    /// How often a connection has been made; counted before it is used.
    connections: watch::Sender<u64>,
    /// Which log the server held when it was first seen, if this connection serves a log.
    log: OnceLock<LogId>,
    holds_log: bool,
    facts: Mutex<Option<ServerFacts>>,
}

#[derive(Clone)]
enum State {
    /// Not connected, and why the last try failed.
    Down { why: String, is_final: bool },
    /// Connected. The number tells one connection from the next.
    Live(MultiplexedConnection, u64),
}

/// A task that ends with its owner.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Redis {
    /// Begins to connect; to be called within a tokio runtime. With `holds_log` the server keeps an event log, whose id is made when it
    /// is not there yet; a server that is found with another log later is refused.
    ///
    /// # Errors
    /// For an address that is not one, without its password.
    pub fn start(options: RedisOptions, holds_log: bool) -> Result<Self, String> {
        let client =
            Client::open(client_url(&options.url)).map_err(|error| format!("the address of Redis: {error}"))?;
        let state = watch::Sender::new(State::Down { why: "not connected yet".to_owned(), is_final: false });
        let (connections, log, facts) = (watch::Sender::new(0), OnceLock::new(), Mutex::default());
        let lost = Notify::new();
        let shared = Arc::new(Shared { options, client, state, lost, connections, log, holds_log, facts });
        let keeper = Arc::new(AbortOnDrop(tokio::spawn(Arc::clone(&shared).keep_connected())));
        Ok(Self { shared, _keeper: keeper })
    }

    /// Waits until connected, as long as a connection may take.
    ///
    /// # Errors
    /// [`NotConnected`] says why not, and whether waiting helps.
    pub async fn first_connection(&self) -> Result<(), NotConnected> {
        let mut state = self.shared.state.subscribe();
        let decided = state.wait_for(|state| match state {
            State::Live(..) => true,
            State::Down { is_final, .. } => *is_final,
        });
        let deadline = Instant::now() + self.shared.options.connect_timeout;
        // Whether in time or not, the state says what to answer.
        let _ = timeout_at(deadline, decided).await;
        match &*self.shared.state.borrow() {
            State::Live(..) => Ok(()),
            State::Down { why, is_final: false } => Err(NotConnected::Yet(why.clone())),
            State::Down { why, is_final: true } => Err(NotConnected::Ever(why.clone())),
        }
    }

    /// The key `{prefix}:<name>`.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.shared.options.prefix)
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    /// Which log the server holds; `None` before it has been reached for the first time, and for a connection that serves no log.
    #[must_use]
    pub fn log_id(&self) -> Option<LogId> {
        self.shared.log.get().copied()
    }

    /// How often a connection has been made. Whoever sees another number than before may talk to a server that has lost what it held: it
    /// has been restored since, or another one has taken its place.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.shared.connections.subscribe()
    }

    /// What the server was found to be when last looked at.
    #[must_use]
    pub fn facts(&self) -> Option<ServerFacts> {
        self.shared.facts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes one call.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        let (mut connection, number) = self.connection().await?;
        let answer = command.query_async::<Value>(&mut connection).await;
        answer.map_err(|error| self.shared.call_error(&error, number))
    }

    /// Looks at the server anew.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) async fn look(&self) -> Result<ServerFacts, String> {
        let (mut connection, number) = self.connection().await.map_err(|error| error.to_string())?;
        let found = self.shared.admit(&mut connection).await;
        if found.is_err() {
            self.shared.replace(number);
        }
        found.map_err(|refusal| refusal.why)
    }

    /// A connection of its own, for calls that block as long as `longest`.
    pub(super) async fn dedicated(&self, longest: Duration) -> Result<MultiplexedConnection, CallError> {
        // Not before the server has been looked at.
        self.connection().await?;
        let response_timeout = longest + self.shared.options.response_timeout;
        self.shared.connect(response_timeout).await.map_err(|error| CallError::NotSent(error.to_string()))
    }

    async fn connection(&self) -> Result<(MultiplexedConnection, u64), CallError> {
        if let State::Live(connection, number) = &*self.shared.state.borrow() {
            return Ok((connection.clone(), *number));
        }
        let mut state = self.shared.state.subscribe();
        let deadline = Instant::now() + self.shared.options.connect_timeout;
        // Whether in time or not, the state says what to answer.
        let _ = timeout_at(deadline, state.wait_for(|state| matches!(state, State::Live(..)))).await;
        match &*self.shared.state.borrow() {
            State::Live(connection, number) => Ok((connection.clone(), *number)),
            State::Down { why, .. } => Err(CallError::NotSent(format!("Redis is out of reach: {why}"))),
        }
    }
}

/// The address as the client library takes it: with a scheme, and with the special characters of a password encoded. What has been encoded
/// already stays as it is.
fn client_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return format!("redis://{url}") };
    // Up to the last '@' all is user and password, as the configuration reads it too.
    let Some((userinfo, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let encode = |text: &str| {
        let encode = |byte: u8| match byte {
            b'%' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(encode).collect::<String>()
    };
    format!("{scheme}://{}:{}@{host}", encode(user), encode(password))
}

/// Why a server is not used, and whether that can change without an operator.
struct Refusal {
    why: String,
    is_final: bool,
}

impl Shared {
    /// Makes the connection, and another whenever it is lost.
    async fn keep_connected(self: Arc<Self>) {
        for number in 1_u64.. {
            let mut pause = Duration::from_millis(50);
            loop {
                match self.establish().await {
                    Ok(connection) => {
                        tracing::info!("connected to Redis");
                        // Before anything is read on it.
                        self.connections.send_modify(|made| *made += 1);
                        self.state.send_replace(State::Live(connection, number));
                        break;
                    }
                    Err(Refusal { why, is_final }) => {
                        tracing::warn!(why, "not connected to Redis");
                        self.state.send_replace(State::Down { why, is_final });
                    }
                }
                sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            self.lost.notified().await;
        }
    }

    async fn connect(&self, response_timeout: Duration) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(response_timeout))
            .set_pipeline_buffer_size(1_024)
            .set_concurrency_limit(self.options.max_in_flight.max(1));
        self.client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn establish(&self) -> Result<MultiplexedConnection, Refusal> {
        let mut connection = self
            .connect(self.options.response_timeout)
            .await
            .map_err(|error| Refusal { is_final: is_denied(&error), why: error.to_string() })?;
        self.admit(&mut connection).await?;
        Ok(connection)
    }

    /// Looks at the server and decides whether it can be used.
    async fn admit(&self, connection: &mut MultiplexedConnection) -> Result<ServerFacts, Refusal> {
        let passing = |error: RedisError| Refusal { is_final: is_denied(&error), why: error.to_string() };
        let facts = ServerFacts::read(connection).await.map_err(passing)?;
        if let Some(why) = facts.unfit() {
            return Err(Refusal { why, is_final: true });
        }
        if self.holds_log {
            self.admit_log(connection).await?;
        }
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.clone());
        Ok(facts)
    }

    /// Checks that the server holds the log that it held before; the first time, finds out which, or makes it.
    async fn admit_log(&self, connection: &mut MultiplexedConnection) -> Result<(), Refusal> {
        let key = format!("{{{}}}:log-id", self.options.prefix);
        let refusal = |error: RedisError| Refusal {
            is_final: is_denied(&error) || error.code() == Some("WRONGTYPE"),
            why: format!("{key}: {error}"),
        };
        let known = self.log.get().copied();
        let mut found: Option<String> = redis::cmd("GET").arg(&key).query_async(connection).await.map_err(refusal)?;
        if found.is_none() && known.is_none() && !self.options.makes_log {
            return Err(Refusal { why: format!("there is no log here: no key {key}"), is_final: true });
        }
        if found.is_none() && known.is_none() {
            // Of nodes that start together one makes it, and all read it. A log that was there before is never made again: where its id
            // is gone, so are its events.
            let mut make = redis::cmd("SET");
            make.arg(&key).arg(fastrand::u32(1..)).arg("NX");
            let _: Value = make.query_async(connection).await.map_err(refusal)?;
            found = redis::cmd("GET").arg(&key).query_async(connection).await.map_err(refusal)?;
        }
        let found = found.and_then(|id| id.parse().ok()).filter(|id| *id != 0).map(LogId);
        match (found, known) {
            (Some(found), None) => {
                // If another task was first, it has found the same.
                let _ = self.log.set(found);
                Ok(())
            }
            (Some(found), Some(known)) if found == known => Ok(()),
            (_, Some(_)) => Err(Refusal {
                why: format!("{key} names another log than this node has been working on"),
                is_final: false,
            }),
            (None, None) => Err(Refusal { why: format!("{key} is not the number of a log"), is_final: true }),
        }
    }

    fn call_error(&self, error: &RedisError, number: u64) -> CallError {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let code = error.code().unwrap_or_default().to_owned();
                // A server that has become a replica, or is being loaded, is not the one that was looked at.
                if matches!(code.as_str(), "READONLY" | "LOADING" | "NOAUTH") {
                    self.replace(number);
                }
                CallError::Refused { code, text: error.to_string() }
            }
            _ => {
                self.replace(number);
                CallError::Lost(error.to_string())
            }
        }
    }

    /// Gives connection `number` up: calls that wait for their answers on it may still get them.
    fn replace(&self, number: u64) {
        let was_live = self.state.send_if_modified(|state| {
            let is_current = matches!(state, State::Live(_, current) if *current == number);
            if is_current {
                *state = State::Down { why: "the connection failed".to_owned(), is_final: false };
            }
            is_current
        });
        if was_live {
            self.lost.notify_one();
        }
    }
}

/// Whether Redis knows us and does not want us.
fn is_denied(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM"))
        || matches!(error.kind(), ErrorKind::InvalidClientConfig)
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}
