//! Dispatches requests by protocol: gRPC and gRPC-Web by their content type, everything else to REST.

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
    connection::Connection,
    dashboard,
    error::{ApiError, Reason},
    grpc::{self, layers::GrpcEdge},
    operators::{self, Operators},
    rest::{self, edge::RestEdge},
};
use crate::application::admission::Admission;

type Grpc = GrpcEdge<Router>;
/// A pending response.
type Answer = BoxFuture<'static, Result<Response<Body>, Infallible>>;

/// Both protocols behind one service. Cloned for each request, so expensive parts are shared.
#[derive(Clone, Debug)]
pub struct ProtocolDispatcher {
    grpc: Grpc,
    rest: RestEdge<Router>,
    operators: Operators,
    gatekeeper: Arc<Gatekeeper>,
    browsers: Arc<Browsers>,
}

/// The admission control, and its prepared reply for refused calls.
#[derive(Debug)]
struct Gatekeeper {
    admission: Arc<Admission>,
    grpc_refusal: GrpcRefusal,
}

/// The options of the dispatcher.
#[derive(Clone, Debug)]
pub struct DoorOptions {
    /// The restrictions for browsers.
    pub gate: BrowserGate,
    /// Web origins that may send requests, in addition to pages of the node itself; `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
    /// Which clients count as operators.
    pub operators: Operators,
    /// Whether the port uses TLS.
    pub is_tls: bool,
    /// Whether gRPC reflection is enabled.
    pub has_reflection: bool,
    /// Whether Swagger UI is enabled.
    pub has_swagger: bool,
}

/// The services for requests that only browsers send, from pages of any origin.
#[derive(Debug)]
struct Browsers {
    grpc_web: Cors<GrpcWebService<Grpc>>,
    rest: RestEdge<Cors<Router>>,
    cors: CorsLayer,
    gate: BrowserGate,
    is_tls: bool,
}

/// Every path of REST and of the dashboard, as the OpenAPI document has them.
#[must_use]
pub fn paths() -> Vec<String> {
    [rest::paths(), dashboard::PATHS.map(str::to_owned).to_vec()].concat()
}

impl ProtocolDispatcher {
    /// Builds both APIs.
    ///
    /// # Errors
    /// If an origin is invalid, or the embedded descriptors cannot be parsed.
    pub fn open(
        context: &ApiState,
        health: HealthReporter,
        options: &DoorOptions,
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let routes = grpc::routes(context, health, options.has_reflection)?;
        let grpc = GrpcEdge::new(routes.into_axum_router(), context.info.max_message_bytes);
        let cors = cors(&options.cors_allowed_origins)?;
        let rest = rest::router(context, options.has_swagger).merge(dashboard::router());
        let gatekeeper = Gatekeeper { admission: Arc::clone(&context.admission), grpc_refusal: GrpcRefusal::new() };
        let browsers = Browsers::of(&grpc, &rest, cors, options.gate.clone(), options.is_tls);
        let rest = RestEdge::new(rest, options.is_tls);
        let (operators, gatekeeper) = (options.operators, Arc::new(gatekeeper));
        Ok(Self { grpc, rest, operators, gatekeeper, browsers: Arc::new(browsers) })
    }

    /// The gRPC server only, for a separate port.
    #[must_use]
    pub fn grpc_only(&self) -> Self {
        let Browsers { cors, gate, is_tls, .. } = &*self.browsers;
        // REST only answers the preflight requests of gRPC-Web here.
        let rest = rest::closed();
        let browsers = Browsers::of(&self.grpc, &rest, cors.clone(), gate.clone(), *is_tls);
        Self { rest: RestEdge::new(rest, *is_tls), browsers: Arc::new(browsers), ..self.clone() }
    }

    /// The same for a port whose clients are all operators.
    #[must_use]
    pub fn for_operators(&self) -> Self {
        Self { operators: Operators::Anyone, ..self.clone() }
    }

    /// Passes an admitted request to its protocol server.
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

    /// Refuses a request under overload, with as little work as possible.
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
            // CORS headers let a page read the reason.
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

/// Whether a request that a browser may send is permitted.
fn check(request: &Request<Body>, protocol: Protocol) -> Result<(), ApiError> {
    let path = request.uri().path();
    match protocol {
        Protocol::Rest => return Ok(()),
        Protocol::Other => {
            let message = "gRPC is served here with Content-Type: application/grpc or application/grpc-web, with or without +proto";
            return Err(ApiError::new(Reason::UnsupportedMediaType, message));
        }
        // Its status is in the trailers, which clients do not read over HTTP/1.1.
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

/// Whether `path` is a probe that only reports whether the node serves.
fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready") || path.starts_with("/grpc.health.v1.Health/")
}

/// Whether `path` belongs to a gRPC service: REST has no such paths.
fn is_of_grpc(path: &str) -> bool {
    path.starts_with("/catga.") || path.starts_with("/grpc.")
}

/// The protocol of a request, by its content type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Grpc,
    GrpcWeb,
    Rest,
    /// An unsupported variant of gRPC, or a call of one of its methods with another content type.
    Other,
}

impl Protocol {
    fn of(request: &Request<Body>) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let Some(kind) = content_type.strip_prefix(b"application/grpc") else {
            // The HTTP/2 mapping of gRPC: any other content type of a method is answered with 415.
            let is_call = request.method() == Method::POST && is_of_grpc(request.uri().path());
            return if is_call { Self::Other } else { Self::Rest };
        };
        let end = kind.iter().position(|byte| *byte == b';' || *byte == b' ').unwrap_or(kind.len());
        match &kind[..end] {
            // A gRPC client uses no other method.
            _ if request.method() != Method::POST && request.method() != Method::OPTIONS => Self::Rest,
            b"" | b"+proto" => Self::Grpc,
            b"-web" | b"-web+proto" | b"-web-text" | b"-web-text+proto" => Self::GrpcWeb,
            _ => Self::Other,
        }
    }

    /// The response to a refused request.
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
        // All services are always ready: the limits are applied behind them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let protocol = Protocol::of(&request);
        // Only orders have a class, and nothing about them depends on whether the client is an operator.
        let class = match protocol {
            Protocol::Grpc | Protocol::GrpcWeb => class_of_method(request.uri().path()),
            Protocol::Rest | Protocol::Other => class_of_route(request.method(), request.uri().path()),
        };
        let checked = self.browsers.gate.check(&request);
        let checked = match checked {
            // Probes use any address of the node, and learn nothing but its health.
            Err(error) if !is_probe(request.uri().path()) => Err(error),
            checked => {
                if checked.is_ok() && class.is_none() {
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
        let Some(class) = class else { return self.dispatch(request, protocol) };
        match self
            .gatekeeper
            .admission
            .admit(class, Connection::of(request.extensions()).map(|connection| &connection.caller))
        {
            Some(call) => {
                let request = request.map(|body| AdmittedBody::of(body, &call));
                call.run(self.dispatch(request, protocol)).boxed()
            }
            None => self.shed(request, protocol),
        }
    }
}

/// A request refused for its size has not been read to its end, and over HTTP/1 nothing can follow it on its connection. The response says so;
/// otherwise the client would send the next request into a closing connection.
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
        // Mirrors the requested headers: by the Fetch standard `*` does not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
}
