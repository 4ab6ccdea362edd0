//! Which events somebody wants to see.

use std::collections::HashSet;

use super::AppError;
use crate::{codec::EventHeader, domain::order::EventKind, domain::order::Status, ports::event_store::StoredEvent};

/// Which events pass. All conditions must hold; an empty one lets everything pass.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of these customers.
    pub customer_ids: HashSet<String>,
    /// Of these kinds.
    pub kinds: Vec<EventKind>,
    /// Of these orders.
    pub order_ids: HashSet<u64>,
}

impl EventFilter {
    /// Lets the events of one order pass.
    pub(super) fn order(id: u64) -> Self {
        Self { order_ids: HashSet::from([id]), ..Self::default() }
    }

    /// Whether `stored` passes.
    pub(super) fn passes(&self, stored: &StoredEvent) -> Result<bool, AppError> {
        self.passes_with(&mut LazyHeader::of(stored))
    }

    /// Whether the event of `header` passes.
    pub(super) fn passes_with(&self, header: &mut LazyHeader<'_>) -> Result<bool, AppError> {
        if !self.order_ids.is_empty() && !self.order_ids.contains(&header.event.stream.0) {
            return Ok(false);
        }
        if self.customer_ids.is_empty() && self.kinds.is_empty() {
            return Ok(true);
        }
        let header = header.get()?;
        if !self.kinds.is_empty() && !self.kinds.contains(&header.kind()?) {
            return Ok(false);
        }
        Ok(self.customer_ids.is_empty() || self.customer_ids.contains(header.customer_id()?))
    }
}

/// The kinds of event after which an order has `status`.
pub fn kinds_leading_to(status: Status) -> impl Iterator<Item = EventKind> {
    EventKind::ALL.into_iter().filter(move |kind| kind.status_after() == status)
}

/// The header of an event, read once, when it is needed.
#[derive(Debug)]
pub(super) struct LazyHeader<'a> {
    event: &'a StoredEvent,
    header: Option<EventHeader>,
}

impl<'a> LazyHeader<'a> {
    pub const fn of(event: &'a StoredEvent) -> Self {
        Self { event, header: None }
    }

    pub fn get(&mut self) -> Result<&EventHeader, AppError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => EventHeader::read(&self.event.payload)?,
        };
        Ok(self.header.insert(header))
    }
}
