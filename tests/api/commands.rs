//! The life of an order over gRPC.

use ordersystem::proto::catga::orders::v1::{GetOrderRequest, OrderStatus, PayOrderRequest};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{TestServer, new_order, reason};

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
    let request = GetOrderRequest { order_id: order.order_id, ..Default::default() };
    let paid = server.queries().await.get_order(request).await.expect("found").into_inner().order.expect("order");
    assert_eq!((paid.status(), paid.revision), (OrderStatus::Paid, 2));
}

#[tokio::test]
async fn a_retried_create_returns_the_first_reply() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    let mut request = new_order("customer-1");
    request.request_id = "retry-1".to_owned();
    let first = client.create_order(request.clone()).await.expect("accepted").into_inner();
    let again = client.create_order(request.clone()).await.expect("accepted").into_inner();
    assert_eq!(first, again);
    request.customer_id = "someone-else".to_owned();
    let refusal = client.create_order(request).await.expect_err("another payload");
    assert_eq!((refusal.code(), reason(&refusal).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
}
