//! The task that keeps a node connected to Redis, and the state that it shares with callers.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, RedisError, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};

use super::{
    address::{Address, Doubt, Primary},
    call_error::CallError,
    damage::Damage,
    in_words::{ENDS_OR_STARTS, in_words},
    options::RedisOptions,
    pools::{PoolError, Pools},
    refusal::{Refusal, is_login_refused},
    sentinel::Decision,
    server::ServerFacts,
};
use crate::{
    ports::{
        backoff::Backoff,
        event_store::{Confirmations, LogId, LogLoss, TokenKey},
        io_errors::plainly,
    },
    telemetry::outage::{Line, Outage},
};

/// The pause before the second try to connect; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause if another server may take over at any time.
const MAX_PAUSE_WITH_SENTINELS: Duration = Duration::from_millis(500);
/// How often Sentinels are asked whether the primary is still the same: a primary that is cut off does not report it.
const SENTINEL_CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// How long Sentinels may take to confirm the primary.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);
/// The shortest interval between two such questions.
pub(super) const CONFIRM_PACE: Duration = Duration::from_millis(1);

/// The state shared by all clones of a connection.
pub(super) struct Shared {
    pub options: RedisOptions,
    pub address: Address,
    pub state: watch::Sender<LinkState>,
    pub lost: Notify,
    /// How often a connection has been made; incremented before the connection is used.
    pub connections: watch::Sender<u64>,
    /// The id of the server's log when it was first seen, if this connection serves a log.
    pub log: OnceLock<LogId>,
    /// The signing key of that log when last seen, if this connection writes it.
    pub token_key: Mutex<Option<TokenKey>>,
    /// Set while the server does not have that log.
    pub loss: watch::Sender<Option<LogLoss>>,
    pub holds_log: bool,
    /// The entries that are missing from that log.
    pub damage: Damage,
    pub facts: Mutex<Option<ServerFacts>>,
    /// The links that Sentinels have confirmed, by number.
    pub confirmations: Confirmations<u64, String>,
}

pub(super) enum LinkState {
    /// Not connected.
    Down(Down),
    /// Connected.
    Live(Arc<Link>),
}

/// When the connection was lost, and why.
#[derive(Clone)]
pub(super) struct Down {
    /// Why the last try failed.
    pub why: String,
    /// Whether waiting cannot resolve the failure.
    pub is_final: bool,
    /// When the connection was lost: calls wait for the next connection no longer than the connect timeout, counted from then.
    pub since: Instant,
    /// Whether reconnecting has failed.
    pub was_tried: bool,
}

impl Down {
    /// Lost now; reconnecting has not been tried yet.
    pub(super) fn now(why: String) -> Self {
        Self { why, is_final: false, since: Instant::now(), was_tried: false }
    }
}

/// All connections to one server, which end together.
pub(super) struct Link {
    /// For commands.
    pub connection: MultiplexedConnection,
    /// For all other calls.
    pub pools: Pools,
    /// The server's address.
    pub server: String,
    /// The Sentinels' decision when it was connected, if there are any.
    pub decision: Option<Decision>,
    /// The number of the link: how often a connection has been made.
    pub number: u64,
}

impl Shared {
    /// Makes the connections, and replaces them whenever they are lost.
    pub(super) async fn keep_connected(self: Arc<Self>) {
        let outage = Outage::new();
        for number in 1_u64.. {
            let link = self.connect_again(number, &outage).await;
            let (server, decision) = (link.server.clone(), link.decision.clone());
            let lasted_ms = outage.works().map(|lasted| lasted.as_millis() as u64);
            tracing::info!(server, lasted_ms, "connected to Redis");
            // Before any read on the connection.
            self.connections.send_modify(|made| *made += 1);
            self.loss.send_if_modified(|loss| loss.take().is_some());
            self.state.send_replace(LinkState::Live(Arc::new(link)));
            self.until_lost(number, &server, decision).await;
        }
    }

    async fn connect_again(self: &Arc<Self>, number: u64, outage: &Outage) -> Link {
        let max_pause = if self.address.has_sentinels() { MAX_PAUSE_WITH_SENTINELS } else { MAX_PAUSE };
        let (mut pauses, mut is_first_try) = (Backoff::new(FIRST_PAUSE, max_pause).pauses(), true);
        let mut has_failed = false;
        loop {
            match self.establish(number).await {
                Ok(link) => return link,
                Err(Refusal { why, is_final, loss, .. }) => {
                    // The first refusal that waiting cannot resolve aborts the start, with the same message.
                    let ends_start = is_final && number == 1 && !has_failed;
                    // The first error of a server that is shutting down is not worth a log line: the failure that follows is.
                    let is_passing = is_first_try && why.contains(ENDS_OR_STARTS);
                    is_first_try = false;
                    if !is_passing
                        && let Some(Line { unsaid }) = outage.failed(&why)
                        && !ends_start
                    {
                        tracing::warn!(unsaid, "{why}");
                    }
                    has_failed |= !is_passing;
                    if let Some(kind) = loss {
                        let found = Some(LogLoss { kind, why: why.clone() });
                        self.loss.send_if_modified(|loss| {
                            let is_news = *loss != found;
                            *loss = found;
                            is_news
                        });
                    }
                    let since = match &*self.state.borrow() {
                        LinkState::Down(down) => down.since,
                        LinkState::Live(_) => Instant::now(),
                    };
                    self.state.send_replace(LinkState::Down(Down { why, is_final, since, was_tried: true }));
                }
            }
            sleep(pauses.next_pause()).await;
        }
    }

    async fn until_lost(&self, number: u64, server: &str, decision: Option<Decision>) {
        let outage = Outage::new().whatever_the_cause();
        loop {
            tokio::select! {
                () = self.lost.notified() => return,
                () = sleep(SENTINEL_CHECK_INTERVAL), if self.address.has_sentinels() => {
                    let asked = self.address.primary(self.options.connect_timeout).await;
                    self.tell_of_sentinels(server, &outage);
                    let Ok(primary) = asked else { continue };
                    if primary.decision != decision {
                        let primary = primary.server.addr().to_string();
                        tracing::warn!(server, primary, "another Redis has become the primary");
                        self.replace(number);
                    }
                }
            }
        }
    }

    /// Logs that the Sentinels cannot choose another primary, and that they can again.
    fn tell_of_sentinels(&self, server: &str, outage: &Outage) {
        match self.address.too_few_sentinels() {
            Some(why) => {
                if let Some(Line { unsaid }) = outage.failed(&why) {
                    tracing::warn!(server, why, unsaid, "Redis has too few Sentinels");
                }
            }
            None => {
                if let Some(lasted) = outage.works() {
                    tracing::info!(server, lasted_ms = lasted.as_millis() as u64, "Redis has enough Sentinels again");
                }
            }
        }
    }

    async fn establish(self: &Arc<Self>, number: u64) -> Result<Link, Refusal> {
        let shown = self.address.shown();
        let primary = self.address.primary(self.options.connect_timeout).await.map_err(|unknown| {
            let why = format!("Redis is unreachable, its primary is not known: {}", unknown.why);
            Refusal { is_final: unknown.is_final, ..Refusal::passing(why) }
        })?;
        let server = primary.server.addr().to_string();
        let connected = self.connect(primary.server.clone()).await;
        let linked = match connected {
            Ok(connection) => self.verified(connection, primary, number).await,
            Err(error) => Err(self.connect_refusal(&error)),
        };
        linked.map_err(|refusal| Refusal {
            why: if shown == server {
                format!("Redis at {server} cannot be used: {}", refusal.why)
            } else {
                format!("Redis at {server}, {shown}, cannot be used: {}", refusal.why)
            },
            // If another server may take over, only an error that each of them would give is final.
            is_final: refusal.is_final
                && (refusal.is_permission || refusal.is_of_address || !self.address.has_sentinels()),
            ..refusal
        })
    }

    async fn verified(
        self: &Arc<Self>,
        mut connection: MultiplexedConnection,
        Primary { server: primary, decision }: Primary,
        number: u64,
    ) -> Result<Link, Refusal> {
        if let Err(refusal) = self.verify(&mut connection).await {
            // A primary that has been replaced may have come back without its data.
            let is_certain = refusal.loss.is_none()
                || match &decision {
                    Some(decision) => self.address.confirm(decision, CONFIRM_WITHIN).await.is_ok(),
                    None => true,
                };
            return Err(Refusal { loss: refusal.loss.filter(|_| is_certain), ..refusal });
        }
        self.check_permissions(&mut connection).await?;
        if self.holds_log {
            self.report_damage(&mut connection).await.map_err(|error| self.refusal(&error))?;
        }
        let server = primary.addr().to_string();
        if self.address.has_sentinels() {
            // The primary may have been paused while another one was elected, and may reply now without knowing that.
            let now = self.address.primary(self.options.connect_timeout).await;
            let now = now.map_err(|unknown| Refusal::passing(unknown.why))?;
            if now.decision != decision {
                let now = now.server.addr().to_string();
                return Err(Refusal::passing(format!("{now} has become the primary in the meantime")));
            }
        }
        // Weak, since the pools are part of the shared state.
        let looking = Arc::downgrade(self);
        let pools = Pools::new(&self.options, primary, move |connection| {
            let looking = looking.upgrade();
            Box::pin(async move {
                let shared = looking.ok_or("the node ends")?;
                shared.verify(connection).await.map(drop).map_err(|refusal| refusal.why)
            })
        });
        let pools = pools.map_err(Refusal::passing)?;
        Ok(Link { connection, pools, server, decision, number })
    }

    async fn connect(&self, primary: ConnectionInfo) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
            .set_pipeline_buffer_size(1_024)
            .set_concurrency_limit(self.options.max_in_flight.max(1));
        Client::open(primary)?.get_multiplexed_async_connection_with_config(&config).await
    }

    /// The reason why connecting failed.
    fn connect_refusal(&self, error: &RedisError) -> Refusal {
        let refusal = self.refusal(error);
        if error.to_string().contains("DB index is out of range") {
            let database = self.address.database();
            let why = format!(
                "it has no database {database}, the number at the end of the address: its `databases` setting says how many there are, \
                 numbered from 0"
            );
            return Refusal { why, is_final: true, is_of_address: true, ..refusal };
        }
        if error.code().is_some() || is_login_refused(error) {
            return refusal;
        }
        // A server that speaks another protocol does not change by waiting.
        let is_final = refusal.is_final || error.kind() == ErrorKind::Parse;
        let was_reached = *self.connections.borrow() > 0;
        Refusal { why: in_words(error, self.address.is_tls(), was_reached), is_final, ..refusal }
    }

    pub(super) fn call_error(&self, error: &RedisError, number: u64) -> CallError {
        match error.kind() {
            ErrorKind::Server(_) | ErrorKind::Extension => {
                let code = error.code().unwrap_or_default().to_owned();
                // A server that has become a replica, or is loading its data, no longer is as it was when checked.
                if matches!(code.as_str(), "READONLY" | "LOADING" | "NOAUTH" | "UNBLOCKED" | "NOLOG") {
                    self.replace(number);
                }
                CallError::Refused { code, text: self.error_in_words(error) }
            }
            _ => {
                self.replace(number);
                let why = plainly(&error.to_string());
                CallError::Lost(format!("the connection to Redis at {} failed: {why}", self.address.shown()))
            }
        }
    }

    /// Why a pool returned no connection.
    pub(super) fn pool_error(&self, error: &PoolError, number: u64) -> CallError {
        if !error.is_busy {
            self.replace(number);
        }
        CallError::NotSent(format!("Redis at {}: {}", self.address.shown(), error.why))
    }

    /// The number of the link in use, after the Sentinels have confirmed that it leads to the primary. An unconfirmed link is dropped.
    ///
    /// # Errors
    /// The reason if that is not certain.
    pub(super) async fn confirmed_link(&self) -> Result<u64, String> {
        let link = match &*self.state.borrow() {
            LinkState::Live(link) => Arc::clone(link),
            LinkState::Down(down) => return Err(down.why.clone()),
        };
        let Some(decision) = &link.decision else { return Ok(link.number) };
        let within = CONFIRM_WITHIN.min(self.options.connect_timeout);
        match self.address.confirm(decision, within).await {
            Ok(()) => Ok(link.number),
            Err(Doubt { why, is_replaced }) => {
                if is_replaced {
                    self.replace(link.number);
                }
                Err(format!("it is not certain that Redis at {} is still the primary: {why}", link.server))
            }
        }
    }

    /// Drops the link with this number: calls in flight on it may still receive their replies.
    pub(super) fn replace(&self, number: u64) {
        let was_live = self.state.send_if_modified(|state| {
            let is_current = matches!(state, LinkState::Live(link) if link.number == number);
            if is_current {
                let why = format!("Redis at {} is unreachable: the connection failed", self.address.shown());
                *state = LinkState::Down(Down::now(why));
            }
            is_current
        });
        if was_live {
            self.lost.notify_one();
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("options", &self.options).finish_non_exhaustive()
    }
}
