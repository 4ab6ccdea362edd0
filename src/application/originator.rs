//! The originator of a command: the verified caller, the other name that the client may give, and the idempotency key that belongs to them.

use std::sync::Arc;

use super::{AppError, Scope};
use crate::{
    codec,
    domain::text::{Actor, RequestId},
    identity::Principal,
};

/// The originator of a command, as its events record it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Originator {
    /// The verified name of the caller; where callers are not identified, the name that the client gives.
    pub actor: Option<Actor>,
    /// The name that the client gives, where it differs from the verified name.
    pub on_behalf_of: Option<Actor>,
}

impl Originator {
    /// The originator of a command of `caller` that names `given`.
    ///
    /// # Errors
    /// [`AppError::ActorNotAllowed`] if it names someone other than the caller, who may not act for others.
    pub fn of(caller: &Principal, given: Option<Actor>) -> Result<Self, AppError> {
        let Some(name) = caller.name() else {
            return Ok(Self { actor: given, on_behalf_of: None });
        };
        let on_behalf_of = given.filter(|given| given != name);
        if on_behalf_of.is_some() && !caller.may_act_for_others() {
            return Err(AppError::ActorNotAllowed);
        }
        Ok(Self { actor: Some(name.clone()), on_behalf_of })
    }
}

/// The key under which the store knows the request `id` of `caller`, which may change the orders within `scope`: two callers that use the same id
/// have two keys. So have callers with one name that act for two customers: the reply to one must not reveal the commands of the other.
pub(super) fn stored_request_id(caller: &Principal, scope: &Scope, id: &RequestId) -> Arc<str> {
    let customer = scope.customer().map(|customer| customer.as_str());
    caller.name().map_or_else(|| id.shared(), |name| codec::request_id_of_caller(name, customer, id).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::text::CustomerId,
        identity::{Role, Roles},
    };

    fn actor(name: &str) -> Actor {
        Actor::parse(name).unwrap()
    }

    fn caller(role: Role) -> Principal {
        Principal::verified(actor("shop"), Roles::of(&[role]), None)
    }

    #[test]
    fn the_verified_name_is_the_actor_and_another_name_is_kept_as_well() {
        let writer = caller(Role::Writer);
        let named = |on_behalf_of| Ok(Originator { actor: Some(actor("shop")), on_behalf_of });
        assert_eq!(Originator::of(&writer, None), named(None));
        assert_eq!(Originator::of(&writer, Some(actor("shop"))), named(None));
        assert_eq!(Originator::of(&writer, Some(actor("ann"))), named(Some(actor("ann"))));
    }

    #[test]
    fn a_caller_that_may_not_act_for_others_may_give_only_its_own_name() {
        let customer = caller(Role::Customer);
        assert_eq!(Originator::of(&customer, Some(actor("ann"))), Err(AppError::ActorNotAllowed));
        assert_eq!(Originator::of(&customer, Some(actor("shop"))), Originator::of(&customer, None));
    }

    #[test]
    fn without_identities_the_client_names_the_actor_and_its_request_id_is_the_key() {
        let given = Some(actor("ann"));
        let expected = Originator { actor: given.clone(), on_behalf_of: None };
        assert_eq!(Originator::of(Principal::anonymous(), given), Ok(expected));
        let id = RequestId::parse("req-1").unwrap();
        assert_eq!(&*stored_request_id(Principal::anonymous(), &Scope::ALL, &id), "req-1");
        assert_ne!(&*stored_request_id(&caller(Role::Writer), &Scope::ALL, &id), "req-1");
    }

    #[test]
    fn a_request_id_belongs_to_a_name_and_for_customers_also_to_the_customer_id() {
        let id = RequestId::parse("req-1").unwrap();
        let key = |roles: &[Role], customer: &str| {
            let caller = Principal::verified(actor("shop"), Roles::of(roles), CustomerId::parse(customer).ok());
            stored_request_id(&caller, &Scope::of(&caller, Role::Writer), &id)
        };
        let [ann, ben] = ["ann", "ben"].map(|customer| key(&[Role::Customer], customer));
        let writer = key(&[Role::Writer], "");
        assert!(ann != ben && ann != writer && ben != writer);
        let both = key(&[Role::Customer, Role::Writer], "ann");
        assert_eq!(both, writer, "a writer may change the orders of all customers");
    }
}
