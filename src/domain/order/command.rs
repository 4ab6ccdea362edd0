//! The commands on an order.

use super::Items;
use crate::domain::{
    ids::OrderId,
    text::{CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, TrackingNumber},
    timestamp::Timestamp,
};

/// One command on one order. The caller supplies time and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderCommand {
    /// The order; for [`Action::Create`] the id of the new order.
    pub order_id: OrderId,
    /// The time of the command.
    pub at: Timestamp,
    /// The action.
    pub action: Action,
}

/// An action on an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Place it.
    Create {
        /// The customer.
        customer_id: CustomerId,
        /// The items.
        items: Items,
        /// The delivery address.
        shipping_address: Option<ShippingAddress>,
    },
    /// Pay it.
    Pay {
        /// The payment method.
        method: PaymentMethod,
        /// The payment provider's reference.
        reference: Option<PaymentReference>,
    },
    /// Ship it.
    Ship {
        /// The carrier's tracking number.
        tracking_number: TrackingNumber,
        /// The carrier.
        carrier: Option<Carrier>,
    },
    /// Mark it as delivered.
    Deliver,
    /// Cancel it.
    Cancel {
        /// The reason.
        reason: Option<CancelReason>,
    },
}

impl Action {
    /// The name of the command, as in the API: "PayOrder".
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateOrder",
            Self::Pay { .. } => "PayOrder",
            Self::Ship { .. } => "ShipOrder",
            Self::Deliver => "DeliverOrder",
            Self::Cancel { .. } => "CancelOrder",
        }
    }
}
