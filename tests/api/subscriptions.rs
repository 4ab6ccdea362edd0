//! Event handlers: several on a node, each active on one node at a time.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ordersystem::{
    node::{App, Backends, NodeBuilder},
    ports::message_bus::EventId,
    processors::handlers::{EventHandler, HandlerError, ReceivedEvent},
    proto::catga::system::v1::GetClusterRequest,
};
use serde_json::json;

use crate::{
    outbox::metric,
    support::{Meta, Step, TestServer, config, give, until},
};

/// Records the events that it gets, and rejects the selected ones.
pub struct Noting {
    name: &'static str,
    pub seen: Mutex<Vec<EventId>>,
    pub rejects: Mutex<fn(&ReceivedEvent) -> bool>,
}

impl Noting {
    pub fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { name, seen: Mutex::default(), rejects: Mutex::new(|_| false) })
    }

    /// Rejects every event for which `rejects` is true, from now on.
    pub fn reject(&self, rejects: fn(&ReceivedEvent) -> bool) {
        *self.rejects.lock().unwrap() = rejects;
    }

    pub async fn until_seen(&self, count: usize) {
        until("handled", async || (self.seen.lock().unwrap().len() >= count).then_some(())).await;
    }
}

#[async_trait]
impl EventHandler for Noting {
    fn name(&self) -> &str {
        self.name
    }

    async fn handle(&self, event: &ReceivedEvent) -> Result<(), HandlerError> {
        if (self.rejects.lock().unwrap())(event) {
            return Err(HandlerError::Reject(format!("{} does not want\n{}", self.name, event.kind())));
        }
        self.seen.lock().unwrap().push(event.event_id());
        Ok(())
    }
}

#[tokio::test]
async fn every_handler_of_an_embedding_program_gets_every_event_and_is_seen_by_its_name() {
    let (mail, stock) = (Noting::new("mail"), Noting::new("stock_keeper"));
    stock.reject(|event| event.kind() == "OrderPaid");
    let setup = NodeBuilder::new(Backends::memory()).with_handler(mail.clone()).with_handler(stock.clone());
    let server = TestServer::start_as(&[], setup).await;
    let id = server.place_order("customer-1").await.order_id;
    for step in [Step::Pay, Step::Ship] {
        give(&server.commands().await, step, &id, Meta::default()).await.expect("accepted");
    }
    mail.until_seen(3).await;
    stock.until_seen(2).await;
    let revisions =
        |noting: &Noting| noting.seen.lock().unwrap().iter().map(|event| event.sequence).collect::<Vec<_>>();
    assert_eq!((revisions(&mail), revisions(&stock)), (vec![1, 2, 3], vec![1, 3]));
    let detail = until("all handled", async || {
        let (status, detail) = server.health("subscriptions").await;
        (status == "Degraded" && detail.contains("logger handled: 3")).then_some(detail)
    })
    .await;
    assert_eq!(
        detail,
        "order-event-logger handled: 3, dead letters: 0; mail handled: 3, dead letters: 0; \
         stock_keeper handled: 2, dead letters: 1"
    );
    for (labels, count) in [
        ("handler=\"mail\",outcome=\"handled\"", 3.0),
        ("handler=\"stock_keeper\",outcome=\"handled\"", 2.0),
        ("handler=\"stock_keeper\",outcome=\"dead_lettered\"", 1.0),
        ("handler=\"mail\",outcome=\"dead_lettered\"", 0.0),
    ] {
        let name = format!("ordersystem_subscription_events_total{{{labels}}}");
        assert_eq!(metric(&server, &name).await, Some(count), "{name}");
    }
    assert_eq!(metric(&server, "ordersystem_subscription_active{handler=\"mail\"}").await, Some(1.0));
}

#[tokio::test]
async fn handlers_with_the_same_name_or_none_are_refused_at_the_start() {
    let long = "x".repeat(116).leak();
    for (names, expected) in [
        (["mail", "mail"], "two handlers are named mail"),
        (["mail", "order-event-logger"], "two handlers are named order-event-logger"),
        (["mail", ""], "invalid handler name"),
        (["mail", "a b"], "invalid handler name"),
        (["mail", long], "invalid handler name"),
    ] {
        let setup = names
            .iter()
            .fold(NodeBuilder::new(Backends::memory()), |setup, name| setup.with_handler(Noting::new(name)));
        let error = App::start_from(&config(&[]), setup).await.expect_err("refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Two nodes on one log and one bus, each with the handler "mail"; the first one is active.
async fn two_nodes() -> ((TestServer, Arc<Noting>), (TestServer, Arc<Noting>)) {
    two_nodes_on(&Backends { is_shared: true, ..Backends::memory() }).await
}

async fn two_nodes_on(backends: &Backends) -> ((TestServer, Arc<Noting>), (TestServer, Arc<Noting>)) {
    let start = async |worker: &str| {
        let mail = Noting::new("mail");
        let setup = NodeBuilder::new(backends.clone()).with_handler(mail.clone());
        let name = format!("node-0-{worker}");
        (TestServer::start_as(&[("worker-id", worker), ("node-id", &name)], setup).await, mail)
    };
    let first = start("1").await;
    until("handled by the first", async || {
        let owner = backends.bus_leases.holder("subscription-mail").await.expect("in memory");
        owner.filter(|owner| owner.holder == "node-0-1")
    })
    .await;
    (first, start("2").await)
}

#[tokio::test]
async fn one_node_handles_and_the_other_stands_by_in_good_health() {
    let ((first, of_first), (second, of_second)) = two_nodes().await;
    for _ in 0..5 {
        first.place_order("customer-1").await;
        second.place_order("customer-1").await;
    }
    of_first.until_seen(10).await;
    let standing_by = "order-event-logger standing by: node-0-1 handles; mail standing by: node-0-1 handles";
    until("standing by", async || {
        (second.health("subscriptions").await == ("Healthy".to_owned(), standing_by.to_owned())).then_some(())
    })
    .await;
    assert_eq!(of_second.seen.lock().unwrap().len(), 0);
    assert_eq!(metric(&second, "ordersystem_subscription_active{handler=\"mail\"}").await, Some(0.0));
    assert_eq!(first.health("subscriptions").await.0, "Healthy");
}

#[tokio::test]
async fn a_node_reports_which_roles_were_taken_over_and_from_whom() {
    let ((mut first, _), (second, _)) = two_nodes().await;
    let mut system = second.system().await;
    let mut takeovers = async || {
        let reply = system.get_cluster(GetClusterRequest {}).await.expect("answered").into_inner();
        reply.cluster.expect("a cluster").takeovers
    };
    let roles = ["outbox", "subscription-mail", "subscription-order-event-logger"];
    until("standing by", async || {
        let (handling, publishing) = (second.health("subscriptions").await.1, second.health("outbox").await.1);
        handling.matches("standing by: node-0-1").count() == 2 && publishing.contains("standing by: node-0-1")
    })
    .await;
    assert_eq!(takeovers().await, [], "it has seen no change");
    first.stop().await.expect("in time");
    let found = until("all roles are taken over", async || {
        let found = takeovers().await;
        (found.len() == roles.len()).then_some(found)
    })
    .await;
    let mut found_roles: Vec<_> = found.iter().map(|takeover| takeover.role.as_str()).collect();
    found_roles.sort_unstable();
    assert_eq!(found_roles, roles);
    for takeover in &found {
        assert_eq!((&*takeover.from_node, &*takeover.to_node), ("node-0-1", "node-0-2"), "{takeover:?}");
        assert!(takeover.noticed_at.is_some());
    }
    let over_rest: serde_json::Value =
        reqwest::get(second.url("/cluster")).await.expect("answers").json().await.expect("JSON");
    let latest = &over_rest["takeovers"][0];
    assert_eq!((&latest["role"], &latest["fromNode"]), (&json!(found[0].role), &json!("node-0-1")), "{over_rest}");
}

#[tokio::test]
async fn a_node_that_shuts_down_hands_its_handlers_over_at_once() {
    let backends = Backends { is_shared: true, ..Backends::memory() };
    let ((mut first, of_first), (second, of_second)) = two_nodes_on(&backends).await;
    first.place_order("customer-1").await;
    of_first.until_seen(1).await;
    first.stop().await.expect("in time");
    // Without the release it would hold the lease for the rest of six seconds.
    let owner = backends.bus_leases.holder("subscription-mail").await.expect("in memory");
    assert!(owner.is_none_or(|owner| owner.holder != "node-0-1"), "released with the end");
    second.place_order("customer-1").await;
    of_second.until_seen(1).await;
    let (status, detail) = second.health("subscriptions").await;
    assert_eq!(status, "Healthy");
    assert!(detail.contains("mail handled: 1"), "{detail}");
}
