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
    grpc::{self, layers::GrpcEdge},
    rest::{self, edge::RestEdge},
};

type Grpc = GrpcEdge<Router>;

/// Both doors behind one service. Cloned for each request, so what is long to clone is shared.
#[derive(Clone, Debug)]
pub struct Doors {
    grpc: Grpc,
    rest: RestEdge<Router>,
    browsers: Arc<Browsers>,
}

/// The same doors for requests that only browsers send, from pages of whatever origin.
#[derive(Debug)]
struct Browsers {
    grpc_web: Cors<GrpcWebService<Grpc>>,
    rest: RestEdge<Cors<Router>>,
    cors: CorsLayer,
}

impl Doors {
    /// Opens both doors. Browsers of `cors_allowed_origins` may come in; others only from pages of this node itself.
    ///
    /// # Errors
    /// If an origin is none, or what was compiled in is damaged.
    pub fn open(
        context: &Context,
        health: HealthReporter,
        cors_allowed_origins: &[String],
    ) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let grpc = GrpcEdge::new(grpc::routes(context, health)?.into_axum_router(), context.info.max_message_bytes);
        Ok(Self::of(grpc, rest::router(context), cors(cors_allowed_origins)?))
    }

    /// The gRPC door alone, for a port of its own.
    #[must_use]
    pub fn grpc_only(&self) -> Self {
        // What is left of REST answers the preflights of gRPC-Web.
        Self::of(self.grpc.clone(), rest::closed(), self.browsers.cors.clone())
    }

    fn of(grpc: Grpc, rest: Router, cors: CorsLayer) -> Self {
        let browsers = Browsers {
            grpc_web: cors.layer(GrpcWebLayer::new().layer(grpc.clone())),
            rest: RestEdge::new(cors.layer(rest.clone())),
            cors,
        };
        Self { grpc, rest: RestEdge::new(rest), browsers: Arc::new(browsers) }
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

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let headers = request.headers();
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if content_type.starts_with(b"application/grpc-web") {
            let version = request.version();
            let reply = self.browsers.grpc_web.clone().call(request);
            async move { reply.await.map(|response| end_if_unread(version, response.map(Body::new))) }.boxed()
        } else if content_type.starts_with(b"application/grpc") {
            self.grpc.call(request)
        } else if headers.contains_key(header::ORIGIN) {
            self.browsers.rest.clone().call(request)
        } else {
            self.rest.call(request)
        }
    }
}

/// A request that was refused for its size has not been read to its end, and over HTTP/1 nothing can follow it on its connection: the
/// client is told, or it would send the next request into a connection that is being closed.
fn end_if_unread(version: Version, mut response: Response<Body>) -> Response<Body> {
    let refused = tonic::Status::from_header_map(response.headers());
    if version < Version::HTTP_2 && refused.is_some_and(|status| status.code() == tonic::Code::ResourceExhausted) {
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
