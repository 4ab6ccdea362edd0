//! The life of an order over gRPC.

use ordersystem::proto::catga::orders::v1::{GetOrderRequest, Order, OrderStatus, PayOrderRequest};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

use crate::support::{
    CommandClient, Meta, Step, TestServer, code_and_reason, facts, give, new_order, order_after, reason, usd,
};

/// An order id that the service has never issued.
const UNKNOWN: &str = "1234567890";

async fn get(server: &TestServer, order_id: &str) -> Order {
    let request = GetOrderRequest { order_id: order_id.to_owned(), ..Default::default() };
    server.queries().await.get_order(request).await.expect("found").into_inner().order.expect("order")
}

#[tokio::test]
async fn an_order_goes_from_pending_to_delivered_and_shows_every_step() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let mut request = new_order("customer-1");
    request.shipping_address = "1 Main St".to_owned();
    let placed = client.clone().create_order(request).await.expect("accepted").into_inner();
    let order = placed.order.expect("order");
    assert_eq!((order.status(), order.revision, placed.revision), (OrderStatus::Pending, 1, 1));
    assert_eq!((order.customer_id.as_str(), order.shipping_address.as_str()), ("customer-1", "1 Main St"));
    assert_eq!(order.total, Some(usd(1_999, 980_000_000)));
    assert_eq!((order.items.len(), order.items[0].quantity), (1, 2));
    assert_eq!(order.created_at, order.updated_at);
    assert!(order.order_id.parse::<i64>().expect("a number") > 0);
    assert!(!placed.consistency_token.is_empty());
    let id = &order.order_id;

    let paid = give(&client, Step::Pay, id, Meta::default()).await.expect("accepted");
    let payment = paid.order.clone().expect("order").payment.expect("payment");
    assert_eq!((payment.method.as_str(), payment.reference.as_str()), ("credit_card", "ref-1"));
    assert_eq!(payment.paid_at, paid.order.clone().expect("order").updated_at);
    let shipped = give(&client, Step::Ship, id, Meta::default()).await.expect("accepted").order.expect("order");
    let shipment = shipped.shipment.clone().expect("shipment");
    assert_eq!((shipment.tracking_number.as_str(), shipment.carrier.as_str()), ("TRK-1", "Post"));
    let delivered = give(&client, Step::Deliver, id, Meta::default()).await.expect("accepted");
    let order = delivered.order.expect("order");
    assert_eq!((order.status(), order.revision, delivered.revision), (OrderStatus::Delivered, 4, 4));
    assert!(order.delivered_at.is_some() && order.payment.is_some() && order.cancellation.is_none());
    assert_eq!(order.shipment, shipped.shipment);
    assert_eq!(get(&server, id).await, order, "what a command answers is what a query finds");
    assert_eq!(server.head().await, 4);
}

#[tokio::test]
async fn every_command_that_the_status_does_not_allow_is_refused_and_writes_nothing() {
    use Step::{Cancel, Deliver, Pay, Ship};
    let server = TestServer::start().await;
    let client = server.commands().await;
    let statuses: [(&[Step], OrderStatus, &[Step]); 6] = [
        (&[], OrderStatus::Pending, &[Pay, Cancel]),
        (&[Pay], OrderStatus::Paid, &[Ship, Cancel]),
        (&[Pay, Ship], OrderStatus::Shipped, &[Deliver]),
        (&[Pay, Ship, Deliver], OrderStatus::Delivered, &[]),
        (&[Cancel], OrderStatus::Cancelled, &[]),
        (&[Pay, Cancel], OrderStatus::Cancelled, &[]),
    ];
    for (steps, status, allowed) in statuses {
        for step in Step::ALL {
            let order = order_after(&client, "customer-1", steps).await;
            assert_eq!(order.status(), status);
            let head = server.head().await;
            let outcome = give(&client, step, &order.order_id, Meta::default()).await;
            if allowed.contains(&step) {
                assert_eq!(outcome.expect("accepted").revision, order.revision + 1, "{status:?} {step:?}");
                continue;
            }
            let refusal = outcome.expect_err("not allowed");
            assert_eq!(code_and_reason(&refusal), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()));
            let violations = refusal.get_details_precondition_failure().expect("details").violations;
            assert_eq!(violations.len(), 1);
            assert_eq!(violations[0].r#type, "ORDER_STATUS");
            assert_eq!(violations[0].subject, format!("orders/{}", order.order_id));
            let facts = facts(&refusal);
            assert_eq!(facts["order_id"], order.order_id);
            assert_eq!(facts["actual_revision"], order.revision.to_string());
            assert_eq!(facts["command"], format!("{step:?}Order"));
            assert_eq!(server.head().await, head, "nothing is written");
            assert_eq!(get(&server, &order.order_id).await, order);
        }
    }
}

#[tokio::test]
async fn a_stale_expected_revision_is_aborted_with_both_revisions() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let order = order_after(&client, "customer-1", &[Step::Pay]).await;
    let head = server.head().await;
    // Stale, in the future, and for a command that the status would refuse as well: a client that is behind learns that first.
    for (step, revision) in [(Step::Ship, 1), (Step::Ship, 3), (Step::Ship, i64::MAX), (Step::Pay, 1)] {
        let refusal = give(&client, step, &order.order_id, Meta::expecting(revision)).await.expect_err("stale");
        assert_eq!(code_and_reason(&refusal), (Code::Aborted, "REVISION_CONFLICT".to_owned()), "{step:?} {revision}");
        let facts = facts(&refusal);
        assert_eq!(
            (facts["expected_revision"].as_str(), facts["actual_revision"].as_str()),
            (&*revision.to_string(), "2")
        );
    }
    assert_eq!(server.head().await, head);
    let shipped = give(&client, Step::Ship, &order.order_id, Meta::expecting(2)).await.expect("accepted");
    assert_eq!(shipped.revision, 3);
}

#[tokio::test]
async fn a_new_order_may_be_expected_at_revision_0_only() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    let mut request = new_order("customer-1");
    request.expected_revision = Some(0);
    assert_eq!(client.create_order(request.clone()).await.expect("accepted").into_inner().revision, 1);
    request.expected_revision = Some(1);
    let refusal = client.create_order(request).await.expect_err("no new order has a revision");
    assert_eq!(refusal.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_command_for_an_unknown_order_is_not_found_whatever_revision_it_expects() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    for step in Step::ALL {
        for meta in [Meta::default(), Meta::expecting(3), Meta::request("r-1")] {
            let refusal = give(&client, step, UNKNOWN, meta).await.expect_err("unknown");
            assert_eq!(code_and_reason(&refusal), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
            assert_eq!(facts(&refusal)["order_id"], UNKNOWN);
        }
    }
    assert_eq!(server.head().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_concurrent_payments_exactly_one_succeeds() {
    let server = TestServer::start().await;
    let order = server.place_order("customer-1").await;
    let client = server.commands().await;
    let mut payments = JoinSet::new();
    for n in 0..1_000 {
        let (mut client, order_id) = (client.clone(), order.order_id.clone());
        payments.spawn(async move {
            let payment_method = format!("card-{n}");
            client.pay_order(PayOrderRequest { order_id, payment_method, ..Default::default() }).await
        });
    }
    let outcomes = payments.join_all().await;
    let refusals: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).collect();
    assert_eq!(refusals.len(), 999);
    for refusal in refusals {
        assert_eq!((refusal.code(), reason(refusal).as_str()), (Code::FailedPrecondition, "ILLEGAL_TRANSITION"));
    }
    let paid = get(&server, &order.order_id).await;
    assert_eq!((paid.status(), paid.revision), (OrderStatus::Paid, 2));
}

/// Sends both commands at the same time, over two connections; returns whether each was accepted.
async fn race(clients: &[CommandClient; 2], steps: [Step; 2], order_id: &str) -> [bool; 2] {
    let [first, second] = clients;
    let (first, second) = tokio::join!(
        give(first, steps[0], order_id, Meta::default()),
        give(second, steps[1], order_id, Meta::default())
    );
    for outcome in [&first, &second] {
        if let Err(refusal) = outcome {
            assert_eq!(code_and_reason(refusal), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()));
        }
    }
    [first.is_ok(), second.is_ok()]
}

#[tokio::test(flavor = "multi_thread")]
async fn of_racing_shipment_and_cancellation_exactly_one_wins() {
    let server = TestServer::start().await;
    let clients = [server.commands().await, server.commands().await];
    for _ in 0..100 {
        let order = order_after(&clients[0], "customer-1", &[Step::Pay]).await;
        let winners = race(&clients, [Step::Ship, Step::Cancel], &order.order_id).await;
        let last = get(&server, &order.order_id).await;
        let expected = match winners {
            [true, false] => OrderStatus::Shipped,
            [false, true] => OrderStatus::Cancelled,
            both_or_none => panic!("not exactly one winner: {both_or_none:?}"),
        };
        assert_eq!((last.status(), last.revision), (expected, 3));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn racing_payment_and_cancellation_leave_a_legal_history() {
    let server = TestServer::start().await;
    let clients = [server.commands().await, server.commands().await];
    for _ in 0..100 {
        let order = server.place_order("customer-1").await;
        let [paid, cancelled] = race(&clients, [Step::Pay, Step::Cancel], &order.order_id).await;
        // A paid order may be cancelled as well; a cancelled one is never paid.
        assert!(cancelled);
        let last = get(&server, &order.order_id).await;
        assert_eq!((last.status(), last.revision), (OrderStatus::Cancelled, if paid { 3 } else { 2 }));
        assert_eq!(last.payment.is_some(), paid);
    }
}

#[tokio::test]
async fn a_command_for_a_hot_order_reads_nothing_before_it_writes() {
    let (backends, store) = crate::faulty::FaultyStore::backends();
    let server = TestServer::start_on(&[], backends, std::sync::Arc::new(ordersystem::ports::clock::SystemClock)).await;
    let client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    // A reader of the order's history would wait forever now.
    store.reads.set(crate::faulty::Mode::Hangs);
    for step in [Step::Pay, Step::Ship, Step::Deliver] {
        crate::support::soon("an answer", give(&client, step, &id, Meta::default())).await.expect("accepted");
    }
}
