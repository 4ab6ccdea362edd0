//! A customer sees and changes its own orders only, over gRPC: those of others cannot be told from orders that do not exist.

use futures_util::{StreamExt as _, stream};
use ordersystem::{
    codec,
    proto::catga::orders::v1::{
        BatchGetOrdersRequest, ConsistencyLevel, ExecuteCommandsRequest, GetOrderRequest, GetOrderStatsRequest,
        ListOrdersRequest, ListOrdersResponse, PayOrderRequest, ReadConsistency, StreamEventsRequest,
        StreamEventsResponse, StreamOrderHistoryRequest, StreamStart, execute_commands_request::Command,
        execute_commands_response::Outcome, get_order_request::At,
        order_command_service_client::OrderCommandServiceClient,
        order_history_service_client::OrderHistoryServiceClient, order_query_service_client::OrderQueryServiceClient,
        stream_events_response::Item, stream_order_history_response::Item as OrderItem,
    },
};
use tonic::{Code, Status, Streaming, transport::Channel};

use crate::support::{
    CallerChannel, CallerKey, Callers, TestServer, authorization, cancel, code_and_reason, facts, new_order, pay, ship,
    soon,
};

/// A server with the customers `alice` and `bob`, and with `shop`, which may do everything.
pub async fn start() -> (TestServer, Callers) {
    let callers =
        Callers::new(&[("alice", "customer"), ("bob", "customer"), ("shop", "reader writer events operator")]);
    (TestServer::start_with(&[("identities", callers.path())]).await, callers)
}

/// The stubs of one caller.
struct Caller {
    commands: OrderCommandServiceClient<CallerChannel>,
    queries: OrderQueryServiceClient<CallerChannel>,
    history: OrderHistoryServiceClient<CallerChannel>,
}

impl Caller {
    fn new(channel: &Channel, name: &str) -> Self {
        let (channel, key) = (channel.clone(), CallerKey::of(name));
        Self {
            commands: OrderCommandServiceClient::with_interceptor(channel.clone(), key.clone()),
            queries: OrderQueryServiceClient::with_interceptor(channel.clone(), key.clone()),
            history: OrderHistoryServiceClient::with_interceptor(channel, key),
        }
    }

    /// Places an order of its own; returns its id and the token of the reply.
    async fn place(&self, customer: &str, request_id: &str) -> (String, String) {
        let mut request = new_order(customer);
        request.request_id = request_id.to_owned();
        let reply = self.commands.clone().create_order(request).await.expect("accepted").into_inner();
        (reply.order.expect("order").order_id, reply.consistency_token)
    }

    async fn get(&self, order_id: &str, at: Option<At>, consistency: Option<ReadConsistency>) -> Result<i64, Status> {
        let request = GetOrderRequest { order_id: order_id.to_owned(), at, consistency };
        Ok(self.queries.clone().get_order(request).await?.into_inner().order.expect("order").revision)
    }

    async fn list(&self, request: ListOrdersRequest) -> Result<ListOrdersResponse, Status> {
        let consistency = Some(strong());
        Ok(self.queries.clone().list_orders(ListOrdersRequest { consistency, ..request }).await?.into_inner())
    }

    async fn events(&self, request: StreamEventsRequest) -> Result<Streaming<StreamEventsResponse>, Status> {
        Ok(self.history.clone().stream_events(request).await?.into_inner())
    }

    /// The ids of the events that a stream has to its end.
    async fn event_ids(&self, request: StreamEventsRequest) -> Result<Vec<String>, Status> {
        let mut stream = self.events(request).await?;
        let mut ids = Vec::new();
        while let Some(message) = soon("the end of the stream", stream.message()).await? {
            ids.extend(event_id(&message));
        }
        Ok(ids)
    }

    async fn history(&self, order_id: &str, from_revision: i64, follow: bool) -> Result<Vec<i64>, Status> {
        let request = StreamOrderHistoryRequest { order_id: order_id.to_owned(), from_revision, follow };
        let mut stream = self.history.clone().stream_order_history(request).await?.into_inner();
        let mut revisions = Vec::new();
        while let Some(message) = soon("the end of the stream", stream.message()).await? {
            if let Some(OrderItem::Event(event)) = message.item {
                revisions.push(codec::decode_message(&event.0).expect("an event").revision);
            }
        }
        Ok(revisions)
    }
}

fn event_id(message: &StreamEventsResponse) -> Option<String> {
    match &message.item {
        Some(Item::Event(event)) => Some(codec::decode_message(&event.0).expect("an event").event_id),
        _ => None,
    }
}

fn strong() -> ReadConsistency {
    ReadConsistency { level: ConsistencyLevel::Strong.into(), token: String::new() }
}

fn at_least(token: &str) -> ReadConsistency {
    ReadConsistency { level: ConsistencyLevel::AtLeast.into(), token: token.to_owned() }
}

/// Everything that a refusal tells, with the id of the order left out.
fn told(status: &Status, order_id: &str) -> (Code, String, Vec<(String, String)>, Vec<u8>) {
    let without = |text: &str| text.replace(order_id, "<id>");
    let mut facts: Vec<_> = facts(status).into_iter().map(|(name, value)| (name, without(&value))).collect();
    facts.sort();
    // Ids of other lengths would make other bytes of the details.
    let other_metadata: Vec<_> = status.metadata().keys().map(|key| format!("{key:?}")).collect();
    (status.code(), without(status.message()), facts, other_metadata.concat().into_bytes())
}

/// Asserts that bob gets the same reply for alice's order as for one that does not exist.
#[track_caller]
fn assert_unknown<T: std::fmt::Debug>(order: &str, outcome: Result<T, Status>, missing: Result<T, Status>) {
    let (status, missing) = (outcome.expect_err("refused"), missing.expect_err("refused"));
    assert_eq!(code_and_reason(&status), (Code::NotFound, "ORDER_NOT_FOUND".to_owned()));
    assert_eq!(told(&status, order), told(&missing, MISSING));
}

/// An id that no order has.
const MISSING: &str = "42";

#[tokio::test]
async fn an_order_of_another_customer_does_not_exist_now_then_or_in_a_batch() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob) = (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"));
    let (order, token) = alice.place("alice", "").await;
    let (own, _) = bob.place("bob", "").await;
    assert_eq!(alice.get(&order, None, None).await.expect("its own"), 1);
    let far = prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 };
    let moments = [
        None,
        Some(At::Revision(1)),
        Some(At::Revision(9)),
        Some(At::AsOf(far)),
        Some(At::AsOf(prost_types::Timestamp::default())),
    ];
    for at in moments {
        for consistency in [None, Some(strong()), Some(at_least(&token))] {
            let found = bob.get(&order, at, consistency.clone()).await;
            assert_unknown(&order, found, bob.get(MISSING, at, consistency).await);
        }
    }
    let batch = BatchGetOrdersRequest {
        order_ids: [&order, &own, MISSING].map(ToString::to_string).to_vec(),
        consistency: Some(strong()),
    };
    let found = bob.queries.clone().batch_get_orders(batch).await.expect("answered").into_inner();
    assert_eq!(found.orders.into_iter().map(|order| order.order_id).collect::<Vec<_>>(), [own]);
    assert_eq!(found.not_found_order_ids, [order.as_str(), MISSING]);
}

#[tokio::test]
async fn lists_and_totals_have_the_orders_of_the_customer_only() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob, shop) =
        (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"), Caller::new(&channel, "shop"));
    let (mut of_alice, mut of_bob) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        of_alice.insert(0, alice.place("alice", "").await.0);
        of_bob.insert(0, bob.place("bob", "").await.0);
    }
    let pay_one = pay(&of_bob[0]);
    bob.commands.clone().pay_order(pay_one).await.expect("its own");
    let ids = |page: &ListOrdersResponse| page.orders.iter().map(|row| row.order_id.clone()).collect::<Vec<_>>();
    for customer_id in ["", "bob"] {
        let request = ListOrdersRequest { customer_id: customer_id.to_owned(), ..Default::default() };
        assert_eq!(ids(&bob.list(request).await.expect("its own")), of_bob);
    }
    let of_another = ListOrdersRequest { customer_id: "alice".to_owned(), ..Default::default() };
    let refused = bob.list(of_another).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "CUSTOMER_NOT_ALLOWED".to_owned()));
    // Neither the token of another customer nor that of a reader of all orders opens a page.
    let first = ListOrdersRequest { page_size: 1, ..Default::default() };
    for other in [&alice, &shop] {
        let page_token = other.list(first.clone()).await.expect("answered").next_page_token;
        let stolen = ListOrdersRequest { page_token, ..first.clone() };
        let refused = bob.list(stolen).await.expect_err("refused");
        assert_eq!(code_and_reason(&refused), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    }
    let page_token = bob.list(first.clone()).await.expect("answered").next_page_token;
    let second = bob.list(ListOrdersRequest { page_token, ..first }).await.expect("its own token");
    assert_eq!(ids(&second), of_bob[1..2]);

    let stats = async |caller: &Caller| {
        let request = GetOrderStatsRequest { consistency: Some(strong()) };
        let stats = caller.queries.clone().get_order_stats(request).await.expect("answered").into_inner();
        let counts: Vec<_> = stats.by_status.iter().map(|row| row.count).collect();
        (stats.total_orders, counts, stats.total_revenue.iter().map(|sum| sum.units).sum::<i64>())
    };
    assert_eq!(stats(&bob).await, (3, vec![2, 1, 0, 0, 0], 5_999));
    assert_eq!(stats(&alice).await, (3, vec![3, 0, 0, 0, 0], 5_999));
    assert_eq!(stats(&shop).await, (6, vec![5, 1, 0, 0, 0], 11_999));
}

#[tokio::test]
async fn streams_have_the_events_of_the_customer_only_from_any_cursor() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob, shop) =
        (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"), Caller::new(&channel, "shop"));
    let (of_alice, _) = alice.place("alice", "").await;
    let (of_bob, _) = bob.place("bob", "").await;
    assert_eq!(alice.history(&of_alice, 0, false).await.expect("its own"), [1]);
    for (from, follow) in [(0, false), (1, true), (2, false), (9, false), (9, true)] {
        let found = bob.history(&of_alice, from, follow).await;
        assert_unknown(&of_alice, found, bob.history(MISSING, from, follow).await);
    }
    let all = StreamEventsRequest::default();
    assert_eq!(bob.event_ids(all.clone()).await.expect("its own"), [format!("{of_bob}-1")]);
    assert_eq!(shop.event_ids(all.clone()).await.expect("all").len(), 2);
    let by_order = StreamEventsRequest { order_ids: vec![of_alice.clone(), MISSING.to_owned()], ..all.clone() };
    assert_eq!(bob.event_ids(by_order).await.expect("no error"), Vec::<String>::new());
    for customers in [&["alice"][..], &["alice", "bob"]] {
        let customer_ids = customers.iter().map(ToString::to_string).collect();
        let refused = bob.event_ids(StreamEventsRequest { customer_ids, ..all.clone() }).await.expect_err("refused");
        assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "CUSTOMER_NOT_ALLOWED".to_owned()));
    }
    // A cursor of another customer's stream is a position: what comes from there depends on the caller.
    let mut live = bob.events(StreamEventsRequest { follow: true, ..all.clone() }).await.expect("opens");
    let cursor = {
        let mut stream = alice.events(all.clone()).await.expect("opens");
        soon("an event", stream.message()).await.expect("no error").expect("an event").cursor
    };
    alice.commands.clone().pay_order(pay(&of_alice)).await.expect("its own");
    bob.commands.clone().pay_order(pay(&of_bob)).await.expect("its own");
    let after = StreamEventsRequest { start: StreamStart::After.into(), cursor, ..all };
    let own = [format!("{of_bob}-1"), format!("{of_bob}-2")];
    assert_eq!(bob.event_ids(after).await.expect("its own"), own);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let message = soon("an event", live.message()).await.expect("no error").expect("not the end");
        seen.extend(event_id(&message));
    }
    assert_eq!(seen, own);
}

#[tokio::test]
async fn commands_on_an_order_of_another_customer_are_refused_as_if_there_were_none() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob) = (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"));
    let (order, _) = alice.place("alice", "create").await;
    let paid = PayOrderRequest { request_id: "pay".to_owned(), ..pay(&order) };
    alice.commands.clone().pay_order(paid.clone()).await.expect("its own");
    // With the request ids of alice as well: a request id is its caller's own.
    for request_id in ["", "pay", "create", "new"] {
        for expected_revision in [None, Some(1), Some(2), Some(7)] {
            let payment = |id: &str| {
                let mut client = bob.commands.clone();
                let order_id = id.to_owned();
                let request =
                    PayOrderRequest { order_id, expected_revision, request_id: request_id.to_owned(), ..paid.clone() };
                async move { client.pay_order(request).await }
            };
            assert_unknown(&order, payment(&order).await, payment(MISSING).await);
            let cancellation = |id: &str| {
                let mut client = bob.commands.clone();
                let mut request = cancel(id);
                (request.request_id, request.expected_revision) = (request_id.to_owned(), expected_revision);
                async move { client.cancel_order(request).await }
            };
            assert_unknown(&order, cancellation(&order).await, cancellation(MISSING).await);
        }
    }
    let mut for_another = new_order("alice");
    for_another.request_id = "create".to_owned();
    let refused = bob.commands.clone().create_order(for_another).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "CUSTOMER_NOT_ALLOWED".to_owned()));
    // The same id is free for a request of bob's own.
    let (own, _) = bob.place("bob", "create").await;
    assert_ne!(own, order);
    assert_eq!(alice.place("alice", "create").await.0, order, "the reply to the first request");
    assert_eq!(alice.get(&order, None, None).await.expect("its own"), 2, "no one else has changed it");
    let refused = alice.commands.clone().ship_order(ship(&order)).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "ROLE_MISSING".to_owned()));
}

#[tokio::test]
async fn many_commands_on_one_call_are_those_of_its_caller() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob) = (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"));
    let (order, _) = alice.place("alice", "create").await;
    let (own, _) = bob.place("bob", "").await;
    let commands = [
        ("foreign", Command::PayOrder(pay(&order))),
        ("missing", Command::PayOrder(pay(MISSING))),
        ("for another", Command::CreateOrder(new_order("alice"))),
        ("own", Command::PayOrder(pay(&own))),
        ("ship", Command::ShipOrder(ship(&own))),
        ("wrong", Command::ShipOrder(ship("x"))),
    ];
    let requests =
        commands.map(|(id, command)| ExecuteCommandsRequest { correlation_id: id.to_owned(), command: Some(command) });
    let mut replies = bob.commands.clone().execute_commands(stream::iter(requests)).await.expect("opens").into_inner();
    let mut outcomes = std::collections::HashMap::new();
    while let Some(reply) = soon("a reply", replies.message()).await.expect("no error") {
        let outcome = match reply.outcome.expect("an outcome") {
            Outcome::Success(_) => Ok(()),
            Outcome::Error(error) => {
                let details = prost::Message::encode_to_vec(&error);
                Err(Status::with_details(Code::from(error.code), error.message.clone(), details.into()))
            }
        };
        outcomes.insert(reply.correlation_id, outcome);
    }
    let mut take = |id: &str| outcomes.remove(id).expect("a reply");
    assert_unknown(&order, take("foreign"), take("missing"));
    assert_eq!(code_and_reason(&take("for another").expect_err("refused")).1, "CUSTOMER_NOT_ALLOWED");
    take("own").expect("its own");
    assert_eq!(code_and_reason(&take("ship").expect_err("refused")).1, "ROLE_MISSING");
    assert_eq!(code_and_reason(&take("wrong").expect_err("refused")).1, "ROLE_MISSING", "as in a call of its own");
}

#[tokio::test]
async fn refusals_of_the_application_to_a_customer_are_audited() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, bob) = (Caller::new(&channel, "alice"), Caller::new(&channel, "bob"));
    let (order, _) = alice.place("alice", "").await;
    let as_another = PayOrderRequest { actor: "ann".to_owned(), ..pay(&order) };
    alice.commands.clone().pay_order(as_another).await.expect_err("ACTOR_NOT_ALLOWED");
    bob.commands.clone().create_order(new_order("alice")).await.expect_err("CUSTOMER_NOT_ALLOWED");
    // An order that it does not see is no refusal.
    bob.commands.clone().pay_order(pay(&order)).await.expect_err("ORDER_NOT_FOUND");
    let filtered = StreamEventsRequest { customer_ids: vec!["alice".to_owned()], ..Default::default() };
    bob.events(filtered).await.expect_err("CUSTOMER_NOT_ALLOWED");
    let single = [Command::ShipOrder(ship(&order)), Command::PayOrder(pay(&order))]
        .map(|command| ExecuteCommandsRequest { command: Some(command), ..Default::default() });
    let replies = alice.commands.clone().execute_commands(stream::iter(single)).await.expect("opens").into_inner();
    assert_eq!(replies.count().await, 2);
    let get = |path: &str, name: &str| {
        let request = reqwest::Client::new().get(server.url(path));
        request.header("authorization", authorization(name)).send()
    };
    assert_eq!(get("/orders?customerId=alice", "bob").await.expect("answered").status(), 403);

    let metrics = get("/metrics", "shop").await.expect("answered").text().await.expect("text");
    for refused in
        ["command\",outcome=\"refused\"} 2", "stream\",outcome=\"refused\"} 2", "read\",outcome=\"refused\"} 1"]
    {
        assert!(metrics.contains(&format!("ordersystem_audit_total{{action=\"{refused}")), "{refused}: {metrics}");
    }
}

#[tokio::test]
async fn the_verified_name_is_the_actor_and_another_one_is_kept_for_writers_only() {
    let (server, _callers) = start().await;
    let channel = server.channel().await;
    let (alice, shop) = (Caller::new(&channel, "alice"), Caller::new(&channel, "shop"));
    let (order, _) = alice.place("alice", "create").await;
    let as_another = PayOrderRequest { actor: "ann".to_owned(), ..pay(&order) };
    let refused = alice.commands.clone().pay_order(as_another.clone()).await.expect_err("refused");
    assert_eq!(code_and_reason(&refused), (Code::PermissionDenied, "ACTOR_NOT_ALLOWED".to_owned()));
    let as_itself = PayOrderRequest { actor: "alice".to_owned(), ..pay(&order) };
    alice.commands.clone().pay_order(as_itself).await.expect("its own name");
    let mut shipped = ship(&order);
    shipped.actor = "ann".to_owned();
    shop.commands.clone().ship_order(shipped).await.expect("a writer");
    let mut events = alice.events(StreamEventsRequest::default()).await.expect("opens");
    let mut actors = Vec::new();
    while let Some(message) = soon("the end", events.message()).await.expect("no error") {
        let Some(Item::Event(event)) = message.item else { continue };
        let event = codec::decode_message(&event.0).expect("an event");
        actors.push((event.actor, event.on_behalf_of, event.request_id));
    }
    let expected = [("alice", "", "create"), ("alice", "", ""), ("shop", "ann", "")];
    assert_eq!(actors, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
}
