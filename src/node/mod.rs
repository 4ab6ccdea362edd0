//! The composition root: the only module that constructs backends and connects the services.

mod backends;
mod builder;
mod cluster;
pub mod durability;
mod health_checks;
mod identities_check;
mod ids;
pub mod lifecycle;
mod listeners;
pub mod logs;
pub mod monitor;
pub mod recovery;
mod services;
mod tls_check;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;

use backends::Arrival;
pub use backends::Backends;
pub use builder::NodeBuilder;
use identities_check::IdentitiesCheck;
use ids::Numbers;
use listeners::{
    Addresses, Listeners, authenticator, bind, max_connections, security_warning, server_options, stack_options,
    warn_if_open,
};
use services::{NodeDeps, Services};
use tls_check::TlsCheck;

use crate::{
    application::{
        Mediator, admission::Admission, dead_letters::DeadLetters, event_streams::EventLog, fan_out::FanOut,
    },
    backends::embedded,
    circuit_breaker::BreakerOptions,
    config::{Config, NodeId, TlsConfig},
    domain::timestamp::Timestamp,
    node::{
        durability::DurabilityRequirement,
        lifecycle::{Node, RunError, Stop, Work},
        monitor::Monitor,
        recovery::{FailureNotifier, RecoveryOptions, RecoveryService},
    },
    ports::{
        clock::Clock,
        event_store::{Durability, LogId, Position},
        health::Health,
    },
    processors::owners::Owners,
    server::{
        ApiState, Authentication, EventStreams, ServerInfo, SignerOfStore,
        grpc::health::GrpcHealthReporter,
        listener::{self, Ends},
        stack::{PortService, Stack},
        tls::{Tls, TlsFiles},
    },
    telemetry::{logs::LogLevels, metrics::Metrics, traces},
};

/// Why the node did not start; one line for humans.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Copies the data folder `dir` into `target`, whether or not a node uses it; returns the position of the last event in the copy.
///
/// # Errors
/// One line that names the affected folder.
pub fn backup(dir: &Path, target: &Path) -> Result<Position, StartError> {
    Ok(embedded::backup::backup(dir, target)?.head)
}

/// A node with open ports.
#[derive(Debug)]
pub struct App {
    node: Node,
    stack: Stack,
    addresses: Addresses,
    scheme: &'static str,
    /// Held until the end of the node.
    _folder: Option<Arc<embedded::data_dir::DataDir>>,
}

impl App {
    /// Starts a node with `config`, whose operators may change the filter of `logs`.
    ///
    /// # Errors
    /// One clear line: an unusable backend, a port in use, or a wrong clock.
    pub async fn start(config: &Config, logs: LogLevels) -> Result<Self, StartError> {
        // Before waiting for any broker: a port in use is reported at once, and the node serves its health.
        let listeners = bind(config)?;
        let (backends, arrival) = Backends::begin(config).await?;
        Self::start_on(listeners, config, NodeBuilder::new(backends).with_logs(logs), arrival).await
    }

    /// Like [`App::start`], with custom backends and clock.
    ///
    /// # Errors
    /// As [`App::start`].
    pub async fn start_with(config: &Config, backends: Backends, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        Self::start_from(config, NodeBuilder::new(backends).with_clock(clock)).await
    }

    /// Like [`App::start`], with everything an embedding program supplies: handlers, backends, a clock.
    ///
    /// # Errors
    /// As [`App::start`]; if a handler name is invalid or duplicated.
    pub async fn start_from(config: &Config, setup: NodeBuilder) -> Result<Self, StartError> {
        Self::start_on(bind(config)?, config, setup, std::future::ready(Ok(())).boxed()).await
    }

    async fn start_on(
        listeners: Listeners,
        config: &Config,
        setup: NodeBuilder,
        arrival: Arrival,
    ) -> Result<Self, StartError> {
        let handler_names = setup.handler_names()?;
        let NodeBuilder { backends, clock, handlers, pace, logs } = setup;
        let required = config.require_durable.then_some(Durability::Machine);
        let requirement = required.map(|required| {
            let server = config.store_server();
            DurabilityRequirement { required, persistence: backends.persistence, server }
        });
        if let Some(requirement) = &requirement {
            requirement.holds(&*backends.store)?;
        }
        let recorder = Metrics::new();
        let (backends, breakers) =
            metrics::with_local_recorder(&recorder, || backends.guarded(breaker_options(config), required));
        let stop = Stop::default();
        let tls = config
            .server
            .tls
            .as_ref()
            .map(|files| metrics::with_local_recorder(&recorder, || Tls::load(tls_files(files))))
            .transpose()?;
        let authenticator = metrics::with_local_recorder(&recorder, || authenticator(config))?;
        let addresses = listeners.addresses()?;
        let address = addresses.main;
        let info = Arc::new(server_info(config, &backends, &*clock));
        let (traces, exporting) =
            metrics::with_local_recorder(&recorder, || traces::export::open(&config.traces, &info.node))?;
        let (ids, numbers) = ids::id_generator(config, &backends, &clock)?;
        let (ids, owners) = (Arc::new(ids), Arc::new(Owners::new(Arc::clone(&clock))));
        let ground = NodeDeps {
            config,
            node: &info.node,
            address,
            backends: &backends,
            breakers: &breakers,
            ids: &ids,
            clock: &clock,
            owners: &owners,
            traces: &traces,
        };
        let (membership, own_numbers) = match numbers {
            Numbers::Leased(mark) => (Some(cluster::membership(&ground, mark, &handler_names)), None),
            Numbers::Own(numbers) => (None, Some(numbers)),
        };
        let parts = metrics::with_local_recorder(&recorder, || {
            announce(&info);
            Services::assemble(&ground, handlers, &stop)
        });
        let mut checks = parts.checks(&ground);
        if let Some(membership) = &membership {
            let (status, is_cluster) = (membership.status(), config.cluster);
            checks.push(Arc::new(health_checks::MembershipCheck { status, is_cluster }));
        }
        if let Some(tls) = &tls {
            checks.push(Arc::new(TlsCheck(tls.clone())));
        }
        if let Some(authenticator) = &authenticator {
            checks.push(Arc::new(IdentitiesCheck(authenticator.clone())));
        }
        let progress = parts.projection.progress();
        let max_in_flight = config.server.max_in_flight;
        let fan_out = FanOut::new(Arc::clone(&backends.store));
        let api = ApiState {
            mediator: parts.mediator.clone(),
            admission: metrics::with_local_recorder(&recorder, || Arc::new(Admission::new(max_in_flight))),
            store: Arc::clone(&backends.store),
            signer: SignerOfStore::new(Arc::clone(&backends.store)),
            ids: Arc::clone(&ids),
            cluster: Arc::new(cluster::reader(&ground, parts.projection.progress(), &handler_names)),
            dead_letters: Arc::new(DeadLetters::new(Arc::clone(&backends.bus), handler_names)),
            rebuilds: parts.projection.rebuilds(),
            breakers: ground.breakers_in_use().into(),
            info,
            health: Arc::new(Health::new(checks, stop.draining.clone())),
            clock,
            logs,
            metrics: recorder.clone(),
            draining: stop.draining.clone(),
            event_log: EventLog::new(fan_out.clone(), stop.draining.clone()),
            event_streams: EventStreams::new(
                config.server.max_event_streams,
                config.server.max_event_streams_per_connection,
            ),
        };
        let recovery = metrics::with_local_recorder(&recorder, || recovery(config, &api.health, parts.alarms.clone()));
        let away = backends.away();
        let recovery = recovery.quiet_while(&away);
        let (reporter, _) = tonic_health::server::health_reporter();
        let options = stack_options(config, authenticator.clone(), traces.clone());
        let stack = metrics::with_local_recorder(&recorder, || Stack::open(&api, reporter.clone(), &options))?;
        let grpc_health = Arc::new(GrpcHealthReporter::new(reporter).await);
        api.health.tell(Arc::clone(&grpc_health) as _);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut work = Work::default();
        if let Some(exporting) = exporting {
            work.export(exporting.run(stop.exported.clone()));
        }
        let options = server_options(config, &api, pace);
        let ends = Ends { announced: stop.draining.clone(), closed: stop.closing.clone() };
        if let Some(tls) = &tls {
            work.spawn_background(tls.clone().keep_current(stop.ended.clone()));
        }
        if let Some(authenticator) = authenticator {
            work.spawn_background(authenticator.keep_current(stop.ended.clone()));
        }
        let mut serve = |port, listener, service| {
            let options = options.of_port(&recorder, port);
            work.serve(listener::serve(listener, tls.clone(), service, options, ends.clone()));
        };
        listeners.grpc.into_iter().for_each(|listener| serve("grpc", listener, stack.grpc_only()));
        listeners.admin.into_iter().for_each(|listener| serve("admin", listener, stack.for_operators()));
        serve("main", listeners.main, stack.main());
        arrival.await?;
        let found = backends.store.durability();
        if let Some(requirement) = &requirement {
            // A store that has not been reached yet is checked once it is.
            requirement.holds(&*backends.store)?;
        }
        if let Some(membership) = &membership {
            cluster::join(membership, &*backends.store).await?;
        }
        let monitor = Monitor::new(&api, grpc_health, found, requirement).quiet_while(away);
        let monitor = monitor.at(format!("{scheme}://{address}"), parts.handlers());
        warn_if_open(config);
        // After everything that concerns the start, and before any task logs.
        log_listening(&api, scheme, addresses);
        parts.run(&mut work, &stop);
        if let Some(membership) = &membership {
            work.spawn_background(Arc::clone(membership).run(move || progress.position(), stop.ended.clone()));
        }
        if let Some(numbers) = own_numbers {
            work.spawn_background(numbers.run(Arc::clone(&ids), stop.ended.clone()));
        }
        work.spawn_background(ids.keep_mark_ahead(stop.ended.clone(), backends.store_away()));
        work.spawn_background(recovery.run(stop.ended.clone()));
        work.spawn_background(fan_out.run(stop.ended.clone()));
        work.spawn_background(monitor.watch_liveness(stop.ended.clone()));
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        let bus = Arc::clone(&backends.bus);
        let node = Node { api, membership, bus, monitor, work, stop, grace };
        Ok(Self { node, stack, addresses, scheme, _folder: backends.folder })
    }

    /// The address of the node.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.addresses.main
    }

    /// The URL scheme of the node: `http`, or `https` with TLS.
    #[must_use]
    pub const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// The address of the separate gRPC port, if there is one.
    #[must_use]
    pub const fn grpc_address(&self) -> Option<SocketAddr> {
        self.addresses.grpc
    }

    /// The durability of acknowledged commands, as detected so far.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.node.api.store.durability()
    }

    /// Runs commands and queries without a connection, for a program that embeds the node.
    #[must_use]
    pub const fn mediator(&self) -> &Mediator {
        &self.node.api.mediator
    }

    /// Answers requests of both APIs without a connection, as the main listener does.
    #[must_use]
    pub fn service(&self) -> PortService {
        self.stack.main()
    }

    /// Static information about the node.
    #[must_use]
    pub fn info(&self) -> &ServerInfo {
        &self.node.api.info
    }

    /// Runs until `shutdown` is cancelled, and then shuts down gracefully.
    ///
    /// # Errors
    /// [`RunError`] if the shutdown exceeded the grace period, or the node has ended by itself.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        self.node.run(shutdown).await
    }
}

fn tls_files(config: &TlsConfig) -> TlsFiles {
    let TlsConfig { cert, key, client_ca, client_crl } = config.clone();
    TlsFiles { certificate: cert, key, client_ca, client_crl }
}

fn breaker_options(config: &Config) -> BreakerOptions {
    BreakerOptions {
        failures_to_open: config.breaker.failures,
        successes_to_close: config.breaker.successes,
        open_for: Duration::from_millis(config.breaker.open_ms),
    }
}

fn recovery(config: &Config, health: &Arc<Health>, alarms: Arc<FailureNotifier>) -> RecoveryService {
    let interval = Duration::from_millis(config.recovery_interval_ms);
    RecoveryService::new(Arc::clone(health), RecoveryOptions { interval, ..RecoveryOptions::default() }, alarms)
}

fn server_info(config: &Config, backends: &Backends, clock: &dyn Clock) -> ServerInfo {
    ServerInfo {
        node: node_name(config, backends),
        is_cluster: config.cluster,
        transport: backends.transport,
        persistence: backends.persistence,
        started_at: Timestamp::from_micros(clock.now_micros()),
        started: Instant::now(),
        max_message_bytes: config.server.max_message_bytes,
        max_in_flight: config.server.max_in_flight,
        max_concurrent_streams: config.server.max_concurrent_streams,
        max_connections: max_connections(config),
        authentication: if config.server.identities.is_some() {
            Authentication::Required
        } else {
            Authentication::None
        },
        security_warning: security_warning(config),
        configuration: config.effective.clone(),
    }
}

/// The name of the node: as configured, else generated if other nodes use the log. A node with its own log is named after the log on a shared bus,
/// and otherwise after its Snowflake numbers.
fn node_name(config: &Config, backends: &Backends) -> String {
    match &config.node.id {
        NodeId::Named(name) => name.clone(),
        NodeId::Auto if config.cluster || backends.is_shared => format!("node-{:08x}", fastrand::u32(..)),
        NodeId::Auto => match backends.store.log_id() {
            Some(LogId(log)) if config.transport.is_shared => format!("node-{log:08x}"),
            _ => format!("node-{}-{}", config.node.identity.datacenter_id(), config.node.identity.worker_id()),
        },
    }
}

/// Logs the node's properties and addresses, for humans.
fn log_listening(api: &ApiState, scheme: &str, Addresses { main: address, grpc, admin }: Addresses) {
    let info = &api.info;
    tracing::info!(
        version = crate::server::VERSION,
        node = info.node,
        mode = if info.is_cluster { "Cluster" } else { "Standalone" },
        persistence = info.persistence,
        transport = info.transport,
        durability = api.store.durability().name(),
        %address,
        grpc_address = grpc.map(|address| address.to_string()),
        admin_address = admin.map(|address| address.to_string()),
        "{} is listening on {scheme}://{address}",
        crate::server::SERVICE_NAME,
    );
}

/// Publishes the node's properties as metrics.
fn announce(info: &ServerInfo) {
    let labels = [
        ("version", crate::server::VERSION.to_owned()),
        ("node", info.node.clone()),
        ("persistence", info.persistence.to_owned()),
        ("transport", info.transport.to_owned()),
    ];
    metrics::gauge!("ordersystem_info", &labels).set(1.0);
}
