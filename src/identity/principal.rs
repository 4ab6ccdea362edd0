//! The verified caller of a request.

use super::roles::{Role, Roles};
use crate::domain::text::{Actor, CustomerId};

/// The verified caller of a request. Where callers are not identified it is [`Principal::anonymous`], which may do everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    name: Option<Actor>,
    roles: Roles,
    customer: Option<CustomerId>,
}

/// The caller of every request where callers are not identified.
static ANONYMOUS: Principal = Principal { name: None, roles: Roles::UNRESTRICTED, customer: None };

impl Principal {
    /// The caller of a request where callers are not identified.
    #[must_use]
    pub fn anonymous() -> &'static Self {
        &ANONYMOUS
    }

    /// The caller without credentials where callers are identified: it may do nothing.
    #[must_use]
    pub const fn nobody() -> Self {
        Self { name: None, roles: Roles::NONE, customer: None }
    }

    /// The caller with a verified `name`. `customer` is the customer whose orders it may see as a [`Role::Customer`].
    #[must_use]
    pub const fn verified(name: Actor, roles: Roles, customer: Option<CustomerId>) -> Self {
        Self { name: Some(name), roles, customer }
    }

    /// The verified name; `None` where callers are not identified.
    #[must_use]
    pub const fn name(&self) -> Option<&Actor> {
        self.name.as_ref()
    }

    /// Its roles.
    #[must_use]
    pub const fn roles(&self) -> Roles {
        self.roles
    }

    /// Its customer id as a [`Role::Customer`].
    #[must_use]
    pub const fn customer(&self) -> Option<&CustomerId> {
        self.customer.as_ref()
    }

    /// The customer to whose orders it is limited in a call that `role` allows for all orders; `None`: it is not limited.
    #[must_use]
    pub const fn only_customer(&self, role: Role) -> Option<&CustomerId> {
        if self.roles.has(role) { None } else { self.customer.as_ref() }
    }

    /// Whether it may name someone else as the originator of its commands.
    #[must_use]
    pub const fn may_act_for_others(&self) -> bool {
        self.roles.has(Role::Writer)
    }
}
