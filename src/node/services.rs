//! The services between the protocol servers and the backends.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use parking_lot::Mutex;

use super::{Backends, backends::Breakers, health_checks};
use crate::{
    application::{
        Mediator, command_handler::CommandHandler, ids::IdHandler, order_cache::OrderCacheBounds,
        order_repository::OrderRepository, permits::Permits, pipeline::Pipeline, queries::QueryHandler,
        shared_cache::SharedCache,
    },
    circuit_breaker::CircuitBreaker,
    config::Config,
    id_generator::IdGenerator,
    node::{
        lifecycle::{Stop, Work},
        recovery::{FailureNotifier, Supervised},
    },
    ports::{clock::Clock, health::HealthCheck},
    processors::{
        handlers::{EventHandler, Subscription, SubscriptionDeps, SubscriptionOptions, SubscriptionStatus},
        outbox::{OutboxDeps, OutboxMeter, OutboxOptions, OutboxRelay},
        owners::Owners,
        projections::{LogWatcher, OrderProjection},
    },
    telemetry::traces::Traces,
};

/// Dependencies shared by all services of a node.
#[derive(Clone, Copy)]
pub(super) struct NodeDeps<'a> {
    pub config: &'a Config,
    /// The name of the node.
    pub node: &'a str,
    /// Its address.
    pub address: SocketAddr,
    pub backends: &'a Backends,
    pub breakers: &'a Breakers,
    pub ids: &'a Arc<IdGenerator>,
    pub clock: &'a Arc<dyn Clock>,
    pub owners: &'a Arc<Owners>,
    pub traces: &'a Traces,
}

impl NodeDeps<'_> {
    /// The circuit breakers of the backends in use.
    pub(super) fn breakers_in_use(&self) -> Vec<Arc<CircuitBreaker>> {
        let Breakers { store, transport, cache } = self.breakers;
        let cache = self.backends.cache.as_ref().map(|_| cache);
        [store, transport].into_iter().chain(cache).map(Arc::clone).collect()
    }
}

/// The services between the protocol servers and the backends.
pub(super) struct Services {
    pub mediator: Mediator,
    pub alarms: Arc<FailureNotifier>,
    pub projection: OrderProjection,
    projection_work: Arc<Supervised>,
    relay: OutboxRelay,
    relay_work: Arc<Supervised>,
    outbox_meter: Arc<OutboxMeter>,
    subscriptions: Vec<(Subscription, Arc<Supervised>)>,
}

impl Services {
    pub fn assemble(ground: &NodeDeps<'_>, handlers: Vec<Arc<dyn EventHandler>>, stop: &Stop) -> Self {
        let NodeDeps { config, node, backends, breakers, ids, clock, .. } = *ground;
        let store = &backends.store;
        let shared =
            backends.cache.as_ref().map(|cache| SharedCache::new(Arc::clone(cache), Arc::clone(&breakers.cache)));
        let bounds = OrderCacheBounds { orders: config.cached_orders, bytes: config.cache_mib << 20 };
        let orders = Arc::new(OrderRepository::new(Arc::clone(store), bounds).with_shared_cache(shared));
        let mut projection = OrderProjection::new(Arc::clone(store), Arc::clone(&backends.read_model));
        if backends.is_shared {
            projection = projection.watched_by(Arc::clone(&orders) as Arc<dyn LogWatcher>);
        }
        let permits = Arc::new(Permits::new(config.server.max_in_flight, stop.draining.clone()));
        let commands = CommandHandler::new(Arc::clone(store), Arc::clone(&orders), Arc::clone(ids), Arc::clone(clock))
            .abandoned_by(stop.abandoned.clone());
        let queries = QueryHandler::new(
            Arc::clone(store),
            orders,
            Arc::clone(&backends.read_model),
            projection.progress(),
            Arc::clone(&permits),
        );
        let id_handler = IdHandler::new(Arc::clone(ids), Arc::clone(&permits));
        let request_timeout = Duration::from_millis(config.server.request_timeout_ms);
        let outbox = OutboxOptions {
            batch_size: config.outbox.batch_size,
            scan_interval: Duration::from_millis(config.outbox.scan_interval_ms),
        };
        let outbox_parts = OutboxDeps {
            store: Arc::clone(store),
            bus: Arc::clone(&backends.bus),
            consumers: handlers.iter().map(|handler| handler.name().to_owned()).collect(),
            checkpoints: Arc::clone(&backends.checkpoints),
            leases: Arc::clone(&backends.leases),
            node: node.to_owned(),
            owners: Arc::clone(ground.owners),
        };
        let relay = OutboxRelay::new(outbox_parts, outbox).traced(ground.traces.clone());
        let alarms = Arc::new(FailureNotifier::default());
        let pipeline =
            Pipeline::new(request_timeout, permits).quiet_while(backends.away()).abandoned_by(stop.abandoned.clone());
        Self {
            mediator: Mediator::new(commands, queries, id_handler, pipeline),
            projection,
            projection_work: Arc::new(Supervised::new("projection", Arc::clone(&alarms))),
            outbox_meter: relay.meter(Arc::clone(clock)),
            relay,
            relay_work: Arc::new(Supervised::new("outbox", Arc::clone(&alarms))),
            subscriptions: subscriptions(ground, handlers, &alarms),
            alarms,
        }
    }

    pub fn checks(&self, ground: &NodeDeps<'_>) -> Vec<Arc<dyn HealthCheck>> {
        let NodeDeps { backends, ids, .. } = *ground;
        let breakers = ground.breakers.clone();
        let store = || Arc::clone(&backends.store);
        let in_use = ground.breakers_in_use();
        let cache: Option<Arc<dyn HealthCheck>> = backends.cache.as_ref().map(|cache| {
            Arc::new(health_checks::CacheCheck { cache: Arc::clone(cache), breaker: breakers.cache }) as _
        });
        let mut checks: Vec<Arc<dyn HealthCheck>> = vec![
            Arc::new(health_checks::StoreCheck(store())),
            Arc::new(health_checks::TransportCheck(Arc::clone(&backends.bus))),
            Arc::new(health_checks::BreakerCheck(in_use)),
            Arc::new(health_checks::OutboxCheck {
                status: self.relay.status(),
                meter: Arc::clone(&self.outbox_meter),
                work: Arc::clone(&self.relay_work),
            }),
            Arc::new(health_checks::ProjectionCheck {
                progress: self.projection.progress(),
                read_model: Arc::clone(&backends.read_model),
                store: store(),
                start_head: AtomicU64::new(0),
                last_seen: Mutex::default(),
                work: Arc::clone(&self.projection_work),
            }),
            Arc::new(health_checks::SubscriptionCheck {
                subscriptions: self.subscriptions.iter().map(|(one, work)| (one.status(), Arc::clone(work))).collect(),
                bus: Arc::clone(&backends.bus),
            }),
            Arc::new(health_checks::IdCheck(Arc::clone(ids))),
        ];
        checks.extend(cache);
        checks
    }

    /// The status of each handler.
    pub fn handlers(&self) -> Vec<Arc<SubscriptionStatus>> {
        self.subscriptions.iter().map(|(subscription, _)| subscription.status()).collect()
    }

    pub fn run(self, work: &mut Work, stop: &Stop) {
        let (projection, projecting, ended) = (self.projection, self.projection_work, stop.ended.clone());
        work.spawn_background(async move { projecting.run(|| projection.run(ended.clone()), ended.clone()).await });
        let (relay, relaying, flush, given_up) =
            (self.relay, self.relay_work, stop.flushing.clone(), stop.given_up.clone());
        work.relay(async move {
            relaying.run(|| relay.run_until(flush.clone(), given_up.clone()), flush.clone()).await;
        });
        work.spawn_background(self.outbox_meter.run(stop.ended.clone()));
        for (subscription, handling) in self.subscriptions {
            let ended = stop.ended.clone();
            work.spawn_background(async move { handling.run(|| subscription.run(ended.clone()), ended.clone()).await });
        }
    }
}

/// One subscription per handler.
fn subscriptions(
    ground: &NodeDeps<'_>,
    handlers: Vec<Arc<dyn EventHandler>>,
    alarms: &Arc<FailureNotifier>,
) -> Vec<(Subscription, Arc<Supervised>)> {
    let NodeDeps { config, node, backends, .. } = *ground;
    let options = SubscriptionOptions { max_attempts: config.consumer.max_attempts, ..SubscriptionOptions::default() };
    let parts = SubscriptionDeps {
        bus: Arc::clone(&backends.bus),
        leases: Arc::clone(&backends.bus_leases),
        node: node.to_owned(),
        owners: Arc::clone(ground.owners),
    };
    let supervised = || Arc::new(Supervised::new("subscription", Arc::clone(alarms)));
    let subscription = |handler| {
        let subscription = Subscription::new(parts.clone(), handler, options).traced(ground.traces.clone());
        (subscription, supervised())
    };
    handlers.into_iter().map(subscription).collect()
}
