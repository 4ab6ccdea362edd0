//! What the requests of one connection share.

use std::{net::SocketAddr, sync::Arc};

use http::Extensions;

use super::event_streams::{EventStreams, SentBytes};
use crate::application::{admission::Caller, byte_budget::ByteBudget};

/// The bounds of one connection, and its client. One value in the extensions of each request: every further one would cost an allocation.
#[derive(Debug)]
pub struct Connection {
    /// The address of the client, if the operating system knows it.
    pub peer: Option<SocketAddr>,
    /// The budget for the bodies of its requests.
    pub request_bytes: ByteBudget,
    /// The bounds of its event streams and large replies.
    pub event_streams: EventStreams,
    /// Its share of the calls in progress.
    pub caller: Caller,
}

impl Connection {
    /// The connection of a request, where a listener has set it.
    #[must_use]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get::<Arc<Self>>().map(|connection| &**connection)
    }
}

/// The budget for the body of a request.
#[must_use]
pub fn request_budget(extensions: &Extensions) -> ByteBudget {
    Connection::of(extensions).map_or_else(ByteBudget::unbounded, |connection| connection.request_bytes.clone())
}

/// An empty reservation of the bytes that are being sent to its client.
#[must_use]
pub fn sent_bytes(extensions: &Extensions) -> SentBytes {
    Connection::of(extensions).map_or_else(SentBytes::unbounded, |connection| connection.event_streams.sent_bytes())
}
