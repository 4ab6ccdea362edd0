//! The names of the headers of gRPC. A name that is made once needs no parsing in each call.

use http::HeaderName;

/// The compression of the messages of a request.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The compressions that the client understands.
pub const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// How long the client waits for the reply.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How a call has ended.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
