//! The composition root: the only place that constructs backends and knows which part gets which.

mod backends;
mod checks;
mod event_description;
mod setup;
mod whole_log;

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use backends::Backends;
use backends::Breakers;
pub use setup::Setup;
pub use whole_log::{copy, verify};

use crate::{
    api::{
        Context, EventStreams, ServerInfo,
        doors::Doors,
        grpc::health::HealthDoor,
        server::{self, ServerOptions},
        tls::{Tls, TlsFiles},
    },
    application::{
        Handlers, Mediator,
        command_handler::CommandHandler,
        dead_letters::DeadLetters,
        orders::Orders,
        pipeline::{Pipeline, PipelineOptions},
        queries::QueryHandler,
        shared_cache::SharedCache,
    },
    backends::embedded,
    clock::Clock,
    cluster::{ClusterReader, ClusterReaderParts, LeasedMark, Membership, MembershipParts},
    config::{Config, NodeId, TlsConfig},
    domain::timestamp::Timestamp,
    event_store::Durability,
    health::{Health, HealthCheck},
    id_generator::{FileMark, IdError, IdGenerator, StartError as IdStartError},
    lifecycle::{GraceExceeded, Monitor, Node, Stop, Work},
    outbox::{self, OutboxMeter, OutboxOptions, OutboxParts, OutboxRelay},
    projections::{LogWatcher, OrderProjection},
    recovery::{Alarms, RecoveryOptions, RecoveryService, Supervised},
    resilience::BreakerOptions,
    subscriptions::{self, EventHandler, Subscription, SubscriptionOptions, SubscriptionParts},
    telemetry,
};

/// Why the node did not start; one line for people.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Copies the data folder `dir` into `target`, whether or not a node uses it, and says on standard output what it holds.
///
/// # Errors
/// One line that names the folder that it is about.
pub fn backup(dir: &Path, target: &Path) -> Result<(), StartError> {
    let done = embedded::backup::backup(dir, target)?;
    println!("{}: a copy of {} up to position {}", target.display(), dir.display(), done.head);
    Ok(())
}

/// A node that listens and serves.
#[derive(Debug)]
pub struct App {
    node: Node,
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    scheme: &'static str,
}

impl App {
    /// Starts the node that `config` describes.
    ///
    /// # Errors
    /// One clear line: a backend that cannot be had, a port in use, a clock that is wrong.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        Self::start_as(config, Setup::new(Backends::of(config).await?)).await
    }

    /// The same with backends and a clock of one's own.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_with(config: &Config, backends: Backends, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::start_as(config, Setup::new(backends).with_clock(clock)).await
    }

    /// The same with all that an embedding program brings along: handlers of its own, backends, a clock.
    ///
    /// # Errors
    /// As [`App::start`]; for handlers whose names are none, or the same.
    pub async fn start_as(config: &Config, setup: Setup) -> Result<Self, StartError> {
        let handler_names = setup.handler_names()?;
        let Setup { backends, clock, handlers } = setup;
        if config.require_durable && backends.store.durability() < Durability::Machine {
            let found = backends.store.durability().name();
            return Err(format!(
                "--require-durable: the durability of persistence {} is {found}",
                backends.persistence
            )
            .into());
        }
        let (recorder, metrics) = telemetry::metrics_recorder()?;
        let (backends, breakers) =
            metrics::with_local_recorder(&recorder, || backends.guarded(breaker_options(config)));
        let stop = Stop::default();
        let tls = config.server.tls.as_ref().map(|files| Tls::load(tls_files(files))).transpose()?;
        let (listener, grpc_listener) = bind(config)?;
        let address = listener.local_addr()?;
        let grpc_address = grpc_listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let info = Arc::new(server_info(config, &backends, &*clock));
        let mark = config.cluster.then(|| LeasedMark::new(Arc::clone(&backends.checkpoints)));
        let ids = Arc::new(match &mark {
            Some(mark) => IdGenerator::unclaimed(config.node.identity, Arc::clone(&clock), Box::new(mark.clone())),
            None => id_generator(config, Arc::clone(&clock)).await?,
        });
        let membership = match mark {
            Some(mark) => Some(join_cluster(config, &backends, &ids, &clock, mark, &info.node, address).await?),
            None => None,
        };
        let parts = metrics::with_local_recorder(&recorder, || {
            announce(&info);
            Parts::assemble(config, &info.node, &backends, &breakers, &ids, &clock, handlers, &stop.draining)
        });
        let mut checks = parts.checks(&backends, &ids, breakers);
        if let Some(membership) = &membership {
            checks.push(Arc::new(checks::MembershipCheck(membership.status())));
        }
        let progress = parts.projection.progress();
        let context = Context {
            mediator: parts.mediator.clone(),
            store: Arc::clone(&backends.store),
            ids: Arc::clone(&ids),
            cluster: Arc::new(cluster_reader(config, &backends, &ids, &parts, &info.node, address, &handler_names)),
            dead_letters: Arc::new(DeadLetters::new(Arc::clone(&backends.bus), handler_names)),
            rebuilds: parts.projection.rebuilds(),
            info,
            health: Arc::new(Health::new(checks, stop.draining.clone())),
            clock,
            metrics,
            draining: stop.draining.clone(),
            event_streams: Arc::new(EventStreams::default()),
        };
        let recovery =
            metrics::with_local_recorder(&recorder, || recovery(config, &context.health, parts.alarms.clone()));
        let (reporter, _) = tonic_health::server::health_reporter();
        let doors = Doors::open(&context, reporter.clone(), &config.server.cors_allowed_origins)?;
        let monitor = Monitor::new(&context, HealthDoor::new(reporter).await, recorder);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut work = Work::default();
        let options = server_options(config);
        if let Some(tls) = &tls {
            work.follow(tls.clone().keep_current(stop.ended.clone()));
        }
        if let Some(grpc_listener) = grpc_listener {
            work.serve(server::serve(grpc_listener, tls.clone(), doors.grpc_only(), options, stop.closing.clone()));
        }
        work.serve(server::serve(listener, tls, doors, options, stop.closing.clone()));
        parts.run(&mut work, &stop);
        if let Some(membership) = &membership {
            work.follow(Arc::clone(membership).keep(move || progress.position(), stop.ended.clone()));
        }
        work.follow(ids.keep_mark_ahead(stop.ended.clone()));
        work.follow(recovery.run(stop.ended.clone()));
        work.follow(monitor.watch_liveness(stop.ended.clone()));
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        Ok(Self { node: Node { context, membership, monitor, work, stop, grace }, address, grpc_address, scheme })
    }

    /// Where the node listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to begin the URL of the node with: `http`, or `https` when it speaks TLS.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The separate gRPC port, if there is one.
    #[must_use]
    pub const fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_address
    }

    /// What an acknowledged command survives, as found by now.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.node.context.store.durability()
    }

    /// What the node is.
    #[must_use]
    pub fn info(&self) -> &ServerInfo {
        &self.node.context.info
    }

    /// Runs until `shutdown` is cancelled, and then through an orderly shutdown.
    ///
    /// # Errors
    /// [`GraceExceeded`] if that took longer than the grace period.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), GraceExceeded> {
        self.node.run(shutdown).await
    }
}

/// The parts between the doors and the backends.
struct Parts {
    mediator: Mediator,
    alarms: Arc<Alarms>,
    projection: OrderProjection,
    projection_work: Arc<Supervised>,
    relay: OutboxRelay,
    relay_work: Arc<Supervised>,
    outbox_meter: Arc<OutboxMeter>,
    subscriptions: Vec<(Subscription, Arc<Supervised>)>,
}

impl Parts {
    fn assemble(
        config: &Config,
        node: &str,
        backends: &Backends,
        breakers: &Breakers,
        ids: &Arc<IdGenerator>,
        clock: &Arc<dyn Clock>,
        handlers: Vec<Arc<dyn EventHandler>>,
        draining: &CancellationToken,
    ) -> Self {
        let store = &backends.store;
        let shared =
            backends.cache.as_ref().map(|cache| SharedCache::new(Arc::clone(cache), Arc::clone(&breakers.cache)));
        let orders = Arc::new(Orders::new(Arc::clone(store), config.cached_orders).sharing(shared));
        let mut projection = OrderProjection::new(Arc::clone(store), Arc::clone(&backends.read_model));
        if backends.is_shared {
            projection = projection.watched_by(Arc::clone(&orders) as Arc<dyn LogWatcher>);
        }
        let mediated = Handlers {
            commands: CommandHandler::new(Arc::clone(store), Arc::clone(&orders), Arc::clone(ids), Arc::clone(clock)),
            queries: QueryHandler::new(
                Arc::clone(store),
                orders,
                Arc::clone(&backends.read_model),
                projection.progress(),
            ),
        };
        let pipeline = PipelineOptions {
            request_timeout: Duration::from_millis(config.server.request_timeout_ms),
            max_in_flight: config.server.max_in_flight,
        };
        let outbox = OutboxOptions {
            batch_size: config.outbox.batch_size,
            scan_interval: Duration::from_millis(config.outbox.scan_interval_ms),
        };
        let outbox_parts = OutboxParts {
            store: Arc::clone(store),
            bus: Arc::clone(&backends.bus),
            consumers: handlers.iter().map(|handler| handler.name().to_owned()).collect(),
            checkpoints: Arc::clone(&backends.checkpoints),
            leases: Arc::clone(&backends.leases),
            node: node.to_owned(),
        };
        let relay = OutboxRelay::new(outbox_parts, outbox);
        let alarms = Arc::new(Alarms::default());
        Self {
            mediator: Mediator::new(mediated, Pipeline::new(pipeline, draining.clone())),
            projection,
            projection_work: Arc::new(Supervised::new("projection", Arc::clone(&alarms))),
            outbox_meter: relay.meter(Arc::clone(clock)),
            relay,
            relay_work: Arc::new(Supervised::new("outbox", Arc::clone(&alarms))),
            subscriptions: subscriptions(config, node, backends, handlers, &alarms),
            alarms,
        }
    }

    fn checks(&self, backends: &Backends, ids: &Arc<IdGenerator>, breakers: Breakers) -> Vec<Arc<dyn HealthCheck>> {
        let store = || Arc::clone(&backends.store);
        let mut in_use = vec![breakers.store, breakers.transport];
        let cache: Option<Arc<dyn HealthCheck>> = backends.cache.as_ref().map(|cache| {
            in_use.push(Arc::clone(&breakers.cache));
            Arc::new(checks::CacheCheck { cache: Arc::clone(cache), breaker: breakers.cache }) as _
        });
        let mut checks: Vec<Arc<dyn HealthCheck>> = vec![
            Arc::new(checks::StoreCheck(store())),
            Arc::new(checks::TransportCheck(Arc::clone(&backends.bus))),
            Arc::new(checks::BreakerCheck(in_use)),
            Arc::new(checks::OutboxCheck {
                status: self.relay.status(),
                meter: Arc::clone(&self.outbox_meter),
                work: Arc::clone(&self.relay_work),
            }),
            Arc::new(checks::ProjectionCheck {
                progress: self.projection.progress(),
                read_model: Arc::clone(&backends.read_model),
                store: store(),
                start_head: AtomicU64::new(0),
                work: Arc::clone(&self.projection_work),
            }),
            Arc::new(checks::SubscriptionCheck {
                subscriptions: self.subscriptions.iter().map(|(one, work)| (one.status(), Arc::clone(work))).collect(),
                bus: Arc::clone(&backends.bus),
            }),
            Arc::new(checks::IdCheck(Arc::clone(ids))),
        ];
        checks.extend(cache);
        checks
    }

    fn run(self, work: &mut Work, stop: &Stop) {
        let (projection, projecting, ended) = (self.projection, self.projection_work, stop.ended.clone());
        work.follow(async move { projecting.run(|| projection.run(ended.clone()), ended.clone()).await });
        let (relay, relaying, flush) = (self.relay, self.relay_work, stop.flushing.clone());
        work.relay(async move { relaying.run(|| relay.run(flush.clone()), flush.clone()).await });
        work.follow(self.outbox_meter.run(stop.ended.clone()));
        for (subscription, handling) in self.subscriptions {
            let ended = stop.ended.clone();
            work.follow(async move { handling.run(|| subscription.run(ended.clone()), ended.clone()).await });
        }
    }
}

fn tls_files(config: &TlsConfig) -> TlsFiles {
    let TlsConfig { cert, key, client_ca } = config.clone();
    TlsFiles { certificate: cert, key, client_ca }
}

fn breaker_options(config: &Config) -> BreakerOptions {
    BreakerOptions {
        failures_to_open: config.breaker.failures,
        successes_to_close: config.breaker.successes,
        open_for: Duration::from_millis(config.breaker.open_ms),
    }
}

fn recovery(config: &Config, health: &Arc<Health>, alarms: Arc<Alarms>) -> RecoveryService {
    let interval = Duration::from_millis(config.recovery_interval_ms);
    RecoveryService::new(Arc::clone(health), RecoveryOptions { interval, ..RecoveryOptions::default() }, alarms)
}

/// One for each handler.
fn subscriptions(
    config: &Config,
    node: &str,
    backends: &Backends,
    handlers: Vec<Arc<dyn EventHandler>>,
    alarms: &Arc<Alarms>,
) -> Vec<(Subscription, Arc<Supervised>)> {
    let options = SubscriptionOptions { max_attempts: config.consumer.max_attempts, ..SubscriptionOptions::default() };
    let parts = SubscriptionParts {
        bus: Arc::clone(&backends.bus),
        leases: Arc::clone(&backends.bus_leases),
        node: node.to_owned(),
    };
    let supervised = || Arc::new(Supervised::new("subscription", Arc::clone(alarms)));
    let subscription = |handler| (Subscription::new(parts.clone(), handler, options), supervised());
    handlers.into_iter().map(subscription).collect()
}

/// Takes a place in the cluster, or waits for one in the background while the store is out of reach.
async fn join_cluster(
    config: &Config,
    backends: &Backends,
    ids: &Arc<IdGenerator>,
    clock: &Arc<dyn Clock>,
    mark: LeasedMark,
    node: &str,
    address: SocketAddr,
) -> Result<Arc<Membership>, StartError> {
    let membership = Membership::new(MembershipParts {
        leases: Arc::clone(&backends.leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        ids: Arc::clone(ids),
        mark,
        clock: Arc::clone(clock),
        name: node.to_owned(),
        address: address.to_string(),
        preferred: config.node.identity,
    });
    membership.join().await.map_err(|error| format!("no place in the cluster: {error}"))?;
    Ok(Arc::new(membership))
}

fn cluster_reader(
    config: &Config,
    backends: &Backends,
    ids: &Arc<IdGenerator>,
    parts: &Parts,
    node: &str,
    address: SocketAddr,
    handlers: &[String],
) -> ClusterReader {
    ClusterReader::new(ClusterReaderParts {
        store: Arc::clone(&backends.store),
        leases: Arc::clone(&backends.leases),
        bus_leases: Arc::clone(&backends.bus_leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        name: node.to_owned(),
        address: address.to_string(),
        ids: Arc::clone(ids),
        progress: parts.projection.progress(),
        roles: (vec![outbox::NAME.to_owned()], handlers.iter().map(|name| subscriptions::lease_name(name)).collect()),
        is_cluster: config.cluster,
    })
}

/// The longest time that a start waits for the clock to get past the ids that a former process may have issued.
const MAX_CLOCK_WAIT: Duration = Duration::from_secs(15);

async fn id_generator(config: &Config, clock: Arc<dyn Clock>) -> Result<IdGenerator, StartError> {
    let identity = config.node.identity;
    let Some(dir) = &config.node.data_dir else {
        return Ok(IdGenerator::new(identity, clock)?);
    };
    std::fs::create_dir_all(dir).map_err(|error| format!("data dir {}: {error}", dir.display()))?;
    let name = format!("snowflake-{}-{}.mark", identity.datacenter_id(), identity.worker_id());
    let give_up_at = Instant::now() + MAX_CLOCK_WAIT;
    loop {
        let mark = Box::new(FileMark::new(dir.join(&name)));
        match IdGenerator::with_mark(identity, Arc::clone(&clock), mark) {
            // Each quick crash leaves the mark a little further ahead: a supervisor's restarts must not end in a refusal.
            Err(IdStartError::Clock(IdError::ClockBehind { by_ms })) if Instant::now() < give_up_at => {
                tracing::warn!(by_ms, "waiting for the clock to get past ids that may have been issued");
                tokio::time::sleep(Duration::from_millis(by_ms.min(1_000))).await;
            }
            generator => return Ok(generator?),
        }
    }
}

fn server_info(config: &Config, backends: &Backends, clock: &dyn Clock) -> ServerInfo {
    ServerInfo {
        node: node_name(config),
        is_cluster: config.cluster,
        transport: backends.transport,
        persistence: backends.persistence,
        started_at: Timestamp::from_micros(clock.now_micros()),
        started: Instant::now(),
        max_message_bytes: config.server.max_message_bytes,
        max_in_flight: config.server.max_in_flight,
        max_concurrent_streams: config.server.max_concurrent_streams,
        max_connections: config.server.max_connections,
    }
}

/// The name of the node: as configured, else made up in a cluster, and outside of one made from its Snowflake numbers, which are its own
/// among all nodes.
fn node_name(config: &Config) -> String {
    match &config.node.id {
        NodeId::Named(name) => name.clone(),
        NodeId::Auto if config.cluster => format!("node-{:08x}", fastrand::u32(..)),
        NodeId::Auto => {
            format!("node-{}-{}", config.node.identity.datacenter_id(), config.node.identity.worker_id())
        }
    }
}

/// What the node is, where metrics are read.
fn announce(info: &ServerInfo) {
    let labels = [
        ("version", crate::api::VERSION.to_owned()),
        ("node", info.node.clone()),
        ("persistence", info.persistence.to_owned()),
        ("transport", info.transport.to_owned()),
    ];
    metrics::gauge!("ordersystem_info", &labels).set(1.0);
}

fn bind(config: &Config) -> Result<(TcpListener, Option<TcpListener>), StartError> {
    let bind = |address: SocketAddr| {
        server::bind(address).map_err(|error| StartError::from(format!("cannot listen on {address}: {error}")))
    };
    let grpc = config.server.grpc_address().map(bind).transpose()?;
    Ok((bind(config.server.address())?, grpc))
}

fn server_options(config: &Config) -> ServerOptions {
    let server = &config.server;
    let age = server.max_connection_age_ms;
    ServerOptions {
        max_connections: server.max_connections,
        max_concurrent_streams: server.max_concurrent_streams,
        keepalive_interval: Duration::from_millis(server.keepalive_interval_ms),
        keepalive_timeout: Duration::from_millis(server.keepalive_timeout_ms),
        max_connection_age: (age > 0).then(|| Duration::from_millis(age)),
        max_connection_age_grace: Duration::from_millis(server.max_connection_age_grace_ms),
    }
}
