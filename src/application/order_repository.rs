//! Folded orders: from the cache of hot ones, else from the log.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge};
use quick_cache::sync::Cache;
use tokio::sync::watch;

use super::{
    AppError,
    order_cache::{OrderCache, OrderCacheBounds},
    shared_cache::SharedCache,
};
use crate::{
    codec,
    domain::{
        ids::OrderId,
        order::{Order, evolve},
        timestamp::Timestamp,
    },
    ports::event_store::{Direction, EventStore, MAX_READ_EVENTS, Position, Revision, StoredEvent, StreamId},
    processors::projections::LogWatcher,
};

/// How often an order is read again of which the store shows less than it has acknowledged.
pub(super) const MAX_LOADS: u32 = 6;
/// The pause before the first of those; each is longer by as much.
const RELOAD_PAUSE: Duration = Duration::from_millis(20);
/// How often an order is folded again because the node has connected to the store again meanwhile.
const MAX_FOLDS: usize = 16;

/// An order together with the place of its last event in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionedOrder {
    /// The order.
    pub order: Order,
    /// Where its last event stands.
    pub position: Position,
}

/// Up to which event of its history to fold an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The last.
    Latest,
    /// The one with this revision, inclusive.
    Revision(Revision),
    /// The last one recorded at or before this time.
    Time(Timestamp),
}

/// The orders of the log, folded. The cache is bounded; it may be behind the log, never wrong: whoever writes on its word is
/// refused by the append's own condition.
#[derive(Debug)]
pub struct OrderRepository {
    store: Arc<dyn EventStore>,
    connections: watch::Receiver<u64>,
    shared: Option<SharedCache>,
    cache: OrderCache,
    /// The last revision that the log has shown of an order: what is older is not kept. Made when the log is first shown, which is where
    /// other nodes write too.
    seen: OnceLock<Cache<u64, Revision>>,
    max_seen: usize,
    hits: Counter,
    misses: Counter,
    hit_ratio: Gauge,
}

impl OrderRepository {
    /// Keeps folded orders within `bounds`.
    #[must_use]
    pub fn new(store: Arc<dyn EventStore>, bounds: OrderCacheBounds) -> Self {
        let lookups = |result| metrics::counter!("ordersystem_order_cache_lookups_total", "result" => result);
        Self {
            connections: store.connections(),
            store,
            shared: None,
            cache: OrderCache::new(bounds),
            seen: OnceLock::new(),
            max_seen: bounds.orders,
            hits: lookups("hit"),
            misses: lookups("miss"),
            hit_ratio: metrics::gauge!("ordersystem_order_cache_hit_ratio"),
        }
    }

    /// The connection to the store that is used now (see [`EventStore::connections`]): what is read on two of them may be of two logs.
    pub(super) fn connection(&self) -> u64 {
        *self.connections.borrow()
    }

    /// Looks into `shared` for what is not in this node's own cache, and leaves there what it has folded.
    #[must_use]
    pub fn sharing(self, shared: Option<SharedCache>) -> Self {
        Self { shared, ..self }
    }

    /// Brings the metrics up to date: the cache itself counts.
    pub fn publish_gauges(&self) {
        let (hits, misses) = (self.cache.hits(), self.cache.misses());
        self.hits.absolute(hits);
        self.misses.absolute(misses);
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        self.hit_ratio.set(hits as f64 / (hits + misses).max(1) as f64);
    }

    /// The order as the cache has it.
    #[must_use]
    pub fn cached(&self, id: OrderId) -> Option<Arc<VersionedOrder>> {
        self.cache.get(id.get())
    }

    /// The order as some node left it in the shared cache: like [`OrderRepository::cached`] it may be behind the log.
    pub async fn shared(&self, id: OrderId) -> Option<Arc<VersionedOrder>> {
        self.in_shared(id).await.map(Arc::new)
    }

    /// The order as the log has it now; kept in the caches.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] or [`AppError::Corrupt`].
    pub async fn load(&self, id: OrderId) -> Result<Option<Arc<VersionedOrder>>, AppError> {
        let known = self.in_shared(id).await;
        let known_revision = known.as_ref().map_or(0, |loaded| loaded.order.revision);
        let Some(loaded) = self.fold_from(known, id, AsOf::Latest).await? else {
            return Ok(None);
        };
        let loaded = Arc::new(loaded);
        if loaded.order.revision > known_revision {
            self.keep(&loaded);
        } else {
            self.keep_here(&loaded);
        }
        Ok(Some(loaded))
    }

    /// The order with everything up to `position`, as [`OrderRepository::load`] may be shown less by a server of the store that is behind.
    ///
    /// # Errors
    /// As [`OrderRepository::load`]; [`AppError::Unavailable`] if the store goes on showing less.
    pub async fn load_with(&self, id: OrderId, position: Position) -> Result<Option<Arc<VersionedOrder>>, AppError> {
        let mut loaded = self.load(id).await?;
        for tries in 0..MAX_LOADS {
            if self.has(id, loaded.as_deref(), position).await? {
                return Ok(loaded);
            }
            pause_before_reload(tries).await;
            loaded = self.load(id).await?;
        }
        Err(behind(id))
    }

    /// The order with everything that was acknowledged before this call, anywhere.
    ///
    /// # Errors
    /// As [`OrderRepository::load_with`].
    pub async fn load_confirmed(&self, id: OrderId) -> Result<Option<Arc<VersionedOrder>>, AppError> {
        let confirmed = async { Ok(self.store.confirmed().await?) };
        let (position, loaded) = tokio::try_join!(confirmed, self.load(id))?;
        if self.has(id, loaded.as_deref(), position).await? {
            return Ok(loaded);
        }
        self.load_with(id, position).await
    }

    /// Whether what was loaded has everything up to `position`.
    async fn has(&self, id: OrderId, loaded: Option<&VersionedOrder>, position: Position) -> Result<bool, AppError> {
        let (revision, at) = loaded.map_or((0, Position(0)), |loaded| (loaded.order.revision, loaded.position));
        Ok(at >= position || self.store.contains(StreamId(id.get()), revision, position).await?)
    }

    /// Puts an order into the caches unless a newer one is there.
    pub fn keep(&self, loaded: &Arc<VersionedOrder>) {
        self.keep_here(loaded);
        if let (Some(shared), Some(log)) = (&self.shared, self.store.log_id()) {
            shared.put(log, loaded);
        }
    }

    /// Nothing is shared before it is known which log it is of.
    async fn in_shared(&self, id: OrderId) -> Option<VersionedOrder> {
        self.shared.as_ref()?.get(self.store.log_id()?, id).await
    }

    fn keep_here(&self, loaded: &Arc<VersionedOrder>) {
        let key = loaded.order.id.get();
        self.cache.keep(loaded);
        // Read before another node's write, and kept only after the log has shown that write: nothing else would end its life.
        if let Some(seen) = self.seen.get().and_then(|seen| seen.get(&key)) {
            self.cache.forget_before(key, seen);
        }
    }

    /// Folds the history of an order up to a point; `None` if the order did not exist then.
    ///
    /// # Errors
    /// [`AppError::Unavailable`] or [`AppError::Corrupt`].
    pub async fn fold(&self, id: OrderId, until: AsOf) -> Result<Option<VersionedOrder>, AppError> {
        self.fold_from(None, id, until).await
    }

    /// The same of an order of which it is known that it has got as far as `known`.
    ///
    /// # Errors
    /// As [`OrderRepository::fold`]; [`AppError::Unavailable`] if the store goes on showing less.
    pub async fn fold_known(
        &self,
        id: OrderId,
        until: AsOf,
        known: (Revision, Position),
    ) -> Result<Option<VersionedOrder>, AppError> {
        let (revision, position) = known;
        for tries in 0..MAX_LOADS {
            let mut shown = 0;
            let folded = self.fold_showing(None, id, until, &mut shown).await?;
            // A store that has all of it and shows less has lost it, which is for the caller to say.
            if shown >= revision || self.store.contains(StreamId(id.get()), shown, position).await? {
                return Ok(folded);
            }
            pause_before_reload(tries).await;
        }
        Err(behind(id))
    }

    async fn fold_from(
        &self,
        folded: Option<VersionedOrder>,
        id: OrderId,
        until: AsOf,
    ) -> Result<Option<VersionedOrder>, AppError> {
        self.fold_showing(folded, id, until, &mut 0).await
    }

    /// Folds what one connection shows, and notes the last revision of it. A history from before a fail-over and one from after it may differ,
    /// and make no sense together.
    async fn fold_showing(
        &self,
        mut folded: Option<VersionedOrder>,
        id: OrderId,
        until: AsOf,
        shown: &mut Revision,
    ) -> Result<Option<VersionedOrder>, AppError> {
        for _ in 0..MAX_FOLDS {
            let connection = self.connection();
            let outcome = self.fold_once(folded.take(), id, until, shown).await;
            if self.connection() == connection || matches!(outcome, Err(AppError::Unavailable { .. })) {
                return outcome;
            }
            *shown = 0;
        }
        Err(does_not_last())
    }

    async fn fold_once(
        &self,
        mut folded: Option<VersionedOrder>,
        id: OrderId,
        until: AsOf,
        shown: &mut Revision,
    ) -> Result<Option<VersionedOrder>, AppError> {
        let stream = StreamId(id.get());
        if let Some(known) = &folded {
            let last =
                self.store.read_stream(stream, known.order.revision, Direction::Forward, MAX_READ_EVENTS).await?;
            match last.split_first() {
                Some((last, rest)) if ends_with(known, last)? => {
                    if rest.is_empty() {
                        return Ok(folded);
                    }
                }
                // It was folded from a log that has lost events since.
                _ => folded = None,
            }
        }
        loop {
            let from = folded.as_ref().map_or(1, |loaded| loaded.order.revision + 1);
            let batch = self.store.read_stream(stream, from, Direction::Forward, MAX_READ_EVENTS).await?;
            if batch.is_empty() {
                return Ok(folded);
            }
            for stored in &batch {
                *shown = stored.revision;
                match step(folded.as_ref(), stored, until)? {
                    Some(next) => folded = Some(next),
                    None => return Ok(folded),
                }
            }
        }
    }
}

/// Where other nodes write too, what they write ends the life of older cached orders.
impl LogWatcher for OrderRepository {
    fn saw(&self, events: &[StoredEvent]) {
        let seen = self.seen.get_or_init(|| Cache::new(self.max_seen));
        for event in events {
            seen.insert(event.stream.0, event.revision);
            self.cache.forget_before(event.stream.0, event.revision);
        }
    }

    fn lost(&self) {
        if let Some(seen) = self.seen.get() {
            seen.clear();
        }
        self.cache.clear();
    }
}

/// Whether `event` is the last one that `loaded` was folded from.
fn ends_with(loaded: &VersionedOrder, event: &StoredEvent) -> Result<bool, AppError> {
    Ok(event.position == loaded.position && codec::decode(&event.payload)?.at == loaded.order.updated_at)
}

/// No connection lasts long enough for what has to be read on one.
pub(super) fn does_not_last() -> AppError {
    AppError::unavailable("the connection to the event store does not last")
}

fn behind(id: OrderId) -> AppError {
    AppError::unavailable(format!("the servers of the store that answer are behind with order {id}"))
}

/// The pause before an order is read again that was shown too short.
pub(super) async fn pause_before_reload(tries: u32) {
    let longest = RELOAD_PAUSE * (tries + 1);
    tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}

/// One event further, or `None` if the event lies past the point wanted.
fn step(
    before: Option<&VersionedOrder>,
    stored: &StoredEvent,
    until: AsOf,
) -> Result<Option<VersionedOrder>, AppError> {
    if matches!(until, AsOf::Revision(last) if stored.revision > last) {
        return Ok(None);
    }
    let event = codec::decode(&stored.payload)?;
    if matches!(until, AsOf::Time(last) if event.at > last) {
        return Ok(None);
    }
    let order = evolve(before.map(|loaded| &loaded.order), &event)?;
    if order.id.get() != stored.stream.0 || order.revision != stored.revision {
        return Err(AppError::Corrupt(format!(
            "event {} of stream {} is not in its place",
            stored.revision, stored.stream
        )));
    }
    Ok(Some(VersionedOrder { order, position: stored.position }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{
        backends::memory::event_store::MemoryEventStore,
        domain::{
            money::{Currency, Money},
            order::{Change, Item, Items, OrderEvent, Quantity},
            text::Text,
        },
    };

    fn placed(id: OrderId) -> Arc<VersionedOrder> {
        let price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
        let (product_id, quantity) = (Text::parse("p").unwrap(), Quantity::new(1).unwrap());
        let items = Items::new(vec![Item { product_id, name: None, quantity, unit_price: price }]).unwrap();
        let event = OrderEvent {
            order_id: id,
            customer_id: Text::parse("c").unwrap(),
            at: Timestamp::from_micros(0),
            change: Change::Created { items, shipping_address: None },
        };
        Arc::new(VersionedOrder { order: evolve(None, &event).unwrap(), position: Position(1) })
    }

    #[test]
    fn an_order_read_before_a_write_that_the_log_has_shown_since_is_not_kept() {
        let orders = OrderRepository::new(
            Arc::new(MemoryEventStore::default()),
            OrderCacheBounds { orders: 100, bytes: 1 << 24 },
        );
        let id = OrderId::new(7).unwrap();
        orders.keep(&placed(id));
        assert!(orders.cached(id).is_some());
        let later = StoredEvent { stream: StreamId(7), revision: 2, position: Position(2), payload: Bytes::new() };
        orders.saw(&[later]);
        assert_eq!(orders.cached(id), None);
        // A reader that began before comes late with what it has read.
        orders.keep(&placed(id));
        assert_eq!(orders.cached(id), None);
    }
}
