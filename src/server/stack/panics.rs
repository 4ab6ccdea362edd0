//! Turns a panic of a handler into an internal error of its call alone, and logs it with the id of the call.

use std::{
    any::Any,
    convert::Infallible,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::{
    refusal,
    response::{Responding, ResponseBody},
};
use crate::server::{
    call::{Call, CallId, Protocol},
    error::{ApiError, Reason, trailers},
};

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct PanicLayer;

impl<S> Layer<S> for PanicLayer {
    type Service = Panics<S>;

    fn layer(&self, inner: S) -> Panics<S> {
        Panics { inner }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Panics<S> {
    inner: S,
}

impl<S, B> Service<Request<Body>> for Panics<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<ResponseBody<GuardedBody<B>>>;
    type Error = Infallible;
    type Future = Responding<Guarded<S::Future>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let about = Call::read(&mut request, |call| About { id: call.id.clone(), protocol: call.protocol });
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(request))) {
            Ok(response) => Responding::Inner { response: Guarded { response, about: Some(about) } },
            Err(panic) => Responding::own(refusal::response(about.protocol, about.error(&*panic))),
        }
    }
}

/// The guarded call.
#[derive(Clone, Debug)]
struct About {
    id: CallId,
    protocol: Protocol,
}

impl About {
    /// The error in place of a response, after `panic`.
    fn error(&self, panic: &(dyn Any + Send)) -> ApiError {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        tracing::error!(call_id = %self.id, panic = text, "a panic while a call was answered");
        ApiError::new(Reason::Internal, "internal error; see the server log")
    }
}

pin_project! {
    /// A pending response, whose panics are caught.
    #[must_use = "futures do nothing unless polled"]
    pub struct Guarded<F> {
        #[pin]
        response: F,
        about: Option<About>,
    }
}

impl<F, B> Future for Guarded<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<GuardedBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let caught = catch_unwind(AssertUnwindSafe(|| this.response.poll(task)));
        let response = match caught {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => Ok(response),
            Err(panic) => Err(panic),
        };
        let Some(about) = this.about.take() else { return Poll::Pending };
        Poll::Ready(match response {
            Ok(response) => response.map(|response| response.map(|body| GuardedBody::Inner { body, about })),
            Err(panic) => {
                let response = refusal::response(about.protocol, about.error(&*panic));
                Ok(response.map(|body| GuardedBody::Own { body }))
            }
        })
    }
}

pin_project! {
    /// The body of a response, whose panics are caught: they would end the whole connection.
    #[project = GuardedBodyProjection]
    pub enum GuardedBody<B> {
        /// From the handler.
        Inner { #[pin] body: B, about: About },
        /// In place of its response.
        Own { #[pin] body: Body },
        /// Ended by a panic.
        Ended,
    }
}

impl<B: HttpBody<Data = Bytes, Error = axum::Error>> HttpBody for GuardedBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let (caught, about) = match self.as_mut().project() {
            GuardedBodyProjection::Inner { body, about } => {
                (catch_unwind(AssertUnwindSafe(|| body.poll_frame(task))), about)
            }
            GuardedBodyProjection::Own { body } => return body.poll_frame(task),
            GuardedBodyProjection::Ended => return Poll::Ready(None),
        };
        let panic = match caught {
            Ok(frame) => return frame,
            Err(panic) => panic,
        };
        let (error, is_grpc) = (about.error(&*panic), about.protocol.is_grpc());
        self.set(Self::Ended);
        if !is_grpc {
            // The status has been sent: the response can only be cut off, so that the client does not take it for complete.
            return Poll::Ready(Some(Err(axum::Error::new(error.to_status()))));
        }
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&error.to_status())))))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body, .. } => body.is_end_stream(),
            Self::Own { body } => body.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body, .. } => body.size_hint(),
            Self::Own { body } => body.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tonic::Code;

    use super::*;
    use crate::server::call::CALL_ID;

    /// A body that panics.
    struct Broken;

    impl HttpBody for Broken {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            panic!("in the body")
        }
    }

    fn request(content_type: &str) -> Request<Body> {
        let builder = Request::builder().method("POST").version(http::Version::HTTP_2).uri("/orders");
        builder.header("content-type", content_type).header(CALL_ID, "call-1").body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_panic_before_the_reply_is_an_internal_error_of_either_protocol() {
        async fn broken(_: Request<Body>) -> Result<Response<Body>, Infallible> {
            panic!("in the handler")
        }
        let mut service = PanicLayer.layer(tower::service_fn(broken));
        assert_eq!(service.call(request("application/json")).await.unwrap().status(), 500);
        let response = service.call(request("application/grpc")).await.unwrap();
        assert_eq!(tonic::Status::from_header_map(response.headers()).unwrap().code(), Code::Internal);
        // Also if the service panics before it returns a future.
        let mut service = PanicLayer.layer(tower::service_fn(|_: Request<Body>| {
            assert!(std::hint::black_box(false), "in the call");
            std::future::ready(Ok::<_, Infallible>(Response::new(Body::empty())))
        }));
        assert_eq!(service.call(request("application/json")).await.unwrap().status(), 500);
    }

    #[tokio::test]
    async fn a_panic_in_the_body_ends_a_grpc_call_with_its_status_and_cuts_a_reply_over_rest() {
        let response = |_: Request<Body>| std::future::ready(Ok::<_, Infallible>(Response::new(Broken)));
        let mut service = PanicLayer.layer(tower::service_fn(response));
        let mut body = service.call(request("application/grpc")).await.unwrap().into_body();
        let trailers = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(tonic::Status::from_header_map(&trailers).unwrap().code(), Code::Internal);
        assert!(body.frame().await.is_none() && body.is_end_stream());
        let mut body = service.call(request("application/json")).await.unwrap().into_body();
        assert!(body.frame().await.unwrap().is_err() && body.frame().await.is_none());
    }
}
