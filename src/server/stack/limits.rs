//! Admits a call only if the node has room for it. The headers decide, so that a refusal is cheap.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{body::Body, response::IntoResponse as _};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::response::{Responding, ResponseBody};
use crate::{
    application::admission::{Admission, Run},
    server::{
        admission::{AdmittedBody, GrpcRefusal, overloaded},
        call::Call,
    },
};

/// The layer.
#[derive(Clone, Debug)]
pub struct LimitLayer(Arc<Gatekeeper>);

/// The admission control, and its prepared response for refused calls.
#[derive(Debug)]
struct Gatekeeper {
    admission: Arc<Admission>,
    grpc_refusal: GrpcRefusal,
}

impl LimitLayer {
    /// Admits calls by `admission`.
    #[must_use]
    pub fn new(admission: Arc<Admission>) -> Self {
        Self(Arc::new(Gatekeeper { admission, grpc_refusal: GrpcRefusal::new() }))
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limits<S>;

    fn layer(&self, inner: S) -> Limits<S> {
        Limits { inner, gatekeeper: Arc::clone(&self.0) }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Limits<S> {
    inner: S,
    gatekeeper: Arc<Gatekeeper>,
}

impl<S, B> Service<Request<Body>> for Limits<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = Responding<Limited<S::Future>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let admission = &self.gatekeeper.admission;
        let (protocol, admitted) = Call::read(&mut request, |call| {
            let class = call.called.rule().and_then(|rule| rule.class);
            (call.protocol, class.map(|class| admission.admit(class, Some(&call.connection.caller))))
        });
        let Some(admitted) = admitted else {
            return Responding::Inner { response: Limited::Free { response: self.inner.call(request) } };
        };
        if let Some(admitted) = admitted {
            let request = request.map(|body| AdmittedBody::of(body, &admitted));
            return Responding::Inner {
                response: Limited::Counted { response: admitted.run(self.inner.call(request)) },
            };
        }
        let response =
            if protocol.is_grpc() { self.gatekeeper.grpc_refusal.response() } else { overloaded().into_response() };
        Responding::own(response)
    }
}

pin_project! {
    /// The pending response to an admitted call.
    #[project = LimitedProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum Limited<F> {
        /// The call does not count.
        Free { #[pin] response: F },
        /// The call counts.
        Counted { #[pin] response: Run<F> },
    }
}

impl<F: Future> Future for Limited<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            LimitedProjection::Free { response } => response.poll(task),
            LimitedProjection::Counted { response } => response.poll(task),
        }
    }
}
