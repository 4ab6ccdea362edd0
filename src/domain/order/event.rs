//! What has happened to an order.

use super::Items;
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
