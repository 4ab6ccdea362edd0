//! The properties of a call that layers and handlers know before its body is read.

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Version, header};

use super::{
    access::table::{self, Called},
    connection::Connection,
    meters::Meter,
    sending::Sending,
};
use crate::application::byte_budget::ByteBudget;
pub use crate::telemetry::call_id::{CALL_ID, CallId};

/// The beginning of the content types of gRPC.
const GRPC: &[u8] = b"application/grpc";

/// A call. It is one value in the extensions of a request, since every further value would cost an allocation.
#[derive(Clone, Debug)]
pub struct Call {
    /// The connection on which it came.
    pub connection: Arc<Connection>,
    /// Its id.
    pub id: CallId,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its method or route in the table of rules.
    pub called: Called,
    /// The meter that counts it.
    pub meter: Arc<Meter>,
    /// Whether it names a host of this node: probes may name any.
    pub is_host_known: bool,
}

impl Call {
    /// The call of `request`, with a new id.
    #[must_use]
    pub fn begin<B>(connection: &Arc<Connection>, request: &Request<B>) -> Self {
        let protocol = Protocol::of(request);
        let called = table::called(protocol.is_grpc(), request.method(), request.uri().path());
        let called = if called.is_stream_of_rest() && !accepts(request.headers(), EVENT_STREAM) {
            called.as_page()
        } else {
            called
        };
        let meter = Arc::clone(connection.meters.of(protocol.is_grpc(), called));
        Self { connection: Arc::clone(connection), id: CallId::new(), protocol, called, meter, is_host_known: true }
    }

    /// The call with `extensions`, if a listener has set it.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// The result of `read` on the call of `request`, with one lookup: most layers need no more.
    pub fn read<B, T>(request: &mut Request<B>, read: impl FnOnce(&Self) -> T) -> T {
        match Self::of(request.extensions()) {
            Some(call) => read(call),
            None => read(Self::of_request(request)),
        }
    }

    /// The call of `request`. A call that no listener has set gets a separate connection.
    pub fn of_request<B>(request: &mut Request<B>) -> &mut Self {
        if request.extensions().get::<Self>().is_none() {
            let call = Self::begin(&Connection::unbounded(), request);
            request.extensions_mut().insert(call);
        }
        request.extensions_mut().get_or_insert_with(|| unreachable!("it was just set"))
    }
}

/// The connection of the request with `extensions`, if a listener has set it.
#[must_use]
pub fn connection(extensions: &Extensions) -> Option<&Connection> {
    Call::of(extensions).map(|call| &*call.connection)
}

/// The budget for the body of the request with `extensions`.
#[must_use]
pub fn request_budget(extensions: &Extensions) -> ByteBudget {
    connection(extensions).map_or_else(ByteBudget::unbounded, |connection| connection.request_bytes.clone())
}

/// The bounds of the bytes that are being sent to its client.
#[must_use]
pub fn sending(extensions: &Extensions) -> Sending {
    connection(extensions).map_or_else(Sending::unbounded, |connection| connection.event_streams.sending().clone())
}

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the client requests `media_type` explicitly.
#[must_use]
pub fn accepts(headers: &HeaderMap, media_type: &str) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(media_type));
        // A weight of zero excludes the type (RFC 9110, 12.4.2).
        is_named && !parts.any(|part| matches!(part, "q=0" | "q=0." | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The protocol of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// gRPC over HTTP/2.
    Grpc,
    /// gRPC-Web, in text or binary.
    GrpcWeb,
    /// Everything that is not gRPC.
    Rest,
    /// gRPC without HTTP/2: its status is in the trailers, which clients do not read over HTTP/1.1.
    GrpcOverHttp1,
    /// An unsupported variant of gRPC, or a call of one of its methods with another content type.
    OtherGrpc,
}

impl Protocol {
    /// The protocol of `request`, by its method and its content type, whose case does not matter (RFC 9110, 8.3.1).
    #[must_use]
    pub fn of<B>(request: &Request<B>) -> Self {
        // A gRPC client uses no other HTTP method, and a gRPC method is executed by no other: OPTIONS is the preflight of a browser, whatever type it
        // names.
        if request.method() != Method::POST {
            return Self::Rest;
        }
        let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        let kind = match content_type.split_at_checked(GRPC.len()) {
            Some((name, kind)) if name.eq_ignore_ascii_case(GRPC) => kind,
            // The HTTP/2 mapping of gRPC: any other content type of a method is answered with 415.
            _ => return if is_of_grpc(request.uri().path()) { Self::OtherGrpc } else { Self::Rest },
        };
        let end = kind.iter().position(|byte| matches!(byte, b';' | b' ' | b'\t')).unwrap_or(kind.len());
        let kind = &kind[..end];
        let is_one_of = |kinds: &[&[u8]]| kinds.iter().any(|known| kind.eq_ignore_ascii_case(known));
        if is_one_of(&[b"", b"+proto"]) {
            return if request.version() < Version::HTTP_2 { Self::GrpcOverHttp1 } else { Self::Grpc };
        }
        if is_one_of(&[b"-web", b"-web+proto", b"-web-text", b"-web-text+proto"]) {
            Self::GrpcWeb
        } else {
            Self::OtherGrpc
        }
    }

    /// Whether it is answered with a gRPC status.
    #[must_use]
    pub const fn is_grpc(self) -> bool {
        matches!(self, Self::Grpc | Self::GrpcWeb)
    }
}

/// Whether `path` belongs to a gRPC service: REST has no such paths.
fn is_of_grpc(path: &str) -> bool {
    path.starts_with("/catga.") || path.starts_with("/grpc.")
}

/// Whether `path` is a probe that only reports whether the node serves.
#[must_use]
pub fn is_probe(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready") || path.starts_with("/grpc.health.v1.Health/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn protocol(method: &Method, content_type: &str, version: Version) -> Protocol {
        let request = Request::builder().method(method).uri("/catga.orders.v1.OrderCommandService/CreateOrder");
        let request = request.header(header::CONTENT_TYPE, content_type).version(version);
        Protocol::of(&request.body(()).unwrap())
    }

    #[test]
    fn a_content_type_is_that_of_grpc_whatever_its_case() {
        for (content_type, over_http2) in [
            ("application/grpc", Protocol::Grpc),
            ("Application/GRPC+Proto", Protocol::Grpc),
            ("APPLICATION/GRPC; charset=utf-8", Protocol::Grpc),
            ("application/gRPC-Web-Text+PROTO", Protocol::GrpcWeb),
            ("application/grpc-web\t;a=b", Protocol::GrpcWeb),
            ("application/GRPC+json", Protocol::OtherGrpc),
            ("application/grp", Protocol::OtherGrpc),
            ("text/plain", Protocol::OtherGrpc),
        ] {
            assert_eq!(protocol(&Method::POST, content_type, Version::HTTP_2), over_http2, "{content_type}");
        }
        assert_eq!(protocol(&Method::POST, "Application/Grpc", Version::HTTP_11), Protocol::GrpcOverHttp1);
    }

    #[test]
    fn only_a_post_is_a_call_of_grpc() {
        for method in [Method::OPTIONS, Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::PATCH] {
            for content_type in ["application/grpc", "application/grpc-web+proto"] {
                assert_eq!(protocol(&method, content_type, Version::HTTP_2), Protocol::Rest, "{method}");
            }
        }
    }

    #[test]
    fn a_history_over_rest_is_a_page_unless_its_client_accepts_a_stream() {
        use crate::{application::admission::Class, server::access::table::Kind};
        let called = |path: &str, accept: &str| {
            let request = Request::builder().uri(path).header(header::ACCEPT, accept).body(()).unwrap();
            let rule = Call::begin(&Connection::unbounded(), &request).called.rule().expect("a row");
            (rule.kind, rule.class)
        };
        for path in ["/events", "/orders/7/history", "/api/orders/7/history"] {
            assert_eq!(called(path, "text/event-stream"), (Kind::Stream, None), "{path}");
            for accept in ["*/*", "application/json", "text/event-stream;q=0"] {
                assert_eq!(called(path, accept), (Kind::Read, Some(Class::BulkRead)), "{path} {accept}");
            }
        }
        assert_eq!(called("/orders/7", "*/*"), (Kind::Read, Some(Class::Read)));
    }

    #[test]
    fn a_media_type_is_accepted_when_it_is_named_with_a_weight() {
        let accepts = |value| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(value))]);
            accepts(&headers, EVENT_STREAM)
        };
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json;q=0.5, Text/Event-Stream; q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!accepts("application/json, text/event-stream;q=0"));
    }
}
