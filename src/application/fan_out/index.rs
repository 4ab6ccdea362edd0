//! An index of the followers that may match an event, so that not every filter is evaluated.

use std::collections::{HashMap, HashSet};

use crate::{
    application::{
        AppError,
        event_filter::{EventFilter, LazyHeader},
    },
    domain::order::EventKind,
    ports::event_store::StoredEvent,
};

type Ids = HashSet<u64>;

/// Each follower is listed under the narrowest condition of its filter.
#[derive(Debug, Default)]
pub(super) struct Index {
    by_order: HashMap<u64, Ids>,
    by_customer: HashMap<String, Ids>,
    by_kind: HashMap<EventKind, Ids>,
    all: Ids,
}

impl Index {
    pub fn add(&mut self, id: u64, filter: &EventFilter) {
        if !filter.order_ids.is_empty() {
            filter.order_ids.iter().for_each(|order| {
                self.by_order.entry(*order).or_default().insert(id);
            });
        } else if !filter.customer_ids.is_empty() {
            filter.customer_ids.iter().for_each(|customer| {
                self.by_customer.entry(customer.clone()).or_default().insert(id);
            });
        } else if !filter.kinds.is_empty() {
            filter.kinds.iter().for_each(|kind| {
                self.by_kind.entry(*kind).or_default().insert(id);
            });
        } else {
            self.all.insert(id);
        }
    }

    pub fn remove(&mut self, id: u64, filter: &EventFilter) {
        filter.order_ids.iter().for_each(|order| remove(&mut self.by_order, order, id));
        filter.customer_ids.iter().for_each(|customer| remove(&mut self.by_customer, customer, id));
        filter.kinds.iter().for_each(|kind| remove(&mut self.by_kind, kind, id));
        self.all.remove(&id);
    }

    /// Calls `found` once for each follower that `event` may match.
    pub fn each_candidate(
        &self,
        event: &StoredEvent,
        mut found: impl FnMut(u64, &mut LazyHeader<'_>) -> Result<(), AppError>,
    ) -> Result<(), AppError> {
        let mut header = LazyHeader::of(event);
        let of_order = self.by_order.get(&event.stream.0);
        let of_customer = match self.by_customer.is_empty() {
            true => None,
            false => self.by_customer.get(header.get()?.customer_id()?),
        };
        let of_kind = match self.by_kind.is_empty() {
            true => None,
            false => self.by_kind.get(&header.get()?.kind()?),
        };
        for id in [of_order, of_customer, of_kind, Some(&self.all)].into_iter().flatten().flatten() {
            found(*id, &mut header)?;
        }
        Ok(())
    }
}

fn remove<K: std::hash::Hash + Eq>(ids: &mut HashMap<K, Ids>, key: &K, id: u64) {
    if let Some(under) = ids.get_mut(key) {
        under.remove(&id);
        if under.is_empty() {
            ids.remove(key);
        }
    }
}
