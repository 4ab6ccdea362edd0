//! What a client may ask of an order.

use super::Items;
use crate::domain::{
    ids::OrderId,
    text::{CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, TrackingNumber},
    timestamp::Timestamp,
};

/// One command to one order. Time and id come from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderCommand {
    /// The order; for [`Action::Create`] the id that it is to get.
    pub order_id: OrderId,
    /// When the command was given.
    pub at: Timestamp,
    /// What to do.
    pub action: Action,
}

/// What to do with an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Place it.
    Create {
        /// Who orders.
        customer_id: CustomerId,
        /// What.
        items: Items,
        /// Where to send it.
        shipping_address: Option<ShippingAddress>,
    },
    /// Pay it.
    Pay {
        /// How.
        method: PaymentMethod,
        /// The payment provider's reference.
        reference: Option<PaymentReference>,
    },
    /// Ship it.
    Ship {
        /// The carrier's tracking number.
        tracking_number: TrackingNumber,
        /// Who carries it.
        carrier: Option<Carrier>,
    },
    /// Mark it as delivered.
    Deliver,
    /// Cancel it.
    Cancel {
        /// Why.
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
