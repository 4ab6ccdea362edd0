//! An order as its events have made it.

use std::fmt;

use super::Items;
use crate::domain::{
    ids::OrderId,
    text::{CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, TrackingNumber},
    timestamp::Timestamp,
};

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Placed, not yet paid.
    Pending,
    /// Paid, not yet shipped.
    Paid,
    /// On its way.
    Shipped,
    /// Received. Final.
    Delivered,
    /// Cancelled before shipping. Final.
    Cancelled,
}

impl Status {
    /// Every status, in the order of an order's life.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// The name that people read: "Pending".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Paid => "Paid",
            Self::Shipped => "Shipped",
            Self::Delivered => "Delivered",
            Self::Cancelled => "Cancelled",
        }
    }

    /// Whether no command changes the order any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Paid | Self::Shipped => false,
            Self::Delivered | Self::Cancelled => true,
        }
    }

    /// Whether the total of the order is part of the revenue.
    #[must_use]
    pub const fn counts_as_revenue(self) -> bool {
        match self {
            Self::Pending | Self::Paid | Self::Shipped | Self::Delivered => true,
            Self::Cancelled => false,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An order, folded from its events. Cheap to clone: what is long is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// What, and for how much.
    pub items: Items,
    /// Where to send it.
    pub shipping_address: Option<ShippingAddress>,
    /// Where it stands.
    pub status: Status,
    /// The number of events folded into it.
    pub revision: u64,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// How it was paid.
    pub payment: Option<Payment>,
    /// How it was sent.
    pub shipment: Option<Shipment>,
    /// When it was delivered.
    pub delivered_at: Option<Timestamp>,
    /// Why it was cancelled.
    pub cancellation: Option<Cancellation>,
}

/// How an order was paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// How.
    pub method: PaymentMethod,
    /// The payment provider's reference.
    pub reference: Option<PaymentReference>,
    /// When.
    pub at: Timestamp,
}

/// How an order was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// The carrier's tracking number.
    pub tracking_number: TrackingNumber,
    /// Who carries it.
    pub carrier: Option<Carrier>,
    /// When.
    pub at: Timestamp,
}

/// Why an order was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// Why.
    pub reason: Option<CancelReason>,
    /// When.
    pub at: Timestamp,
}
