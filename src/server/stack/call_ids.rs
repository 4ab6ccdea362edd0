//! Gives each call an id, from the client or generated here, returns it in `x-request-id`, and adds it to each line that is logged for the call.

use std::{
    convert::Infallible,
    future::Future,
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::{
    server::call::{CALL_ID, Call, CallId},
    telemetry::call::Served,
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct CallIdLayer;

impl<S> Layer<S> for CallIdLayer {
    type Service = CallIds<S>;

    fn layer(&self, inner: S) -> CallIds<S> {
        CallIds { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct CallIds<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for CallIds<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<NamedBody<B>>;
    type Error = Infallible;
    type Future = Named<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let given = CallId::given(request.headers());
        let call = Call::of_request(&mut request);
        if let Some(given) = given {
            call.id = given;
        }
        let id = call.id.clone();
        let mut served = Served::of(id.clone());
        let response = served.step(|| self.inner.call(request));
        Named { response: Some(response), id, served }
    }
}

pin_project! {
    /// A pending response, which gets the id of its call.
    #[must_use = "futures do nothing unless polled"]
    pub struct Named<F> {
        // `None` only while it is dropped.
        #[pin]
        response: Option<F>,
        id: CallId,
        served: Served,
    }

    impl<F> PinnedDrop for Named<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // A cancelled call may log lines when it is dropped.
            this.served.step(|| this.response.set(None));
        }
    }
}

impl<F, B> Future for Named<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<NamedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(response) = this.response.as_pin_mut() else { return Poll::Pending };
        let mut response = ready!(this.served.step(|| response.poll(task)))?;
        response.headers_mut().insert(CALL_ID, this.id.to_header());
        let served = mem::take(this.served);
        Poll::Ready(Ok(response.map(|body| NamedBody { body: Some(body), served })))
    }
}

pin_project! {
    /// The body of a response, whose log lines have the id of its call.
    pub struct NamedBody<B> {
        // `None` only while it is dropped.
        #[pin]
        body: Option<B>,
        served: Served,
    }

    impl<B> PinnedDrop for NamedBody<B> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            this.served.step(|| this.body.set(None));
        }
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for NamedBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let Some(body) = this.body.as_pin_mut() else { return Poll::Ready(None) };
        this.served.step(|| body.poll_frame(task))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}
