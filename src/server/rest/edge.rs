//! The outer layer of every REST request: panics, problems, and the headers of all replies.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    task::{Context, Poll},
};

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Method, Request, Response, Version, header};
use http_body::Body as _;
use tower::Service;

use super::problem;
use crate::server::{
    browsers,
    connection::sent_bytes,
    error::{ApiError, PANIC},
    event_streams::{Room, SentBytes},
    large::{LARGE_BYTES, instead_of_reply},
    paced::{Ending, PacedBody},
};

/// The outer layer around all REST routes.
#[derive(Clone, Debug)]
pub struct RestEdge<S> {
    inner: S,
    is_tls: bool,
}

impl<S> RestEdge<S> {
    /// Wraps `inner`, on a port with or without TLS.
    pub const fn new(inner: S, is_tls: bool) -> Self {
        Self { inner, is_tls }
    }
}

impl<S> Service<Request<Body>> for RestEdge<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let uri = request.uri().clone();
        if let Err(error) = ApiError::check_metadata(request.headers()) {
            let mut response = refuse(&request, error);
            browsers::secure(response.headers_mut(), self.is_tls);
            return std::future::ready(Ok(response)).boxed();
        }
        let is_tls = self.is_tls;
        let is_command = request.method() == Method::POST;
        let held = sent_bytes(request.extensions());
        // A panic fails only this request; others on the connection continue.
        let work = AssertUnwindSafe(self.inner.call(request)).catch_unwind();
        async move {
            let mut response = match work.await {
                Ok(Ok(response)) => response,
                Err(_panic) => ApiError::internal(PANIC).into_response(),
            };
            response = hold(response, held, is_command);
            problem::write(&mut response, uri.path());
            let headers = response.headers_mut();
            browsers::secure(headers, is_tls);
            // Orders change at any time: a cache has to revalidate, which is cheap with their ETag.
            headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
            Ok(response)
        }
        .boxed()
    }
}

/// Counts a large reply until it has been handed over to the connection; refuses it where there is no room.
fn hold(response: Response<Body>, mut held: SentBytes, is_command: bool) -> Response<Body> {
    let Some(size) = response.body().size_hint().exact().filter(|size| *size > LARGE_BYTES) else {
        return response;
    };
    let instead = instead_of_reply(is_command);
    // Before the status is sent: afterwards the reply could only be cut.
    match held.set(usize::try_from(size).unwrap_or(usize::MAX)) {
        Room::None => ApiError::from(instead).into_response(),
        Room::Yes | Room::ForTheLast => {
            response.map(|body| Body::new(PacedBody::whole(body, held, Ending::Bytes(Bytes::new()), instead)))
        }
    }
}

/// The response to `request`, of which only the headers are read.
pub fn refuse<B>(request: &Request<B>, error: ApiError) -> Response<Body> {
    let mut response = error.into_response();
    problem::write(&mut response, request.uri().path());
    if request.version() < Version::HTTP_2 {
        // The body is not read, so no request can follow on the connection.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_answered_with_a_problem() {
        let inner = tower::service_fn(|_: Request<Body>| async { panic!("as asked for") });
        let request = Request::builder().uri("/orders?x=1").body(Body::empty()).unwrap();
        let response = RestEdge::new(inner, false).call(request).await.unwrap();
        assert_eq!(response.status(), 500);
        assert_eq!(response.headers()[header::CONTENT_TYPE], problem::CONTENT_TYPE);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["reason"], &problem["instance"]), (&"INTERNAL".into(), &"/orders".into()));
    }
}
