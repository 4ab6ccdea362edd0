//! Refuses requests that a browser sends for pages of other sites, and requests of a protocol that is not served.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::Body;
use http::{Request, Response};
use tower::{Layer, Service};

use super::{
    refusal,
    response::{Responding, ResponseBody},
};
use crate::server::{
    access::audit::{Audit, Outcome, Who},
    browsers::BrowserGate,
    call::{Call, Protocol, is_probe},
    error::{ApiError, Reason},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct OriginLayer(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    browsers: BrowserGate,
    audit: Arc<Audit>,
}

impl OriginLayer {
    /// Checks requests with `browsers`.
    #[must_use]
    pub fn new(browsers: BrowserGate, audit: Arc<Audit>) -> Self {
        Self(Arc::new(Gate { browsers, audit }))
    }
}

impl<S> Layer<S> for OriginLayer {
    type Service = Origins<S>;

    fn layer(&self, inner: S) -> Origins<S> {
        Origins { inner, gate: Arc::clone(&self.0) }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Origins<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S, B> Service<Request<Body>> for Origins<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = Responding<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let checked = self.gate.browsers.check(&request);
        let is_probe = checked.is_err() && is_probe(request.uri().path());
        let has_query = request.uri().query().is_some();
        let outcome = match checked {
            // Probes use any address of the node, and learn nothing but its health.
            Err(_) if is_probe => {
                Call::of_request(&mut request).is_host_known = false;
                Ok(())
            }
            checked => checked,
        };
        let (protocol, called) = Call::read(&mut request, |call| (call.protocol, call.called));
        match outcome.and_then(|()| check(protocol, has_query)) {
            Ok(()) => Responding::Inner { response: self.inner.call(request) },
            Err(error) => {
                if matches!(error.reason, Reason::CrossSiteRequest | Reason::HostNotAllowed) {
                    let who = Who::of(request.extensions(), None);
                    self.gate.audit.record(&who, called.rule(), Outcome::Refused((&error).into()));
                }
                Responding::own(refusal::unread(protocol, request.version(), error))
            }
        }
    }
}

/// Checks that `protocol` is served.
fn check(protocol: Protocol, has_query: bool) -> Result<(), ApiError> {
    match protocol {
        Protocol::OtherGrpc => {
            let message = "gRPC is served here with Content-Type: application/grpc or application/grpc-web, with or without +proto";
            Err(ApiError::new(Reason::UnsupportedMediaType, message))
        }
        Protocol::GrpcOverHttp1 => {
            let message = "gRPC needs HTTP/2; gRPC-Web and REST are served over HTTP/1.1";
            Err(ApiError::new(Reason::HttpVersionNotSupported, message))
        }
        Protocol::Grpc | Protocol::GrpcWeb if has_query => {
            Err(ApiError::new(Reason::RouteNotFound, "a gRPC method takes no query string"))
        }
        Protocol::Grpc | Protocol::GrpcWeb | Protocol::Rest => Ok(()),
    }
}
