//! A store that returns less than it has acknowledged, like the deposed leader of a cluster: every answer is either correct or UNAVAILABLE.

use std::sync::Arc;

use ordersystem::{
    ports::{clock::SystemClock, event_store::Position},
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, GetOrderRequest, OrderStatus, ReadConsistency,
        StreamOrderHistoryRequest, get_order_request::At, stream_order_history_response::Item,
    },
};
use tonic::{Code, Status};

use crate::{
    faulty::{Behind, FaultyStore},
    support::{Meta, Step, TestServer, code_and_reason, give, soon},
};

/// More reads than any call makes.
const FOREVER: u32 = u32::MAX;

/// A node with an empty order cache, and its store.
async fn node() -> (TestServer, Arc<FaultyStore>) {
    let (backends, store) = FaultyStore::backends();
    let server = TestServer::start_on(&[("cached-orders", "1")], backends, Arc::new(SystemClock)).await;
    (server, store)
}

/// An order that was paid and shipped, and the position of the log before it was shipped; the node's cache holds another order.
async fn shipped_order(server: &TestServer) -> (String, Position) {
    let commands = server.commands().await;
    let order = server.place_order("customer-1").await;
    give(&commands, Step::Pay, &order.order_id, Meta::request("pay")).await.expect("accepted");
    let before = Position(server.head().await);
    give(&commands, Step::Ship, &order.order_id, Meta::default()).await.expect("accepted");
    forget(server).await;
    (order.order_id, before)
}

/// Evicts the order from the node's cache.
async fn forget(server: &TestServer) {
    for _ in 0..4 {
        server.place_order("another").await;
    }
}

fn strong() -> Option<ReadConsistency> {
    Some(ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() })
}

fn is_unavailable(status: &Status) -> bool {
    status.code() == Code::Unavailable
}

#[tokio::test]
async fn nothing_is_refused_because_of_a_stale_read() {
    let (server, store) = node().await;
    let commands = server.commands().await;
    // For a few reads: the command is decided once the order is complete.
    let (order, before) = shipped_order(&server).await;
    store.behind.send_replace(Behind::At(Position(0), 2));
    let delivered = give(&commands, Step::Deliver, &order, Meta::default()).await.expect("it is there, and shipped");
    assert_eq!(delivered.order.expect("order").revision, 4);
    // Indefinitely: it is not decided in either stale state, neither without the order nor in one in which the command is not allowed.
    for shown in [Position(0), before] {
        let (order, _) = shipped_order(&server).await;
        store.behind.send_replace(Behind::At(shown, FOREVER));
        let refused = give(&commands, Step::Deliver, &order, Meta::default()).await.expect_err("not known");
        assert!(is_unavailable(&refused), "{refused:?}");
        let refused = give(&commands, Step::Deliver, &order, Meta::expecting(7)).await.expect_err("not known");
        assert!(is_unavailable(&refused), "{refused:?}");
        store.behind.send_replace(Behind::No);
    }
    // A statement confirmed by a quorum is returned.
    let (order, _) = shipped_order(&server).await;
    let refused = give(&commands, Step::Pay, &order, Meta::default()).await.expect_err("it is shipped");
    assert_eq!(code_and_reason(&refused), (Code::FailedPrecondition, "ILLEGAL_TRANSITION".to_owned()));
    let refused = give(&commands, Step::Pay, "42", Meta::default()).await.expect_err("there is none");
    assert_eq!(code_and_reason(&refused), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn a_retry_is_answered_with_all_that_its_first_try_did_or_not_at_all() {
    let (server, store) = node().await;
    let commands = server.commands().await;
    let (order, _) = shipped_order(&server).await;
    store.behind.send_replace(Behind::At(Position(0), 3));
    let replayed = give(&commands, Step::Pay, &order, Meta::request("pay")).await.expect("the first answer");
    assert_eq!(replayed.order.expect("order").revision, 2);
    forget(&server).await;
    store.behind.send_replace(Behind::At(Position(0), FOREVER));
    let refused = give(&commands, Step::Pay, &order, Meta::request("pay")).await.expect_err("it cannot be read");
    assert!(is_unavailable(&refused), "no damage, and no other answer: {refused:?}");
}

#[tokio::test]
async fn strong_reads_have_all_that_was_acknowledged_or_are_unavailable() {
    let (server, store) = node().await;
    let mut queries = server.queries().await;
    let (order, before) = shipped_order(&server).await;
    let get = |at| GetOrderRequest { order_id: order.clone(), at, consistency: strong() };
    let all = || BatchGetOrdersRequest { order_ids: vec![order.clone(), "42".to_owned()], consistency: strong() };
    let far = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    let moments = [None, Some(At::Revision(3)), Some(At::AsOf(far))];
    for shown in [Position(0), before] {
        for at in &moments {
            store.behind.send_replace(Behind::At(shown, 3));
            let found = queries.get_order(get(*at)).await.expect("found").into_inner().order.expect("order");
            assert_eq!((found.revision, found.status()), (3, OrderStatus::Shipped), "{at:?}");
            forget(&server).await;
            store.behind.send_replace(Behind::At(shown, FOREVER));
            let status = queries.get_order(get(*at)).await.expect_err("behind");
            assert!(is_unavailable(&status), "{at:?}: {status:?}");
        }
        store.behind.send_replace(Behind::At(shown, 3));
        let found = queries.batch_get_orders(all()).await.expect("answered").into_inner();
        assert_eq!((found.orders.len(), found.orders[0].revision), (1, 3));
        store.behind.send_replace(Behind::At(shown, FOREVER));
        let status = queries.batch_get_orders(all()).await.expect_err("behind");
        assert!(is_unavailable(&status), "{status:?}");
        store.behind.send_replace(Behind::No);
    }
    let missing = queries.get_order(GetOrderRequest { order_id: "42".to_owned(), at: None, consistency: strong() });
    assert_eq!(missing.await.expect_err("none").code(), Code::NotFound);
    let not_yet = queries.get_order(get(Some(At::Revision(9)))).await.expect_err("not yet");
    assert_eq!(code_and_reason(&not_yet), (Code::NotFound, "NOT_YET_THEN".to_owned()));
}

#[tokio::test]
async fn a_token_holds_where_the_end_of_the_log_is_known_and_the_order_is_read_too_short() {
    let (server, store) = node().await;
    let (commands, mut queries) = (server.commands().await, server.queries().await);
    let order = server.place_order("customer-1").await.order_id;
    let placed = Position(server.head().await);
    let paid = give(&commands, Step::Pay, &order, Meta::default()).await.expect("accepted");
    let consistency =
        || Some(ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: paid.consistency_token.clone() });
    forget(&server).await;
    let get = || GetOrderRequest { order_id: order.clone(), at: None, consistency: consistency() };
    store.behind.send_replace(Behind::At(placed, 2));
    assert_eq!(queries.get_order(get()).await.expect("found").into_inner().order.expect("order").revision, 2);
    store.behind.send_replace(Behind::At(placed, FOREVER));
    let status = queries.get_order(get()).await.expect_err("behind");
    assert!(is_unavailable(&status), "{status:?}");
}

#[tokio::test]
async fn a_history_is_neither_missing_nor_cut_short() {
    let (server, store) = node().await;
    let mut history = server.history().await;
    let (order, before) = shipped_order(&server).await;
    let request = || StreamOrderHistoryRequest { order_id: order.clone(), from_revision: 0, follow: false };
    store.behind.send_replace(Behind::At(Position(0), 2));
    let mut stream = history.stream_order_history(request()).await.expect("opens").into_inner();
    let mut events = 0;
    while let Some(reply) = soon("the end", stream.message()).await.expect("no error") {
        events += usize::from(matches!(reply.item, Some(Item::Event(_))));
    }
    assert_eq!(events, 3);
    // A reader that has seen all of it is not refused either.
    let rest = || StreamOrderHistoryRequest { from_revision: 4, ..request() };
    store.behind.send_replace(Behind::At(before, 2));
    let mut stream = history.stream_order_history(rest()).await.expect("opens").into_inner();
    assert!(soon("the end", stream.message()).await.expect("no error").is_none());
    store.behind.send_replace(Behind::At(before, FOREVER));
    let status = history.stream_order_history(rest()).await.expect_err("behind");
    assert!(is_unavailable(&status), "{status:?}");
    store.behind.send_replace(Behind::At(Position(0), FOREVER));
    let status = match history.stream_order_history(request()).await {
        Err(status) => status,
        Ok(stream) => soon("a refusal", stream.into_inner().message()).await.expect_err("behind"),
    };
    assert!(is_unavailable(&status), "{status:?}");
}
