//! Refusals by layers before the body of a request is read.

use axum::{body::Body, response::IntoResponse as _};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, Version, header};

use super::reply::Replying;
use crate::server::{
    admission::SmallBody,
    call::{Call, Protocol},
    error::ApiError,
};

/// Marks a response to a request whose body has nevertheless been read to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyIsRead;

/// The response to a call of this `protocol`. `AnswerLayer` completes a problem document.
pub(super) fn response(protocol: Protocol, error: ApiError) -> Response<Body> {
    if protocol.is_grpc() { error.to_status().into_http() } else { error.into_response() }
}

/// The response to a call whose body is left unread: over HTTP/1 no other request can follow it on its connection.
pub(super) fn unread(protocol: Protocol, version: Version, error: ApiError) -> Response<Body> {
    let mut response = response(protocol, error);
    end_connection(version, &mut response);
    response
}

/// Announces the end of the connection to an HTTP/1 client.
fn end_connection(version: Version, response: &mut Response<Body>) {
    if version < Version::HTTP_2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
}

/// Answers `request` with `response`, and over HTTP/1 reads a small body to its end, so that another request can follow.
pub(super) fn read_away<F>(request: Request<Body>, mut response: Response<Body>) -> Replying<F> {
    let is_http2 = request.version() >= Version::HTTP_2;
    if is_http2 || Call::of(request.extensions()).is_some_and(|call| call.protocol == Protocol::Grpc) {
        return Replying::own(response);
    }
    end_connection(request.version(), &mut response);
    let (head, body) = request.into_parts();
    let rest = SmallBody::of(&head, body);
    let reply = async move {
        if rest.is_drained().await {
            response.headers_mut().remove(header::CONNECTION);
            response.extensions_mut().insert(BodyIsRead);
        }
        response
    };
    Replying::Later { reply: reply.boxed() }
}
