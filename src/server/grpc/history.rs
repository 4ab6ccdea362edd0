//! `catga.orders.v1.OrderHistoryService`.

use std::time::Duration;

use http::Extensions;
use tonic::{Request, Response, Status};

use super::{
    convert::{ensure_valid, kind_from_proto},
    streams::{self, Replies, StreamKind},
};
use crate::{
    application::{
        event_filter::EventFilter,
        event_streams::{EventStream, Follow},
        limits::MAX_FILTER_VALUES,
        requests::{self, Field, FieldPath, Violations},
        tokens::Signer,
    },
    domain::text::CustomerIdRule,
    ports::event_store::LogPoint,
    proto::catga::orders::v1::{self as pb, order_history_service_server::OrderHistoryService},
    server::{
        ApiState,
        error::ApiError,
        principal::{following, reading},
    },
};

const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEAT_RANGE: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);

/// The OrderHistoryService.
#[derive(Debug)]
pub struct History {
    api: ApiState,
}

impl History {
    /// The service of histories and event streams, which reads the log of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }

    /// The history of an order, for a caller with `extensions`, and the signer for its cursors.
    ///
    /// # Errors
    /// As in the table of reasons.
    pub async fn of_order(
        &self,
        request: &pb::StreamOrderHistoryRequest,
        extensions: &Extensions,
    ) -> Result<(EventStream, Signer), ApiError> {
        let streams = self.api.streams_of(extensions);
        let mut violations = Violations::default();
        let order_id = violations.order_id(Field::OrderId, &request.order_id);
        let from = requests::from_revision(&mut violations, request.from_revision);
        let (order_id, from) = violations.finish(order_id.zip(from))?;
        let bounds = streams.of_follower()?;
        let follow = if request.follow { Follow::Yes } else { Follow::No };
        let scope = reading(extensions);
        let events = self.api.event_log.order_history(order_id, from, &scope, follow, bounds).await?;
        Ok((events, self.api.signer()?))
    }

    /// The events of all orders that the caller with `extensions` may follow, and the signer for their cursors.
    ///
    /// # Errors
    /// As in the table of reasons.
    pub async fn of_all(
        &self,
        request: &pb::StreamEventsRequest,
        extensions: &Extensions,
    ) -> Result<(EventStream, Signer), ApiError> {
        let streams = self.api.streams_of(extensions);
        let (after, filter, heartbeat) = parse(request, self.api.known_signer().as_ref())?;
        let bounds = streams.of_follower()?;
        let follow = if request.follow { Follow::WithHeartbeats(heartbeat) } else { Follow::No };
        let events = self.api.event_log.events(after, filter, &following(extensions), follow, bounds).await?;
        Ok((events, self.api.signer()?))
    }
}

#[tonic::async_trait]
impl OrderHistoryService for History {
    type StreamOrderHistoryStream = Replies<pb::StreamOrderHistoryResponse>;
    type StreamEventsStream = Replies<pb::StreamEventsResponse>;

    async fn stream_order_history(
        &self,
        request: Request<pb::StreamOrderHistoryRequest>,
    ) -> Result<Response<Self::StreamOrderHistoryStream>, Status> {
        let (events, signer) = self.of_order(request.get_ref(), request.extensions()).await?;
        Ok(Response::new(streams::messages(streams::of_events(StreamKind::Order, events, signer))))
    }

    async fn stream_events(
        &self,
        request: Request<pb::StreamEventsRequest>,
    ) -> Result<Response<Self::StreamEventsStream>, Status> {
        let (events, signer) = self.of_all(request.get_ref(), request.extensions()).await?;
        Ok(Response::new(streams::messages(streams::of_events(StreamKind::All, events, signer))))
    }
}

/// The start (`None`: now), the filter, and the heartbeat interval.
fn parse(
    request: &pb::StreamEventsRequest,
    signer: Option<&Signer>,
) -> Result<(Option<LogPoint>, EventFilter, Duration), ApiError> {
    let mut violations = Violations::default();
    let start = pb::StreamStart::try_from(request.start);
    if !request.cursor.is_empty() && start != Ok(pb::StreamStart::After) {
        violations.add(Field::Cursor, "must be empty unless start is AFTER");
    }
    let after = match start {
        Ok(pb::StreamStart::Unspecified | pb::StreamStart::Earliest) => Some(LogPoint::START),
        Ok(pb::StreamStart::Latest) => None,
        Ok(pb::StreamStart::After) => requests::cursor(&mut violations, Field::Cursor, &request.cursor, signer),
        Err(_) => {
            violations.add(Field::Start, "is not a known start");
            None
        }
    };
    let filter = parse_filter(&mut violations, request);
    let heartbeat = parse_heartbeat(&mut violations, request.heartbeat_interval.as_ref());
    ensure_valid(violations)?;
    Ok((after, filter, heartbeat))
}

fn parse_filter(violations: &mut Violations, request: &pb::StreamEventsRequest) -> EventFilter {
    let mut filter = EventFilter::default();
    for (field, values) in [(Field::CustomerIds, &request.customer_ids), (Field::OrderIds, &request.order_ids)] {
        if values.len() > MAX_FILTER_VALUES {
            violations.add(field, format_args!("must have at most {MAX_FILTER_VALUES} entries"));
            return filter;
        }
    }
    for (index, text) in request.customer_ids.iter().enumerate() {
        let parsed = violations.required::<CustomerIdRule>(FieldPath::Element(Field::CustomerIds, index), text);
        filter.customer_ids.extend(parsed.map(|id| id.to_string()));
    }
    for (index, text) in request.order_ids.iter().enumerate() {
        let parsed = violations.order_id(FieldPath::Element(Field::OrderIds, index), text);
        filter.order_ids.extend(parsed.map(|id| id.get()));
    }
    for (index, kind) in request.types.iter().enumerate() {
        match kind_from_proto(*kind) {
            Some(kind) if !filter.kinds.contains(&kind) => filter.kinds.push(kind),
            Some(_) => {}
            None => violations.add(FieldPath::Element(Field::Types, index), "is not a known kind of event"),
        }
    }
    filter
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
            violations.add(Field::HeartbeatInterval, "must be 100 ms to 1 hour");
            DEFAULT_HEARTBEAT
        }
    }
}
