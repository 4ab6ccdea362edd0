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
    ApiState,
    admission::{AdmittedBody, GrpcRefusal, SmallBody, class_of_method, class_of_route, overloaded},
    browsers::{self, BrowserGate},
    error::{ApiError, Reason},
    grpc::{self, layers::GrpcEdge},
    operators::{self, Operators},
    rest::{self, edge::RestEdge},
};
use crate::application::admission::Admission;

type Grpc = GrpcEdge<Router>;
/// An answer on its way.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Both doors behind one service. Cloned for each request, so what is long to clone is shared.
#[derive(Clone, Debug)]
pub struct ProtocolDispatcher {
    grpc: Grpc,
    rest: RestEdge<Router>,
    operators: Operators,
    gatekeeper: Arc<Gatekeeper>,
    browsers: Arc<Browsers>,
}

/// Who lets calls in, and its answer to those that it does not.
#[derive(Debug)]
struct Gatekeeper {
    admission: Arc<Admission>,
    grpc_refusal: GrpcRefusal,
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

impl ProtocolDispatcher {
    /// Opens both doors.
    ///
    /// # Errors
    /// If an origin is none, or what was compiled in is damaged.
    pub fn open(
        context: &ApiState,
        health: HealthReporter,
        options: &DoorOptions,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let routes = grpc::routes(context, health, options.has_reflection)?;
        let grpc = GrpcEdge::new(routes.into_axum_router(), context.info.max_message_bytes);
        let cors = cors(&options.cors_allowed_origins)?;
        let rest = rest::router(context, options.has_swagger);
        let gatekeeper = Gatekeeper { admission: Arc::clone(&context.admission), grpc_refusal: GrpcRefusal::new() };
        let browsers = Browsers::of(&grpc, &rest, cors, options.gate.clone(), options.is_tls);
        let rest = RestEdge::new(rest, options.is_tls);
        let (operators, gatekeeper) = (options.operators, Arc::new(gatekeeper));
        Ok(Self { grpc, rest, operators, gatekeeper, browsers: Arc::new(browsers) })
    }

    /// The gRPC door alone, for a port of its own.
    #[must_use]
    pub fn grpc_only(&self) -> Self {
        let Browsers { cors, gate, is_tls, .. } = &*self.browsers;
        // What is left of REST answers the preflights of gRPC-Web.
        let rest = rest::closed();
        let browsers = Browsers::of(&self.grpc, &rest, cors.clone(), gate.clone(), *is_tls);
        Self { rest: RestEdge::new(rest, *is_tls), browsers: Arc::new(browsers), ..self.clone() }
    }

    /// The same doors for a port of which every client is an operator.
    #[must_use]
    pub fn for_operators(&self) -> Self {
        Self { operators: Operators::Anyone, ..self.clone() }
    }

    /// Gives a request that was let in to its door.
    fn dispatch(&mut self, request: Request<Body>, protocol: Protocol) -> Answer {
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

    /// Refuses a request for which there is no room, with as little work as may be.
    fn shed(&self, request: Request<Body>, protocol: Protocol) -> Answer {
        let mut response = match protocol {
            Protocol::Grpc => return std::future::ready(Ok(self.gatekeeper.grpc_refusal.response())).boxed(),
            Protocol::GrpcWeb => end_if_unread(request.version(), self.gatekeeper.grpc_refusal.response()),
            _ => protocol.refuse(&request, &overloaded()),
        };
        browsers::secure(response.headers_mut(), self.browsers.is_tls);
        let is_http1 = request.version() < Version::HTTP_2;
        let (head, body) = request.into_parts();
        let rest = is_http1.then(|| SmallBody::of(&head, body));
        let is_from_page = head.headers.contains_key(header::ORIGIN);
        let cors = is_from_page.then(|| self.browsers.cors.clone());
        async move {
            if let Some(rest) = rest
                && rest.is_read_away().await
            {
                response.headers_mut().remove(header::CONNECTION);
            }
            let Some(cors) = cors else { return Ok(response) };
            // A page may read why.
            let mut response = Some(response);
            let answer = tower::service_fn(move |_: Request<Body>| {
                std::future::ready(Ok::<_, Infallible>(response.take().unwrap_or_default()))
            });
            let reply = cors.layer(answer).call(Request::from_parts(head, Body::empty()));
            reply.await.map(|response| response.map(Body::new))
        }
        .boxed()
    }
}

impl Browsers {
    fn of(grpc: &Grpc, rest: &Router, cors: CorsLayer, gate: BrowserGate, is_tls: bool) -> Self {
        Self {
            grpc_web: cors.layer(GrpcWebLayer::new().layer(grpc.clone())),
            rest: RestEdge::new(cors.layer(rest.clone()), is_tls),
            cors,
            gate,
            is_tls,
        }
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

impl Service<Request<Body>> for ProtocolDispatcher {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answer;

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
        let class = match protocol {
            Protocol::Grpc | Protocol::GrpcWeb => class_of_method(request.uri().path()),
            Protocol::Rest | Protocol::Other => class_of_route(request.method(), request.uri().path()),
        };
        let Some(class) = class else { return self.dispatch(request, protocol) };
        match self.gatekeeper.admission.admit(class, request.extensions().get()) {
            Some(call) => {
                let request = request.map(|body| AdmittedBody::of(body, &call));
                call.run(self.dispatch(request, protocol)).boxed()
            }
            None => self.shed(request, protocol),
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
