//! The composition root: the only place that constructs backends and knows which part gets which.

mod backends;
mod checks;

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use metrics_exporter_prometheus::PrometheusRecorder;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use backends::Backends;

use crate::{
    api::{
        Context, EventStreams, ServerInfo,
        grpc::health::HealthDoor,
        server::{self, ServerOptions},
    },
    application::{
        Handlers, Mediator, command_handler::CommandHandler, orders::Orders, pipeline::Pipeline,
        pipeline::PipelineOptions, queries::QueryHandler,
    },
    clock::{Clock, SystemClock},
    config::{Config, NodeId},
    domain::timestamp::Timestamp,
    health::Health,
    id_generator::{FileMark, IdGenerator},
    lifecycle::{Monitor, Node, Stop, Work},
    outbox::{OutboxOptions, OutboxParts, OutboxRelay},
    projections::OrderProjection,
    subscriptions::{OrderEventLogger, Subscription, SubscriptionOptions},
    telemetry,
};

/// Why the node did not start; one line for people.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// A node that is built and bound, and not yet serving.
#[derive(Debug)]
pub struct App {
    node: Node,
    address: SocketAddr,
    grpc_address: Option<SocketAddr>,
    info: Arc<ServerInfo>,
}

impl App {
    /// Builds the node that `config` describes and binds its ports.
    ///
    /// # Errors
    /// One clear line: a backend that cannot be had, a port in use, a clock that is wrong.
    pub async fn build(config: &Config) -> Result<Self, StartError> {
        let backends = Backends::of(config)?;
        Self::build_with(config, backends, Arc::new(SystemClock)).await
    }

    /// The same with backends and a clock of one's own: for tests, and for embedding.
    ///
    /// # Errors
    /// As [`App::build`].
    pub async fn build_with(config: &Config, backends: Backends, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let (recorder, metrics) = telemetry::metrics_recorder()?;
        let stop = Stop::default();
        let ids = Arc::new(id_generator(config, Arc::clone(&clock))?);
        let info = Arc::new(server_info(config, &backends, &*clock));
        let parts = metrics::with_local_recorder(&recorder, || {
            Parts::assemble(config, &backends, &ids, &clock, &stop)
        });
        let subscription = Subscription::open(
            Arc::clone(&backends.bus),
            Arc::new(OrderEventLogger::default()),
            SubscriptionOptions { max_attempts: config.consumer.max_attempts, ..SubscriptionOptions::default() },
        );
        let checks = checks::all(&backends, &parts.relay, &parts.projection, &subscription);
        let health = Arc::new(Health::new(checks, stop.draining.clone()));
        let context = Context {
            mediator: parts.mediator,
            store: Arc::clone(&backends.store),
            ids: Arc::clone(&ids),
            info: Arc::clone(&info),
            health: Arc::clone(&health),
            clock,
            metrics,
            draining: stop.draining.clone(),
            event_streams: Arc::new(EventStreams::default()),
        };
        let (reporter, grpc_health) = tonic_health::server::health_reporter();
        let _ = grpc_health;
        let health_door = HealthDoor::new(reporter.clone()).await;
        let doors = crate::api::doors(&context, reporter, &config.server)?;
        let listeners = Listeners::bind(config)?;
        let (address, grpc_address) = listeners.addresses()?;
        let options = server_options(config);
        let servers = TaskTracker::new();
        let monitor = Monitor::new(&context, health_door, recorder);
        let mut work = Work::default();
        work.serve(server::serve(listeners.main, doors.main, options, stop.closing.clone()));
        if let Some(listener) = listeners.grpc {
            work.serve(server::serve(listener, doors.grpc_only, options, stop.closing.clone()));
        }
        drop(servers);
        work.follow(parts.projection.run(stop.ended.clone()));
        work.relay(parts.relay.run(stop.flushing.clone()));
        work.follow(subscription.run(stop.ended.clone()));
        work.follow(Arc::clone(&ids).keep_mark_ahead(stop.ended.clone()));
        let grace = Duration::from_millis(config.server.shutdown_grace_ms);
        let node = Node { context, monitor, work, stop, grace };
        Ok(Self { node, address, grpc_address, info })
    }
}
