//! The connections to Redis, shared by all components of a node, and their replacement when they fail.
//!
//! A separate task makes them and retries until it succeeds: a node may start before its Redis. Each call learns which of three outcomes it had
//! ([`CallError`]); nothing is retried here, since only the caller knows whether a retry is safe.
//!
//! Commands share one multiplexed connection: a call does not wait for the replies to others before it is sent. Calls that are large, that block, or
//! that must not wait behind such calls use pooled connections (`Lane`): a reply of some megabytes delays all others on its connection.

use std::{
    fmt,
    path::Path,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use redis::{Cmd, RedisError, Value};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    address::Address,
    damage::Damage,
    keeper::{CONFIRM_PACE, Down, Link, LinkState, Shared},
    pools::Lane,
    script::{Script, ScriptCall},
    server::ServerFacts,
};
pub use crate::backends::connect_error::ConnectError;
use crate::{
    ports::event_store::{Confirmations, LogId, LogLoss, TokenKey},
    private_files,
};

/// Where a certificate begins in PEM.
const PEM_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

pub use super::{call_error::CallError, options::RedisOptions};

static WRITE: Script = Script::new(include_str!("write.lua"));

/// A Redis server, connected or not. Clones share the connections.
#[derive(Clone, Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    /// The task that connects; it ends with the last clone.
    _keeper: Arc<AbortOnDropHandle<()>>,
}

impl Redis {
    /// Begins to connect; must be called within a tokio runtime. With `holds_log` the server keeps an event log, whose id is created if it does not
    /// exist yet; a server found later with another log is refused.
    ///
    /// # Errors
    /// If the address or the file of authorities is invalid; the message does not contain the password of the address.
    pub fn start(options: RedisOptions, holds_log: bool) -> Result<Self, String> {
        let ca = options.ca.as_deref().map(certificates).transpose()?;
        let address = Address::parse(&options.url, ca.as_deref())?;
        let state = watch::Sender::new(LinkState::Down(Down::now("not connected yet".to_owned())));
        let damage = Damage::of(address.shown());
        let shared = Arc::new(Shared {
            options,
            address,
            state,
            lost: Notify::new(),
            connections: watch::Sender::new(0),
            log: OnceLock::new(),
            token_key: Mutex::default(),
            loss: watch::Sender::new(None),
            holds_log,
            damage,
            facts: Mutex::default(),
            confirmations: Confirmations::new(CONFIRM_PACE),
        });
        let keeper = Arc::new(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&shared).keep_connected())));
        Ok(Self { shared, _keeper: keeper })
    }

    /// Waits until connected, at most for the connect timeout.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason, and whether waiting helps.
    pub async fn first_connection(&self) -> Result<(), ConnectError> {
        self.decided(|down| down.is_final).await
    }

    /// Waits for the result of the first try to connect, at most for the connect timeout.
    ///
    /// # Errors
    /// As [`Redis::first_connection`].
    pub async fn first_try(&self) -> Result<(), ConnectError> {
        self.decided(|down| down.was_tried).await
    }

    async fn decided(&self, is_decided: impl Fn(&Down) -> bool) -> Result<(), ConnectError> {
        let mut state = self.shared.state.subscribe();
        let decided = state.wait_for(|state| match state {
            LinkState::Live(_) => true,
            LinkState::Down(down) => is_decided(down),
        });
        let deadline = Instant::now() + self.shared.options.connect_timeout;
        // Timed out or not, the state determines the result.
        let _ = timeout_at(deadline, decided).await;
        match &*self.shared.state.borrow() {
            LinkState::Live(_) => Ok(()),
            LinkState::Down(Down { why, is_final: false, .. }) => Err(ConnectError::Retryable(why.clone())),
            LinkState::Down(Down { why, is_final: true, .. }) => Err(ConnectError::Fatal(why.clone())),
        }
    }

    /// Why Redis is known to be unreachable: there is no connection.
    pub(super) fn unreachable(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            LinkState::Down(down) => Some(down.why.clone()),
            LinkState::Live(_) => None,
        }
    }

    /// Why Redis would not survive the loss of its primary, although it has Sentinels.
    pub(super) fn at_risk(&self) -> Option<String> {
        self.shared.address.too_few_sentinels()
    }

    /// Whether waiting for a reply is futile: calls are not sent, and will not be soon. Always false if another server may take over.
    pub(super) fn is_away(&self) -> bool {
        match &*self.shared.state.borrow() {
            LinkState::Down(down) if !self.shared.address.may_fail_over() => Instant::now() >= self.until(down),
            _ => false,
        }
    }

    /// The time until which calls wait for a connection.
    fn until(&self, down: &Down) -> Instant {
        down.since + self.shared.options.connect_timeout
    }

    /// The key `{prefix}:<name>`.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{{{}}}:{name}", self.shared.options.prefix)
    }

    /// The key that holds the log id.
    pub(super) fn log_id_key(&self) -> String {
        self.key("log-id")
    }

    /// The value that this key must have, for scripts; empty before the log has been seen.
    pub(super) fn log_id_text(&self) -> String {
        self.log_id().map_or_else(String::new, |id| id.0.to_string())
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &RedisOptions {
        &self.shared.options
    }

    /// The human-readable address, without a password.
    #[must_use]
    pub fn shown(&self) -> String {
        self.shared.address.shown()
    }

    /// The server of the current connection, as `host:port`.
    #[must_use]
    pub fn server(&self) -> Option<String> {
        match &*self.shared.state.borrow() {
            LinkState::Live(link) => Some(link.server.clone()),
            LinkState::Down(_) => None,
        }
    }

    /// The id of the server's log; `None` before the first connection, and for a connection that serves no log.
    #[must_use]
    pub fn log_id(&self) -> Option<LogId> {
        self.shared.log.get().copied()
    }

    /// The signing key of that log; `None` also for a connection that does not write it.
    #[must_use]
    pub fn token_key(&self) -> Option<TokenKey> {
        *self.shared.token_key.lock()
    }

    /// Whether the server has lost that log, or has another one in its place.
    #[must_use]
    pub fn log_loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.shared.loss.subscribe()
    }

    /// The entries that are missing from that log.
    pub(super) fn damage(&self) -> &Damage {
        &self.shared.damage
    }

    /// How often a connection has been made. If this number changes, the server may have lost data: it may have been restored or replaced by another
    /// one.
    #[must_use]
    pub fn connections(&self) -> watch::Receiver<u64> {
        self.shared.connections.subscribe()
    }

    /// Checks that everything read since [`Redis::connections`] was `connection` came from the one primary, in its state after this call: its
    /// Sentinels are asked, if it has any. Another node may already have connected to another primary without this node knowing.
    ///
    /// # Errors
    /// The reason if that is not certain.
    pub(super) async fn confirm(&self, connection: u64) -> Result<(), String> {
        if !self.shared.address.has_sentinels() {
            return Ok(());
        }
        let confirmed = self.shared.confirmations.confirm(|| self.shared.confirmed_link()).await?;
        if confirmed == connection && *self.shared.connections.borrow() == connection {
            return Ok(());
        }
        Err("the node has reconnected to Redis since this was read".to_owned())
    }

    /// The properties of the server when last checked.
    #[must_use]
    pub fn facts(&self) -> Option<ServerFacts> {
        self.shared.facts.lock().clone()
    }

    /// Explains how to resolve a refusal of a script.
    pub(super) fn refusal_in_words(&self, refusal: &str) -> String {
        self.shared.refusal_in_words(refusal)
    }

    /// Makes one call on the shared connection for commands.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, CallError> {
        let link = self.link().await?;
        let answer = command.query_async::<Value>(&mut link.connection.clone()).await;
        answer.map_err(|error| self.shared.call_error(&error, link.number))
    }

    /// Makes one call on a pooled connection.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn call_in(&self, lane: Lane, command: &Cmd) -> Result<Value, CallError> {
        let link = self.link().await?;
        let mut connection = link.pools.get(lane).await.map_err(|error| self.shared.pool_error(&error, link.number))?;
        let within = self.shared.options.response_timeout;
        let Ok(answer) = timeout(within, command.query_async::<Value>(&mut connection)).await else {
            // Its reply may still arrive, and the next user must not read it.
            drop(deadpool_redis::Connection::take(connection));
            return Err(CallError::Lost(format!("Redis at {} did not answer within {within:?}", link.server)));
        };
        answer.map_err(|error| {
            if error.code().is_none() {
                drop(deadpool_redis::Connection::take(connection));
            }
            self.shared.call_error(&error, link.number)
        })
    }

    /// Whether the server can be used now for all its roles: checks it again, including a write.
    ///
    /// # Errors
    /// The reason if it cannot be used.
    pub(super) async fn check(&self) -> Result<(), String> {
        let link = self.link().await.map_err(|error| error.to_string())?;
        let mut connection = link.connection.clone();
        let looked = match self.shared.verify(&mut connection).await {
            Ok(facts) => self.shared.check_permissions(&mut connection).await.map(|()| facts),
            Err(refusal) => Err(refusal),
        };
        let facts = looked.map_err(|refusal| {
            // All other operations of the user still work.
            if !refusal.is_permission {
                self.shared.replace(link.number);
            }
            refusal.why
        })?;
        if facts.is_full() {
            return Err("Redis has reached its maxmemory and accepts no more writes".to_owned());
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

    /// A connection of a lane for calls that block, no longer than [`LONGEST_BLOCK`]; it must be returned when its link is gone.
    ///
    /// [`LONGEST_BLOCK`]: super::pools::LONGEST_BLOCK
    pub(super) async fn hold(&self, lane: Lane) -> Result<Held, CallError> {
        let link = self.link().await?;
        let connection = link.pools.get(lane).await.map_err(|error| self.shared.pool_error(&error, link.number))?;
        Ok(Held { connection, number: link.number })
    }

    /// Whether a connection goes to the server in use now.
    pub(super) fn is_current(&self, held: &Held) -> bool {
        matches!(&*self.shared.state.borrow(), LinkState::Live(link) if link.number == held.number)
    }

    /// Drops the connections and makes new ones: readers read again on them.
    pub(super) fn connect_again(&self) {
        let number = match &*self.shared.state.borrow() {
            LinkState::Live(link) => link.number,
            LinkState::Down(_) => return,
        };
        self.shared.replace(number);
    }

    /// Classifies an error on a dedicated connection: the server may have gone.
    pub(super) fn lost(&self, held: &Held, error: &RedisError) -> CallError {
        self.shared.call_error(error, held.number)
    }

    /// The connection to make a call on. If it was lost a moment ago, this waits for the next one, for at most the connect timeout in total over all
    /// calls.
    async fn link(&self) -> Result<Arc<Link>, CallError> {
        let deadline = match &*self.shared.state.borrow() {
            LinkState::Live(link) => return Ok(Arc::clone(link)),
            LinkState::Down(down) => self.until(down),
        };
        let mut state = self.shared.state.subscribe();
        // Timed out or not, the state determines the result.
        let _ = timeout_at(deadline, state.wait_for(|state| matches!(state, LinkState::Live(_)))).await;
        match &*self.shared.state.borrow() {
            LinkState::Live(link) => Ok(Arc::clone(link)),
            LinkState::Down(down) => Err(CallError::NotSent(down.why.clone())),
        }
    }
}

/// The content of a file with certificates.
fn certificates(file: &Path) -> Result<Vec<u8>, String> {
    let unfit = |why: &dyn fmt::Display| format!("redis-ca: {} {why}", file.display());
    let text = private_files::read(file).map_err(|error| unfit(&format_args!("cannot be read: {error}")))?;
    let has_certificate = text.windows(PEM_CERTIFICATE.len()).any(|window| window == PEM_CERTIFICATE);
    if has_certificate { Ok(text) } else { Err(unfit(&"holds no certificate in PEM")) }
}

/// A connection that one task owns for as long as it needs it.
pub(super) struct Held {
    pub connection: deadpool_redis::Connection,
    number: u64,
}

impl ScriptCall {
    /// Runs it. If the server does not have the script yet, its text is sent.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn run(&self, redis: &Redis) -> Result<Value, CallError> {
        let answer = redis.call(&self.by_hash()).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == "NOSCRIPT" => redis.call(&self.by_text()).await,
            answer => answer,
        }
    }

    /// Like [`ScriptCall::run`], on a pooled connection.
    ///
    /// # Errors
    /// [`CallError`].
    pub(super) async fn run_in(&self, redis: &Redis, lane: Lane) -> Result<Value, CallError> {
        let answer = redis.call_in(lane, &self.by_hash()).await;
        match answer {
            Err(CallError::Refused { code, .. }) if code == "NOSCRIPT" => redis.call_in(lane, &self.by_text()).await,
            answer => answer,
        }
    }
}
