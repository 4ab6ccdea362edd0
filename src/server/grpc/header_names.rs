//! The names of the headers of gRPC. A name that is created once need not be parsed in each call.

use http::HeaderName;

/// The compression of the messages of a request.
pub const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
/// The compressions that the client understands.
pub const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// The time that the client waits for the reply.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// The status of a call that has ended.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
