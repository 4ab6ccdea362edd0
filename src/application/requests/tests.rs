//! Checks every place that would compile without knowing a new command.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;
use strum::VariantArray as _;

use super::{CommandKind, OrderRequest, Target};
use crate::{
    codec::{self, EventHeader, Record},
    domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Action, EventKind, Item, Items, Order, OrderCommand, Quantity, Status, decide, evolve},
        text::{Text, TextRule},
        timestamp::Timestamp,
    },
    identity::{Principal, Role},
};

fn text<R: TextRule>(text: &str) -> Text<R> {
    Text::parse(text).unwrap()
}

/// A command of each kind, with all of its fields.
fn action(kind: CommandKind) -> Action {
    match kind {
        CommandKind::CreateOrder => {
            let unit_price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
            let (product_id, quantity) = (text("p"), Quantity::new(1).unwrap());
            let items = Items::new(vec![Item { product_id, name: Some(text("n")), quantity, unit_price }]).unwrap();
            Action::Create { customer_id: text("c"), items, shipping_address: Some(text("s")) }
        }
        CommandKind::PayOrder => Action::Pay { method: text("m"), reference: Some(text("r")) },
        CommandKind::ShipOrder => Action::Ship { tracking_number: text("t"), carrier: Some(text("c")) },
        CommandKind::DeliverOrder => Action::Deliver,
        CommandKind::CancelOrder => Action::Cancel { reason: Some(text("r")) },
    }
}

#[test]
fn every_command_of_the_protos_is_counted_under_its_name() {
    let files = prost_types::FileDescriptorSet::decode(crate::proto::DESCRIPTORS).unwrap().file;
    let mut services = files.iter().flat_map(|file| &file.service);
    let service = services.find(|service| service.name() == "OrderCommandService").unwrap();
    let methods = service.method.iter().map(|method| method.name()).filter(|name| *name != "ExecuteCommands");
    let counted = CommandKind::VARIANTS.iter().map(<&str>::from);
    assert_eq!(methods.collect::<Vec<_>>(), counted.collect::<Vec<_>>());
    for kind in CommandKind::VARIANTS {
        let request = request(action(*kind));
        assert_eq!((request.kind(), request.action.name()), (*kind, kind.into()));
    }
}

fn request(action: Action) -> OrderRequest {
    let caller = Principal::anonymous().clone();
    OrderRequest { request_id: None, expected_revision: None, actor: None, target: Target::New, action, caller }
}

#[test]
fn every_command_is_for_writers_and_a_customer_neither_ships_nor_delivers() {
    let by_customers: Vec<_> = CommandKind::VARIANTS.iter().filter(|kind| kind.roles().has(Role::Customer)).collect();
    assert!(CommandKind::VARIANTS.iter().all(|kind| kind.roles().has(Role::Writer)));
    assert_eq!(by_customers, [&CommandKind::CreateOrder, &CommandKind::PayOrder, &CommandKind::CancelOrder]);
}

#[test]
fn every_command_and_each_of_its_fields_changes_the_fingerprint() {
    let mut fingerprints = BTreeMap::new();
    for kind in CommandKind::VARIANTS {
        let former = fingerprints.insert(request(action(*kind)).fingerprint(), kind);
        assert_eq!(former, None, "{kind:?}");
    }
}

/// Walks every path through the life of an order, until no new status is found.
#[test]
fn every_command_is_accepted_in_some_status_and_its_events_can_be_stored_read_and_applied() {
    let mut lives: VecDeque<Option<Order>> = VecDeque::from([None]);
    let (mut accepted, mut kinds, mut statuses) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(before) = lives.pop_front() {
        for kind in CommandKind::VARIANTS {
            let at = Timestamp::from_micros(1);
            let command = OrderCommand { order_id: OrderId::new(1).unwrap(), at, action: action(*kind) };
            let Ok(events) = decide(before.as_ref(), &command) else { continue };
            assert!(before.as_ref().is_none_or(|order| !order.status.is_final()), "{kind:?} on a final {before:?}");
            accepted.push(*kind);
            let mut order = before.clone();
            for event in events {
                let revision = order.as_ref().map_or(0, |order| order.revision) + 1;
                let stored = codec::encode(
                    &event,
                    Record { revision, request_id: None, actor: None, on_behalf_of: None, traceparent: None },
                );
                assert_eq!(codec::decode(&stored), Ok(event.clone()));
                assert_eq!(EventHeader::read(&stored).unwrap().kind(), Ok(event.change.kind()));
                let next = evolve(order.as_ref(), &event).unwrap_or_else(|error| panic!("{kind:?}: {error}"));
                assert_eq!(next.status, event.change.kind().status_after(), "lists show the same status as the order");
                let folded = codec::decode_folded(&codec::encode_folded(&next, 1));
                assert_eq!(folded, Ok((next.clone(), 1)));
                kinds.push(event.change.kind());
                order = Some(next);
            }
            if let Some(order) = order.filter(|order| !statuses.contains(&order.status)) {
                statuses.push(order.status);
                lives.push_back(Some(order));
            }
        }
    }
    let missing: Vec<_> = CommandKind::VARIANTS.iter().filter(|kind| !accepted.contains(kind)).collect();
    assert!(missing.is_empty(), "never accepted: {missing:?}");
    let missing: Vec<_> = EventKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "never made: {missing:?}");
    let missing: Vec<_> = Status::ALL.into_iter().filter(|status| !statuses.contains(status)).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}
