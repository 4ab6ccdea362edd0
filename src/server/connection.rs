//! The state shared by the requests of one connection.

use std::{net::SocketAddr, sync::Arc};

use super::{event_streams::EventStreams, last_caller::LastCaller, meters::CallMeters};
use crate::{
    application::{admission::Caller, byte_budget::ByteBudget},
    identity::certificates::PeerCertificate,
    telemetry::metrics::Metrics,
};

/// The bounds of one connection, and its client.
#[derive(Debug)]
pub struct Connection {
    /// The address of the client, if the operating system knows it.
    pub peer: Option<SocketAddr>,
    /// The certificate of the client, verified by the handshake; `None` where clients have none.
    pub certificate: Option<PeerCertificate>,
    /// The caller that was verified last.
    pub last_caller: LastCaller,
    /// The budget for the bodies of its requests.
    pub request_bytes: ByteBudget,
    /// The bounds of its event streams and large replies.
    pub event_streams: EventStreams,
    /// Its share of the calls in progress.
    pub caller: Caller,
    /// The meters that count its calls.
    pub meters: Arc<CallMeters>,
}

impl Connection {
    /// A connection without bounds, for a request that no listener has received.
    #[must_use]
    pub fn unbounded() -> Arc<Self> {
        Arc::new(Self {
            peer: None,
            certificate: None,
            last_caller: LastCaller::default(),
            request_bytes: ByteBudget::unbounded(),
            event_streams: EventStreams::new(usize::MAX, usize::MAX),
            caller: Caller::alone(),
            meters: CallMeters::new(&Metrics::new()),
        })
    }
}
