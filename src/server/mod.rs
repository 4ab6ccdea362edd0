//! The protocol servers: gRPC and REST on one port. They only translate; all status codes are defined here.

pub mod admission;
pub mod browsers;
pub mod connection;
pub mod dashboard;
pub mod dispatch;
pub mod error;
pub mod event_streams;
pub mod grpc;
pub mod large;
pub mod listener;
pub mod operators;
pub mod paced;
pub mod rest;
pub mod settings;
pub mod tls;

use std::{sync::Arc, time::Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use self::connection::Connection;
pub use self::event_streams::EventStreams;
pub use crate::application::limits::*;
pub use crate::application::tokens::{Signer, SignerOfStore};
use crate::{
    application::{AppError, Mediator, admission::Admission, dead_letters::DeadLetters, event_streams::EventLog},
    cluster::ClusterReader,
    domain::timestamp::Timestamp,
    id_generator::IdGenerator,
    ports::{clock::Clock, event_store::EventStore, health::Health},
    processors::projections::Rebuilds,
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
    /// The same as an instant, for the uptime.
    pub started: Instant,
    /// The maximum size of a request, in bytes.
    pub max_message_bytes: usize,
    /// The maximum number of commands and queries in flight.
    pub max_in_flight: usize,
    /// The maximum number of open calls on one connection.
    pub max_concurrent_streams: u32,
    /// The maximum number of open connections.
    pub max_connections: usize,
}

/// The name of the service, as in the seeds.
pub const SERVICE_NAME: &str = "Catga OrderSystem";
/// The version of the service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The shared state of the protocol servers. Cheap to clone.
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
    /// Static node information.
    pub info: Arc<ServerInfo>,
    /// The cluster view.
    pub cluster: Arc<ClusterReader>,
    /// The health of this node.
    pub health: Arc<Health>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics for `/metrics`.
    pub metrics: PrometheusHandle,
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
    pub fn log(&self) -> Result<Signer, error::ApiError> {
        let unknown = || AppError::unavailable("the event store has not been reached yet").into();
        self.known_log().ok_or_else(unknown)
    }

    /// The same; `None` before then.
    #[must_use]
    pub fn known_log(&self) -> Option<Signer> {
        self.signer.current()
    }

    /// The bounds of event streams on the connection of the request with `extensions`.
    #[must_use]
    pub fn streams_of(&self, extensions: &http::Extensions) -> EventStreams {
        Connection::of(extensions).map_or(&self.event_streams, |connection| &connection.event_streams).clone()
    }
}
