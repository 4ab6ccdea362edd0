//! What is for operators: dead letters, rebuilds, metrics, and the details of health.

use std::net::SocketAddr;

use http::Request;

use super::error::{ApiError, Reason};

/// The client's address, in the extensions of each request.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// That the request may do what is for operators, in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct IsOperator;

/// Who is taken for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operators {
    /// Clients on the machine of the node.
    Local,
    /// Every client: of the port for operators, or where the configuration says so.
    Anyone,
}

impl Operators {
    /// Notes on `request` whether its client is an operator.
    pub fn mark<B>(self, request: &mut Request<B>) {
        let is_local = request.extensions().get::<Peer>().is_some_and(|Peer(address)| is_loopback(address));
        if self == Self::Anyone || is_local {
            request.extensions_mut().insert(IsOperator);
        }
    }
}

/// Whether `address` is of this machine, also where it comes as one of IPv6.
fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Lets only operators through.
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

/// Whether `path` is of the service for operators.
#[must_use]
pub fn is_for_operators(path: &str) -> bool {
    path.starts_with("/catga.system.v1.AdminService/")
}
