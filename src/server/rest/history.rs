//! The histories of one order and of all, as JSON pages or as server-sent events.

use axum::extract::{Request, State};
use http::{HeaderMap, request::Parts};

use super::{
    Reply, Shared, headers,
    orders::{Id, path_id},
    page::EventPage,
    query::Query,
    sse,
};
use crate::{
    application::{
        event_filter::{EventFilter, kinds_leading_to},
        event_streams::{Follow, StreamBounds},
        requests::{self, Field, Violations},
        tokens::{self, Signer},
    },
    domain::order::{EventKind, Status},
    domain::text::CustomerIdRule,
    ports::event_store::{LogPoint, Revision},
    server::{
        EventStreams,
        access::Standing,
        call::{EVENT_STREAM, accepts},
        error::ApiError,
        principal,
    },
};

/// The cursor for the current end of the log.
pub const LATEST: &str = "latest";

/// The parameters of `GET /events`.
pub const EVENTS_PARAMETERS: [Field; 5] =
    [Field::Cursor, Field::Status, Field::CustomerId, Field::Types, Field::PageSize];

/// `GET /orders/{id}/history`
///
/// # Errors
/// As in the table of reasons.
pub async fn of_order(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let request = request.into_parts().0;
    let mut violations = Violations::default();
    let id = path_id(id, Field::OrderId, &mut violations);
    let order_id = id.as_deref().and_then(|id| violations.order_id(Field::OrderId, id));
    let query = Query::read(&request.uri, [Field::FromRevision, Field::PageSize], &mut violations);
    let from = query.number(Field::FromRevision, &mut violations).unwrap_or(0);
    let mut from = requests::from_revision(&mut violations, from);
    let page_size = page_size(&query, &mut violations);
    let follows = accepts(&request.headers, EVENT_STREAM);
    if follows {
        from = resumed_revision(&request.headers, &mut violations).or(from);
    } else {
        check_not_resumed(&request.headers, Field::FromRevision, &mut violations);
    }
    let (order_id, from) = violations.finish(order_id.zip(from))?;
    let streams = api.streams_of(&request.extensions);
    let (follow, bounds) = reading(follows, &streams)?;
    let _turn = if follows { None } else { streams.turns_of_large_replies().wait().await };
    let mut events =
        api.event_log.order_history(order_id, from, &principal::reading(&request.extensions), follow, bounds).await?;
    let signer = api.signer()?;
    let path = request.uri.path();
    if follows {
        return Ok(sse::reply(events, sse::Ids::Revisions, signer, reader(&request, &streams)));
    }
    let page = EventPage::gather(page_size, &mut events, &signer, streams.sending().reservation()).await?;
    let seen = page.seen(&events).map(|(revision, _)| revision);
    let next = seen.map(|seen| query.next_link(path, Field::FromRevision, &(seen + 1).to_string()));
    page.reply(&signer, next)
}

fn reader(request: &Parts, streams: &EventStreams) -> sse::Reader {
    let standing = Standing::in_extensions(&request.extensions);
    sse::Reader { path: request.uri.path().to_owned(), standing, held: streams.sending().reservation() }
}

/// The way to read a stream that `follows` the log, or that is read to its end for one page. A page is an ordinary request and needs no permit.
fn reading(follows: bool, streams: &EventStreams) -> Result<(Follow, StreamBounds), ApiError> {
    match follows {
        true => Ok((Follow::WithHeartbeats(sse::HEARTBEAT), streams.of_follower()?)),
        false => Ok((Follow::No, streams.of_page())),
    }
}

/// The first revision after the `Last-Event-ID` of the client.
fn resumed_revision(headers: &HeaderMap, violations: &mut Violations) -> Option<Revision> {
    let text = headers::single(headers, Field::LastEventId, violations)?;
    let last = text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let next = last.and_then(|last| last.checked_add(1));
    if next.is_none() {
        violations.add(Field::LastEventId, "must be the revision of an event");
    }
    next
}

/// Records a violation if a request for a page, which resumes with `parameter`, has `Last-Event-ID`: the header would be ignored.
fn check_not_resumed(headers: &HeaderMap, parameter: Field, violations: &mut Violations) {
    if headers.contains_key(Field::LastEventId.rest_name()) {
        let parameter = parameter.rest_name();
        let description = format_args!("is for Accept: text/event-stream; to continue a page, use {parameter}");
        violations.add(Field::LastEventId, description);
    }
}

/// `GET /events`
///
/// # Errors
/// As in the table of reasons.
pub async fn of_all(State(api): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let mut violations = Violations::default();
    let query = Query::read(&request.uri, EVENTS_PARAMETERS, &mut violations);
    let filter = filter(&query, &mut violations);
    let page_size = page_size(&query, &mut violations);
    let follows = accepts(&request.headers, EVENT_STREAM);
    let resumed = if follows {
        headers::single(&request.headers, Field::LastEventId, &mut violations)
    } else {
        check_not_resumed(&request.headers, Field::Cursor, &mut violations);
        None
    };
    let cursor = resumed
        .map(|id| (Field::LastEventId, id))
        .or_else(|| query.get(Field::Cursor).map(|cursor| (Field::Cursor, cursor)));
    let after = start(cursor, violations, api.known_signer().as_ref())?;
    let streams = api.streams_of(&request.extensions);
    let (follow, bounds) = reading(follows, &streams)?;
    let _turn = if follows { None } else { streams.turns_of_large_replies().wait().await };
    let mut events =
        api.event_log.events(after, filter, &principal::following(&request.extensions), follow, bounds).await?;
    let signer = api.signer()?;
    let path = request.uri.path();
    if follows {
        return Ok(sse::reply(events, sse::Ids::Cursors, signer, reader(&request, &streams)));
    }
    let page = EventPage::gather(page_size, &mut events, &signer, streams.sending().reservation()).await?;
    let seen = page.seen(&events).map(|(_, point)| point);
    let next = seen.map(|seen| query.next_link(path, Field::Cursor, &tokens::encode_cursor(&signer, seen)));
    page.reply(&signer, next)
}

/// The position to start after; `None`: now.
fn start(
    cursor: Option<(Field, &str)>,
    mut violations: Violations,
    signer: Option<&Signer>,
) -> Result<Option<LogPoint>, ApiError> {
    let after = match cursor {
        None => Some(LogPoint::START),
        Some((_, LATEST)) => None,
        Some((field, text)) => requests::cursor(&mut violations, field, text, signer),
    };
    Ok(violations.finish(Some(after))?)
}

fn filter(query: &Query<5>, violations: &mut Violations) -> EventFilter {
    let customer_id =
        query.get(Field::CustomerId).and_then(|id| violations.required::<CustomerIdRule>(Field::CustomerId, id));
    let by_status = violations.check(Field::Status, query.choice(Field::Status, &Status::ALL, Status::name)).flatten();
    let by_type =
        violations.check(Field::Types, query.choice(Field::Types, &EventKind::ALL, EventKind::name)).flatten();
    if by_status.zip(by_type).is_some_and(|(status, kind)| kind.status_after() != status) {
        violations.add(Field::Status, "contradicts this type: no event could match");
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
    let size = query.number(Field::PageSize, violations).unwrap_or(0);
    requests::page_size(violations, size)
}
