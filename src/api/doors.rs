//! Which door a request goes through: gRPC and gRPC-Web by their content type, everything else REST.

use std::{
    convert::Infallible,
    error::Error,
    task::{Context as TaskContext, Poll},
};

use axum::{Router, body::Body};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use tonic_health::server::HealthReporter;
use tonic_web::{GrpcWebLayer, GrpcWebService};
use tower::{Layer, Service};
use tower_http::cors::{AllowOrigin, Cors, CorsLayer};

use super::{
    Context,
    grpc::{self, layers::GrpcEdge},
    rest::{self, edge::RestEdge},
};

type Grpc = GrpcEdge<Router>;
type Rest = RestEdge<Cors<Router>>;

/// Both doors behind one service.
#[derive(Clone, Debug)]
pub struct Doors {
    grpc: Grpc,
    grpc_web: Cors<GrpcWebService<Grpc>>,
    rest: Rest,
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
        let cors = cors(cors_allowed_origins)?;
        let rest = RestEdge::new(cors.layer(rest::router(context)));
        let grpc_web = cors.layer(GrpcWebLayer::new().layer(grpc.clone()));
        Ok(Self { grpc, grpc_web, rest, cors })
    }

    /// The gRPC door alone, for a port of its own.
    #[must_use]
    pub fn grpc_only(&self) -> Self {
        // What is left of REST answers the preflights of gRPC-Web.
        Self { rest: RestEdge::new(self.cors.layer(rest::closed())), ..self.clone() }
    }
}

impl Service<Request<Body>> for Doors {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _task: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // All three are always ready: what bounds the work stands behind them.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        if content_type.starts_with(b"application/grpc-web") {
            let reply = self.grpc_web.call(request);
            async move { reply.await.map(|response| response.map(Body::new)) }.boxed()
        } else if content_type.starts_with(b"application/grpc") {
            self.grpc.call(request)
        } else {
            self.rest.call(request)
        }
    }
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
        "etag",
        "link",
        "location",
        "retry-after",
        "x-consistency-token",
    ];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(tower_http::cors::Any)
        .expose_headers(exposed.map(HeaderName::from_static))
}
