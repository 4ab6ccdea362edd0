//! Retries by request id: one effect, and always the first reply.

use std::collections::HashSet;

use ordersystem::proto::catga::orders::v1::{
    CancelOrderRequest, DeliverOrderRequest, PayOrderRequest, ShipOrderRequest,
};
use prost::Message;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{
    Meta, Step, TestServer, cancel, code_and_reason, deliver, facts, give, new_order, order_after, pay, ship,
};

#[tokio::test]
async fn a_retry_of_any_command_returns_the_first_reply_byte_for_byte_after_later_changes_too() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let mut create = new_order("customer-1");
    create.request_id = "create-1".to_owned();
    let placed = client.clone().create_order(create.clone()).await.expect("accepted").into_inner();
    let id = placed.order.clone().expect("order").order_id;
    let mut firsts = Vec::new();
    for step in [Step::Pay, Step::Ship, Step::Deliver] {
        let request_id = format!("{step:?}-1");
        let first = give(&client, step, &id, Meta::request(&request_id)).await.expect("accepted");
        // Immediately, with nothing in between.
        let again = give(&client, step, &id, Meta::request(&request_id)).await.expect("a retry");
        assert_eq!(again.encode_to_vec(), first.encode_to_vec());
        firsts.push((step, request_id, first));
    }
    let head = server.head().await;
    for (step, request_id, first) in firsts {
        let again = give(&client, step, &id, Meta::request(&request_id)).await.expect("a retry");
        assert_eq!(again.encode_to_vec(), first.encode_to_vec(), "{step:?}");
    }
    let again = client.clone().create_order(create).await.expect("a retry").into_inner();
    assert_eq!(again.encode_to_vec(), placed.encode_to_vec());

    let other = server.place_order("customer-1").await.order_id;
    let first = give(&client, Step::Cancel, &other, Meta::request("cancel-1")).await.expect("accepted");
    let again = give(&client, Step::Cancel, &other, Meta::request("cancel-1")).await.expect("a retry");
    assert_eq!(again.encode_to_vec(), first.encode_to_vec());
    assert_eq!(server.head().await, head + 2, "the retries write nothing");
}

#[tokio::test]
async fn a_retry_with_its_expected_revision_returns_the_first_reply() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    let meta = Meta { request_id: "pay-1".to_owned(), expected_revision: Some(1) };
    let first = give(&client, Step::Pay, &id, meta.clone()).await.expect("accepted");
    give(&client, Step::Ship, &id, Meta::default()).await.expect("accepted");
    assert_eq!(give(&client, Step::Pay, &id, meta).await.expect("a retry"), first);
}

#[tokio::test]
async fn a_request_id_with_another_payload_is_refused() {
    let server = TestServer::start().await;
    let mut client = server.commands().await;
    let request_id = "id-1".to_owned();
    let mut create = new_order("customer-1");
    create.request_id = request_id.clone();
    client.create_order(create.clone()).await.expect("accepted");
    create.items[0].quantity += 1;
    let mut refusals = vec![client.create_order(create).await.expect_err("another payload")];

    let id = server.place_order("customer-1").await.order_id;
    let first = PayOrderRequest { request_id: request_id.clone(), ..pay(&id) };
    client.pay_order(first.clone()).await.expect("accepted");
    let others = [
        PayOrderRequest { payment_method: "cash".to_owned(), ..first.clone() },
        PayOrderRequest { payment_reference: String::new(), ..first.clone() },
        PayOrderRequest { expected_revision: Some(1), ..first },
    ];
    for other in others {
        refusals.push(client.pay_order(other).await.expect_err("another payload"));
    }
    // Another command of the same order counts as another payload as well, whether or not the status allows it.
    let ship = ShipOrderRequest { request_id: request_id.clone(), ..ship(&id) };
    refusals.push(client.ship_order(ship).await.expect_err("another command"));
    let deliver = DeliverOrderRequest { request_id: request_id.clone(), ..deliver(&id) };
    refusals.push(client.deliver_order(deliver).await.expect_err("another command"));
    let cancel = CancelOrderRequest { request_id, ..cancel(&id) };
    refusals.push(client.cancel_order(cancel).await.expect_err("another command"));
    for refusal in refusals {
        assert_eq!(code_and_reason(&refusal), (Code::AlreadyExists, "REQUEST_ID_REUSED".to_owned()));
        assert_eq!(facts(&refusal)["request_id"], "id-1");
    }
    assert_eq!(server.head().await, 3);
}

#[tokio::test]
async fn each_order_has_its_own_request_ids() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    for _ in 0..2 {
        let id = server.place_order("customer-1").await.order_id;
        give(&client, Step::Pay, &id, Meta::request("the-same")).await.expect("accepted");
    }
}

#[tokio::test]
async fn a_refused_command_leaves_its_request_id_free() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let id = server.place_order("customer-1").await.order_id;
    give(&client, Step::Ship, &id, Meta::request("ship-1")).await.expect_err("not paid yet");
    give(&client, Step::Pay, &id, Meta::default()).await.expect("accepted");
    assert_eq!(give(&client, Step::Ship, &id, Meta::request("ship-1")).await.expect("accepted").revision, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_creates_with_one_request_id_place_one_order() {
    let server = TestServer::start().await;
    let clients = [server.commands().await, server.commands().await, server.commands().await];
    let mut request = new_order("customer-1");
    request.request_id = "create-1".to_owned();
    let mut creates = JoinSet::new();
    for n in 0..200 {
        let (mut client, request) = (clients[n % clients.len()].clone(), request.clone());
        creates.spawn(async move { client.create_order(request).await.expect("accepted").into_inner() });
    }
    let replies: HashSet<Vec<u8>> = creates.join_all().await.into_iter().map(|reply| reply.encode_to_vec()).collect();
    assert_eq!(replies.len(), 1, "everyone gets the same answer");
    assert_eq!(server.head().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_retries_of_a_payment_all_get_the_one_reply() {
    let server = TestServer::start().await;
    let client = server.commands().await;
    let order = order_after(&client, "customer-1", &[]).await;
    let mut payments = JoinSet::new();
    for _ in 0..200 {
        let (client, id) = (client.clone(), order.order_id.clone());
        payments.spawn(async move { give(&client, Step::Pay, &id, Meta::request("pay-1")).await.expect("accepted") });
    }
    let replies: HashSet<Vec<u8>> = payments.join_all().await.into_iter().map(|reply| reply.encode_to_vec()).collect();
    assert_eq!(replies.len(), 1);
    assert_eq!(server.head().await, 2);
}
