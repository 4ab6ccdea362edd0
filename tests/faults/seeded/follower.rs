//! Followers: each reads a stream from its beginning through all faults, and resumes on another node where it was.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use ordersystem::{
    codec::{EncodedEvent, decode_message},
    proto::catga::orders::v1::{
        OrderEventType, StreamEventsRequest, StreamOrderHistoryRequest, StreamStart, stream_events_response,
        stream_order_history_response,
    },
};
use tokio::{task::JoinHandle, time::timeout};
use tonic::Status as GrpcStatus;

use super::{
    board::Board,
    calls::{Node, failed, reason},
    history::{Answer, Asked, Call, Followed, Follows, Freshness, Status},
};

/// A stream that is silent for this long is abandoned, and resumed elsewhere.
const SILENCE: Duration = Duration::from_secs(5);

/// The events that a follower has been sent since its last start, and before it.
#[derive(Default)]
struct Sent {
    events: Vec<(u64, u64, String)>,
    before: Vec<Followed>,
}

pub struct Follower {
    what: Follows,
    sent: Arc<Mutex<Sent>>,
    task: JoinHandle<()>,
}

impl Follower {
    /// Starts on node `first`.
    pub fn start(what: Follows, first: usize, board: Arc<Board>, nodes: Arc<Vec<Node>>) -> Self {
        let sent = Arc::<Mutex<Sent>>::default();
        let follow = Follow { what: what.clone(), sent: Arc::clone(&sent), board, cursor: String::new(), resumed: 0 };
        Self { what, sent, task: tokio::spawn(follow.through_all(first, nodes)) }
    }

    /// The number of events that it has been sent since its last start.
    pub fn count(&self) -> usize {
        self.sent.lock().unwrap().events.len()
    }

    pub const fn what(&self) -> &Follows {
        &self.what
    }

    /// The events that it was sent, for each start.
    pub fn end(self) -> Vec<Followed> {
        self.task.abort();
        let Sent { events, before: mut all } = std::mem::take(&mut *self.sent.lock().unwrap());
        all.push(Followed { what: self.what, events, told_at: None });
        all
    }
}

struct Follow {
    what: Follows,
    sent: Arc<Mutex<Sent>>,
    board: Arc<Board>,
    cursor: String,
    resumed: usize,
}

impl Follow {
    async fn through_all(mut self, first: usize, nodes: Arc<Vec<Node>>) {
        loop {
            let at = (first + self.resumed) % nodes.len();
            let sent_at = self.board.now();
            let ended = match self.what {
                Follows::Order(order) => self.follow_order(&nodes[at], order).await,
                _ => self.follow_log(&nodes[at]).await,
            };
            if let Err(status) = ended {
                self.note_if_wrong(&status, at, sent_at);
                self.restart_if_refused(&status);
            }
            self.resumed += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// An end that an outage explains is not recorded. A followed order exists, so NOT_FOUND is not accepted.
    fn note_if_wrong(&self, status: &GrpcStatus, node: usize, sent_at: u64) {
        let (reason, message) = match failed(status) {
            Answer::Wrong { reason, message } => (reason, message),
            Answer::Refused { reason, .. } => (reason, status.message().to_owned()),
            _ => return,
        };
        let ids = if let Follows::Order(order) = self.what { vec![order] } else { Vec::new() };
        let asked = Asked::OrderRepository { ids, freshness: Freshness::Strong };
        let answer = Answer::Wrong { reason, message };
        let name = format!("follower of {:?}, resumed {} times", self.what, self.resumed);
        self.board.note(Call { name, node, sent_at, answered_at: self.board.now(), asked, answer });
    }

    /// As it is told to: the checker decides whether that was justified.
    fn restart_if_refused(&mut self, status: &GrpcStatus) {
        let is_told = match reason(status).as_deref() {
            Some("CURSOR_OF_ANOTHER_LOG") => true,
            Some("ORDER_NOT_FOUND" | "NOT_YET_THEN") => matches!(self.what, Follows::Order(_)),
            _ => false,
        };
        if is_told {
            self.cursor.clear();
            let mut sent = self.sent.lock().unwrap();
            let events = std::mem::take(&mut sent.events);
            if !events.is_empty() {
                sent.before.push(Followed { what: self.what.clone(), events, told_at: Some(self.board.now()) });
            }
        }
    }

    fn saw(&self, event: &EncodedEvent) {
        self.sent.lock().unwrap().events.push(seen(event));
    }

    async fn follow_log(&mut self, node: &Node) -> Result<(), GrpcStatus> {
        use stream_events_response::Item;
        let mut client = node.history.clone();
        let opened = timeout(SILENCE, client.stream_events(log_request(&self.what, &self.cursor, true))).await;
        let Ok(stream) = opened else { return Ok(()) };
        let mut stream = stream?.into_inner();
        while let Ok(message) = timeout(SILENCE, stream.message()).await {
            let Some(message) = message? else { return Ok(()) };
            self.cursor = message.cursor;
            if let Some(Item::Event(event)) = message.item {
                self.saw(&event);
            }
        }
        Ok(())
    }

    async fn follow_order(&self, node: &Node, order: u64) -> Result<(), GrpcStatus> {
        use stream_order_history_response::Item;
        let from_revision = self.sent.lock().unwrap().events.len() as i64 + 1;
        let request = StreamOrderHistoryRequest { order_id: order.to_string(), from_revision, follow: true };
        let mut client = node.history.clone();
        let Ok(stream) = timeout(SILENCE, client.stream_order_history(request)).await else { return Ok(()) };
        let mut stream = stream?.into_inner();
        while let Ok(message) = timeout(SILENCE, stream.message()).await {
            let Some(message) = message? else { return Ok(()) };
            if let Some(Item::Event(event)) = message.item {
                self.saw(&event);
            }
        }
        Ok(())
    }
}

/// The order, the revision and the call of an event.
fn seen(event: &EncodedEvent) -> (u64, u64, String) {
    let event = decode_message(&event.0).unwrap();
    (event.order_id.parse().unwrap(), event.revision as u64, event.actor)
}

/// All events that `node` has, read to the end of the log.
pub async fn read_all(node: &Node) -> Result<Followed, GrpcStatus> {
    use stream_events_response::Item;
    let mut stream =
        node.history.clone().stream_events(log_request(&Follows::Everything, "", false)).await?.into_inner();
    let mut events = Vec::new();
    while let Some(message) = stream.message().await? {
        if let Some(Item::Event(event)) = message.item {
            events.push(seen(&event));
        }
    }
    Ok(Followed { what: Follows::Everything, events, told_at: None })
}

fn log_request(what: &Follows, cursor: &str, follow: bool) -> StreamEventsRequest {
    let start = if cursor.is_empty() { StreamStart::Earliest } else { StreamStart::After };
    let types = match what {
        Follows::Status(status) => vec![event_type(*status).into()],
        _ => Vec::new(),
    };
    let customer_ids = match what {
        Follows::Customer(customer) => vec![customer.clone()],
        _ => Vec::new(),
    };
    let heartbeat_interval = follow.then_some(prost_types::Duration { seconds: 1, nanos: 0 });
    StreamEventsRequest {
        start: start.into(),
        cursor: cursor.to_owned(),
        follow,
        customer_ids,
        types,
        heartbeat_interval,
        ..Default::default()
    }
}

const fn event_type(to: Status) -> OrderEventType {
    match to {
        Status::Pending => OrderEventType::OrderCreated,
        Status::Paid => OrderEventType::OrderPaid,
        Status::Shipped => OrderEventType::OrderShipped,
        Status::Delivered => OrderEventType::OrderDelivered,
        Status::Cancelled => OrderEventType::OrderCancelled,
    }
}
