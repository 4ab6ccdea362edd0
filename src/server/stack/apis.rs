//! Passes each request on to gRPC or REST, by its protocol.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{Router, body::Body, routing::future::RouteFuture};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::Service;

use super::refusal;
use crate::server::{
    call::Call,
    error::ApiError,
    grpc::{
        edge::{GrpcEdge, Refined},
        services::Pending,
    },
};

/// Both APIs behind one service. The service is cloned for each request, so the APIs are shared.
#[derive(Clone, Debug)]
pub struct Apis(Arc<Both>);

#[derive(Debug)]
struct Both {
    grpc: GrpcEdge,
    rest: Router,
}

impl Apis {
    /// Passes calls on to `grpc` and `rest`.
    #[must_use]
    pub fn new(grpc: GrpcEdge, rest: Router) -> Self {
        Self(Arc::new(Both { grpc, rest }))
    }
}

impl Service<Request<Body>> for Apis {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = PendingResponse;

    /// Both APIs are always ready.
    fn poll_ready(&mut self, _task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> PendingResponse {
        let protocol = Call::read(&mut request, |call| call.protocol);
        if let Err(error) = ApiError::check_metadata(request.headers()) {
            return PendingResponse::Refused { response: Some(refusal::unread(protocol, request.version(), error)) };
        }
        if protocol.is_grpc() {
            return PendingResponse::Grpc { response: self.0.grpc.call(request) };
        }
        PendingResponse::Rest { response: self.0.rest.clone().call(request) }
    }
}

pin_project! {
    /// A pending response.
    #[project = PendingProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum PendingResponse {
        /// Over gRPC.
        Grpc { #[pin] response: Refined<Pending> },
        /// Over REST.
        Rest { #[pin] response: RouteFuture<Infallible> },
        /// Refused before it reached an API.
        Refused { response: Option<Response<Body>> },
    }
}

impl Future for PendingResponse {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            PendingProjection::Grpc { response } => response.poll(task),
            PendingProjection::Rest { response } => response.poll(task),
            PendingProjection::Refused { response } => Poll::Ready(Ok(response.take().unwrap_or_default())),
        }
    }
}
