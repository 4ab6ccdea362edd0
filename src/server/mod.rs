//! The doors: gRPC and REST on one port. They translate, and do nothing else; status codes live here and nowhere else.

pub mod admission;
pub mod browsers;
pub mod dashboard;
pub mod dispatch;
pub mod error;
pub mod event_streams;
pub mod grpc;
pub mod listener;
pub mod operators;
pub mod paced;
pub mod rest;
pub mod tls;

use std::{sync::Arc, time::Instant};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

pub use self::event_streams::{EventStreamPermit, EventStreams};
pub use crate::application::limits::*;
pub use crate::application::tokens::Signer;
use crate::{
    application::{
        AppError, Mediator, admission::Admission, byte_budget::ByteBudget, dead_letters::DeadLetters, fan_out::FanOut,
    },
    cluster::ClusterReader,
    domain::timestamp::Timestamp,
    id_generator::IdGenerator,
    ports::{clock::Clock, event_store::EventStore, health::Health},
    processors::projections::Rebuilds,
};

/// The budget for the bytes of requests that the listener has given to the connection of a request.
fn request_budget(extensions: &http::Extensions) -> ByteBudget {
    extensions.get().cloned().unwrap_or_else(ByteBudget::unbounded)
}

/// What this node is, as it tells everyone who asks.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// The name of the node.
    pub node: String,
    /// Whether it is one of many.
    pub is_cluster: bool,
    /// The message bus, as in `--transport`.
    pub transport: &'static str,
    /// The event store, as in `--persistence`.
    pub persistence: &'static str,
    /// When the node started.
    pub started_at: Timestamp,
    /// The same, for the uptime.
    pub started: Instant,
    /// The largest request, in bytes.
    pub max_message_bytes: usize,
    /// Commands and queries worked on at a time.
    pub max_in_flight: usize,
    /// Calls open at a time on one connection.
    pub max_concurrent_streams: u32,
    /// Connections open at a time.
    pub max_connections: usize,
}

/// The name of the service, as the seeds have it.
pub const SERVICE_NAME: &str = "Catga OrderSystem";
/// The version of the service.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the doors work with. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The way into the application.
    pub mediator: Mediator,
    /// How many calls it is given at a time.
    pub admission: Arc<Admission>,
    /// The log, for streams of events.
    pub store: Arc<dyn EventStore>,
    /// The id generator.
    pub ids: Arc<IdGenerator>,
    /// What handlers of events gave up.
    pub dead_letters: Arc<DeadLetters>,
    /// Where to ask for the read model to be built anew.
    pub rebuilds: Rebuilds,
    /// What this node is.
    pub info: Arc<ServerInfo>,
    /// Who else serves.
    pub cluster: Arc<ClusterReader>,
    /// How this node feels.
    pub health: Arc<Health>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
    /// Cancelled when the node begins to shut down: streams end, new work is refused.
    pub draining: CancellationToken,
    /// New events of the log, for who follows them.
    pub fan_out: FanOut,
    /// Streams of events open now.
    pub event_streams: EventStreams,
}

impl ApiState {
    /// Which log the positions in a reply are of, and what signs them.
    ///
    /// # Errors
    /// UNAVAILABLE before the event store has been reached for the first time: no cursor or token can be given out then.
    pub fn log(&self) -> Result<Signer, error::ApiError> {
        let unknown = || AppError::unavailable("the event store has not been reached yet").into();
        self.known_log().ok_or_else(unknown)
    }

    /// The same; `None` before then.
    #[must_use]
    pub fn known_log(&self) -> Option<Signer> {
        Signer::of(&*self.store)
    }

    /// The bounds of streams on the connection of the request with `extensions`.
    #[must_use]
    pub fn streams_of(&self, extensions: &http::Extensions) -> EventStreams {
        extensions.get().unwrap_or(&self.event_streams).clone()
    }
}
