//! The orders that a caller may see and change: all of them, or those of its own customer id.
//!
//! A scope travels with each request, and is derived from the caller alone: no token, cursor or filter of a request widens it. An order outside of it
//! is treated as one that does not exist, with the same reads of the store and the same error.

use std::sync::Arc;

use super::AppError;
use crate::{
    domain::text::CustomerId,
    identity::{Principal, Role},
};

/// The orders that a request may concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(Reach);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reach {
    All,
    Of(CustomerId),
    /// A caller without the role and without a customer id. The table of access refuses it before; otherwise it would see nothing.
    Nothing,
}

impl Scope {
    /// All orders.
    pub const ALL: Self = Self(Reach::All);

    /// The orders of `caller` for a call that `role` allows for all orders.
    #[must_use]
    pub fn of(caller: &Principal, role: Role) -> Self {
        match (caller.roles().has(role), caller.only_customer(role)) {
            (true, _) => Self::ALL,
            (false, Some(customer)) if caller.roles().has(Role::Customer) => Self(Reach::Of(customer.clone())),
            (false, _) => Self(Reach::Nothing),
        }
    }

    /// Whether an order of `customer` is within it.
    #[must_use]
    pub fn admits(&self, customer: &str) -> bool {
        match &self.0 {
            Reach::All => true,
            Reach::Of(own) => own.as_str() == customer,
            Reach::Nothing => false,
        }
    }

    /// The customer whose orders are the only ones within it.
    #[must_use]
    pub const fn customer(&self) -> Option<&CustomerId> {
        match &self.0 {
            Reach::Of(own) => Some(own),
            Reach::All | Reach::Nothing => None,
        }
    }

    /// The customer to whose orders a request is narrowed that names `wanted`, or no customer; `None`: orders of all customers.
    ///
    /// # Errors
    /// [`AppError::CustomerNotAllowed`] for a customer outside of it. This reveals nothing about that customer, since it depends only on the request
    /// and its caller.
    pub fn narrow(&self, wanted: Option<Arc<str>>) -> Result<Option<Arc<str>>, AppError> {
        match (&self.0, wanted) {
            (Reach::All, wanted) => Ok(wanted),
            (Reach::Of(own), wanted) if wanted.as_ref().is_none_or(|wanted| **wanted == **own) => {
                Ok(Some(own.shared()))
            }
            (Reach::Of(_) | Reach::Nothing, _) => Err(AppError::CustomerNotAllowed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::text::Actor, identity::Roles};

    fn customer(id: &str) -> CustomerId {
        CustomerId::parse(id).unwrap()
    }

    fn caller(roles: &[Role], of: Option<&str>) -> Principal {
        Principal::verified(Actor::parse("someone").unwrap(), Roles::of(roles), of.map(customer))
    }

    #[test]
    fn a_caller_without_identities_and_one_with_the_role_reach_all_orders() {
        let both = caller(&[Role::Customer, Role::Reader], Some("c-1"));
        for scope in [Scope::of(Principal::anonymous(), Role::Reader), Scope::of(&both, Role::Reader)] {
            assert!(scope.admits("c-1") && scope.admits("c-2"));
            assert_eq!(scope.narrow(None), Ok(None));
            assert_eq!(scope.narrow(Some("c-2".into())), Ok(Some("c-2".into())));
        }
        assert!(!Scope::of(&both, Role::Writer).admits("c-2"), "a role widens only the calls that it allows");
    }

    #[test]
    fn a_customer_reaches_its_own_orders_only() {
        let scope = Scope::of(&caller(&[Role::Customer], Some("c-1")), Role::Reader);
        assert!(scope.admits("c-1") && !scope.admits("c-2") && !scope.admits(""));
        assert_eq!(scope.narrow(None), Ok(Some("c-1".into())));
        assert_eq!(scope.narrow(Some("c-1".into())), Ok(Some("c-1".into())));
        assert_eq!(scope.narrow(Some("c-2".into())), Err(AppError::CustomerNotAllowed));
    }

    #[test]
    fn a_caller_without_the_role_and_without_a_customer_reaches_nothing() {
        let without_the_role = caller(&[Role::Events], Some("c-1"));
        for caller in [caller(&[Role::Customer], None), caller(&[Role::Events], None), without_the_role] {
            let scope = Scope::of(&caller, Role::Reader);
            assert!(!scope.admits("c-1") && !scope.admits(""));
            assert_eq!(scope.narrow(None), Err(AppError::CustomerNotAllowed));
        }
    }
}
