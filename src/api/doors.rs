//! Which door a request goes through: gRPC and gRPC-Web by their content type, everything else REST.

use std::{
    convert::Infallible,
    error::Error,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use axum::{Router, body::Body};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderName, HeaderValue, Method, Request, Response, Version, header};
use tonic_health::server::HealthReporter;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors, CorsLayer};

use super::{
    Context,
    browsers::{self, BrowserGate},
    error::{ApiError, Reason},
    grpc::{self, layers::GrpcEdge},
    operators::{self, Operators},
    rest::{self, edge::RestEdge},
};

type Grpc = GrpcEdge<Router>;

/// Both doors behind one service. Cloned for each request, so what is long to clone is shared.
#[derive(Clone, Debug)]
pub struct Doors {
    grpc: Grpc,
    rest: RestEdge<Router>,
    operators: Operators,
    browsers: Arc<Browsers>,
}

/// How the doors are opened.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// What browsers may do.
    pub gate: BrowserGate,
    /// Web origins that may call, beside pages of the node itself; `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
    /// Who is taken for an operator.
    pub operators: Operators,
    /// Whether the port speaks TLS.
    pub is_tls: bool,
    /// Whether the services describe themselves to clients that ask.
    pub has_reflection: bool,
    /// Whether there is a page to try the REST door out.
    pub has_swagger: bool,
}

/// The same doors for requests that only browsers send, from pages of whatever origin.
#[derive(Debug)]
struct Browsers {
    grpc_web: Cors<GrpcWebService<Grpc>>,
    rest: RestEdge<Cors<Router>>,
    cors: CorsLayer,
    gate: BrowserGate,
    is_tls: bool,
}

impl Doors {
    /// Opens both doors.
    ///
    /// # Errors
    /// If an origin is none, or what was compiled in is damaged.
    pub fn open(
        context: &Context,
        health: HealthReporter,
        options: &DoorOptions,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let routes = grpc::routes(context, health, options.has_reflection)?;
        let grpc = GrpcEdge::new(routes.into_axum_router(), context.info.max_message_bytes);
        let cors = cors(&options.cors_allowed_origins)?;
        let rest = rest::router(context, options.has_swagger);
        Ok(Self::of(grpc, rest, cors, options.gate.clone(), options.is_tls, options.operators))
    }

    /// The gRPC door alone, for a port of its own.
    #[must_use]
    pub fn grpc_only(&self) -> Self {
        let Browsers { cors, gate, is_tls, .. } = &*self.browsers;
        // What is left of REST answers the preflights of gRPC-Web.
        Self::of(self.grpc.clone(), rest::closed(), cors.clone(), gate.clone(), *is_tls, self.operators)
    }

    /// The same doors for a port of which every client is an operator.
    #[must_use]
    pub fn for_operators(&self) -> Self {
        Self { operators: Operators::Anyone, ..self.clone() }
    }

    fn of(grpc: Grpc, rest: Router, cors: CorsLayer, gate: BrowserGate, is_tls: bool, operators: Operators) -> Self {
        let browsers = Browsers {
            grpc_web: cors.layer(GrpcWebLayer::new().layer(grpc.clone())),
            rest: RestEdge::new(cors.layer(rest.clone()), is_tls),
            cors,
            gate,
            is_tls,
        };
        Self { grpc, rest: RestEdge::new(rest, is_tls), operators, browsers: Arc::new(browsers) }
    }
}

/// Whether a request that a browser may send may come in.
fn check(request: &Request<Body>, protocol: Protocol) -> Result<(), ApiError> {
    let path = request.uri().path();
    match protocol {
        Protocol::Rest => return Ok(()),
        Protocol::Other => {
            let message = "of gRPC, application/grpc and application/grpc-web are spoken here, with +proto";
            return Err(ApiError::new(Reason::UnsupportedMediaType, message));
        }
        // Its status comes after the body, where HTTP/1.1 has nothing that clients read.
        Protocol::Grpc if request.version() < Version::HTTP_2 => {
            let message = "gRPC needs HTTP/2; gRPC-Web and REST are served over HTTP/1.1";
            return Err(ApiError::new(Reason::HttpVersionNotSupported, message));
        }
        Protocol::Grpc | Protocol::GrpcWeb => {}
    }
    if request.uri().query().is_some() {
        return Err(ApiError::new(Reason::RouteNotFound, "a method of gRPC takes no query"));
    }
    if operators::is_for_operators(path) { operators::require(request.extensions()) } else { Ok(()) }
}

/// Whether `path` is one that only tells whether the node serves.
fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready") || path.starts_with("/grpc.health.v1.Health/")
}

/// What a request speaks, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Rest,
    /// A kind of gRPC that nobody here understands.
    Other,
}

impl Protocol {
    fn of(request: &Request<Body>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let Some(kind) = content_type.strip_prefix(b"application/grpc") else { return Self::Rest };
        let end = kind.iter().position(|byte| *byte == b';' || *byte == b' ').unwrap_or(kind.len());
        match &kind[..end] {
            // Any other method cannot have come from a client of gRPC.
            _ if request.method() != Method::POST && request.method() != Method::OPTIONS => Self::Rest,
            b"" | b"+proto" => Self::Grpc,
            b"-web" | b"-web+proto" | b"-web-text" | b"-web-text+proto" => Self::GrpcWeb,
            _ => Self::Other,
        }
    }

    /// The answer to a request that may not come in.
    fn refuse(self, request: &Request<Body>, error: &ApiError) -> Response<Body> {
        match self {
            Self::Grpc if request.version() >= Version::HTTP_2 => error.to_status().into_http(),
            Self::GrpcWeb => end_if_unread(request.version(), error.to_status().into_http()),
            _ => rest::edge::refuse(request, error.clone()),
        }
    }
}

impl Service<Request<Body>> for Doors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _task: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // All of them are always ready: what bounds the work stands behind them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let protocol = Protocol::of(&request);
        let checked = self.browsers.gate.check(&request);
        let checked = match checked {
            // Probes call a node by whatever address it has, and are told nothing else.
            Err(error) if !is_probe(request.uri().path()) => Err(error),
            checked => {
                if checked.is_ok() {
                    self.operators.mark(&mut request);
                }
                check(&request, protocol)
            }
        };
        if let Err(error) = checked {
            let mut response = protocol.refuse(&request, &error);
            browsers::secure(response.headers_mut(), self.browsers.is_tls);
            return std::future::ready(Ok(response)).boxed();
        }
        match protocol {
            Protocol::GrpcWeb => {
                let (version, is_tls) = (request.version(), self.browsers.is_tls);
                let reply = self.browsers.grpc_web.clone().call(request);
                let finish = move |response: Response<_>| {
                    let mut response = end_if_unread(version, response.map(Body::new));
                    browsers::secure(response.headers_mut(), is_tls);
                    response
                };
                async move { reply.await.map(finish) }.boxed()
            }
            Protocol::Grpc => self.grpc.call(request),
            _ if request.headers().contains_key(header::ORIGIN) => self.browsers.rest.clone().call(request),
            _ => self.rest.call(request),
        }
    }
}

/// A request that was refused for its size has not been read to its end, and over HTTP/1 nothing can follow it on its connection: the
/// client is told, or it would send the next request into a connection that is being closed.
fn end_if_unread(version: Version, mut response: Response<Body>) -> Response<Body> {
    let refused = tonic::Status::from_header_map(response.headers());
    let is_unread =
        |status: tonic::Status| matches!(status.code(), tonic::Code::ResourceExhausted | tonic::Code::PermissionDenied);
    if version < Version::HTTP_2 && refused.is_some_and(is_unread) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn cors(origins: &[String]) -> Result<CorsLayer, Box<dyn Error + Send + Sync>> {
    if origins == ["*"] {
        return Ok(cors_from(AllowOrigin::any()));
    }
    let origins = origins.iter().map(|origin| HeaderValue::from_str(origin)).collect::<Result<Vec<_>, _>>()?;
    Ok(cors_from(AllowOrigin::list(origins)))
}

fn cors_from(origins: AllowOrigin) -> CorsLayer {
    let exposed = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "grpc-retry-pushback-ms",
        "etag",
        "link",
        "location",
        "retry-after",
        "x-consistency-token",
    ];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        // Those that are asked for: `*` does not cover Authorization, by the Fetch standard.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
}
