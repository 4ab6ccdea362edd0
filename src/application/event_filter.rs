//! A filter of events.

use std::collections::HashSet;

use super::{AppError, Scope};
use crate::{codec::EventHeader, domain::order::EventKind, domain::order::Status, ports::event_store::StoredEvent};

/// The conditions of a filter. All must hold; an empty one matches every event.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Events of these customers.
    pub customer_ids: HashSet<String>,
    /// Events of these kinds.
    pub kinds: Vec<EventKind>,
    /// Events of these orders.
    pub order_ids: HashSet<u64>,
}

impl EventFilter {
    /// The filter, narrowed to the orders within `scope`.
    ///
    /// # Errors
    /// [`AppError::CustomerNotAllowed`] if it names a customer outside of the scope.
    pub(super) fn within(mut self, scope: &Scope) -> Result<Self, AppError> {
        let Some(own) = scope.narrow(None)? else { return Ok(self) };
        if self.customer_ids.iter().any(|id| **id != *own) {
            return Err(AppError::CustomerNotAllowed);
        }
        self.customer_ids.insert(own.to_string());
        Ok(self)
    }

    /// Matches the events of one order.
    pub(super) fn order(id: u64) -> Self {
        Self { order_ids: HashSet::from([id]), ..Self::default() }
    }

    /// Whether `stored` matches.
    pub(super) fn passes(&self, stored: &StoredEvent) -> Result<bool, AppError> {
        self.passes_with(&mut LazyHeader::of(stored))
    }

    /// Whether the event of `header` matches.
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

/// The header of an event, decoded once, on demand.
#[derive(Debug)]
pub(super) struct LazyHeader<'a> {
    event: &'a StoredEvent,
    header: Option<EventHeader<'a>>,
}

impl<'a> LazyHeader<'a> {
    pub const fn of(event: &'a StoredEvent) -> Self {
        Self { event, header: None }
    }

    pub fn get(&mut self) -> Result<&EventHeader<'a>, AppError> {
        let header = match self.header.take() {
            Some(header) => header,
            None => EventHeader::read(&self.event.payload)?,
        };
        Ok(self.header.insert(header))
    }
}
