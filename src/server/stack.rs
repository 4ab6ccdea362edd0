//! The layers around both APIs, from the outside in.
//!
//! A new concern of every call is a file in `stack/` with a [`Layer`](tower::Layer), and a line in `Stack::service`. The types are static: a layer
//! costs neither an allocation nor a dynamic call. The properties of a call are determined once, in [`Call`](super::call::Call).

mod apis;
mod call_ids;
mod completion;
mod cors;
mod deadlines;
mod grpc_web;
mod identity;
mod limits;
mod logged;
mod metered;
mod origins;
mod pacing;
mod panics;
mod refusal;
mod response;
mod traced;

use std::{error::Error, sync::Arc};

use axum::Router;
use tonic_health::server::HealthReporter;
use tower::ServiceBuilder;

use self::{
    apis::Apis,
    call_ids::{CallIdLayer, CallIds},
    completion::{Completion, CompletionLayer},
    cors::{PageLayer, Pages},
    deadlines::{DeadlineLayer, Deadlines},
    grpc_web::{GrpcWeb, GrpcWebTranslation},
    identity::{Identity, IdentityLayer},
    limits::{LimitLayer, Limits},
    logged::{LogLayer, Logged},
    metered::{MeterLayer, Metered},
    origins::{OriginLayer, Origins},
    pacing::{PaceLayer, Pacing},
    panics::{PanicLayer, Panics},
    traced::{TraceLayer, Traced},
};
use super::{
    ApiState,
    access::{Access, audit::Audit},
    browsers::BrowserGate,
    dashboard,
    grpc::{self, edge::GrpcEdge},
    operators::Operators,
    rest,
};
use crate::{identity::Authenticator, telemetry::traces::Traces};

/// The service of a port. Cloned for each request.
pub type PortService = CallIds<
    GrpcWeb<Metered<Logged<Traced<Completion<Origins<Pages<Identity<Limits<Pacing<Deadlines<Panics<Apis>>>>>>>>>>>>,
>;

/// The parts from which the layers are built.
#[derive(Clone, Debug)]
pub struct Stack {
    traces: TraceLayer,
    completion: CompletionLayer,
    origins: OriginLayer,
    pages: PageLayer,
    access: Option<Access>,
    operators: Operators,
    audit: Arc<Audit>,
    limits: LimitLayer,
    grpc: GrpcEdge,
    rest: Router,
}

/// The options of the stack.
#[derive(Clone, Debug)]
pub struct StackOptions {
    /// The restrictions for browsers.
    pub gate: BrowserGate,
    /// Web origins that may send requests, in addition to pages of the node itself; `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
    /// The clients that count as operators, where callers are not identified.
    pub operators: Operators,
    /// Verifies callers; `None`: they are not identified.
    pub authenticator: Option<Authenticator>,
    /// Whether the port uses TLS.
    pub is_tls: bool,
    /// Whether gRPC reflection is enabled.
    pub has_reflection: bool,
    /// Whether Swagger UI is enabled.
    pub has_swagger: bool,
    /// Makes the spans of calls.
    pub traces: Traces,
}

impl Stack {
    /// Builds both APIs.
    ///
    /// # Errors
    /// If an origin is invalid, or the embedded descriptors cannot be parsed.
    pub fn open(
        api: &ApiState,
        health: HealthReporter,
        options: &StackOptions,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let services = grpc::services(api, health, options.has_reflection)?;
        let audit = Arc::new(Audit::new());
        Ok(Self {
            traces: TraceLayer { traces: options.traces.clone() },
            completion: CompletionLayer { is_tls: options.is_tls },
            origins: OriginLayer::new(options.gate.clone(), Arc::clone(&audit)),
            pages: PageLayer::new(&options.cors_allowed_origins)?,
            access: options.authenticator.clone().map(|authenticator| Access::new(authenticator, Arc::clone(&audit))),
            operators: options.operators,
            audit,
            limits: LimitLayer::new(Arc::clone(&api.admission)),
            grpc: GrpcEdge::new(services, api.info.max_message_bytes),
            rest: rest::router(api, options.has_swagger).merge(dashboard::router()),
        })
    }

    /// The service of the main port.
    #[must_use]
    pub fn main(&self) -> PortService {
        self.service(self.operators, self.rest.clone())
    }

    /// The service of a port for gRPC only.
    #[must_use]
    pub fn grpc_only(&self) -> PortService {
        self.service(self.operators, rest::closed())
    }

    /// The service of a port whose clients are all operators, unless callers are identified.
    #[must_use]
    pub fn for_operators(&self) -> PortService {
        self.service(Operators::Anyone, self.rest.clone())
    }

    /// The list of the layers. Layers that record or audit the outcome of a call are outside of layers that may end it.
    fn service(&self, operators: Operators, rest: Router) -> PortService {
        let identity = IdentityLayer::new(self.access.clone(), operators, Arc::clone(&self.audit));
        ServiceBuilder::new()
            // Gives the call an id, and returns it.
            .layer(CallIdLayer)
            // Translates gRPC-Web into gRPC.
            .layer(GrpcWebTranslation)
            // Counts the call: its duration, outcome, bytes and messages.
            .layer(MeterLayer)
            // Logs the call at its end, if the access log is on.
            .layer(LogLayer)
            // Makes the span of the call.
            .layer(self.traces.clone())
            // Completes problem documents, and the headers for browsers.
            .layer(self.completion)
            // Refuses requests from pages of other sites, and protocols that this port does not serve.
            .layer(self.origins.clone())
            // Tells browsers which pages may read the response.
            .layer(self.pages.clone())
            // Refuses callers that may not make the call.
            .layer(identity)
            // Refuses calls above the limits of the node.
            .layer(self.limits.clone())
            // Counts data that waits to be read by the client.
            .layer(PaceLayer)
            // Ends the call at its deadline.
            .layer(DeadlineLayer)
            // Turns a panic into an internal error.
            .layer(PanicLayer)
            // Routes to gRPC or REST.
            .service(Apis::new(self.grpc.clone(), rest))
    }
}
