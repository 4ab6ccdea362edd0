//! Admits a call only if its caller may make it. The table of rules decides; where callers are not identified, it matters whether the client is an
//! operator.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{
    refusal,
    response::{Responding, ResponseBody, ResponseCode},
};
use crate::server::{
    access::{
        self, Access, Admitted, HeldBody,
        audit::{Audit, Outcome, Who},
        table::{Called, Rule},
    },
    call::{Call, Protocol},
    error::ApiError,
    observed::{Observed, Observer, Observing},
    operators::{self, Operators},
};

/// The layer.
#[derive(Clone, Debug)]
pub struct IdentityLayer(Arc<Gate>);

#[derive(Debug)]
struct Gate {
    /// `None` where callers are not identified.
    access: Option<Access>,
    operators: Operators,
    audit: Arc<Audit>,
}

impl IdentityLayer {
    /// Checks callers with `access`; without it, `operators` may operate the node.
    #[must_use]
    pub fn new(access: Option<Access>, operators: Operators, audit: Arc<Audit>) -> Self {
        Self(Arc::new(Gate { access, operators, audit }))
    }
}

impl<S> Layer<S> for IdentityLayer {
    type Service = Identity<S>;

    fn layer(&self, inner: S) -> Identity<S> {
        Identity { inner, gate: Arc::clone(&self.0) }
    }
}

impl Gate {
    /// Admits the caller; `None` if nothing has to be done at the end of the call.
    fn admit(&self, request: &mut Request<Body>) -> Result<Option<Admitted>, ApiError> {
        let parts = |call: &Call| (call.protocol, call.called, call.is_host_known);
        let (protocol, called, is_host_known) = Call::read(request, parts);
        // No handler answers a preflight.
        let is_preflight = protocol == Protocol::Rest && request.method() == Method::OPTIONS;
        if let Some(access) = &self.access {
            let is_grpc = protocol.is_grpc();
            return if is_preflight { Ok(None) } else { access.admit(request, called, is_grpc).map(Some) };
        }
        // For calls about orders it does not matter whether the client is an operator.
        if is_host_known && called.rule().is_none_or(|rule| rule.class.is_none()) {
            self.operators.mark(request);
        }
        match called {
            Called::Rule(rule) if protocol.is_grpc() && operators::is_for_operators(&rule.path) => {
                let who = Who::of(request.extensions(), None);
                operators::require(request.extensions())
                    .inspect_err(|error| self.audit.record(&who, Some(rule), Outcome::Refused(error.into())))?;
                Ok(Some(Admitted::audited(rule, who)))
            }
            _ => Ok(None),
        }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Identity<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S, B> Service<Request<Body>> for Identity<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
{
    type Response = Response<ResponseBody<Observed<HeldBody<B>, Box<Action>>>>;
    type Error = Infallible;
    type Future = Responding<Observing<Identified<S::Future>, Box<Action>>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let protocol = Call::read(&mut request, |call| call.protocol);
        match self.gate.admit(&mut request) {
            Ok(mut admitted) => {
                let is_grpc = protocol.is_grpc();
                let audited = admitted.as_mut().and_then(Admitted::take_audited);
                let action = audited.map(|(rule, who)| Box::new(Action::begin(&self.gate.audit, rule, who, is_grpc)));
                let admitted = admitted.filter(|admitted| !admitted.is_plain());
                let response = Identified { response: self.inner.call(request), admitted, is_grpc };
                Responding::Inner { response: Observing::new(response, action) }
            }
            Err(error) => {
                let mut response = refusal::response(protocol, error.clone());
                access::explain(response.headers_mut(), &error);
                Responding::own(response)
            }
        }
    }
}

/// An action of an operator. Its outcome is audited once its code is known, which is in the trailers of a response; if the client leaves before, when this
/// is dropped.
#[derive(Debug)]
pub struct Action {
    audit: Arc<Audit>,
    rule: &'static Rule,
    who: Who,
    code: ResponseCode,
    is_recorded: bool,
}

impl Action {
    fn begin(audit: &Arc<Audit>, rule: &'static Rule, who: Who, is_grpc: bool) -> Self {
        Self { audit: Arc::clone(audit), rule, who, code: ResponseCode::unknown(is_grpc), is_recorded: false }
    }

    fn record(&mut self, outcome: Outcome<'_>) {
        if !self.is_recorded {
            self.is_recorded = true;
            self.audit.record(&self.who, Some(self.rule), outcome);
        }
    }

    /// Records the outcome, if the code is known.
    fn record_code(&mut self) {
        match self.code.is_success() {
            Some(true) => self.record(Outcome::Done),
            Some(false) => self.record(Outcome::Failed),
            None => {}
        }
    }
}

impl<D> Observer<D> for Action {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        self.code.head(status, headers);
        self.record_code();
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        self.code.trailers(trailers);
        self.record_code();
    }
}

impl Drop for Action {
    fn drop(&mut self) {
        self.record(Outcome::Cancelled);
    }
}

pin_project! {
    /// The pending response to an admitted call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Identified<F> {
        #[pin]
        response: F,
        admitted: Option<Admitted>,
        is_grpc: bool,
    }
}

impl<F, B> Future for Identified<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<HeldBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.response.poll(task))?;
        Poll::Ready(Ok(match this.admitted.take() {
            Some(admitted) => admitted.finish(*this.is_grpc, response),
            None => response.map(HeldBody::free),
        }))
    }
}
