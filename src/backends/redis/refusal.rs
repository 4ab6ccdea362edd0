//! Why a server is refused.

use redis::{ErrorKind, RedisError};

use crate::ports::event_store::LossKind;

/// Why a server is not used, and whether that can change without an operator.
pub(super) struct Refusal {
    pub why: String,
    pub is_final: bool,
    /// The user lacks a permission, and nothing else is wrong.
    pub is_permission: bool,
    /// The address is wrong, or lacks a password: no server of the service would take it.
    pub is_of_address: bool,
    /// The server does not have this node's log.
    pub loss: Option<LossKind>,
}

impl Refusal {
    pub(super) fn passing(why: String) -> Self {
        Self { why, is_final: false, is_permission: false, is_of_address: false, loss: None }
    }

    pub(super) fn lasting(why: String) -> Self {
        Self { why, is_final: true, is_permission: false, is_of_address: false, loss: None }
    }
}

/// Whether Redis requires a login, or refuses the one that was given.
pub(super) fn is_login_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || matches!(error.code(), Some("WRONGPASS" | "NOAUTH"))
}
