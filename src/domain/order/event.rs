//! The events of an order.

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
    /// The customer.
    pub customer_id: CustomerId,
    /// The time of the event; never before the previous event.
    pub at: Timestamp,
    /// The change.
    pub change: Change,
}

/// The change of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The order was placed.
    Created {
        /// The items.
        items: Items,
        /// The delivery address.
        shipping_address: Option<ShippingAddress>,
    },
    /// It was paid.
    Paid {
        /// The payment method.
        method: PaymentMethod,
        /// The payment provider's reference.
        reference: Option<PaymentReference>,
    },
    /// It was shipped.
    Shipped {
        /// The carrier's tracking number.
        tracking_number: TrackingNumber,
        /// The carrier.
        carrier: Option<Carrier>,
    },
    /// It was delivered.
    Delivered,
    /// It was cancelled.
    Cancelled {
        /// The reason.
        reason: Option<CancelReason>,
    },
}

/// The kinds of event; their names are shown to people: "OrderPaid".
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

    /// The name of the kind, in all protocols and log lines.
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
