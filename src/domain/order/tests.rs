//! The guarantees of orders, as given / when / then, and as properties of any history.

use proptest::prelude::*;

use super::{
    item::{MAX_ITEMS, MAX_QUANTITY},
    *,
};
use crate::domain::{
    ids::OrderId,
    money::{Currency, Money},
    text::{
        CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, Text, TextRule,
        TrackingNumber,
    },
    timestamp::Timestamp,
};

fn money(minor: i64, currency: &str) -> Money {
    Money::from_minor(minor, Currency::parse(currency).unwrap()).unwrap()
}

fn item(quantity: u32, unit_price: Money) -> Item {
    let quantity = Quantity::new(quantity.into()).unwrap();
    Item { product_id: "p-1".parse_as(), name: None, quantity, unit_price }
}

fn items() -> Items {
    Items::new(vec![item(1, money(99_999, "USD")), item(2, money(2_999, "USD"))]).unwrap()
}

/// Parses any kind of text from a literal.
trait ParseAs {
    fn parse_as<R: TextRule>(&self) -> Text<R>;
}

impl ParseAs for str {
    fn parse_as<R: TextRule>(&self) -> Text<R> {
        Text::parse(self).unwrap()
    }
}

fn create() -> Action {
    let shipping_address: ShippingAddress = "1 Main Street".parse_as();
    Action::Create { customer_id: "c-1".parse_as(), items: items(), shipping_address: Some(shipping_address) }
}

fn pay() -> Action {
    let reference: PaymentReference = "ref-1".parse_as();
    Action::Pay { method: "card".parse_as(), reference: Some(reference) }
}

fn ship() -> Action {
    let carrier: Carrier = "DHL".parse_as();
    Action::Ship { tracking_number: "t-1".parse_as(), carrier: Some(carrier) }
}

fn cancel() -> Action {
    let reason: CancelReason = "changed my mind".parse_as();
    Action::Cancel { reason: Some(reason) }
}

fn actions() -> [Action; 5] {
    [create(), pay(), ship(), Action::Deliver, cancel()]
}

fn id(number: u64) -> OrderId {
    OrderId::new(number).unwrap()
}

fn command(action: Action, at: i64) -> OrderCommand {
    OrderCommand { order_id: id(1), at: Timestamp::from_micros(at), action }
}

/// Decides and evolves; returns the single event of an accepted command, and the order after it.
fn give(order: Option<&Order>, command: &OrderCommand) -> Result<(OrderEvent, Order), OrderError> {
    let mut events = decide(order, command)?;
    let event = events.pop().expect("an accepted command makes an event");
    assert!(events.is_empty(), "and only one");
    let next = evolve(order, &event).expect("a decided event can be applied");
    Ok((event, next))
}

/// The events and the order after `actions`, executed at 100, 200 … microseconds.
fn given(actions: impl IntoIterator<Item = Action>) -> (Vec<OrderEvent>, Option<Order>) {
    let mut events = Vec::new();
    let mut order = None;
    for (action, at) in actions.into_iter().zip((100..).step_by(100)) {
        let (event, next) = give(order.as_ref(), &command(action, at)).unwrap();
        events.push(event);
        order = Some(next);
    }
    (events, order)
}

/// The shortest history to each status; `None`: the order does not exist.
fn ways() -> [(Option<Status>, Vec<Action>); 6] {
    [
        (None, vec![]),
        (Some(Status::Pending), vec![create()]),
        (Some(Status::Paid), vec![create(), pay()]),
        (Some(Status::Shipped), vec![create(), pay(), ship()]),
        (Some(Status::Delivered), vec![create(), pay(), ship(), Action::Deliver]),
        (Some(Status::Cancelled), vec![create(), cancel()]),
    ]
}

/// The state machine again, as a table: the status after each command (in the order of [`actions`]).
fn allowed(from: Option<Status>) -> [Option<Status>; 5] {
    use Status::{Cancelled, Delivered, Paid, Pending, Shipped};
    match from {
        None => [Some(Pending), None, None, None, None],
        Some(Pending) => [None, Some(Paid), None, None, Some(Cancelled)],
        Some(Paid) => [None, None, Some(Shipped), None, Some(Cancelled)],
        Some(Shipped) => [None, None, None, Some(Delivered), None],
        Some(Delivered | Cancelled) => [None; 5],
    }
}

#[test]
fn every_command_meets_every_status_as_the_table_says() {
    for (from, way) in ways() {
        let (_, order) = given(way);
        assert_eq!(order.as_ref().map(|order| order.status), from);
        for (action, to) in actions().into_iter().zip(allowed(from)) {
            let name = action.name();
            let answer = give(order.as_ref(), &command(action, 1_000)).map(|(_, order)| order.status);
            let expected = match (from, to) {
                (_, Some(to)) => Ok(to),
                (None, None) => Err(OrderError::NotFound),
                (Some(_), None) if name == "CreateOrder" => Err(OrderError::AlreadyExists),
                (Some(status), None) => Err(OrderError::IllegalTransition { status, command: name }),
            };
            assert_eq!(answer, expected, "{name} when {from:?}");
        }
    }
}

#[test]
fn a_created_order_has_the_fields_of_its_command() {
    let (events, order) = given([create()]);
    let order = order.unwrap();
    let expected = Order {
        id: id(1),
        customer_id: "c-1".parse_as(),
        items: items(),
        shipping_address: Some("1 Main Street".parse_as()),
        status: Status::Pending,
        revision: 1,
        created_at: Timestamp::from_micros(100),
        updated_at: Timestamp::from_micros(100),
        payment: None,
        shipment: None,
        delivered_at: None,
        cancellation: None,
    };
    assert_eq!(order, expected);
    assert_eq!((events[0].order_id, &events[0].customer_id), (order.id, &order.customer_id));
}

#[test]
fn a_delivered_order_remembers_how_it_was_paid_shipped_and_when() {
    let (events, order) = given([create(), pay(), ship(), Action::Deliver]);
    let order = order.unwrap();
    let at = Timestamp::from_micros;
    let method: PaymentMethod = "card".parse_as();
    let tracking_number: TrackingNumber = "t-1".parse_as();
    let payment = Payment { method, reference: Some("ref-1".parse_as()), at: at(200) };
    let shipment = Shipment { tracking_number, carrier: Some("DHL".parse_as()), at: at(300) };
    assert_eq!((order.payment, order.shipment), (Some(payment), Some(shipment)));
    assert_eq!((order.delivered_at, order.cancellation), (Some(at(400)), None));
    assert_eq!((order.created_at, order.updated_at, order.revision), (at(100), at(400), 4));
    let customer: CustomerId = "c-1".parse_as();
    assert!(events.iter().all(|event| event.order_id == id(1) && event.customer_id == customer));
}

#[test]
fn a_cancelled_order_remembers_why_and_that_it_was_paid() {
    let (_, order) = given([create(), pay(), cancel()]);
    let order = order.unwrap();
    let reason = Some("changed my mind".parse_as());
    assert_eq!(order.cancellation, Some(Cancellation { reason, at: Timestamp::from_micros(300) }));
    assert!(order.payment.is_some());

    let (_, order) = given([create(), Action::Cancel { reason: None }]);
    assert_eq!(order.unwrap().cancellation.map(|cancellation| cancellation.reason), Some(None));
}

#[test]
fn time_never_runs_backwards_even_if_a_clock_does() {
    let (_, order) = given([create(), pay()]);
    for (at, expected) in [(i64::MIN, 200), (0, 200), (199, 200), (200, 200), (201, 201)] {
        let (event, next) = give(order.as_ref(), &command(ship(), at)).unwrap();
        let times = (event.at, next.updated_at, next.shipment.unwrap().at, next.created_at);
        let (then, created) = (Timestamp::from_micros(expected), Timestamp::from_micros(100));
        assert_eq!(times, (then, then, then, created), "given at {at}");
    }
}

#[test]
fn a_history_that_no_commands_can_have_made_is_refused_where_it_breaks() {
    let (all, _) = given([create(), pay(), ship(), Action::Deliver]);
    let (cancelled, _) = given([create(), cancel()]);
    let changes: Vec<_> = all.iter().chain(&cancelled[1..]).cloned().collect();
    for (from, way) in ways() {
        let (history, order) = given(way);
        for (event, to) in changes.iter().zip(allowed(from)) {
            let answer = evolve(order.as_ref(), event).map(|order| order.status);
            let expected = to.ok_or(CorruptHistory { revision: history.len() as u64 + 1 });
            assert_eq!(answer, expected, "{:?} when {from:?}", event.change);
        }
    }
}

#[test]
fn an_event_of_another_order_is_refused() {
    let (events, _) = given([create(), pay()]);
    let order = evolve(None, &events[0]).unwrap();
    let foreign = OrderEvent { order_id: id(2), ..events[1].clone() };
    assert_eq!(evolve(Some(&order), &foreign), Err(CorruptHistory { revision: 2 }));
}

#[test]
fn an_order_has_one_to_a_thousand_items() {
    let lines = |count| vec![item(1, money(1, "USD")); count];
    assert_eq!(Items::new(lines(0)), Err(ItemsError::Empty));
    assert_eq!(Items::new(lines(1)).unwrap().lines().len(), 1);
    let most = Items::new(lines(1_000)).unwrap();
    assert_eq!((most.lines().len(), most.total()), (1_000, money(1_000, "USD")));
    assert_eq!(Items::new(lines(1_001)), Err(ItemsError::TooMany));
    assert_eq!(MAX_ITEMS, 1_000);
}

#[test]
fn a_quantity_is_one_to_a_million() {
    for pieces in [1, 2, 999_999, 1_000_000] {
        assert_eq!(Quantity::new(pieces).map(|quantity| i64::from(quantity.get())), Ok(pieces));
    }
    // The last ones are in range when truncated to 32 bits.
    for pieces in [0, -1, 1_000_001, i64::MIN, i64::MAX, (1 << 32) + 1, -(1 << 32) + 1] {
        assert!(Quantity::new(pieces).is_err(), "{pieces}");
    }
    assert_eq!(MAX_QUANTITY, 1_000_000);
}

#[test]
fn a_total_that_does_not_fit_is_refused_and_never_wraps() {
    let largest = i64::MAX / 1_000_000;
    assert!(Items::new(vec![item(MAX_QUANTITY, money(largest, "USD"))]).is_ok());
    let too_large = Err(ItemsError::TotalTooLarge);
    assert_eq!(Items::new(vec![item(MAX_QUANTITY, money(largest + 1, "USD"))]), too_large);
    // Each item fits, but the sum exceeds the limit by one.
    let exact = vec![item(1, money(i64::MAX - 1, "USD")), item(1, money(1, "USD"))];
    assert_eq!(Items::new(exact).unwrap().total(), money(i64::MAX, "USD"));
    let by_one = vec![item(1, money(i64::MAX, "USD")), item(1, money(1, "USD"))];
    assert_eq!(Items::new(by_one), too_large);
}

#[test]
fn the_first_line_in_another_currency_is_named() {
    let lines = ["USD", "USD", "EUR", "JPY"].map(|currency| item(1, money(1, currency)));
    assert_eq!(Items::new(lines.to_vec()), Err(ItemsError::MixedCurrencies(2)));
    // A zero price still has a currency.
    let lines = vec![item(1, money(1, "USD")), item(1, money(0, "EUR"))];
    assert_eq!(Items::new(lines), Err(ItemsError::MixedCurrencies(1)));
    assert_eq!(Items::new(vec![item(3, money(0, "KWD"))]).unwrap().total(), money(0, "KWD"));
}

fn any_action() -> impl Strategy<Value = Action> {
    let create = prop::collection::vec((1..=MAX_QUANTITY, 0..=1_000_000_000_i64), 1..20).prop_map(|lines| {
        let lines = lines.into_iter().map(|(quantity, price)| item(quantity, money(price, "EUR"))).collect();
        Action::Create { customer_id: "c-1".parse_as(), items: Items::new(lines).unwrap(), shipping_address: None }
    });
    // Create is rare enough that most histories continue.
    prop_oneof![1 => create, 3 => Just(pay()), 3 => Just(ship()), 3 => Just(Action::Deliver), 1 => Just(cancel())]
}

fn any_commands() -> impl Strategy<Value = Vec<OrderCommand>> {
    let rest = prop::collection::vec((any_action(), any::<i64>()), 0..30);
    rest.prop_map(|rest| {
        let first = command(create(), 100);
        std::iter::once(first).chain(rest.into_iter().map(|(action, at)| command(action, at))).collect()
    })
}

/// The history of `commands` without the rejected ones, with the state after each event.
fn history(commands: &[OrderCommand]) -> (Vec<OrderEvent>, Vec<Order>) {
    let (mut events, mut states) = (Vec::new(), Vec::<Order>::new());
    for command in commands {
        if let Ok((event, order)) = give(states.last(), command) {
            events.push(event);
            states.push(order);
        }
    }
    (events, states)
}

proptest! {
    #[test]
    fn replaying_a_history_gives_the_state_that_its_commands_made(commands in any_commands()) {
        let (events, states) = history(&commands);
        let mut replayed = None;
        for (event, state) in events.iter().zip(&states) {
            replayed = Some(evolve(replayed.as_ref(), event).unwrap());
            prop_assert_eq!(replayed.as_ref(), Some(state));
        }
    }

    #[test]
    fn the_revision_is_the_number_of_events_and_time_only_grows(commands in any_commands()) {
        let (events, states) = history(&commands);
        prop_assert!(events.is_sorted_by_key(|event| event.at));
        for (index, state) in states.iter().enumerate() {
            prop_assert_eq!(state.revision, index as u64 + 1);
            prop_assert_eq!((state.created_at, state.updated_at), (events[0].at, events[index].at));
        }
    }

    #[test]
    fn nothing_follows_delivered_or_cancelled(commands in any_commands()) {
        let (_, states) = history(&commands);
        let ended = states.iter().position(|state| matches!(state.status, Status::Delivered | Status::Cancelled));
        if let Some(index) = ended {
            prop_assert_eq!(index + 1, states.len());
            for action in actions() {
                prop_assert!(decide(states.last(), &command(action, i64::MAX)).is_err());
            }
        }
    }

    #[test]
    fn a_total_is_exact_or_refused(
        lines in prop::collection::vec((1..=MAX_QUANTITY, prop_oneof![0..=i64::MAX, 0..=10_000_000_000_i64]), 1..50)
    ) {
        let exact: i128 = lines.iter().map(|&(quantity, price)| i128::from(quantity) * i128::from(price)).sum();
        let lines = lines.into_iter().map(|(quantity, price)| item(quantity, money(price, "USD"))).collect();
        match Items::new(lines) {
            Ok(items) => prop_assert_eq!(i128::from(items.total().minor()), exact),
            Err(error) => {
                prop_assert_eq!(error, ItemsError::TotalTooLarge);
                prop_assert!(exact > i128::from(i64::MAX));
            }
        }
    }
}

#[test]
fn no_history_changes_its_customer_or_runs_backwards() {
    let (_, order) = give(None, &command(create(), 10)).unwrap();
    let (paid, _) = give(Some(&order), &command(pay(), 11)).unwrap();
    let corrupt = Err(CorruptHistory { revision: 2 });
    assert_eq!(evolve(Some(&order), &OrderEvent { customer_id: "c-2".parse_as(), ..paid.clone() }), corrupt);
    assert_eq!(evolve(Some(&order), &OrderEvent { at: Timestamp::from_micros(9), ..paid }), corrupt);
}
