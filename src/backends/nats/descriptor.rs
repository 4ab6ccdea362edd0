//! The self-description of the NATS backend.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::time::{Instant, sleep, timeout};

use super::{
    checkpoint_store::NatsCheckpointStore,
    connection::{ConnectError, Nats, NatsOptions},
    event_store::NatsEventStore,
    lease::NatsLeaseStore,
    message_bus::{NatsBusOptions, NatsMessageBus},
    settings::{FORM, NatsSettings, SECRETS, SETTINGS, access, subject_name, unlock},
};
use crate::{
    backends::descriptor::{
        Access, Backend, BusParts, Descriptor, LogParts, LogTools, NotVerified, OpenError, Opened, OpenedLog, Parts,
        ServerLog, ServerLogs, TOOL_TIMEOUT,
    },
    ports::{
        event_store::EventStore as _,
        message_bus::{CloudEventAttributes, Message},
    },
};

/// How long a starting node waits for NATS, or to identify the program that answers in its place, before it continues without it; and the pause
/// between checks.
const WAIT_AT_START: Duration = Duration::from_secs(5);
const PAUSE_AT_START: Duration = Duration::from_millis(100);

/// The NATS backend.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "nats",
    title: "NATS",
    persistence: Some("NATS JetStream, nats-server 2.9 or newer"),
    transport: Some("a JetStream stream of CloudEvents"),
    durability: "`machine` on one server, `quorum` with `--nats-replicas 3` or `5`, where the servers sync each write; otherwise `process`",
    is_shared: true,
    needs_data_dir: false,
    settings: SETTINGS,
    configure: |values| Ok(Arc::new(NatsSettings::of(values)?)),
    log_tools: Some(LogTools::Server(ServerLogs {
        form: &FORM,
        examples: &["nats://HOST:PORT"],
        tls_schemes: &["tls"],
        prefix: subject_name,
        secrets: SECRETS,
        check_files: |files| access(files).map(drop),
        unlock,
        open: |log, access| open(log, access).boxed(),
    })),
};

#[async_trait]
impl Backend for NatsSettings {
    fn server(&self) -> Option<String> {
        Some(self.server.to_string())
    }

    async fn open(&self, parts: Parts<'_>) -> Result<Opened, OpenError> {
        // One connection for both. Log followers keep their checkpoints with the log.
        let nats = Nats::start(self.options()).await?;
        let log = parts.log.then(|| Log::new(&nats));
        let bus = parts.bus.map(|describe| Bus::new(&nats, describe));
        Ok(Opened {
            log: log.as_ref().map(Log::parts),
            bus: bus.as_ref().map(Bus::parts),
            arrival: Some(arrival(nats, self.server.to_string(), log, bus).boxed()),
            ..Opened::default()
        })
    }
}

/// The parts of a node whose log is in NATS.
struct Log {
    store: Arc<NatsEventStore>,
    leases: Arc<NatsLeaseStore>,
    checkpoints: Arc<NatsCheckpointStore>,
}

impl Log {
    fn new(nats: &Nats) -> Self {
        Self {
            store: Arc::new(NatsEventStore::new(nats.clone())),
            leases: Arc::new(NatsLeaseStore::new(nats.clone())),
            checkpoints: Arc::new(NatsCheckpointStore::new(nats.clone())),
        }
    }

    fn parts(&self) -> LogParts {
        LogParts {
            store: Arc::clone(&self.store) as _,
            leases: Arc::clone(&self.leases) as _,
            checkpoints: Arc::clone(&self.checkpoints) as _,
            read_model: None,
        }
    }
}

/// The parts of a node whose bus is NATS.
struct Bus {
    bus: Arc<NatsMessageBus>,
    leases: Arc<NatsLeaseStore>,
}

impl Bus {
    fn new(nats: &Nats, describe: fn(&Message) -> CloudEventAttributes) -> Self {
        let options = NatsBusOptions { describe, ..NatsBusOptions::default() };
        Self {
            bus: Arc::new(NatsMessageBus::new(nats.clone(), options)),
            leases: Arc::new(NatsLeaseStore::new(nats.clone())),
        }
    }

    fn parts(&self) -> BusParts {
        BusParts { bus: Arc::clone(&self.bus) as _, leases: Arc::clone(&self.leases) as _ }
    }
}

/// Waits for the first connection attempt, and verifies the server; `shown` is the address for humans. After a failed connection attempt it does not
/// wait again.
async fn arrival(nats: Nats, shown: String, log: Option<Log>, bus: Option<Bus>) -> Result<(), OpenError> {
    if !is_usable(&nats, &shown, || nats.first_try().boxed()).await? {
        return Ok(());
    }
    tracing::info!(server = shown, "connected to NATS");
    let mut waits = true;
    if let Some(Log { store, leases, checkpoints }) = log {
        let verify = || {
            let verification = async {
                store.until_verified().await?;
                leases.verify().await?;
                checkpoints.verify().await
            };
            verification.boxed()
        };
        waits = is_usable(&nats, &shown, verify).await?;
        if waits {
            tracing::info!(server = shown, durability = store.durability().name(), "{}", store.summary());
        }
    }
    if let Some(Bus { bus, leases }) = bus.filter(|_| waits && nats.is_connected()) {
        let verify = || {
            let verification = async {
                bus.verify().await?;
                leases.verify().await
            };
            verification.boxed()
        };
        is_usable(&nats, &shown, verify).await?;
    }
    Ok(())
}

/// Whether `verify` succeeds soon. NATS may be unreachable or without a quorum now; the node then becomes ready once it works.
///
/// # Errors
/// For a problem that needs an operator's action.
async fn is_usable<'a>(
    nats: &Nats,
    shown: &str,
    verify: impl Fn() -> BoxFuture<'a, Result<(), ConnectError>>,
) -> Result<bool, OpenError> {
    let patience = nats.options().connect_timeout;
    let report = |why: &str| {
        // The connection itself logs that it is unreachable.
        if nats.is_connected() {
            tracing::warn!(server = shown, why, "NATS cannot be used yet; the node becomes ready once it can");
        }
    };
    match verified_soon(|| nats.is_connected(), patience, verify, report).await {
        Ok(()) => Ok(true),
        Err(ConnectError::Retryable(_)) => Ok(false),
        Err(ConnectError::Fatal(why)) => Err(nats.named(why).into()),
    }
}

/// Repeats `verify` while connected, for at most [`WAIT_AT_START`], until it succeeds or waiting does not help. Reports the first failure once: at
/// once, unless `patience` has not passed yet. A cluster that works may be electing a leader.
async fn verified_soon<'a>(
    is_connected: impl Fn() -> bool,
    patience: Duration,
    verify: impl Fn() -> BoxFuture<'a, Result<(), ConnectError>>,
    report: impl Fn(&str),
) -> Result<(), ConnectError> {
    let (begun, mut is_reported) = (Instant::now(), false);
    let mut found = "it does not answer".to_owned();
    let verified = async {
        loop {
            match verify().await {
                Err(ConnectError::Retryable(why)) if is_connected() => found = why,
                decided => return decided,
            }
            if !is_reported && begun.elapsed() >= patience {
                is_reported = true;
                report(&found);
            }
            sleep(PAUSE_AT_START).await;
        }
    };
    let verified = timeout(WAIT_AT_START, verified).await.unwrap_or(Err(ConnectError::Retryable(found)));
    if let Err(ConnectError::Retryable(why)) = &verified
        && !is_reported
    {
        report(why);
    }
    verified
}

async fn open(log: ServerLog, how: Access) -> Result<OpenedLog, OpenError> {
    let options = NatsOptions {
        request_timeout: TOOL_TIMEOUT,
        makes_log: how != Access::Read,
        replicas: if let Access::Write { replicas } = how { replicas } else { 1 },
        access: access(&log.files).map_err(|(_, why)| why)?,
        ..NatsOptions::new(log.address.expose(), log.prefix)
    };
    let nats = Nats::start(options).await?;
    nats.connected().await.map_err(|error| error.why().to_owned())?;
    let store = Arc::new(NatsEventStore::new(nats));
    // The servers are reachable; this checks for a quorum.
    let verified = Arc::clone(&store);
    let verify = move || {
        let store = Arc::clone(&verified);
        async move { store.until_verified().await.map_err(NotVerified::from) }.boxed()
    };
    Ok(OpenedLog { store, verify: Some(Box::new(verify)) })
}

impl From<ConnectError> for NotVerified {
    fn from(error: ConnectError) -> Self {
        Self { why: error.why().to_owned(), passes: matches!(error, ConnectError::Retryable(_)) }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    /// The result for a NATS each check of which fails after `check_takes`, and works again after `fails_for`; and what was reported, and when.
    async fn outcome(check_takes: Duration, fails_for: Duration) -> (bool, Vec<(String, Duration)>) {
        let (begun, reports) = (Instant::now(), RefCell::new(Vec::new()));
        let verify = || {
            async move {
                if begun.elapsed() >= fails_for {
                    return Ok(());
                }
                sleep(check_takes).await;
                Err(ConnectError::Retryable("no answer".to_owned()))
            }
            .boxed()
        };
        let report = |why: &str| reports.borrow_mut().push((why.to_owned(), begun.elapsed()));
        let verified = verified_soon(|| true, PATIENCE, verify, report).await;
        (verified.is_ok(), reports.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_reported_at_once_and_not_at_the_end_of_the_wait() {
        let (usable, reports) = outcome(PATIENCE, Duration::MAX).await;
        assert!(!usable);
        assert_eq!(reports, [("no answer".to_owned(), PATIENCE)]);
        let (usable, reports) = outcome(PATIENCE, Duration::from_secs(3)).await;
        assert!(usable, "it keeps trying");
        assert_eq!(reports.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_election_of_a_leader_is_not_reported() {
        let check_takes = Duration::from_millis(5);
        assert_eq!(outcome(check_takes, Duration::from_secs(1)).await, (true, Vec::new()));
        let (usable, reports) = outcome(check_takes, Duration::MAX).await;
        assert!(!usable && reports.len() == 1 && reports[0].1 < PATIENCE * 2, "{reports:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_check_that_never_ends_is_reported_at_the_end_of_the_wait() {
        let (usable, reports) = outcome(WAIT_AT_START * 2, Duration::MAX).await;
        assert!(!usable);
        assert_eq!(reports, [("it does not answer".to_owned(), WAIT_AT_START)]);
    }
}
