//! A page of events as JSON: bounded in size, and written in steps, so that other calls have their turns.

use std::{mem, time::Duration};

use axum::body::Body;
use http::{HeaderValue, Response, header};
use tokio::{
    task::{spawn_blocking, yield_now},
    time::{Instant, timeout_at},
};

use super::{Reply, events, view};
use crate::{
    application::{
        AppError,
        event_streams::{EventStream, Item},
        tokens::Signer,
    },
    ports::event_store::{LogPoint, Position, Revision, StoredEvent},
    server::{error::ApiError, large::Reserved, sending::SentBytes},
};

/// The time limit for collecting one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The size of the JSON from which a page is full, whatever its number of events: two pages fit into the share of a connection. A single event always
/// fits.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// The bytes of JSON that are written before other tasks have their turn.
const TURN_BYTES: usize = 64 * 1024;
/// The size from which a stored event is written on a separate thread.
const LARGE_EVENT_BYTES: usize = 128 * 1024;

/// A page of the events of a stream.
#[derive(Debug)]
pub struct EventPage {
    json: Vec<u8>,
    /// The reservation for the JSON.
    held: SentBytes,
    events: usize,
    last: Option<Last>,
    end: PageEnd,
}

/// The last event of a page.
#[derive(Clone, Copy, Debug)]
struct Last {
    revision: Revision,
    position: Position,
    point: LogPoint,
}

/// Why a page ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageEnd {
    /// There are no more events.
    End,
    /// The page is full.
    Full,
    /// The time limit has expired.
    Late,
    /// The maximum number of events for one page has been scanned.
    Scanned,
}

impl EventPage {
    /// Up to `size` events of `stream`; fewer at its end, when the time limit expires, once they are large, or after many that
    /// do not match its filter. Their JSON is reserved in `held`.
    ///
    /// # Errors
    /// [`AppError::Overloaded`] if there is no room for one event; those of the stream.
    pub async fn gather(
        size: usize,
        stream: &mut EventStream,
        signer: &Signer,
        held: SentBytes,
    ) -> Result<Self, ApiError> {
        let deadline = Instant::now() + PAGE_TIMEOUT;
        let mut page = Self { json: vec![b'['], held, events: 0, last: None, end: PageEnd::Full };
        let mut turn_began_at = 0;
        while page.events < size {
            match timeout_at(deadline, stream.next()).await {
                Ok(Some(Ok(Item::Event(event)))) => {
                    if !page.add(event, signer).await? {
                        break;
                    }
                }
                Ok(Some(Ok(Item::CaughtUp | Item::Heartbeat))) => {}
                Ok(Some(Err(error))) => return Err(error.into()),
                Ok(None) => {
                    page.end = if stream.is_cut() { PageEnd::Scanned } else { PageEnd::End };
                    break;
                }
                Err(_) => {
                    page.end = PageEnd::Late;
                    break;
                }
            }
            if page.json.len() - turn_began_at >= TURN_BYTES {
                turn_began_at = page.json.len();
                yield_now().await;
            }
        }
        page.json.push(b']');
        Ok(page)
    }

    /// Adds `event`; returns whether it fits in the page. The first one always does.
    async fn add(&mut self, event: StoredEvent, signer: &Signer) -> Result<bool, ApiError> {
        let before = self.json.len();
        // Reserved before the work: its JSON is not shorter than the event.
        if !self.reserve(before + event.payload.len())? {
            return Ok(false);
        }
        let last = Last { revision: event.revision, position: event.position, point: LogPoint::after(&event) };
        if self.events > 0 {
            self.json.push(b',');
        }
        self.write(event, signer).await?;
        // The closing bracket is one more byte.
        if self.reserve(self.json.len() + 1)? {
            self.last = Some(last);
            self.events += 1;
            return Ok(true);
        }
        self.json.truncate(before);
        // This is less than before, so it cannot fail.
        let _ = self.held.grow_to(before + 1);
        Ok(false)
    }

    /// Reserves `bytes` for the whole page; returns whether there was room for them.
    fn reserve(&mut self, bytes: usize) -> Result<bool, ApiError> {
        if self.events > 0 {
            return Ok(bytes <= PAGE_BYTES && self.held.grow_to(bytes));
        }
        if self.held.set(bytes) { Ok(true) } else { Err(AppError::Overloaded.into()) }
    }

    async fn write(&mut self, event: StoredEvent, signer: &Signer) -> Result<(), ApiError> {
        if event.payload.len() < LARGE_EVENT_BYTES {
            return Ok(events::write(&event, signer, &mut self.json)?);
        }
        let (mut json, signer) = (mem::take(&mut self.json), signer.clone());
        let written = spawn_blocking(move || events::write(&event, &signer, &mut json).map(|()| json));
        self.json = written.await.map_err(ApiError::internal)??;
        Ok(())
    }

    /// The reader's position, if there may be more events of `stream`.
    #[must_use]
    pub fn seen(&self, stream: &EventStream) -> Option<(Revision, LogPoint)> {
        match (self.end, self.last) {
            (PageEnd::End, _) => None,
            (PageEnd::Full, Some(last)) => Some((last.revision, last.point)),
            // Filtered events count as seen.
            _ => Some((stream.revision(), stream.point())),
        }
    }

    /// The reply with the page, and with the link to the `next` page.
    ///
    /// # Errors
    /// [`Reason::Internal`](crate::server::error::Reason::Internal) if the link or the token is not a valid header, which would be a bug.
    pub fn reply(self, signer: &Signer, next: Option<String>) -> Reply {
        let mut response = Response::new(Body::from(self.json));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(next) = next {
            response.headers_mut().insert(header::LINK, view::header_value(next)?);
        }
        if let Some(last) = self.last {
            view::set_token(&mut response, signer, last.position)?;
        }
        Reserved::hand_over(self.held, response.extensions_mut());
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        application::{
            Scope,
            byte_budget::ByteBudget,
            event_filter::EventFilter,
            event_streams::{EventLog, Follow, StreamBounds},
            fan_out::FanOut,
        },
        backends::memory::event_store::MemoryEventStore,
        codec::{self, Record},
        domain::{
            ids::OrderId,
            money::{Currency, Money},
            order::{Change, Item, Items, OrderEvent, Quantity},
            text::Text,
            timestamp::Timestamp,
        },
        ports::event_store::{Commit, CommitId, EventStore, ExpectedRevision, StreamId},
        server::sending::Sending,
        server::{EventStreams, event_streams::MAX_SCANNED_FOR_PAGE},
    };

    /// Orders of `items` items, of about 200 bytes each.
    async fn log_of(orders: u64, items: usize) -> Arc<MemoryEventStore> {
        let store = Arc::new(MemoryEventStore::default());
        let item = Item {
            product_id: Text::parse("p").unwrap(),
            name: Text::parse_optional(&"n".repeat(150)).unwrap(),
            quantity: Quantity::new(1).unwrap(),
            unit_price: Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap(),
        };
        let change = Change::Created { items: Items::new(vec![item; items]).unwrap(), shipping_address: None };
        for id in 1..=orders {
            let event = OrderEvent {
                order_id: OrderId::new(id).unwrap(),
                customer_id: Text::parse("c").unwrap(),
                at: Timestamp::from_micros(0),
                change: change.clone(),
            };
            let record = Record { revision: 1, request_id: None, actor: None, on_behalf_of: None, traceparent: None };
            let commit = Commit {
                id: CommitId::random(),
                stream: StreamId(id),
                expected: ExpectedRevision::Any,
                request: None,
                events: vec![codec::encode(&event, record)],
            };
            store.append(commit).await.unwrap();
        }
        store
    }

    /// The events of `store` after `start` that match `filter`, of which a page scans at most `max_scanned`.
    async fn events_of(
        store: &Arc<MemoryEventStore>,
        start: LogPoint,
        filter: EventFilter,
        max_scanned: usize,
    ) -> EventStream {
        let log = EventLog::new(FanOut::new(Arc::clone(store) as Arc<dyn EventStore>), CancellationToken::new());
        let bounds = StreamBounds { max_scanned, ..EventStreams::new(1, 1).of_page() };
        log.events(Some(start), filter, &Scope::ALL, Follow::No, bounds).await.unwrap()
    }

    /// A page of up to 500 events of `store`, whose JSON is reserved in `held`.
    async fn page_of(store: &Arc<MemoryEventStore>, held: SentBytes) -> Result<EventPage, ApiError> {
        let mut events = events_of(store, LogPoint::START, EventFilter::default(), MAX_SCANNED_FOR_PAGE).await;
        let signer = Signer::of(&**store).unwrap();
        EventPage::gather(500, &mut events, &signer, held).await
    }

    #[tokio::test]
    async fn a_page_scans_so_many_events_and_the_next_one_continues_after_them() {
        let store = log_of(100, 1).await;
        let signer = Signer::of(&*store).unwrap();
        // The last one that the second page scans, and one of the last page.
        let filter = EventFilter { order_ids: [80, 90].into(), ..EventFilter::default() };
        let (mut start, mut pages) = (Some(LogPoint::START), Vec::new());
        while let Some(point) = start {
            let mut events = events_of(&store, point, filter.clone(), 40).await;
            let page = EventPage::gather(500, &mut events, &signer, Sending::unbounded().reservation()).await.unwrap();
            start = page.seen(&events).map(|(_, point)| point);
            pages.push((page.events, page.end, start.map(|point| point.position)));
        }
        let cut = |events, position| (events, PageEnd::Scanned, Some(Position(position)));
        assert_eq!(pages, [cut(0, 40), cut(1, 80), (1, PageEnd::End, None)]);
        // A log that ends where the scan does has no further page.
        let mut events = events_of(&store, LogPoint::START, filter, 100).await;
        let page = EventPage::gather(500, &mut events, &signer, Sending::unbounded().reservation()).await.unwrap();
        assert_eq!((page.events, page.end), (2, PageEnd::End));
    }

    #[test]
    fn pages_have_the_bound_and_followers_have_none() {
        let streams = EventStreams::new(1, 1);
        assert_eq!(streams.of_page().max_scanned, MAX_SCANNED_FOR_PAGE);
        assert_eq!(streams.of_follower().unwrap().max_scanned, usize::MAX);
    }

    fn held(bytes: usize, last: usize) -> SentBytes {
        Sending::new(ByteBudget::new(bytes), ByteBudget::new(0), ByteBudget::new(last)).reservation()
    }

    #[tokio::test]
    async fn other_tasks_run_while_a_page_is_made() {
        let store = log_of(400, 40).await;
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Ordering::Relaxed);
                yield_now().await;
            }
        });
        let page = page_of(&store, Sending::unbounded().reservation()).await.unwrap();
        other.abort();
        let (turns, bytes) = (turns.load(Ordering::Relaxed), page.json.len());
        assert!(bytes > 20 * TURN_BYTES && turns >= bytes / (2 * TURN_BYTES), "{turns} turns, {bytes} bytes");
    }

    #[tokio::test]
    async fn a_page_has_as_many_events_as_there_is_room_for_and_one_at_least() {
        let store = log_of(10, 40).await;
        let whole = page_of(&store, Sending::unbounded().reservation()).await.unwrap();
        assert_eq!((whole.events, whole.end), (10, PageEnd::End));
        let third = whole.json.len() / 3;
        let page = page_of(&store, held(third, 0)).await.unwrap();
        assert_eq!((page.events, page.end), (3, PageEnd::Full));
        let written: Vec<serde_json::Value> = serde_json::from_slice(&page.json).unwrap();
        assert_eq!((written.len(), page.last.unwrap().position), (3, Position(3)));
        let page = page_of(&store, held(0, third)).await.unwrap();
        assert_eq!((page.events, page.end), (1, PageEnd::Full), "from what is kept for those without room");
        let refused = page_of(&store, held(100, 100)).await.unwrap_err();
        assert_eq!(refused.reason, crate::server::error::Reason::Overloaded);
    }

    #[tokio::test]
    async fn a_page_is_not_larger_than_a_share_of_what_may_be_sent() {
        // Each is written on a separate thread.
        let page = page_of(&log_of(20, 1_000).await, Sending::unbounded().reservation()).await.unwrap();
        assert!(page.json.len() <= PAGE_BYTES && page.end == PageEnd::Full, "{}", page.json.len());
        assert!(page.json.len() > PAGE_BYTES - 300 * 1024, "{}", page.json.len());
        assert!(serde_json::from_slice::<Vec<serde_json::Value>>(&page.json).is_ok_and(|all| all.len() == page.events));
    }
}
