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

use super::{
    ends::{ENDS, Ends},
    permissions::{self, Roles},
    script::Script,
    server::ServerFacts,
};
use crate::event_store::LogId;

static WRITE: Script = Script::new(include_str!("write.lua"));

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
    /// What Redis is used for, and so what its user must be allowed to.
    pub roles: Roles,
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
            roles: Roles::ALL,
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

    /// What to do about what a script was refused.
    pub(super) fn refusal_in_words(&self, refusal: &str) -> String {
        permissions::in_words(refusal, self.shared.user(), &self.shared.options.prefix)
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

    /// Whether the server can be used now, for all that it is used for: it is looked at again, and written to.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub(super) async fn check(&self) -> Result<(), String> {
        let (mut connection, number) = self.connection().await.map_err(|error| error.to_string())?;
        let facts = match self.shared.admit(&mut connection).await {
            Ok(facts) => facts,
            Err(refusal) => {
                // What else the user may do still works.
                if !refusal.is_permission {
                    self.shared.replace(number);
                }
                return Err(refusal.why);
            }
        };
        if facts.is_full() {
            return Err("Redis has reached its maxmemory and takes no more".to_owned());
        }
        if !self.shared.options.roles.writes() {
            return Ok(());
        }
        match WRITE.prepare().key(&self.key("health")).run(self).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match facts.failed_writes() {
                failed if failed.is_empty() => error.to_string(),
                failed => format!("{error}; {failed}"),
            }),
        }
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
    /// Only something that the user may not do.
    is_permission: bool,
}

impl Refusal {
    fn passing(why: String) -> Self {
        Self { why, is_final: false, is_permission: false }
    }

    fn lasting(why: String) -> Self {
        Self { why, is_final: true, is_permission: false }
    }
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
                    Err(Refusal { why, is_final, .. }) => {
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
        let connected = self.connect(self.options.response_timeout).await;
        let mut connection = connected.map_err(|error| self.refusal(&error))?;
        self.admit(&mut connection).await?;
        if self.holds_log {
            self.report_damage(&mut connection).await.map_err(|error| self.refusal(&error))?;
        }
        Ok(connection)
    }

    /// Looks at the server and decides whether it can be used.
    async fn admit(&self, connection: &mut MultiplexedConnection) -> Result<ServerFacts, Refusal> {
        let roles = self.roles();
        let facts = ServerFacts::read(connection).await.map_err(|error| self.refusal(&error))?;
        if let Some(why) = facts.unfit().or_else(|| facts.evicts().filter(|_| roles.writes())) {
            return Err(Refusal::lasting(why));
        }
        let lacking = permissions::lacking(connection, roles, self.user(), &self.options.prefix).await;
        let lacking = lacking.map_err(|error| self.refusal(&error))?;
        if !lacking.is_empty() {
            return Err(Refusal { is_permission: true, ..Refusal::lasting(lacking.join("; ")) });
        }
        if self.holds_log {
            self.admit_log(connection).await?;
        }
        *self.facts.lock().unwrap_or_else(PoisonError::into_inner) = Some(facts.clone());
        Ok(facts)
    }

    /// What the server is used for: the log only where this connection serves one.
    fn roles(&self) -> Roles {
        let Roles { reads_log, writes_log, .. } = self.options.roles;
        Roles { reads_log: reads_log && self.holds_log, writes_log: writes_log && self.holds_log, ..self.options.roles }
    }

    /// As whom the server is used.
    fn user(&self) -> &str {
        self.client.get_connection_info().redis_settings().username().unwrap_or("default")
    }

    fn refusal(&self, error: &RedisError) -> Refusal {
        let is_permission = error.code() == Some("NOPERM");
        Refusal { why: self.error_in_words(error), is_final: is_denied(error), is_permission }
    }

    /// Says at once that a log is damaged. It is served all the same, as far as it is whole: the checks say the same again.
    async fn report_damage(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        let log = format!("{{{}}}:log", self.options.prefix);
        let ends = ENDS.prepare().key(&log).run_on(connection).await?;
        if let Some(missing) = Ends::read(ends).and_then(|ends| ends.missing()) {
            tracing::error!(log, missing, "the log in Redis is damaged");
        }
        Ok(())
    }

    /// Checks that the server holds the log that it held before; the first time, finds out which, or makes it.
    async fn admit_log(&self, connection: &mut MultiplexedConnection) -> Result<(), Refusal> {
        let key = format!("{{{}}}:log-id", self.options.prefix);
        let refusal = |error: RedisError| Refusal {
            is_final: is_denied(&error) || error.code() == Some("WRONGTYPE"),
            why: format!("{key}: {}", self.error_in_words(&error)),
            is_permission: false,
        };
        let known = self.log.get().copied();
        let mut found: Option<String> = redis::cmd("GET").arg(&key).query_async(connection).await.map_err(refusal)?;
        if found.is_none() && known.is_none() && !self.options.makes_log {
            return Err(Refusal::lasting(format!("there is no log here: no key {key}")));
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
            (_, Some(_)) => {
                Err(Refusal::passing(format!("{key} names another log than this node has been working on")))
            }
            (None, None) => Err(Refusal::lasting(format!("{key} is not the number of a log"))),
        }
    }

    /// What went wrong, and what to do about it where that is known.
    fn error_in_words(&self, error: &RedisError) -> String {
        let text = error.to_string();
        match error.code() {
            Some("NOPERM") => permissions::in_words(&text, self.user(), &self.options.prefix),
            Some("MISCONF") => format!("Redis takes no writes, since it cannot write to its own disk: {text}"),
            Some("NOREPLICAS") => {
                format!(
                    "Redis takes no writes while fewer replicas are connected than its min-replicas-to-write: {text}"
                )
            }
            Some("OOM") => format!("Redis has reached its maxmemory and takes no more: {text}"),
            Some("READONLY") => format!("this Redis has become a replica and takes no writes: {text}"),
            _ => text,
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
                CallError::Refused { code, text: self.error_in_words(error) }
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
