//! Applies the bounds on data being sent to replies: large replies and streams count until they are written, and so do the small replies of a client
//! that does not read.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{body::Body, response::IntoResponse as _};
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::server::{
    access::table::Kind,
    call::{Call, sending},
    error::ApiError,
    grpc::request::replies_many,
    large::{LARGE_BYTES, Reserved, UnaryBody, instead_of_reply},
    paced::{Ending, PacedBody},
    sending::{Sending, SentBytes},
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct PaceLayer;

impl<S> Layer<S> for PaceLayer {
    type Service = Pacing<S>;

    fn layer(&self, inner: S) -> Pacing<S> {
        Pacing { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Pacing<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Pacing<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    type Response = Response<PacingBody<B>>;
    type Error = Infallible;
    type Future = Held<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let (protocol, called) = Call::read(&mut request, |call| (call.protocol, call.called));
        let how = if !protocol.is_grpc() {
            How::Rest { is_command: request.method() == Method::POST }
        } else if replies_many(request.uri().path()) {
            How::Stream
        } else {
            How::Unary { is_command: called.rule().is_some_and(|rule| rule.kind == Kind::Command) }
        };
        let sending = sending(request.extensions());
        Held { response: self.inner.call(request), how, sending }
    }
}

/// The kind of the expected response.
#[derive(Clone, Copy)]
enum How {
    Rest { is_command: bool },
    Unary { is_command: bool },
    Stream,
}

pin_project! {
    /// A pending response, whose body counts against the bounds.
    #[must_use = "futures do nothing unless polled"]
    pub struct Held<F> {
        #[pin]
        response: F,
        how: How,
        sending: Sending,
    }
}

impl<F, B> Future for Held<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    type Output = Result<Response<PacingBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.response.poll(task))?;
        let held = Reserved::taken_from(response.extensions_mut(), this.sending.reservation());
        Poll::Ready(Ok(match *this.how {
            How::Rest { is_command } => hold(response, held, is_command),
            How::Unary { is_command } => hold_unary(response, held, is_command, task),
            How::Stream => {
                response.map(|body| PacingBody::Paced { body: PacedBody::new(Body::new(body), held, Ending::Trailers) })
            }
        }))
    }
}

/// Counts a large reply of gRPC until it is written; a small one as well, if its client does not read.
fn hold_unary<B>(
    response: Response<B>,
    mut held: SentBytes,
    is_command: bool,
    task: &mut Context<'_>,
) -> Response<PacingBody<B>>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    // An error has no message.
    if response.body().is_end_stream() || held.may_wait_uncounted() {
        return response.map(|body| PacingBody::Unary { body: UnaryBody::new(body, held, is_command) });
    }
    let (head, body) = response.into_parts();
    match UnaryBody::counted(body, held, is_command, task) {
        Ok(body) => Response::from_parts(head, PacingBody::Unary { body }),
        Err(instead) => ApiError::from(instead).to_status().into_http().map(|body| PacingBody::Own { body }),
    }
}

/// Counts a large response over REST until it is written, and a small one as well, if its client does not read; refuses it if there is no room.
fn hold<B>(response: Response<B>, mut held: SentBytes, is_command: bool) -> Response<PacingBody<B>>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    let size = match response.body().size_hint().exact() {
        Some(size @ 1..) if size > LARGE_BYTES || !held.may_wait_uncounted() => size,
        // Server-sent events are paced where they are made.
        _ => return response.map(|body| PacingBody::Small { body, _held: held }),
    };
    let instead = instead_of_reply(is_command);
    // Checked before the status is sent: afterwards the response could only be cut off.
    if !held.set(usize::try_from(size).unwrap_or(usize::MAX)) {
        return ApiError::from(instead).into_response().map(|body| PacingBody::Own { body });
    }
    response.map(|body| PacingBody::Paced {
        body: PacedBody::whole(Body::new(body), held, Ending::Bytes(Bytes::new()), instead),
    })
}

pin_project! {
    /// The body of a response.
    #[project = PacingBodyProjection]
    pub enum PacingBody<B> {
        /// A small response over REST, or one of unknown size.
        Small { #[pin] body: B, _held: SentBytes },
        /// The only message of a gRPC call.
        Unary { #[pin] body: UnaryBody<B> },
        /// A stream, or a large response over REST.
        Paced { #[pin] body: PacedBody },
        /// The refusal of a large response.
        Own { #[pin] body: Body },
    }
}

impl<B> HttpBody for PacingBody<B>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.project() {
            PacingBodyProjection::Small { body, .. } => body.poll_frame(task),
            PacingBodyProjection::Unary { body } => body.poll_frame(task),
            PacingBodyProjection::Paced { body } => body.poll_frame(task),
            PacingBodyProjection::Own { body } => body.poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Small { body, .. } => body.is_end_stream(),
            Self::Unary { body } => body.is_end_stream(),
            Self::Paced { body } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Small { body, .. } => body.size_hint(),
            Self::Unary { body } => body.size_hint(),
            Self::Paced { body } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
        }
    }
}
