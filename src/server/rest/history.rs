//! The histories of one order and of all, as JSON pages or as server-sent events.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
};
use http::{HeaderMap, HeaderValue, Response, header};
use tokio::time::Instant;

use super::{
    Reply, Shared, events, headers,
    orders::{Id, path_id},
    query::Query,
    sse::{self, Source},
    view,
};
use crate::{
    application::{
        event_filter::{EventFilter, kinds_leading_to},
        event_streams::{EventFeed, OrderHistory, Step},
        requests::{self, Violations},
        tokens,
    },
    domain::order::{EventKind, Status},
    domain::text::CustomerIdRule,
    ports::event_store::{LogPoint, Revision, StoredEvent},
    server::{Signer, error::ApiError},
};

/// The time limit for collecting one JSON page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The stored bytes after which a page is full, whatever it may have in events.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// The cursor for the current end of the log.
pub const LATEST: &str = "latest";

/// The parameters of `GET /events`.
pub const EVENTS_PARAMETERS: [&str; 5] = ["cursor", "status", "customerId", "type", "pageSize"];

/// `GET /orders/{id}/history`
///
/// # Errors
/// As in the table of reasons.
pub async fn of_order(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    let request = request.into_parts().0;
    let mut violations = Violations::default();
    let id = path_id(id, &mut violations);
    let order_id = id.as_deref().and_then(|id| violations.order_id("id", id));
    let query = Query::read(&request.uri, ["fromRevision", "pageSize"], &mut violations);
    let mut from = query.number("fromRevision", &mut violations).map_or(1, i64::cast_unsigned).max(1);
    let page_size = page_size(&query, &mut violations);
    let follow = headers::accepts(&request.headers, sse::CONTENT_TYPE);
    if follow {
        from = resumed_revision(&request.headers, &mut violations).unwrap_or(from);
    } else {
        check_not_resumed(&request.headers, "fromRevision", &mut violations);
    }
    let order_id = violations.finish(order_id)?;
    let streams = context.streams_of(&request.extensions);
    // A page is an ordinary request.
    let place = if follow { Some(streams.enter()?) } else { None };
    let (fan_out, draining) = (context.fan_out.clone(), context.draining.clone());
    let history = OrderHistory::open(fan_out, order_id, from, follow, streams.read_bytes(), draining).await?;
    let log = context.log()?;
    let mut source = Source::Order(history);
    let path = request.uri.path();
    if let Some(place) = place {
        return Ok(sse::reply(source, log, path.to_owned(), place, streams.sent_bytes()));
    }
    let page = gather(page_size, &mut source).await?;
    let seen = page.seen(&source).map(|(revision, _)| revision);
    let next = seen.map(|seen| query.next_link(path, "fromRevision", &(seen + 1).to_string()));
    page_reply(&page.events, &log, next)
}

/// The first revision after the `Last-Event-ID` of the client.
fn resumed_revision(headers: &HeaderMap, violations: &mut Violations) -> Option<Revision> {
    let text = headers::single(headers, "Last-Event-ID", violations)?;
    let last = text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let next = last.and_then(|last| last.checked_add(1));
    if next.is_none() {
        violations.add("Last-Event-ID", "must be the revision of an event");
    }
    next
}

/// Records a violation if a request for a page, which resumes with `parameter`, has `Last-Event-ID`: the header would be ignored.
fn check_not_resumed(headers: &HeaderMap, parameter: &str, violations: &mut Violations) {
    if headers.contains_key("Last-Event-ID") {
        violations.add("Last-Event-ID", format!("is for Accept: text/event-stream; a page goes on with {parameter}"));
    }
}

/// `GET /events`
///
/// # Errors
/// As in the table of reasons.
pub async fn of_all(State(context): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let mut violations = Violations::default();
    let query = Query::read(&request.uri, EVENTS_PARAMETERS, &mut violations);
    let filter = filter(&query, &mut violations);
    let page_size = page_size(&query, &mut violations);
    let follow = headers::accepts(&request.headers, sse::CONTENT_TYPE);
    let resumed = if follow {
        headers::single(&request.headers, "Last-Event-ID", &mut violations)
    } else {
        check_not_resumed(&request.headers, "cursor", &mut violations);
        None
    };
    let cursor = resumed.map(|id| ("Last-Event-ID", id)).or_else(|| query.get("cursor").map(|id| ("cursor", id)));
    let after = start(cursor, violations, context.known_log().as_ref())?;
    let streams = context.streams_of(&request.extensions);
    let place = if follow { Some(streams.enter()?) } else { None };
    let (fan_out, draining) = (context.fan_out.clone(), context.draining.clone());
    let heartbeat = follow.then_some(sse::HEARTBEAT);
    let feed = EventFeed::open(fan_out, after, filter, heartbeat, streams.read_bytes(), draining).await?;
    let log = context.log()?;
    let mut source = Source::All(feed);
    let path = request.uri.path();
    if let Some(place) = place {
        return Ok(sse::reply(source, log, path.to_owned(), place, streams.sent_bytes()));
    }
    let page = gather(page_size, &mut source).await?;
    let seen = page.seen(&source).map(|(_, point)| point);
    let next = seen.map(|seen| query.next_link(path, "cursor", &tokens::encode_cursor(&log, seen)));
    page_reply(&page.events, &log, next)
}

/// The position to start after; `None`: now.
fn start(
    cursor: Option<(&str, &str)>,
    mut violations: Violations,
    log: Option<&Signer>,
) -> Result<Option<LogPoint>, ApiError> {
    let after = match cursor {
        None => Some(LogPoint::START),
        Some((_, LATEST)) => None,
        Some((field, text)) => match tokens::decode_cursor(text, log) {
            Ok(point) => Some(point),
            Err(error) => {
                violations.add_cursor(field, error);
                None
            }
        },
    };
    Ok(violations.finish(Some(after))?)
}

fn filter(query: &Query<5>, violations: &mut Violations) -> EventFilter {
    let customer_id = query.get("customerId").and_then(|id| violations.required::<CustomerIdRule>("customerId", id));
    let by_status = query.choice("status", &Status::ALL, Status::name, violations);
    let by_type = query.choice("type", &EventKind::ALL, EventKind::name, violations);
    if by_status.zip(by_type).is_some_and(|(status, kind)| kind.status_after() != status) {
        violations.add("status", "does not go together with this type: no event would ever pass");
    }
    EventFilter {
        customer_ids: customer_id.into_iter().map(|id| id.to_string()).collect(),
        kinds: match (by_type, by_status) {
            (Some(kind), _) => vec![kind],
            (None, Some(status)) => kinds_leading_to(status).collect(),
            (None, None) => Vec::new(),
        },
        ..EventFilter::default()
    }
}

fn page_size<const N: usize>(query: &Query<N>, violations: &mut Violations) -> usize {
    let size = query.number("pageSize", violations).unwrap_or(0);
    requests::page_size(violations, "pageSize", size)
}

/// A page of events of a source.
struct Page {
    events: Vec<StoredEvent>,
    end: PageEnd,
}

/// Why a page ends.
enum PageEnd {
    /// There are no more events.
    End,
    /// The page is full.
    Full,
    /// The time limit has expired.
    Late,
}

impl Page {
    /// The reader's position, if there may be more events.
    fn seen(&self, source: &Source) -> Option<(Revision, LogPoint)> {
        match (&self.end, self.events.last()) {
            (PageEnd::End, _) => None,
            (PageEnd::Full, Some(last)) => Some((last.revision, LogPoint::after(last))),
            // Filtered events count as seen.
            _ => Some(source.reached()),
        }
    }
}

/// Up to `size` events of `source`; fewer at its end or when the time limit expires.
async fn gather(size: usize, source: &mut Source) -> Result<Page, ApiError> {
    let deadline = Instant::now() + PAGE_TIMEOUT;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while events.len() < size && bytes < PAGE_BYTES {
        match tokio::time::timeout_at(deadline, source.next()).await {
            Ok(Ok(Step::Events(batch))) => {
                for event in batch {
                    if events.len() == size || bytes >= PAGE_BYTES {
                        break;
                    }
                    bytes += event.payload.len();
                    events.push(event);
                }
            }
            Ok(Ok(Step::End)) => return Ok(Page { events, end: PageEnd::End }),
            Ok(Ok(Step::CaughtUp | Step::Heartbeat)) => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Ok(Page { events, end: PageEnd::Late }),
        }
    }
    Ok(Page { events, end: PageEnd::Full })
}

fn page_reply(page: &[StoredEvent], log: &Signer, next: Option<String>) -> Reply {
    let mut body = vec![b'['];
    for (index, event) in page.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        events::write(event, log, &mut body)?;
    }
    body.push(b']');
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, view::header_value(next)?);
    }
    if let Some(last) = page.last() {
        view::set_token(&mut response, log, last.position)?;
    }
    Ok(response)
}
