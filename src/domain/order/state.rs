//! The state of an order, folded from its events.

use std::fmt;

use super::{Item, Items};
use crate::domain::{
    ids::OrderId,
    text::{CancelReason, Carrier, CustomerId, PaymentMethod, PaymentReference, ShippingAddress, Text, TrackingNumber},
    timestamp::Timestamp,
};

/// The status of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// Placed, not yet paid.
    Pending,
    /// Paid, not yet shipped.
    Paid,
    /// Shipped, not yet delivered.
    Shipped,
    /// Received. Final.
    Delivered,
    /// Cancelled before shipping. Final.
    Cancelled,
}

impl Status {
    /// Every status, in life cycle order.
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// The name that is shown to people: "Pending".
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

    /// Whether no further command can change the order.
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

/// An order, folded from its events. Cheap to clone: long values are shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// The customer.
    pub customer_id: CustomerId,
    /// The items, with their prices.
    pub items: Items,
    /// The delivery address.
    pub shipping_address: Option<ShippingAddress>,
    /// Its status.
    pub status: Status,
    /// The number of events folded into it.
    pub revision: u64,
    /// When it was placed.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The payment, once paid.
    pub payment: Option<Payment>,
    /// The shipment, once shipped.
    pub shipment: Option<Shipment>,
    /// When it was delivered.
    pub delivered_at: Option<Timestamp>,
    /// The cancellation, if cancelled.
    pub cancellation: Option<Cancellation>,
}

impl Order {
    /// The lengths of all its texts, in bytes: besides the items, they are the only heap data of an order.
    pub fn text_lengths(&self) -> impl Iterator<Item = usize> {
        // Every part is named, so that a new one cannot be forgotten here.
        let Self {
            id: _,
            customer_id,
            items,
            shipping_address,
            status: _,
            revision: _,
            created_at: _,
            updated_at: _,
            payment,
            shipment,
            delivered_at: _,
            cancellation,
        } = self;
        let items = items.lines().iter().flat_map(|item| {
            let Item { product_id, name, quantity: _, unit_price: _ } = item;
            [Some(product_id.byte_len()), name.as_ref().map(Text::byte_len)]
        });
        let payment = payment.iter().flat_map(|payment| {
            let Payment { method, reference, at: _ } = payment;
            [Some(method.byte_len()), reference.as_ref().map(Text::byte_len)]
        });
        let shipment = shipment.iter().flat_map(|shipment| {
            let Shipment { tracking_number, carrier, at: _ } = shipment;
            [Some(tracking_number.byte_len()), carrier.as_ref().map(Text::byte_len)]
        });
        let cancellation = cancellation.iter().map(|cancellation| {
            let Cancellation { reason, at: _ } = cancellation;
            reason.as_ref().map(Text::byte_len)
        });
        let own = [Some(customer_id.byte_len()), shipping_address.as_ref().map(Text::byte_len)].into_iter();
        own.chain(items).chain(payment).chain(shipment).chain(cancellation).flatten()
    }
}

/// The payment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payment {
    /// The payment method.
    pub method: PaymentMethod,
    /// The payment provider's reference.
    pub reference: Option<PaymentReference>,
    /// The time of the payment.
    pub at: Timestamp,
}

/// The shipment of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipment {
    /// The carrier's tracking number.
    pub tracking_number: TrackingNumber,
    /// The carrier.
    pub carrier: Option<Carrier>,
    /// The time of the shipment.
    pub at: Timestamp,
}

/// The cancellation of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancellation {
    /// The reason.
    pub reason: Option<CancelReason>,
    /// The time of the cancellation.
    pub at: Timestamp,
}
