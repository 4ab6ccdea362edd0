//! What has happened to an order.

use super::{Items, Status};
use crate::domain::{
    ids::OrderId,
    text::{CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, TrackingNumber},
    timestamp::Timestamp,
};

/// One change of one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderEvent {
    /// The order.
    pub order_id: OrderId,
    /// Who ordered it.
    pub customer_id: CustomerId,
    /// When; never before the event that precedes it.
    pub at: Timestamp,
    /// What.
    pub change: Change,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The order was placed.
    Created {
        /// What was ordered.
        items: Items,
        /// Where to send it.
        shipping_address: Option<ShippingAddress>,
    },
    /// It was paid.
    Paid {
        /// How.
        method: PaymentMethod,
        /// The payment provider's reference.
        reference: Option<PaymentReference>,
    },
    /// It was shipped.
    Shipped {
        /// The carrier's tracking number.
        tracking_number: TrackingNumber,
        /// Who carries it.
        carrier: Option<Carrier>,
    },
    /// It was delivered.
    Delivered,
    /// It was cancelled.
    Cancelled {
        /// Why.
        reason: Option<CancelReason>,
    },
}

/// The kinds of event; each is named as people read it: "OrderPaid".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The order was placed.
    Created,
    /// It was paid.
    Paid,
    /// It was shipped.
    Shipped,
    /// It was delivered.
    Delivered,
    /// It was cancelled.
    Cancelled,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Created, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// The name of the kind, on every wire and in every log line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Created => "OrderCreated",
            Self::Paid => "OrderPaid",
            Self::Shipped => "OrderShipped",
            Self::Delivered => "OrderDelivered",
            Self::Cancelled => "OrderCancelled",
        }
    }

    /// The status of an order after such an event.
    #[must_use]
    pub const fn status_after(self) -> Status {
        match self {
            Self::Created => Status::Pending,
            Self::Paid => Status::Paid,
            Self::Shipped => Status::Shipped,
            Self::Delivered => Status::Delivered,
            Self::Cancelled => Status::Cancelled,
        }
    }
}

impl Change {
    /// The kind of event that records this change.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Created { .. } => EventKind::Created,
            Self::Paid { .. } => EventKind::Paid,
            Self::Shipped { .. } => EventKind::Shipped,
            Self::Delivered => EventKind::Delivered,
            Self::Cancelled { .. } => EventKind::Cancelled,
        }
    }
}
