//! The protocol servers: gRPC and REST on one port. They only translate, and no other module knows status codes. The codes of errors are in
//! `error/reason.rs`; the codes of other replies are where REST makes them.

pub mod access;
pub mod admission;
pub mod browsers;
pub mod call;
pub mod connection;
pub mod dashboard;
pub mod error;
pub mod event_streams;
pub mod grpc;
pub mod large;
pub mod last_caller;
pub mod listener;
pub mod meters;
mod observed;
pub mod operators;
pub mod paced;
pub mod principal;
pub mod rest;
pub mod sending;
pub mod settings;
pub mod stack;
pub mod tls;

use std::{sync::Arc, time::Instant};

use tokio_util::sync::CancellationToken;

pub use self::event_streams::EventStreams;
pub use crate::application::limits::*;
pub use crate::application::tokens::{Signer, SignerOfStore};
use crate::{
    application::{AppError, Mediator, admission::Admission, dead_letters::DeadLetters, event_streams::EventLog},
    circuit_breaker::CircuitBreaker,
    cluster::ClusterReader,
    domain::timestamp::Timestamp,
    id_generator::IdGenerator,
    ports::{clock::Clock, event_store::EventStore, health::Health},
    processors::projections::Rebuilds,
    settings::EffectiveSetting,
    telemetry::{logs::LogLevels, metrics::Metrics},
};

/// Static node information, returned by GetServerInfo.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The name of the node.
    pub node: String,
    /// Whether it is in cluster mode.
    pub is_cluster: bool,
    /// The message bus, as in `--transport`.
    pub transport: &'static str,
    /// The event store, as in `--persistence`.
    pub persistence: &'static str,
    /// When the node started.
    pub started_at: Timestamp,
    /// When the node started, as an instant, for the uptime.
    pub started: Instant,
    /// The maximum size of a request, in bytes.
    pub max_message_bytes: usize,
    /// The maximum number of commands and queries in flight.
    pub max_in_flight: usize,
    /// The maximum number of open calls on one connection.
    pub max_concurrent_streams: u32,
    /// The maximum number of open connections.
    pub max_connections: usize,
    /// Whether callers are identified.
    pub authentication: Authentication,
    /// A warning about dangerous access to the node; `None` if access is not dangerous.
    pub security_warning: Option<&'static str>,
    /// The settings in use, secrets hidden.
    pub configuration: Vec<EffectiveSetting>,
}

/// Whether the callers of a node are identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Callers are not identified: every client may do everything.
    None,
    /// Callers are identified: calls need credentials.
    Required,
}

impl Authentication {
    /// Its name in both APIs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Required => "required",
        }
    }
}

/// Every path of REST and of the dashboard, as in the OpenAPI document.
#[must_use]
pub fn paths() -> Vec<String> {
    [rest::paths(), dashboard::PATHS.map(str::to_owned).to_vec()].concat()
}

/// The name of the service, as in the seeds.
pub const SERVICE_NAME: &str = "Catga OrderSystem";
/// The version of the service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The shared state of both APIs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The entry to the application.
    pub mediator: Mediator,
    /// The admission control of calls.
    pub admission: Arc<Admission>,
    /// The log, for event streams.
    pub store: Arc<dyn EventStore>,
    /// The signer of tokens and cursors.
    pub signer: SignerOfStore,
    /// The id generator.
    pub ids: Arc<IdGenerator>,
    /// The dead letters of event handlers.
    pub dead_letters: Arc<DeadLetters>,
    /// Requests read model rebuilds.
    pub rebuilds: Rebuilds,
    /// The circuit breakers of the backends.
    pub breakers: Arc<[Arc<CircuitBreaker>]>,
    /// Static node information.
    pub info: Arc<ServerInfo>,
    /// The cluster view.
    pub cluster: Arc<ClusterReader>,
    /// The health of this node.
    pub health: Arc<Health>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Changes the filter of the log; `None` if an embedding program has set up its log itself.
    pub logs: Option<LogLevels>,
    /// The metrics for `/metrics`.
    pub metrics: Metrics,
    /// Cancelled when the node begins to shut down: streams end, new work is refused.
    pub draining: CancellationToken,
    /// The log, as event streams read it.
    pub event_log: EventLog,
    /// The open event streams.
    pub event_streams: EventStreams,
}

impl ApiState {
    /// The signer of the log, which identifies and signs positions in a reply.
    ///
    /// # Errors
    /// UNAVAILABLE before the event store has been reached for the first time: no cursor or token can be issued then.
    pub fn signer(&self) -> Result<Signer, error::ApiError> {
        let unknown = || AppError::unavailable("the event store has not been reached yet").into();
        self.known_signer().ok_or_else(unknown)
    }

    /// The signer of the log; `None` before the event store has been reached.
    #[must_use]
    pub fn known_signer(&self) -> Option<Signer> {
        self.signer.current()
    }

    /// The bounds of event streams on the connection of the request with `extensions`.
    #[must_use]
    pub fn streams_of(&self, extensions: &http::Extensions) -> EventStreams {
        call::connection(extensions).map_or(&self.event_streams, |connection| &connection.event_streams).clone()
    }
}
