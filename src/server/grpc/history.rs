//! `catga.orders.v1.OrderHistoryService`.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures_util::stream::{self, Stream};
use tonic::{Request, Response, Status};

use super::convert::{all_good, revision_to_proto};
use crate::{
    application::{
        event_filter::EventFilter,
        event_streams::{EventFeed, EventSource, OrderHistory, Step},
        requests::Violations,
        tokens,
    },
    codec::EncodedEvent,
    domain::order::EventKind,
    ports::event_store::{LogPoint, Revision, StoredEvent},
    proto::catga::orders::v1::{
        self as pb, order_history_service_server::OrderHistoryService, stream_events_response,
        stream_order_history_response,
    },
    server::{ApiState, EventStreamPermit, Signer, error::ApiError},
};

/// The maximum number of customers or orders in a filter.
pub const MAX_FILTER_VALUES: usize = 100;
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// The OrderHistoryService.
#[derive(Debug)]
pub struct History {
    context: ApiState,
}

impl History {
    /// Histories from the log of `context`.
    #[must_use]
    pub const fn new(context: ApiState) -> Self {
        Self { context }
    }
}

/// A stream of replies.
pub type Replies<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

#[tonic::async_trait]
impl OrderHistoryService for History {
    type StreamOrderHistoryStream = Replies<pb::StreamOrderHistoryResponse>;
    type StreamEventsStream = Replies<pb::StreamEventsResponse>;

    async fn stream_order_history(
        &self,
        request: Request<pb::StreamOrderHistoryRequest>,
    ) -> Result<Response<Self::StreamOrderHistoryStream>, Status> {
        let streams = self.context.streams_of(request.extensions());
        let request = request.into_inner();
        let mut violations = Violations::default();
        let order_id = violations.order_id("order_id", &request.order_id);
        let from = u64::try_from(request.from_revision).ok();
        if from.is_none() {
            violations.add("from_revision", "must not be negative");
        }
        let (order_id, from) = violations.finish(order_id.zip(from)).map_err(ApiError::from)?;
        let place = streams.enter().map_err(ApiError::from)?;
        let (fan_out, draining) = (self.context.fan_out.clone(), self.context.draining.clone());
        let history =
            OrderHistory::open(fan_out, order_id, from.max(1), request.follow, streams.read_bytes(), draining)
                .await
                .map_err(ApiError::from)?;
        Ok(Response::new(order_history(history, self.context.log()?, place)))
    }

    async fn stream_events(
        &self,
        request: Request<pb::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let streams = self.context.streams_of(request.extensions());
        let request = request.into_inner();
        let (after, filter, heartbeat) = parse(&request, self.context.known_log().as_ref())?;
        let place = streams.enter().map_err(ApiError::from)?;
        let follow = request.follow.then_some(heartbeat);
        let (fan_out, draining) = (self.context.fan_out.clone(), self.context.draining.clone());
        let feed = EventFeed::open(fan_out, after, filter, follow, streams.read_bytes(), draining)
            .await
            .map_err(ApiError::from)?;
        Ok(Response::new(events(feed, self.context.log()?, place)))
    }
}

/// The start (`None`: now), the filter, and the heartbeat interval.
fn parse(
    request: &pb::StreamEventsRequest,
    log: Option<&Signer>,
) -> Result<(Option<LogPoint>, EventFilter, Duration), ApiError> {
    let mut violations = Violations::default();
    let start = pb::StreamStart::try_from(request.start);
    if !request.cursor.is_empty() && start != Ok(pb::StreamStart::After) {
        violations.add("cursor", "must be empty unless start is AFTER");
    }
    let after = match start {
        Ok(pb::StreamStart::Unspecified | pb::StreamStart::Earliest) => Some(LogPoint::START),
        Ok(pb::StreamStart::Latest) => None,
        Ok(pb::StreamStart::After) => match tokens::decode_cursor(&request.cursor, log) {
            Ok(point) => Some(point),
            Err(error) => {
                violations.add_cursor("cursor", error);
                None
            }
        },
        Err(_) => {
            violations.add("start", "is not a known start");
            None
        }
    };
    let filter = parse_filter(&mut violations, request);
    let heartbeat = parse_heartbeat(&mut violations, request.heartbeat_interval.as_ref());
    all_good(violations)?;
    Ok((after, filter, heartbeat))
}

fn parse_filter(violations: &mut Violations, request: &pb::StreamEventsRequest) -> EventFilter {
    let mut filter = EventFilter::default();
    for (field, values) in [("customer_ids", &request.customer_ids), ("order_ids", &request.order_ids)] {
        if values.len() > MAX_FILTER_VALUES {
            violations.add(field, format!("must have at most {MAX_FILTER_VALUES} entries"));
            return filter;
        }
    }
    for (index, text) in request.customer_ids.iter().enumerate() {
        let parsed =
            violations.required::<crate::domain::text::CustomerIdRule>(&format!("customer_ids[{index}]"), text);
        filter.customer_ids.extend(parsed.map(|id| id.to_string()));
    }
    for (index, text) in request.order_ids.iter().enumerate() {
        filter.order_ids.extend(violations.order_id(&format!("order_ids[{index}]"), text).map(|id| id.get()));
    }
    for (index, kind) in request.types.iter().enumerate() {
        match kind_from_proto(*kind) {
            Some(kind) if !filter.kinds.contains(&kind) => filter.kinds.push(kind),
            Some(_) => {}
            None => violations.add(format!("types[{index}]"), "is not a known kind of event"),
        }
    }
    filter
}

fn kind_from_proto(kind: i32) -> Option<EventKind> {
    match pb::OrderEventType::try_from(kind) {
        Ok(pb::OrderEventType::OrderCreated) => Some(EventKind::Created),
        Ok(pb::OrderEventType::OrderPaid) => Some(EventKind::Paid),
        Ok(pb::OrderEventType::OrderShipped) => Some(EventKind::Shipped),
        Ok(pb::OrderEventType::OrderDelivered) => Some(EventKind::Delivered),
        Ok(pb::OrderEventType::OrderCancelled) => Some(EventKind::Cancelled),
        Ok(pb::OrderEventType::Unspecified) | Err(_) => None,
    }
}

fn parse_heartbeat(violations: &mut Violations, interval: Option<&prost_types::Duration>) -> Duration {
    let Some(interval) = interval else {
        return DEFAULT_HEARTBEAT;
    };
    // Converted by parts: prost's own conversion panics at the minimum number of nanos.
    let parts = u64::try_from(interval.seconds).ok().zip(u32::try_from(interval.nanos).ok());
    match parts.filter(|(_, nanos)| *nanos < 1_000_000_000).map(|(seconds, nanos)| Duration::new(seconds, nanos)) {
        Some(interval) if HEARTBEAT_RANGE.contains(&interval) => interval,
        _ => {
            violations.add("heartbeat_interval", "must be 100 ms to 1 hour");
            DEFAULT_HEARTBEAT
        }
    }
}

/// One message of a stream, of either kind.
enum Shown {
    Event(EncodedEvent),
    CaughtUp(Revision),
    Heartbeat,
}

fn order_history(
    history: OrderHistory,
    log: Signer,
    place: EventStreamPermit,
) -> Replies<pb::StreamOrderHistoryResponse> {
    use stream_order_history_response::Item;
    replies(history, place, move |point, shown| {
        let item = match shown {
            Shown::Event(event) => Some(Item::Event(event)),
            Shown::CaughtUp(revision) => Some(Item::CaughtUp(pb::CaughtUp { revision: revision_to_proto(revision) })),
            Shown::Heartbeat => None,
        };
        pb::StreamOrderHistoryResponse { cursor: tokens::encode_cursor(&log, point), item }
    })
}

fn events(feed: EventFeed, log: Signer, place: EventStreamPermit) -> Replies<pb::StreamEventsResponse> {
    use stream_events_response::Item;
    replies(feed, place, move |point, shown| {
        let item = match shown {
            Shown::Event(event) => Item::Event(event),
            Shown::CaughtUp(_) => Item::CaughtUp(pb::CaughtUp { revision: 0 }),
            Shown::Heartbeat => Item::Heartbeat(pb::Heartbeat {}),
        };
        pb::StreamEventsResponse { cursor: tokens::encode_cursor(&log, point), item: Some(item) }
    })
}

/// The state of a stream between two messages: the source and the rest of one batch.
struct State<S, F> {
    source: S,
    message: F,
    batch: VecDeque<StoredEvent>,
    is_over: bool,
    _place: EventStreamPermit,
}

/// The steps of `source` as messages, until its end or an error.
fn replies<S: EventSource, M: Send + 'static>(
    source: S,
    place: EventStreamPermit,
    message: impl Fn(LogPoint, Shown) -> M + Send + 'static,
) -> Replies<M> {
    let state = State { source, message, batch: VecDeque::new(), is_over: false, _place: place };
    Box::pin(stream::unfold(state, |mut state| async move {
        loop {
            if let Some(event) = state.batch.pop_front() {
                let point = LogPoint::after(&event);
                let shown = Shown::Event(EncodedEvent(event.payload));
                return Some((Ok((state.message)(point, shown)), state));
            }
            if state.is_over {
                return None;
            }
            let shown = match state.source.next().await {
                Ok(Step::Events(events)) => {
                    state.batch = events.into();
                    continue;
                }
                Ok(Step::CaughtUp) => Shown::CaughtUp(state.source.revision()),
                Ok(Step::Heartbeat) => Shown::Heartbeat,
                Ok(Step::End) => return None,
                Err(error) => {
                    state.is_over = true;
                    return Some((Err(ApiError::from(error).to_status()), state));
                }
            };
            return Some((Ok((state.message)(state.source.point(), shown)), state));
        }
    }))
}
