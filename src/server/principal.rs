//! The verified caller of a request, for the handlers of both APIs.

use std::sync::Arc;

use http::Extensions;

use crate::{
    application::Scope,
    identity::{Principal, Role},
};

/// The caller of the request with `extensions`. Where callers are not identified it is [`Principal::anonymous`], which may do everything.
///
/// Access control adds the verified caller to the extensions before any handler runs, and refuses a request without one where callers are identified.
#[must_use]
pub fn principal(extensions: &Extensions) -> &Principal {
    extensions.get::<Arc<Principal>>().map_or(Principal::anonymous(), |verified| verified)
}

/// The orders that the caller of the request with `extensions` may read.
#[must_use]
pub fn reading(extensions: &Extensions) -> Scope {
    Scope::of(principal(extensions), Role::Reader)
}

/// The orders whose events the caller of the request with `extensions` may follow, if it requests those of all orders.
#[must_use]
pub fn following(extensions: &Extensions) -> Scope {
    Scope::of(principal(extensions), Role::Events)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::text::Actor, identity::Roles};

    #[test]
    fn a_request_has_the_caller_that_was_verified_else_the_anonymous_one() {
        let mut extensions = Extensions::new();
        assert_eq!(principal(&extensions), Principal::anonymous());
        let verified = Principal::verified(Actor::parse("shop").unwrap(), Roles::NONE, None);
        extensions.insert(Arc::new(verified.clone()));
        assert_eq!(principal(&extensions), &verified);
    }
}
