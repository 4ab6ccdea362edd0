use super::*;
use crate::domain::{
    ids::OrderId,
    order::{EventKind, Order, Status, evolve},
    text::{CustomerId, Text},
};

/// An OrderCreated written by schema version 1: prices in minor units, one currency next to the items.
const CREATED_VERSION_1: &[u8] = include_bytes!("../../tests/fixtures/order_created_v1.bin");
/// An OrderCreated and an OrderPaid written by schema version 2. Logs contain such bytes, which must stay readable forever.
const CREATED_VERSION_2: &[u8] = include_bytes!("../../tests/fixtures/order_created_v2.bin");
const PAID_VERSION_2: &[u8] = include_bytes!("../../tests/fixtures/order_paid_v2.bin");

fn usd(minor: i64) -> Money {
    Money::from_minor(minor, Currency::parse("USD").unwrap()).unwrap()
}

fn created() -> OrderEvent {
    let line = |product: &str, name: &str, pieces, price| Item {
        product_id: Text::parse(product).unwrap(),
        name: Text::parse_optional(name).unwrap(),
        quantity: Quantity::new(pieces).unwrap(),
        unit_price: usd(price),
    };
    OrderEvent {
        order_id: OrderId::new(382_520_797_643_669_504).unwrap(),
        customer_id: CustomerId::parse("customer-123").unwrap(),
        at: Timestamp::from_micros(1_736_937_000_123_456),
        change: Change::Created {
            items: Items::new(vec![line("prod-1", "Laptop", 1, 99_999), line("prod-2", "", 2, 2_999)]).unwrap(),
            shipping_address: Text::parse_optional("123 Main St").unwrap(),
        },
    }
}

fn all_kinds() -> Vec<OrderEvent> {
    let changes = [
        created().change,
        Change::Paid { method: Text::parse("credit_card").unwrap(), reference: Text::parse_optional("ref-1").unwrap() },
        Change::Shipped { tracking_number: Text::parse("TRACK-12345").unwrap(), carrier: None },
        Change::Delivered,
        Change::Cancelled { reason: Text::parse_optional("changed my mind").unwrap() },
    ];
    // In the order of `EventKind::ALL`: an array of another length does not compile.
    let changes: [Change; EventKind::ALL.len()] = changes;
    changes.into_iter().map(|change| OrderEvent { change, ..created() }).collect()
}

fn record(revision: u64) -> Record<'static> {
    Record { revision, request_id: None, actor: None, on_behalf_of: None, traceparent: None }
}

#[test]
fn every_kind_of_event_round_trips() {
    for event in all_kinds() {
        assert_eq!(decode(&encode(&event, record(7))), Ok(event));
    }
}

#[test]
fn a_folded_order_round_trips_in_every_status() {
    let lives: [&[usize]; 3] = [&[0, 1, 2, 3], &[0, 4], &[0, 1, 4]];
    let events = all_kinds();
    for life in lives {
        let mut order: Option<Order> = None;
        for kind in life {
            let next = evolve(order.as_ref(), &events[*kind]).unwrap();
            assert_eq!(decode_folded(&encode_folded(&next, 77)), Ok((next.clone(), 77)));
            order = Some(next);
        }
    }
}

#[test]
fn damaged_bytes_are_not_a_folded_order() {
    let whole = encode_folded(&evolve(None, &created()).unwrap(), 1);
    for cut in 0..whole.len() {
        // A cut between two fields is well-formed: later fields may be missing, but never different.
        if let Ok((order, _)) = decode_folded(&whole[..cut]) {
            assert_eq!(order.customer_id, created().customer_id);
        }
    }
    assert!(decode_folded(b"no order").is_err());
}

#[test]
fn an_event_is_recorded_with_its_id_revision_request_actor_and_on_behalf_of() {
    let (request_id, actor) = (Text::parse("req-1").unwrap(), Text::parse("clerk").unwrap());
    let on_behalf_of = Text::parse("ann").unwrap();
    let record = Record {
        revision: 1,
        request_id: Some(&request_id),
        actor: Some(&actor),
        on_behalf_of: Some(&on_behalf_of),
        traceparent: None,
    };
    let message = decode_message(&encode(&created(), record)).unwrap();
    assert_eq!(message.event_id, "382520797643669504-1");
    assert_eq!((message.revision, message.schema_version), (1, SCHEMA_VERSION));
    assert_eq!((message.request_id.as_str(), message.actor.as_str()), ("req-1", "clerk"));
    assert_eq!(message.on_behalf_of, "ann");
    assert_eq!(message.customer_id, "customer-123");
}

#[test]
fn events_are_written_as_the_generated_message_writes_them() {
    let (request_id, actor) = (Text::parse("req-1").unwrap(), Text::parse(&"é".repeat(128)).unwrap());
    let on_behalf_of = Text::parse("ann").unwrap();
    let whole = Record {
        revision: u64::from(u32::MAX),
        request_id: Some(&request_id),
        actor: Some(&actor),
        on_behalf_of: Some(&on_behalf_of),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
    };
    let item = match created().change {
        Change::Created { items, .. } => items.lines()[0].clone(),
        _ => panic!("created"),
    };
    let many = Change::Created { items: Items::new(vec![item; 500]).unwrap(), shipping_address: None };
    for event in all_kinds().into_iter().chain([OrderEvent { change: many, ..created() }]) {
        for record in [record(1), whole] {
            let written = encode(&event, record);
            let message = stored::OrderEvent::decode(written.clone()).unwrap();
            assert_eq!(message.encode_to_vec(), written, "{event:?}");
            assert_eq!(event_of(message), Ok(event.clone()));
        }
    }
}

#[test]
fn the_header_agrees_with_the_whole_event() {
    for (event, kind) in all_kinds().iter().zip(EventKind::ALL) {
        let stored = encode(event, record(1));
        let header = EventHeader::read(&stored).unwrap();
        assert_eq!(header.kind(), Ok(kind));
        assert_eq!(header.customer_id(), Ok("customer-123"));
        assert_eq!(header.at(), Ok(event.at));
        let expected = matches!(kind, EventKind::Created).then_some((usd(105_997), 2));
        assert_eq!(header.created(), Ok(expected));
    }
}

#[test]
fn bytes_of_schema_version_1_are_upcast_to_the_current_version() {
    assert_eq!(decode(CREATED_VERSION_1), Ok(created()));
    let message = decode_message(CREATED_VERSION_1).unwrap();
    assert_eq!(message.schema_version, SCHEMA_VERSION);
    let header = EventHeader::read(CREATED_VERSION_1).unwrap();
    assert_eq!(header.created(), Ok(Some((usd(105_997), 2))));
}

#[test]
fn stored_bytes_stay_readable_and_the_encoding_stays_the_same() {
    assert_eq!(decode(CREATED_VERSION_2), Ok(created()));
    assert_eq!(decode(PAID_VERSION_2), Ok(all_kinds().remove(1)));
    assert_eq!(encode(&created(), record(1)), CREATED_VERSION_2);
    let order: Order = evolve(None, &decode(CREATED_VERSION_2).unwrap()).unwrap();
    assert_eq!(evolve(Some(&order), &decode(PAID_VERSION_2).unwrap()).unwrap().status, Status::Paid);
}

#[test]
fn newer_and_damaged_bytes_are_refused_by_name() {
    let mut newer = decode_message(CREATED_VERSION_2).unwrap();
    newer.schema_version = SCHEMA_VERSION + 1;
    assert_eq!(decode(&newer.encode_to_vec()), Err(CodecError::TooNew(SCHEMA_VERSION + 1)));
    let mut kindless = decode_message(CREATED_VERSION_2).unwrap();
    kindless.event = None;
    let mut total_wrong = decode_message(CREATED_VERSION_2).unwrap();
    let Some(stored::order_event::Event::OrderCreated(body)) = &mut total_wrong.event else { panic!("created") };
    body.total.as_mut().unwrap().units += 1;
    for damaged in [kindless.encode_to_vec(), total_wrong.encode_to_vec(), CREATED_VERSION_2[..40].to_vec(), vec![]] {
        assert!(matches!(decode(&damaged), Err(CodecError::Corrupt(_))), "{damaged:?}");
    }
}

#[test]
fn an_encoded_event_is_the_message_itself_on_the_wire() {
    let encoded = EncodedEvent(Bytes::from_static(CREATED_VERSION_2));
    assert_eq!(encoded.encode_to_vec(), CREATED_VERSION_2);
    assert_eq!(EncodedEvent::decode(CREATED_VERSION_2), Ok(encoded));
    assert!(EncodedEvent::decode(&CREATED_VERSION_2[..40]).is_err());
}

#[test]
fn times_outside_the_years_1_to_9999_are_refused() {
    let time = |seconds, nanos| timestamp_from_proto(&prost_types::Timestamp { seconds, nanos });
    assert_eq!(time(-1, 999_999_000).map(Timestamp::as_micros), Some(-1));
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (253_402_300_800, 0), (0, -1), (0, 1_000_000_000)] {
        assert_eq!(time(seconds, nanos), None);
    }
    let at = Timestamp::from_micros(-1);
    assert_eq!(timestamp_from_proto(&timestamp_to_proto(at)), Some(at));
}

/// Every kind and status of the protos, by name and number: one that is in the protos and missing here would stop the log followers.
#[test]
fn the_domain_has_every_kind_and_status_of_the_protos() {
    let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap().file;
    let messages = || files.iter().flat_map(|file| &file.message_type);
    let event = messages().find(|message| message.name() == "OrderEvent" && !message.oneof_decl.is_empty()).unwrap();
    let kinds = event.field.iter().filter(|field| field.oneof_index.is_some() && field.number() >= 16);
    let kinds: Vec<_> = kinds.map(|field| field.type_name().rsplit('.').next().unwrap()).collect();
    assert_eq!(kinds, EventKind::ALL.map(EventKind::name));

    let names_of = |name: &str, prefix: &str| -> Vec<String> {
        let enums = files.iter().flat_map(|file| &file.enum_type);
        let found = enums.into_iter().find(|found| found.name() == name).unwrap();
        let names = found.value.iter().filter(|value| value.number() != 0).map(|value| value.name());
        names.map(|name| name.strip_prefix(prefix).unwrap().replace('_', "").to_lowercase()).collect()
    };
    let lower = |name: &str| name.to_lowercase();
    assert_eq!(names_of("OrderStatus", "ORDER_STATUS_"), Status::ALL.map(Status::name).map(lower));
    assert_eq!(names_of("OrderEventType", "ORDER_EVENT_TYPE_"), EventKind::ALL.map(EventKind::name).map(lower));
    assert_eq!(Status::ALL.map(status_code), [1, 2, 3, 4, 5], "stored numbers are those of the protos, and stay");
}

#[test]
fn a_trace_context_adds_one_field_and_events_without_one_are_unchanged() {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    // The key of field 10 and the length, of one byte each.
    let field = [&[10 << 3 | 2, 55], traceparent.as_bytes()].concat();
    for event in all_kinds() {
        let without = encode(&event, record(1));
        let with = encode(&event, Record { traceparent: Some(traceparent), ..record(1) });
        let at = with.windows(field.len()).position(|window| window == field).unwrap();
        assert_eq!([&with[..at], &with[at + field.len()..]].concat(), without);
        assert_eq!(EventHeader::read(&without).unwrap().traceparent(), None);
        assert_eq!(EventHeader::read(&with).unwrap().traceparent(), Some(traceparent));
        assert_eq!((decode(&with), decode(&without)), (Ok(event.clone()), Ok(event)));
    }
    // Written before events had trace contexts.
    let old = Bytes::from_static(CREATED_VERSION_2);
    let message = decode_message(&old).unwrap();
    assert_eq!((message.traceparent.as_str(), message.encode_to_vec()), ("", old.to_vec()));
}
