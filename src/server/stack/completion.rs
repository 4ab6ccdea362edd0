//! Completes the responses of REST and gRPC-Web: problem documents, and the headers that protect browsers.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use http::{HeaderValue, Request, Response, Uri, header};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::response::ResponseBody;
use crate::server::{
    browsers,
    call::{Call, Protocol},
    rest::problem,
};

/// The layer, for a port with or without TLS.
#[derive(Clone, Copy, Debug)]
pub struct CompletionLayer {
    /// Whether the port uses TLS.
    pub is_tls: bool,
}

impl<S> Layer<S> for CompletionLayer {
    type Service = Completion<S>;

    fn layer(&self, inner: S) -> Completion<S> {
        Completion { inner, is_tls: self.is_tls }
    }
}

/// The service.
#[derive(Clone, Debug)]
pub struct Completion<S> {
    inner: S,
    is_tls: bool,
}

impl<S, B> Service<Request<Body>> for Completion<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = Infallible;
    type Future = Completed<S::Future>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let how = match Call::read(&mut request, |call| call.protocol) {
            Protocol::Grpc => How::AsItIs,
            Protocol::GrpcWeb => How::GrpcWeb,
            Protocol::Rest | Protocol::GrpcOverHttp1 | Protocol::OtherGrpc => How::Rest { uri: request.uri().clone() },
        };
        Completed { response: self.inner.call(request), how, is_tls: self.is_tls }
    }
}

/// The parts that this layer adds to a response.
enum How {
    /// Nothing.
    AsItIs,
    /// The headers for browsers.
    GrpcWeb,
    /// The headers, and problem documents, which name the path.
    Rest { uri: Uri },
}

pin_project! {
    /// A pending response, which is completed.
    #[must_use = "futures do nothing unless polled"]
    pub struct Completed<F> {
        #[pin]
        response: F,
        how: How,
        is_tls: bool,
    }
}

impl<F, B> Future for Completed<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<ResponseBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.response.poll(task))?;
        let mut problem = None;
        match this.how {
            How::AsItIs => {}
            How::GrpcWeb => browsers::secure(response.headers_mut(), *this.is_tls),
            How::Rest { uri } => {
                problem = problem::write(&mut response, uri.path());
                let headers = response.headers_mut();
                browsers::secure(headers, *this.is_tls);
                // Orders change at any time: a cache has to revalidate, which is cheap with their ETag.
                headers.entry(header::CACHE_CONTROL).or_insert(const { HeaderValue::from_static("no-cache") });
            }
        }
        Poll::Ready(Ok(match problem {
            Some(body) => response.map(|_| ResponseBody::Own { body }),
            None => response.map(|body| ResponseBody::Inner { body }),
        }))
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;

    use super::*;
    use crate::server::error::{ApiError, Reason};

    #[tokio::test]
    async fn an_error_over_rest_is_a_problem_that_names_its_path() {
        let refuse = |_: Request<Body>| async {
            Ok::<_, Infallible>(ApiError::new(Reason::RouteNotFound, "there is none").into_response())
        };
        let request = Request::builder().uri("/orders?x=1").body(Body::empty()).unwrap();
        let response = CompletionLayer { is_tls: false }.layer(tower::service_fn(refuse)).call(request).await.unwrap();
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[header::CONTENT_TYPE], problem::CONTENT_TYPE);
        assert_eq!(response.headers()[header::CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()[header::X_FRAME_OPTIONS], "DENY");
        let body = axum::body::to_bytes(Body::new(response.into_body()), 10_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["reason"], &problem["instance"]), (&"ROUTE_NOT_FOUND".into(), &"/orders".into()));
    }
}
