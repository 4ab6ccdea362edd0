//! Tells browsers which pages may read a response. Source: the Fetch standard, CORS protocol.

use std::{
    convert::Infallible,
    error::Error,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderName, HeaderValue, Method, Request, Response, header};
use http_body::Body as HttpBody;
use tower::{Layer, Service, ServiceExt as _};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::response::{Responding, ResponseBody};
use crate::server::call::{Call, Protocol};

/// The layer.
#[derive(Clone, Debug)]
pub struct PageLayer(Arc<CorsLayer>);

impl PageLayer {
    /// Lets pages of `origins` read responses; `*` alone means all pages.
    ///
    /// # Errors
    /// If an origin is not a valid header value.
    pub fn new(origins: &[String]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        if origins == ["*"] {
            return Ok(Self(Arc::new(cors(AllowOrigin::any()))));
        }
        let origins = origins.iter().map(|origin| HeaderValue::from_str(origin)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(cors(AllowOrigin::list(origins)))))
    }
}

impl<S> Layer<S> for PageLayer {
    type Service = Pages<S>;

    fn layer(&self, inner: S) -> Pages<S> {
        Pages { inner, cors: Arc::clone(&self.0) }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Pages<S> {
    inner: S,
    cors: Arc<CorsLayer>,
}

impl<S, B> Service<Request<Body>> for Pages<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Send + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = Responding<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let protocol = Call::read(&mut request, |call| call.protocol);
        let is_of_page = match protocol {
            Protocol::Grpc => false,
            Protocol::GrpcWeb => true,
            Protocol::Rest | Protocol::GrpcOverHttp1 | Protocol::OtherGrpc => {
                request.headers().contains_key(header::ORIGIN)
            }
        };
        if !is_of_page {
            return Responding::Inner { response: self.inner.call(request) };
        }
        let inner = self.inner.clone().map_response(|response: Response<B>| response.map(Body::new));
        let response = self.cors.layer(inner).call(request);
        let response = async move {
            let Ok(response) = response.await;
            response
        };
        Responding::Later { response: response.boxed() }
    }
}

fn cors(origins: AllowOrigin) -> CorsLayer {
    let exposed = [
        "grpc-status",
        "grpc-message",
        "grpc-status-details-bin",
        "grpc-retry-pushback-ms",
        "etag",
        "link",
        "location",
        "ratelimit",
        "ratelimit-policy",
        "retry-after",
        "www-authenticate",
        "x-consistency-token",
        "x-request-id",
    ];
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST])
        // Mirrors the requested headers: by the Fetch standard `*` does not cover Authorization.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(exposed.map(HeaderName::from_static))
}
