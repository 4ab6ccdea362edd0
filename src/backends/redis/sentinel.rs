//! One Sentinel, which knows the primary of a service, and the connection to it.

use std::{future::Future, sync::Arc, time::Duration};

use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::{
    in_words::{in_words, is_tls},
    refusal::is_login_refused,
    values,
};

/// How soon a Sentinel that did not reply is tried again: queries in the meantime fail at once.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A decision of the Sentinels: which server is the primary.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Decision {
    /// Its `config-epoch`: a later decision has a larger one.
    pub epoch: u64,
    pub address: ConnectionAddr,
}

/// Why no primary is known.
#[derive(Clone)]
pub(super) struct Unknown {
    pub why: String,
    /// All Sentinels that answered report that there is no primary.
    pub is_final: bool,
}

/// A Sentinel's address. Clones share the connection.
#[derive(Clone)]
pub(super) struct Sentinel {
    server: ConnectionInfo,
    /// Held during a query: there is one at a time, even if its caller stops waiting for the reply.
    line: Arc<Mutex<Line>>,
}

/// The connection to a Sentinel.
#[derive(Default)]
struct Line {
    kept: Option<MultiplexedConnection>,
    /// Whether it has ever replied as a Sentinel.
    has_answered: bool,
    /// When it last failed to reply, and why.
    failed: Option<(Instant, Unknown)>,
}

impl Sentinel {
    pub(super) fn new(server: ConnectionInfo) -> Self {
        Self { server, line: Arc::default() }
    }

    /// The human-readable address.
    pub(super) fn shown(&self) -> String {
        self.server.addr().to_string()
    }

    /// Queries it now: returns how new its decision is, and the primary of `service`, to be used as `user`.
    pub(super) async fn ask(
        &self,
        service: &str,
        user: &ConnectionInfo,
        within: Duration,
    ) -> Result<Decision, Unknown> {
        let at = self.shown();
        let passing =
            |why: &dyn std::fmt::Display| Unknown { why: format!("the Sentinel at {at}: {why}"), is_final: false };
        let Ok(mut line) = timeout(within, Arc::clone(&self.line).lock_owned()).await else {
            return Err(passing(&"it has not answered the previous query yet"));
        };
        if let Some((_, failure)) = line.failed.as_ref().filter(|(when, _)| when.elapsed() < RETRY_AFTER) {
            return Err(failure.clone());
        }
        let (server, user_there, service_there) = (self.server.clone(), user.clone(), service.to_owned());
        let at_there = at.clone();
        // Ends by itself even if no caller waits for it, so that a silent Sentinel is always detected.
        let asking = tokio::spawn(async move {
            let answer = bounded(within, line.ask(server, &user_there, &service_there, within)).await;
            let failure = answer.as_ref().err().filter(|error| error.code().is_none());
            match failure {
                Some(_) => line.kept = None,
                None => line.has_answered = true,
            }
            line.failed = failure.map(|error| {
                let why = in_words(error, is_tls(&user_there), line.has_answered);
                (Instant::now(), unanswered(&at_there, error, &why))
            });
            answer
        });
        match asking.await.map_err(|error| passing(&error))? {
            Ok((about, primary)) => {
                read(about, primary, user).ok_or_else(|| passing(&"it answers without the address of the primary"))
            }
            Err(error) if error.to_string().contains("No such master") => {
                let why = format!("the Sentinel at {at} knows no service {service}");
                Err(Unknown { why, is_final: true })
            }
            Err(error) if error.to_string().to_ascii_lowercase().contains("unknown command") => {
                let why = format!(
                    "the server at {at} is a Redis, not a Sentinel: write redis://{at} to use it, or give the addresses of its Sentinels"
                );
                Err(Unknown { why, is_final: true })
            }
            Err(error) => Err(unanswered(&at, &error, &in_words(&error, is_tls(user), false))),
        }
    }
}

/// Why the Sentinel at `at` did not answer a question; `words` are those for a failed connection.
fn unanswered(at: &str, error: &RedisError, words: &str) -> Unknown {
    if is_login_refused(error) {
        let why = format!(
            "the Sentinel at {at} requires a password, and none is given by --redis-password-file or in the address, or the Sentinel rejects \
             the given user and password, which are used for the Sentinels as well ({error})"
        );
        return Unknown { why, is_final: true };
    }
    // A server that speaks another protocol does not change by waiting.
    Unknown { why: format!("the Sentinel at {at}: {words}"), is_final: error.kind() == ErrorKind::Parse }
}

impl Line {
    async fn ask(
        &mut self,
        server: ConnectionInfo,
        user: &ConnectionInfo,
        service: &str,
        within: Duration,
    ) -> Result<(Value, Value), RedisError> {
        if let Some(kept) = &self.kept {
            match question(kept, service).await {
                // It may have been restarted.
                Err(error) if error.code().is_none() => self.kept = None,
                answer => return answer,
            }
        }
        let connection = self.kept.insert(connect(server.clone(), within).await?);
        let answer = question(connection, service).await;
        if !matches!(&answer, Err(error) if matches!(error.code(), Some("NOAUTH" | "NOPERM"))) {
            return answer;
        }
        // Sentinels may have no users, or those of the servers.
        let known_there = server.set_redis_settings(user.redis_settings().clone().set_db(0));
        let connection = self.kept.insert(connect(known_there, within).await?);
        question(connection, service).await
    }
}

async fn connect(server: ConnectionInfo, within: Duration) -> Result<MultiplexedConnection, RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(Some(within));
    Client::open(server)?.get_multiplexed_async_connection_with_config(&config).await
}

/// A Sentinel's view of the service, and its primary. The primary is queried separately: while the Sentinel that leads a fail-over notifies the
/// replicas, its view already has the new `config-epoch` with the old address.
async fn question(connection: &MultiplexedConnection, service: &str) -> Result<(Value, Value), RedisError> {
    let ask = |about: &'static str| {
        let mut connection = connection.clone();
        async move { redis::cmd("SENTINEL").arg(about).arg(service).query_async(&mut connection).await }
    };
    // In this order: a decision between the two gives an older epoch to a new address, and not the reverse.
    tokio::try_join!(ask("MASTER"), ask("GET-MASTER-ADDR-BY-NAME"))
}

/// Reads the two replies.
fn read(about: Value, primary: Value, user: &ConnectionInfo) -> Option<Decision> {
    let (about, primary) = (values::list(about).unwrap_or_default(), values::list(primary).unwrap_or_default());
    let field = |wanted: &str| {
        let pair = about.chunks_exact(2).find(|pair| values::text(&pair[0]) == Some(wanted));
        pair.and_then(|pair| values::text(&pair[1]))
    };
    let part = |index: usize| primary.get(index).and_then(values::text);
    let (host, port) = (part(0)?, part(1)?.parse::<u16>().ok()?);
    let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
    let address = match user.addr() {
        ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
            ConnectionAddr::TcpTls { host: host.to_owned(), port, insecure: *insecure, tls_params: tls_params.clone() }
        }
        _ => ConnectionAddr::Tcp(host.to_owned(), port),
    };
    Some(Decision { epoch, address })
}

async fn bounded<T>(within: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    match timeout(within, work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}
