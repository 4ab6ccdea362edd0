//! Access for operators: dead letters, rebuilds, metrics, and the details of health.
//!
//! Where callers are identified, their roles decide on every port, and nothing else here applies.

use std::net::SocketAddr;

use http::Request;

use super::{
    call,
    error::{ApiError, Reason},
};

/// Marks the client of a request as an operator, in the extensions of the request.
#[derive(Clone, Copy, Debug)]
pub struct IsOperator;

/// The clients that count as operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// Clients on the node's machine.
    Local,
    /// Every client: on the port for operators, or if configured.
    Anyone,
}

impl Operators {
    /// Marks `request` if its client is an operator.
    pub fn mark<B>(self, request: &mut Request<B>) {
        let peer = call::connection(request.extensions()).and_then(|connection| connection.peer);
        let is_local = peer.is_some_and(|peer| is_loopback(&peer));
        if self == Self::Anyone || is_local {
            request.extensions_mut().insert(IsOperator);
        }
    }
}

/// Whether `address` is a loopback address of this machine, also if mapped to IPv6.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Refuses clients that are not operators.
///
/// # Errors
/// `OPERATORS_ONLY`.
pub fn require(extensions: &http::Extensions) -> Result<(), ApiError> {
    if extensions.get::<IsOperator>().is_some() {
        return Ok(());
    }
    let message = "this is for operators: clients on the node's own machine or of its --admin-port; see --operators";
    Err(ApiError::new(Reason::OperatorsOnly, message))
}

/// Whether `path` belongs to the service for operators.
#[must_use]
pub fn is_for_operators(path: &str) -> bool {
    path.starts_with("/catga.system.v1.AdminService/")
}
