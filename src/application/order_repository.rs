//! Folded orders: from the cache of hot orders, else from the log.

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
    versioned_order::VersionedOrder,
};
use crate::{
    codec,
    domain::{ids::OrderId, order::evolve, timestamp::Timestamp},
    ports::event_store::{Direction, EventStore, MAX_READ_EVENTS, Position, Revision, StoredEvent, StreamId},
    processors::projections::LogWatcher,
};

/// How often an order is read again if the store returns less than it has acknowledged.
pub(super) const MAX_LOADS: u32 = 6;
/// The pause before the first reload; each further pause is longer by this.
const RELOAD_PAUSE: Duration = Duration::from_millis(20);
/// How often an order is folded again because the node has reconnected to the store in the meantime.
const MAX_FOLDS: usize = 16;

/// The last event up to which an order is folded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// The last event.
    Latest,
    /// The event with this revision, inclusive.
    Revision(Revision),
    /// The last event recorded at or before this time.
    Time(Timestamp),
}

/// Loads and folds the orders of the log. The cache is bounded; it may be behind the log, but is never wrong: stale entries are caught by the
/// expected-revision check on append.
#[derive(Debug)]
pub struct OrderRepository {
    store: Arc<dyn EventStore>,
    connections: watch::Receiver<u64>,
    shared: Option<SharedCache>,
    cache: OrderCache,
    /// The highest revision observed in the log per order; older states are not cached. Initialised by the first observation, and so only where other
    /// nodes write, too.
    seen: OnceLock<Cache<u64, Revision>>,
    max_seen: usize,
    hits: Counter,
    misses: Counter,
    hit_ratio: Gauge,
}

impl OrderRepository {
    /// Caches folded orders within `bounds`.
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

    /// The current connection to the store (see [`EventStore::connections`]): reads on two of them may be of two logs.
    pub(super) fn connection(&self) -> u64 {
        *self.connections.borrow()
    }

    /// Uses `shared` as a second-level cache: for orders that this node has not cached, and to store the orders that it folds.
    #[must_use]
    pub fn with_shared_cache(self, shared: Option<SharedCache>) -> Self {
        Self { shared, ..self }
    }

    /// Updates the metrics of the cache.
    pub fn publish_gauges(&self) {
        let (hits, misses) = (self.cache.hits(), self.cache.misses());
        self.hits.absolute(hits);
        self.misses.absolute(misses);
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        self.hit_ratio.set(hits as f64 / (hits + misses).max(1) as f64);
    }

    /// The cached order.
    #[must_use]
    pub fn cached(&self, id: OrderId) -> Option<Arc<VersionedOrder>> {
        self.cache.get(id.get())
    }

    /// The order in the shared cache: like [`OrderRepository::cached`] it may be behind the log.
    pub async fn shared(&self, id: OrderId) -> Option<Arc<VersionedOrder>> {
        self.in_shared(id).await.map(Arc::new)
    }

    /// The current order from the log; cached afterwards.
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
            self.cache(&loaded);
        } else {
            self.cache_here(&loaded);
        }
        Ok(Some(loaded))
    }

    /// The order with everything up to `position`; [`OrderRepository::load`] may return less from a server of the store that is behind.
    ///
    /// # Errors
    /// As [`OrderRepository::load`]; [`AppError::Unavailable`] if the store keeps returning less.
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

    /// The order with everything that any node had acknowledged before this call.
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

    /// Whether `loaded` includes everything up to `position`.
    async fn has(&self, id: OrderId, loaded: Option<&VersionedOrder>, position: Position) -> Result<bool, AppError> {
        let (revision, at) = loaded.map_or((0, Position(0)), |loaded| (loaded.order.revision, loaded.position));
        Ok(at >= position || self.store.contains(StreamId(id.get()), revision, position).await?)
    }

    /// Caches an order unless a newer state is cached.
    pub fn cache(&self, loaded: &Arc<VersionedOrder>) {
        self.cache_here(loaded);
        if let (Some(shared), Some(log)) = (&self.shared, self.store.log_id()) {
            shared.put(log, loaded);
        }
    }

    /// Drops the cached order: the log does not have all events that it was folded from.
    pub fn forget(&self, id: OrderId) {
        self.cache.forget_before(id.get(), Revision::MAX);
    }

    /// Nothing is shared before the id of the log is known.
    async fn in_shared(&self, id: OrderId) -> Option<VersionedOrder> {
        self.shared.as_ref()?.get(self.store.log_id()?, id).await
    }

    fn cache_here(&self, loaded: &Arc<VersionedOrder>) {
        let key = loaded.order.id.get();
        self.cache.insert(loaded);
        // It may have been read before another node's write and cached after that write was observed; no later event would evict it.
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

    /// Like [`OrderRepository::fold`], for an order that is known to have reached `known`.
    ///
    /// # Errors
    /// As [`OrderRepository::fold`]; [`AppError::Unavailable`] if the store keeps returning less.
    pub async fn fold_known(
        &self,
        id: OrderId,
        until: AsOf,
        known: (Revision, Position),
    ) -> Result<Option<VersionedOrder>, AppError> {
        let (revision, position) = known;
        for tries in 0..MAX_LOADS {
            let mut last_revision_read = 0;
            let folded = self.fold_reporting(None, id, until, &mut last_revision_read).await?;
            // A store that has everything and still returns less has lost events; the caller reports that.
            if last_revision_read >= revision
                || self.store.contains(StreamId(id.get()), last_revision_read, position).await?
            {
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
        self.fold_reporting(folded, id, until, &mut 0).await
    }

    /// Folds the events read on one connection, and sets `last_revision_read`. Histories from before and after a failover may differ, and must not be
    /// combined.
    async fn fold_reporting(
        &self,
        mut folded: Option<VersionedOrder>,
        id: OrderId,
        until: AsOf,
        last_revision_read: &mut Revision,
    ) -> Result<Option<VersionedOrder>, AppError> {
        for _ in 0..MAX_FOLDS {
            let connection = self.connection();
            let outcome = self.fold_once(folded.take(), id, until, last_revision_read).await;
            if self.connection() == connection || matches!(outcome, Err(AppError::Unavailable { .. })) {
                return outcome;
            }
            *last_revision_read = 0;
        }
        Err(connection_unstable())
    }

    async fn fold_once(
        &self,
        mut folded: Option<VersionedOrder>,
        id: OrderId,
        until: AsOf,
        last_revision_read: &mut Revision,
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
                *last_revision_read = stored.revision;
                match step(folded.as_ref(), stored, until)? {
                    Some(next) => folded = Some(next),
                    None => return Ok(folded),
                }
            }
        }
    }
}

/// Where other nodes write, too, their events evict older cached orders.
impl LogWatcher for OrderRepository {
    fn observe(&self, events: &[StoredEvent]) {
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

/// Whether `event` is the last event of `loaded`.
fn ends_with(loaded: &VersionedOrder, event: &StoredEvent) -> Result<bool, AppError> {
    Ok(event.position == loaded.position && codec::decode(&event.payload)?.at == loaded.order.updated_at)
}

/// The error if no connection lasts long enough for reads that must share one.
pub(super) fn connection_unstable() -> AppError {
    AppError::unavailable("the connection to the event store keeps breaking")
}

fn behind(id: OrderId) -> AppError {
    AppError::unavailable(format!("the servers of the store that reply lag behind on order {id}"))
}

/// The pause before an incompletely returned order is read again.
pub(super) async fn pause_before_reload(tries: u32) {
    let longest = RELOAD_PAUSE * (tries + 1);
    tokio::time::sleep(longest.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
}

/// Applies one event, or returns `None` if the event is past the requested point.
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
            "event {} of stream {} is missing or out of order",
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
    fn an_order_older_than_an_observed_write_is_not_cached() {
        let orders = OrderRepository::new(
            Arc::new(MemoryEventStore::default()),
            OrderCacheBounds { orders: 100, bytes: 1 << 24 },
        );
        let id = OrderId::new(7).unwrap();
        orders.cache(&placed(id));
        assert!(orders.cached(id).is_some());
        let later = StoredEvent { stream: StreamId(7), revision: 2, position: Position(2), payload: Bytes::new() };
        orders.observe(&[later]);
        assert_eq!(orders.cached(id), None);
        // A slow reader that began earlier caches its stale result.
        orders.cache(&placed(id));
        assert_eq!(orders.cached(id), None);
    }
}
