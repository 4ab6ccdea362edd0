//! Callers with verified names: what the log keeps of them, and that a request id is theirs alone, on every event store.

use std::sync::Arc;

use ordersystem::{
    application::{AppError, CommandReply, Mediator, OrderRequest, requests::Target},
    backends::embedded::event_store::EmbeddedEventStore,
    codec,
    domain::{
        ids::OrderId,
        order::{Action, Status},
        text::{Actor, CustomerId, RequestId, Text},
    },
    id_generator::EPOCH_UNIX_MS,
    identity::{Principal, Role, Roles},
    log_tools::{self, CopyOptions, Finding, Meter, audit},
    ports::{
        clock::ManualClock,
        event_store::{Direction, Position, StreamId},
    },
};

use tokio_util::sync::CancellationToken;

use crate::{
    backend::race_on_each,
    embedded::scratch,
    order_ids::{BACKENDS, Store, new_order, node},
};

fn caller(name: &str, role: Role) -> Principal {
    let customer = (role == Role::Customer).then(|| CustomerId::parse(name).unwrap());
    Principal::verified(Actor::parse(name).unwrap(), Roles::of(&[role]), customer)
}

fn new_node(store: &Store) -> Mediator {
    let start = i64::try_from(EPOCH_UNIX_MS).unwrap() * 1_000 + 1_000_000_000;
    let clock = Arc::new(ManualClock::new(start));
    let node = node(store, &clock);
    // There are no ids for the time before the node has started.
    clock.advance_ms(10);
    node
}

/// A new order of the customer "c".
fn create(caller: &Principal, request_id: &str) -> OrderRequest {
    OrderRequest { caller: caller.clone(), ..new_order(Some(request_id)) }
}

fn existing(caller: &Principal, id: OrderId, request_id: &str, action: Action) -> OrderRequest {
    OrderRequest {
        request_id: Some(RequestId::parse(request_id).unwrap()),
        expected_revision: None,
        actor: None,
        target: Target::Existing(id),
        action,
        caller: caller.clone(),
    }
}

fn pay(caller: &Principal, id: OrderId, request_id: &str) -> OrderRequest {
    existing(caller, id, request_id, Action::Pay { method: Text::parse("card").unwrap(), reference: None })
}

fn cancel(caller: &Principal, id: OrderId, request_id: &str) -> OrderRequest {
    existing(caller, id, request_id, Action::Cancel { reason: None })
}

fn state(reply: &CommandReply) -> (OrderId, u64, Status) {
    (reply.order.id, reply.order.revision, reply.order.status)
}

/// A copy of the log in another store.
async fn copied(store: &Store) -> Store {
    let copy: Store = Arc::new(EmbeddedEventStore::new(scratch()));
    let stop = CancellationToken::new();
    log_tools::copy(store, &copy, CopyOptions::default(), &Meter::default(), &stop).await.unwrap();
    copy
}

async fn assert_sound(store: &Store) {
    let mut findings: Vec<Finding> = Vec::new();
    audit(store, &Meter::default(), |finding| findings.push(finding)).await.unwrap();
    assert!(findings.is_empty(), "{findings:?}");
}

#[test]
fn a_request_id_of_two_callers_is_two_requests_and_a_retry_of_each_gets_its_own_reply() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        let (shop, desk) = (caller("shop", Role::Writer), caller("desk", Role::Writer));
        let callers = [&shop, &desk, Principal::anonymous()];
        let mut created = Vec::new();
        for caller in callers {
            created.push(state(&node.execute(create(caller, "id-1")).await.unwrap()));
        }
        assert!(created[0].0 != created[1].0 && created[1].0 != created[2].0 && created[0].0 != created[2].0);
        let order = created[0].0;
        let paid = state(&node.execute(pay(&shop, order, "id-2")).await.unwrap());
        // Another command with the same id of the same order: not the other caller's request with another payload.
        let cancelled = state(&node.execute(cancel(&desk, order, "id-2")).await.unwrap());
        assert_eq!((paid.2, cancelled.2), (Status::Paid, Status::Cancelled));
        // By a node that has nothing in its cache as well.
        for node in [node, new_node(&store)] {
            for (caller, first) in callers.into_iter().zip(&created) {
                assert_eq!(state(&node.execute(create(caller, "id-1")).await.unwrap()), *first);
            }
            assert_eq!(state(&node.execute(pay(&shop, order, "id-2")).await.unwrap()), paid);
            assert_eq!(state(&node.execute(cancel(&desk, order, "id-2")).await.unwrap()), cancelled);
            let reused = node.execute(cancel(&shop, order, "id-2")).await.unwrap_err();
            assert_eq!(reused, AppError::RequestIdReused("id-2".to_owned()), "the id is the client's own");
            // Nobody has paid it under this id without a name.
            let refused = node.execute(pay(Principal::anonymous(), order, "id-2")).await.unwrap_err();
            assert!(matches!(refused, AppError::IllegalTransition { .. }), "{refused}");
        }
        let copy = copied(&store).await;
        assert_sound(&store).await;
        assert_sound(&copy).await;
        let retry = new_node(&copy).execute(create(&desk, "id-1")).await.unwrap();
        assert_eq!(state(&retry), created[1], "a copy knows whose request it was");
    });
}

#[test]
fn the_log_has_the_verified_name_the_name_acted_for_and_the_given_request_id() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        let mut request = create(&caller("shop", Role::Writer), &"x".repeat(128));
        request.actor = Some(Actor::parse("ann").unwrap());
        let order = node.execute(request).await.unwrap().order.id;
        let named = node.execute(pay(&caller(&"é".repeat(128), Role::Writer), order, "id")).await.unwrap();
        assert_eq!(named.order.revision, 2);
        let events = store.read_stream(StreamId(order.get()), 1, Direction::Forward, 10).await.unwrap();
        let messages: Vec<_> = events.iter().map(|event| codec::decode_message(&event.payload).unwrap()).collect();
        let texts: Vec<_> = messages.iter().map(|m| (&*m.actor, &*m.on_behalf_of, &*m.request_id)).collect();
        assert_eq!(texts, [("shop", "ann", &*"x".repeat(128)), (&*"é".repeat(128), "", "id")]);
        assert_sound(&store).await;
    });
}

#[test]
fn events_of_a_caller_without_a_name_are_unchanged() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        let order = node.execute(new_order(Some("id-1"))).await.unwrap().order.id;
        let mut payment = pay(Principal::anonymous(), order, "id-2");
        payment.actor = Some(Actor::parse("ann").unwrap());
        node.execute(payment).await.unwrap();
        let commits = store.read_commits(Position(0), 10).await.unwrap();
        let ids: Vec<_> = commits.iter().filter_map(|commit| Some(&*commit.request.as_ref()?.id)).collect();
        assert_eq!(ids, ["id-1", "id-2"]);
        for (commit, actor) in commits.iter().zip(["", "ann"]) {
            let message = codec::decode_message(&commit.events[0].payload).unwrap();
            assert_eq!((&*message.actor, &*message.on_behalf_of), (actor, ""));
        }
        assert_sound(&store).await;
    });
}

#[test]
fn an_order_of_another_customer_is_indistinguishable_from_one_that_does_not_exist() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        let (own, other) = (caller("c", Role::Customer), caller("d", Role::Customer));
        let order = node.execute(create(&own, "id-1")).await.unwrap().order.id;
        assert_eq!(node.execute(pay(&own, order, "id-2")).await.unwrap().order.status, Status::Paid);
        for node in [node, new_node(&store)] {
            for id in [order, OrderId::new(42).unwrap()] {
                let commands = [pay(&other, id, "id-2"), pay(&other, id, "id-3"), cancel(&other, id, "id-2")];
                for mut command in commands {
                    assert_eq!(node.execute(command.clone()).await.unwrap_err(), AppError::OrderNotFound(id));
                    command.expected_revision = Some(1);
                    assert_eq!(node.execute(command).await.unwrap_err(), AppError::OrderNotFound(id));
                }
            }
            assert_eq!(node.execute(create(&other, "id-1")).await.unwrap_err(), AppError::CustomerNotAllowed);
        }
        // A name that has been given to another customer does not get the replies of the previous one.
        let renamed = Principal::verified(
            Actor::parse("c").unwrap(),
            Roles::of(&[Role::Customer]),
            Some(CustomerId::parse("d").unwrap()),
        );
        let refused = new_node(&store).execute(pay(&renamed, order, "id-2")).await.unwrap_err();
        assert_eq!(refused, AppError::OrderNotFound(order));
        let events = store.read_stream(StreamId(order.get()), 1, Direction::Forward, 10).await.unwrap();
        assert_eq!(events.len(), 2, "nothing was written for the other customer");
    });
}

#[test]
fn customers_of_one_name_neither_see_nor_block_the_requests_of_each_other() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        // As where the name is that of the application, and its users are its customers.
        let of = |role, customer: &str| {
            Principal::verified(Actor::parse("app").unwrap(), Roles::of(&[role]), CustomerId::parse(customer).ok())
        };
        let (ann, ben) = (of(Role::Customer, "c"), of(Role::Customer, "d"));
        let create_own = |caller: &Principal| {
            let mut request = create(caller, "id-1");
            if let Action::Create { customer_id, .. } = &mut request.action {
                *customer_id = caller.customer().unwrap().clone();
            }
            request
        };
        let of_ann = state(&node.execute(create_own(&ann)).await.unwrap());
        let of_ben = state(&node.execute(create_own(&ben)).await.unwrap());
        assert_ne!(of_ann.0, of_ben.0);
        let paid = state(&node.execute(pay(&ann, of_ann.0, "id-2")).await.unwrap());
        // By a node that has nothing in its cache as well.
        for node in [node, new_node(&store)] {
            for id in [of_ann.0, OrderId::new(42).unwrap()] {
                for request_id in ["id-1", "id-2", "id-3"] {
                    for command in [pay(&ben, id, request_id), cancel(&ben, id, request_id)] {
                        assert_eq!(node.execute(command).await.unwrap_err(), AppError::OrderNotFound(id));
                    }
                }
            }
            assert_eq!(state(&node.execute(create_own(&ann)).await.unwrap()), of_ann);
            assert_eq!(state(&node.execute(create_own(&ben)).await.unwrap()), of_ben);
            assert_eq!(state(&node.execute(pay(&ann, of_ann.0, "id-2")).await.unwrap()), paid);
            let reused = node.execute(cancel(&ann, of_ann.0, "id-2")).await.unwrap_err();
            assert_eq!(reused, AppError::RequestIdReused("id-2".to_owned()));
        }
        let copy = copied(&store).await;
        assert_sound(&store).await;
        assert_sound(&copy).await;
        let retry = new_node(&copy).execute(create_own(&ben)).await.unwrap();
        assert_eq!(state(&retry), of_ben, "a copy knows whose request it was");
    });
}

#[test]
fn a_command_needs_one_of_its_roles_however_the_call_was_admitted() {
    race_on_each(BACKENDS, |store| async move {
        let node = new_node(&store);
        let order = node.execute(create(&caller("c", Role::Customer), "id-1")).await.unwrap().order.id;
        let ship = |caller: &Principal| {
            let action = Action::Ship { tracking_number: Text::parse("T").unwrap(), carrier: None };
            existing(caller, order, "id-2", action)
        };
        for (role, needed) in [(Role::Customer, &[Role::Writer][..]), (Role::Reader, &[Role::Writer])] {
            let refused = node.execute(ship(&caller("c", role))).await.unwrap_err();
            assert_eq!(refused, AppError::RoleMissing { needed: Roles::of(needed), own: Roles::of(&[role]) });
        }
        for role in [Role::Reader, Role::Events, Role::Operator] {
            let refused = node.execute(create(&caller("c", role), "id-3")).await.unwrap_err();
            assert!(matches!(refused, AppError::RoleMissing { .. }), "{refused}");
        }
    });
}
