//! The in-memory cache of folded orders: bounded in number and in bytes.

use std::sync::Arc;

use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle, EntryAction, EntryResult},
};

use super::versioned_order::VersionedOrder;
use crate::{
    domain::{order::Order, text::SHORT_BYTES},
    ports::event_store::Revision,
};

/// The maximum size of a cached order. A larger one is read from the log each time, since few would fit and they would evict many others.
pub const MAX_KEPT_BYTES: usize = 64 * 1024;
/// The approximate overhead of the cache per order.
const ENTRY_BYTES: usize = 128;
/// Each part of the cache has its own share of the bounds, at least this many bytes, since otherwise hardly anything would fit.
const MIN_PART_BYTES: usize = 16 * MAX_KEPT_BYTES;
/// The maximum number of parts: more do not make the cache faster.
const MAX_PARTS: usize = 32;

/// The bounds of a cache of orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderCacheBounds {
    /// The maximum number of orders, at least one.
    pub orders: usize,
    /// The maximum number of bytes.
    pub bytes: usize,
}

/// The cached orders. The cache may be behind the log, but is never wrong.
#[derive(Debug)]
pub(super) struct OrderCache(Cache<u64, Entry, EntryWeighter>);

#[derive(Clone, Debug)]
struct Entry {
    loaded: Arc<VersionedOrder>,
    bytes: usize,
}

/// An order weighs its bytes, and at least the average that the bound on orders leaves for each.
#[derive(Clone, Debug)]
struct EntryWeighter {
    min_bytes: usize,
}

impl Weighter<u64, Entry> for EntryWeighter {
    fn weight(&self, _id: &u64, kept: &Entry) -> u64 {
        kept.bytes.max(self.min_bytes) as u64
    }
}

impl OrderCache {
    /// An empty cache.
    pub fn new(bounds: OrderCacheBounds) -> Self {
        let orders = bounds.orders.max(1);
        let options = OptionsBuilder::new()
            .estimated_items_capacity(orders)
            .weight_capacity(bounds.bytes as u64)
            .shards((bounds.bytes / MIN_PART_BYTES).clamp(1, MAX_PARTS))
            .build();
        // Both required options have been set.
        #[allow(clippy::expect_used, reason = "cannot fail")]
        let options = options.expect("both bounds");
        // The cache refuses entries of nearly its whole capacity, but the few orders must fit.
        let shared_bytes = if orders < 24 { bounds.bytes / 100 * 96 } else { bounds.bytes };
        let weighter = EntryWeighter { min_bytes: shared_bytes.div_ceil(orders) };
        Self(Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default()))
    }

    pub fn get(&self, id: u64) -> Option<Arc<VersionedOrder>> {
        self.0.get(&id).map(|kept| kept.loaded)
    }

    /// Caches an order unless a newer state of it is cached. An order that is too large is removed.
    pub fn insert(&self, loaded: &Arc<VersionedOrder>) {
        let key = loaded.order.id.get();
        let bytes = bytes_of(&loaded.order);
        if bytes > MAX_KEPT_BYTES {
            self.forget_before(key, loaded.order.revision);
            return;
        }
        let entry = self.0.entry(&key, None, |_, kept| {
            if kept.loaded.order.revision < loaded.order.revision {
                *kept = Entry { loaded: Arc::clone(loaded), bytes };
            }
            EntryAction::Retain(())
        });
        if let EntryResult::Vacant(place) = entry {
            // Fails only if another thread has filled the entry in the meantime; the next reader resolves that.
            let _ = place.insert(Entry { loaded: Arc::clone(loaded), bytes });
        }
    }

    /// Removes an order that is known to have a later revision.
    pub fn forget_before(&self, id: u64, revision: Revision) {
        self.0.remove_if(&id, |kept| kept.loaded.order.revision < revision);
    }

    pub fn clear(&self) {
        self.0.clear();
    }

    pub fn hits(&self) -> u64 {
        self.0.hits()
    }

    pub fn misses(&self) -> u64 {
        self.0.misses()
    }
}

/// The approximate memory size of an order.
fn bytes_of(order: &Order) -> usize {
    let lines = size_of_val(order.items.lines());
    ENTRY_BYTES + size_of::<VersionedOrder>() + lines + order.text_lengths().map(text_bytes).sum::<usize>()
}

/// A text is a separate allocation, with two counters before it, unless it is short.
const fn text_bytes(length: usize) -> usize {
    if length <= SHORT_BYTES { 0 } else { (2 * size_of::<usize>() + length).next_multiple_of(16) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            ids::OrderId,
            money::{Currency, Money},
            order::{Change, Item, Items, OrderEvent, Quantity, evolve},
            text::Text,
            timestamp::Timestamp,
        },
        ports::event_store::Position,
    };

    const MIB: usize = 1024 * 1024;

    fn order(id: u64, items: usize) -> Arc<VersionedOrder> {
        let price = Money::from_minor(100, Currency::parse("USD").unwrap()).unwrap();
        let (product_id, quantity) = (Text::parse("product").unwrap(), Quantity::new(1).unwrap());
        let name = Some(Text::parse(&"n".repeat(100)).unwrap());
        let item = Item { product_id, name, quantity, unit_price: price };
        let event = OrderEvent {
            order_id: OrderId::new(id).unwrap(),
            customer_id: Text::parse("c").unwrap(),
            at: Timestamp::from_micros(0),
            change: Change::Created { items: Items::new(vec![item; items]).unwrap(), shipping_address: None },
        };
        Arc::new(VersionedOrder { order: evolve(None, &event).unwrap(), position: Position(1) })
    }

    fn kept(cache: &OrderCache, ids: std::ops::RangeInclusive<u64>) -> Vec<Arc<VersionedOrder>> {
        ids.filter_map(|id| cache.get(id)).collect()
    }

    #[test]
    fn orders_are_kept_up_to_a_number_of_bytes() {
        for (mib, items) in [(1, 100), (16, 200), (16, 20)] {
            let bounds = OrderCacheBounds { orders: 100_000, bytes: mib * MIB };
            let cache = OrderCache::new(bounds);
            let bytes = bytes_of(&order(1, items).order);
            let twice_as_many = (bounds.bytes / bytes * 2) as u64;
            (1..=twice_as_many).for_each(|id| cache.insert(&order(id, items)));
            let total = kept(&cache, 1..=twice_as_many).len() * bytes;
            assert!(total <= bounds.bytes, "{total} bytes of {bounds:?}");
            assert!(total > bounds.bytes / 2, "{total} bytes of {bounds:?}");
        }
    }

    #[test]
    fn small_orders_are_kept_up_to_their_number() {
        for orders in [1, 10, 1_000] {
            let cache = OrderCache::new(OrderCacheBounds { orders, bytes: 128 * MIB });
            (1..=3_000).for_each(|id| cache.insert(&order(id, 1)));
            let kept = kept(&cache, 1..=3_000).len();
            assert!(kept <= orders && kept > orders / 2, "{kept} of {orders}");
        }
    }

    #[test]
    fn an_order_that_is_too_large_is_not_kept_and_leaves_no_earlier_state_of_itself() {
        let cache = OrderCache::new(OrderCacheBounds { orders: 100, bytes: 128 * MIB });
        cache.insert(&order(1, 1_000));
        assert!(cache.get(1).is_none());
        cache.insert(&order(2, 10));
        assert!(cache.get(2).is_some());
        let mut grown = VersionedOrder::clone(&order(2, 1_000));
        grown.order.revision = 2;
        cache.insert(&Arc::new(grown));
        assert!(cache.get(2).is_none());
    }
}
