//! Checks one log against all properties that the service relies on.

use std::{collections::HashMap, sync::Arc};

use futures_util::{StreamExt as _, stream};

use super::{Checked, Finding, FindingKind, Meter};
use crate::{
    codec,
    domain::order::{Items, Order, Status, evolve},
    ports::event_store::{
        AppendError, Direction, EventStore, IndexDamage, MAX_READ_EVENTS, Position, RecordedCommit, RequestKey,
        Revision, StoreError, StoredEvent, StreamId,
    },
};

/// Requests and orders that are looked up concurrently.
const CONCURRENT_LOOKUPS: usize = 64;
/// How many consecutive unreadable entries are skipped: on NATS messages, elsewhere events.
const MAX_SKIPPED: u64 = 1_024;

/// Audits everything that the log holds at the call; reports findings in the order of the log.
///
/// # Errors
/// [`StoreError`] if the store cannot be reached.
pub async fn audit(
    store: &Arc<dyn EventStore>,
    meter: &Meter,
    report: impl FnMut(Finding) + Send,
) -> Result<Checked, StoreError> {
    let head = store.head().await?;
    meter.begin("audited", store.distance(Position(0), head));
    let mut audit = Audit {
        store,
        report,
        looked: Checked::default(),
        last: Position(0),
        orders: HashMap::new(),
        any_items: None,
        page_size: MAX_READ_EVENTS,
    };
    while audit.last < head {
        let mut page = audit.next_page(head).await?;
        page.retain(|commit| commit.position() <= head);
        if page.is_empty() {
            break;
        }
        for commit in &page {
            audit.commit(commit);
        }
        audit.requests(&page).await?;
        meter.add(page.iter().map(|commit| commit.events.len()).sum());
    }
    audit.streams(meter).await?;
    for IndexDamage { position, stream, revision, of_request, what } in store.check_indexes().await? {
        let kind = if of_request { FindingKind::Request } else { FindingKind::Stream };
        audit.found(kind, position, stream, revision, what);
    }
    audit.looked.orders = audit.orders.len() as u64;
    Ok(audit.looked)
}

/// The recorded state of an order.
struct OrderRecord {
    revision: Revision,
    /// The position of the event with that revision.
    position: Position,
    history: History,
}

/// The state of an order, as far as the rules need it.
enum History {
    /// It may change.
    Open(Box<Order>),
    /// It is final.
    Ended(Status),
    /// Its history is inconsistent: later events cannot be judged.
    Unknown,
}

struct Audit<'a, R> {
    store: &'a Arc<dyn EventStore>,
    report: R,
    looked: Checked,
    /// The position of the last event that was checked.
    last: Position,
    orders: HashMap<StreamId, OrderRecord>,
    /// Stored in place of all items: the rules do not use them, and they are most of an order.
    any_items: Option<Items>,
    page_size: usize,
}

impl<R: FnMut(Finding) + Send> Audit<'_, R> {
    /// The next commits, past unreadable ones, which are reported.
    async fn next_page(&mut self, head: Position) -> Result<Vec<RecordedCommit>, StoreError> {
        let mut from = self.last;
        let (mut damage, mut skipped) = (None, 0);
        while from < head {
            match self.store.read_commits(from, self.page_size).await {
                Ok(page) => {
                    self.page_size = (self.page_size * 8).min(MAX_READ_EVENTS);
                    return Ok(page);
                }
                Err(error @ (StoreError::Unavailable(_) | StoreError::LogReplaced(_))) => return Err(error),
                // A smaller page may be readable.
                Err(StoreError::Corrupt(_)) if self.page_size > 1 => self.page_size = (self.page_size / 8).max(1),
                Err(StoreError::Corrupt(what)) => {
                    if damage.is_none() {
                        self.found(FindingKind::Unreadable, None, None, None, what.clone());
                        damage = Some(what);
                    }
                    from = self.store.past_entry(from);
                    skipped += 1;
                    if skipped > MAX_SKIPPED {
                        let what =
                            format!("none of the next {MAX_SKIPPED} entries can be read: the rest is not audited");
                        self.found(FindingKind::Unreadable, Some(self.last), None, None, what);
                        return Ok(Vec::new());
                    }
                }
            }
        }
        Ok(Vec::new())
    }

    fn found(
        &mut self,
        kind: FindingKind,
        position: Option<Position>,
        stream: Option<StreamId>,
        revision: Option<Revision>,
        detail: String,
    ) {
        self.looked.findings += 1;
        (self.report)(Finding { kind, position, stream, revision, detail });
    }

    fn found_at(&mut self, kind: FindingKind, event: &StoredEvent, detail: String) {
        self.found(kind, Some(event.position), Some(event.stream), Some(event.revision), detail);
    }

    fn commit(&mut self, commit: &RecordedCommit) {
        self.looked.commits += 1;
        for event in &commit.events {
            self.looked.events += 1;
            if event.position <= self.last {
                let what = format!("position {} does not come after position {}", event.position, self.last);
                self.found_at(FindingKind::Position, event, what);
            }
            self.last = self.last.max(event.position);
            self.event(event, commit.request.as_ref());
        }
    }

    fn event(&mut self, event: &StoredEvent, request: Option<&RequestKey>) {
        let before = self.orders.remove(&event.stream);
        let last = before.as_ref().map_or(0, |known| known.revision);
        let mut history = before.map(|known| known.history);
        if event.revision != last + 1 {
            let what = format!("revision {} must follow revision {last}", last + 1);
            self.found_at(FindingKind::Revision, event, what);
            history = Some(History::Unknown);
        }
        let history = self.history_after(history, event, request);
        let known = OrderRecord { revision: event.revision.max(last), position: event.position, history };
        self.orders.insert(event.stream, known);
    }

    fn history_after(&mut self, before: Option<History>, event: &StoredEvent, request: Option<&RequestKey>) -> History {
        let message = match codec::decode_message(&event.payload) {
            Ok(message) => message,
            Err(error) => {
                self.found_at(FindingKind::Undecodable, event, error.to_string());
                return History::Unknown;
            }
        };
        let (stream, revision) = (event.stream, event.revision);
        let says = (message.order_id.as_str(), message.revision, message.event_id.as_str());
        let must =
            (&*stream.to_string(), i64::try_from(revision).unwrap_or(i64::MAX), &*format!("{stream}-{revision}"));
        if says != must {
            let what = format!("the event says that it is {}, revision {} of order {}", says.2, says.1, says.0);
            self.found_at(FindingKind::Misplaced, event, what);
        }
        let id = request.map_or("", |request| &*request.id);
        if !codec::is_key_of_request(id, &message.actor, &message.customer_id, &message.request_id) {
            let what = format!("the event names request id '{}', its commit has '{id}'", message.request_id);
            self.found_at(FindingKind::Request, event, what);
        }
        let event_of = match codec::event_of(message) {
            Ok(event) => event,
            Err(error) => {
                self.found_at(FindingKind::Undecodable, event, error.to_string());
                return History::Unknown;
            }
        };
        let kind =
            codec::EventHeader::read(&event.payload).and_then(|header| header.kind()).map_or("?", |kind| kind.name());
        let (order, status) = match &before {
            Some(History::Unknown) => return History::Unknown,
            Some(History::Ended(status)) => {
                let what = format!("{kind} after the order was {status}");
                self.found_at(FindingKind::Transition, event, what);
                return History::Unknown;
            }
            Some(History::Open(order)) => (Some(&**order), Some(order.status)),
            None => (None, None),
        };
        match (evolve(order, &event_of), status) {
            (Ok(order), _) => self.kept(order),
            (Err(_), None) => {
                self.found_at(FindingKind::Beginning, event, format!("the order begins with {kind}"));
                History::Unknown
            }
            (Err(_), Some(status)) => {
                let what = format!("{kind} does not follow: the order was {status}, of the same customer and no later");
                self.found_at(FindingKind::Transition, event, what);
                History::Unknown
            }
        }
    }

    fn kept(&mut self, mut order: Order) -> History {
        if order.status.is_final() {
            return History::Ended(order.status);
        }
        order.items = self.any_items.get_or_insert(order.items).clone();
        (order.shipping_address, order.payment, order.shipment) = (None, None, None);
        History::Open(Box::new(order))
    }

    /// Checks that each request id leads to its commit: a retry must get the first response.
    async fn requests(&mut self, page: &[RecordedCommit]) -> Result<(), StoreError> {
        let with_requests = page.iter().filter_map(|commit| Some((commit, commit.request.as_ref()?)));
        let looks: Vec<_> = with_requests.map(|(commit, request)| look_up(self.store, commit, request)).collect();
        let found: Vec<_> = stream::iter(looks).buffered(CONCURRENT_LOOKUPS).collect().await;
        for found in found {
            if let Some((event, what)) = found? {
                self.found_at(FindingKind::Request, &event, what);
            }
        }
        Ok(())
    }

    /// Checks that the last event of each order is also found by its order.
    async fn streams(&mut self, meter: &Meter) -> Result<(), StoreError> {
        meter.begin("orders looked up", self.orders.len() as u64);
        let mut orders: Vec<_> =
            self.orders.iter().map(|(stream, known)| (*stream, known.revision, known.position)).collect();
        orders.sort_unstable_by_key(|(.., position)| *position);
        let store = self.store;
        let looks = orders.into_iter().map(|(stream, revision, position)| async move {
            let found = store.read_stream(stream, revision, Direction::Forward, 1).await;
            (stream, revision, position, found)
        });
        let mut looks = stream::iter(looks).buffered(CONCURRENT_LOOKUPS);
        while let Some((stream, revision, position, found)) = looks.next().await {
            meter.add(1);
            let what = match found {
                Ok(events) => match events.first() {
                    Some(event) if event.position == position => continue,
                    Some(event) => format!("the index of its order has the event at position {}", event.position),
                    None => "the index of its order does not have the event".to_owned(),
                },
                Err(error @ (StoreError::Unavailable(_) | StoreError::LogReplaced(_))) => return Err(error),
                Err(StoreError::Corrupt(what)) => what,
            };
            self.looked.findings += 1;
            (self.report)(Finding {
                kind: FindingKind::Stream,
                position: Some(position),
                stream: Some(stream),
                revision: Some(revision),
                detail: what,
            });
        }
        Ok(())
    }
}

/// The defect of a request, if any, and its position.
async fn look_up(
    store: &Arc<dyn EventStore>,
    commit: &RecordedCommit,
    request: &RequestKey,
) -> Result<Option<(StoredEvent, String)>, StoreError> {
    let (Some(first), Some(last)) = (commit.events.first(), commit.events.last()) else { return Ok(None) };
    let what = match store.find_request(first.stream, request).await {
        Ok(Some(found))
            if (found.stream, found.first_revision, found.last_revision, found.position)
                == (first.stream, first.revision, last.revision, last.position) =>
        {
            return Ok(None);
        }
        Ok(Some(found)) => {
            format!("request id '{}' leads to position {} (order {})", request.id, found.position, found.stream)
        }
        Ok(None) => format!("request id '{}' is not known: a retry would take effect again", request.id),
        Err(AppendError::RequestIdReused) => format!("request id '{}' is known with another payload", request.id),
        Err(AppendError::Store(error @ (StoreError::Unavailable(_) | StoreError::LogReplaced(_)))) => {
            return Err(error);
        }
        Err(error) => format!("request id '{}': {error}", request.id),
    };
    Ok(Some((last.clone(), what)))
}
