//! The roles of a caller. A caller may have several; none includes another.

use serde::Deserialize;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// A role of a caller: the calls that it may make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum Role {
    /// Reads every order: queries, lists, statistics, and the history of one order.
    Reader,
    /// Changes every order, and generates ids.
    Writer,
    /// Follows the events of all orders.
    Events,
    /// Administers the node: dead letters, rebuilds, details of its health, metrics.
    Operator,
    /// Reads and changes the orders of its own customer id, and sees no others.
    Customer,
}

impl Role {
    /// The name of the role, as in an identity file and in a claim.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// No role.
    pub const NONE: Self = Self(0);

    /// Every role except that of a customer: the roles of every caller where callers are not identified.
    pub const UNRESTRICTED: Self = Self::of(&[Role::Reader, Role::Writer, Role::Events, Role::Operator]);

    /// The set of these roles.
    #[must_use]
    pub const fn of(roles: &[Role]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < roles.len() {
            bits |= roles[at].bit();
            at += 1;
        }
        Self(bits)
    }

    /// Whether `role` is among them.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether one of `others` is among them.
    #[must_use]
    pub const fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// The roles, in the order of their declaration.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::VARIANTS.iter().copied().filter(move |role| self.has(*role))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | role.bit()))
    }
}
