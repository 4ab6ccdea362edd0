//! Translates gRPC-Web into gRPC and back, so that the layers within know only gRPC.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, Request, Response, header};
use http_body::Body as HttpBody;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service, ServiceExt as _};

use super::response::{Responding, ResponseBody};
use crate::server::call::{Call, Protocol};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct GrpcWebTranslation;

impl<S> Layer<S> for GrpcWebTranslation {
    type Service = GrpcWeb<S>;

    fn layer(&self, inner: S) -> GrpcWeb<S> {
        GrpcWeb { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct GrpcWeb<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for GrpcWeb<S>
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
        let is_call = Call::of_request(&mut request).protocol == Protocol::GrpcWeb && request.method() == Method::POST;
        if !is_call {
            return Responding::Inner { response: self.inner.call(request) };
        }
        spell_plainly(&mut request);
        let inner = self.inner.clone().map_request(|request: Request<tonic::body::Body>| request.map(Body::new));
        let response = GrpcWebLayer::new().layer(inner).call(request);
        let response = response.map(|response| {
            let Ok(response) = response;
            response.map(Body::new)
        });
        Responding::Later { response: response.boxed() }
    }
}

/// Spells the content type as the translation compares it: in lower case, and without parameters.
fn spell_plainly(request: &mut Request<Body>) {
    let Some(given) = request.headers().get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()) else { return };
    let name = given.split([';', ' ', '\t']).next().unwrap_or_default();
    if name.len() == given.len() && !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return;
    }
    if let Ok(plain) = HeaderValue::from_str(&name.to_ascii_lowercase()) {
        request.headers_mut().insert(header::CONTENT_TYPE, plain);
    }
}
