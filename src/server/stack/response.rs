//! The response of a layer: from the inner service, or from the layer itself. Neither costs an extra allocation.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

use crate::server::grpc::header_names::STATUS;

/// The code with which a call is answered: its HTTP status or, for gRPC, the code in the headers or the trailers of the response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseCode {
    is_grpc: bool,
    code: Option<u16>,
}

impl ResponseCode {
    /// The code of a call that is not answered yet.
    pub const fn unknown(is_grpc: bool) -> Self {
        Self { is_grpc, code: None }
    }

    /// Whether it is the code of a gRPC call.
    pub const fn is_grpc(self) -> bool {
        self.is_grpc
    }

    /// The code; `None` until it is known.
    pub const fn get(self) -> Option<u16> {
        self.code
    }

    /// Whether the call has succeeded; `None` until the code is known.
    pub fn is_success(self) -> Option<bool> {
        self.code.map(|code| if self.is_grpc { code == 0 } else { code < 400 })
    }

    /// Takes the code from the head of the response.
    pub fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        if self.is_grpc {
            self.trailers(headers);
        } else {
            self.code = Some(status.as_u16());
        }
    }

    /// Takes the code from the trailers of the response, if they have one.
    pub fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(status) = trailers.get(STATUS) {
            self.code = u16::try_from(i32::from(Code::from_bytes(status.as_bytes()))).ok();
        }
    }
}

pin_project! {
    /// The body of a response, from the inner service or from the layer itself.
    #[project = ResponseBodyProjection]
    pub enum ResponseBody<B> {
        /// From the inner service.
        Inner { #[pin] body: B },
        /// From the layer.
        Own { #[pin] body: Body },
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for ResponseBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.project() {
            ResponseBodyProjection::Inner { body } => body.poll_frame(task),
            ResponseBodyProjection::Own { body } => body.poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
        }
    }
}

pin_project! {
    /// A pending response, from the inner service or from the layer itself.
    #[project = RespondingProjection]
    #[must_use = "futures do nothing unless polled"]
    pub enum Responding<F> {
        /// The inner service answers.
        Inner { #[pin] response: F },
        /// The layer has answered.
        Own { response: Option<Response<Body>> },
        /// The layer answers, in a rare case.
        Later { response: BoxFuture<'static, Response<Body>> },
    }
}

impl<F> Responding<F> {
    /// The response of the layer itself.
    pub const fn own(response: Response<Body>) -> Self {
        Self::Own { response: Some(response) }
    }
}

impl<F, B> Future for Responding<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let own = match self.project() {
            RespondingProjection::Inner { response } => {
                return response.poll(task).map_ok(|response| response.map(|body| ResponseBody::Inner { body }));
            }
            RespondingProjection::Own { response } => response.take().unwrap_or_default(),
            RespondingProjection::Later { response } => ready!(response.as_mut().poll(task)),
        };
        Poll::Ready(Ok(own.map(|body| ResponseBody::Own { body })))
    }
}
