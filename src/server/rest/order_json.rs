//! The JSON of an order and of the changes in its events.
//!
//! An order, which is the reply to all commands and to reads of one order, is written directly: the names of fields need no escapes, nor do most texts,
//! so they are copied unchanged.

use serde::{Serialize, Serializer};

use super::{
    decimal::{Amount, Code},
    time::Rfc3339,
};
use crate::{
    codec::digits::Digits,
    domain::order::{Cancellation, Change, Item, Order, OrderEvent, Payment, Shipment},
};

/// The room for a typical order. A longer one grows its buffer.
const USUAL_BYTES: usize = 512;

/// The JSON of `order`.
///
/// # Errors
/// If the time of an event has a year of more than 4 digits, which no clock returns in practice.
pub fn order(order: &Order) -> Result<Vec<u8>, serde_json::Error> {
    // Every part is named, so that a new one cannot be forgotten here.
    let Order {
        id,
        customer_id,
        items,
        shipping_address,
        status,
        revision,
        created_at,
        updated_at,
        payment,
        shipment,
        delivered_at,
        cancellation,
    } = order;
    let total = items.total();
    let mut json = Written(Vec::with_capacity(USUAL_BYTES));
    json.quoted("{\"orderId\":", Digits::of(id.get()));
    json.text(",\"customerId\":", customer_id)?;
    json.quoted(",\"status\":", status.name());
    json.items(",\"items\":[", items.lines())?;
    json.plain(",\"total\":", Amount::from(total).text());
    json.quoted(",\"currency\":", total.currency().code_bytes());
    json.optional_text(",\"shippingAddress\":", shipping_address.as_deref())?;
    json.plain(",\"revision\":", Digits::of(*revision));
    json.time(",\"createdAt\":", Rfc3339(*created_at))?;
    json.time(",\"updatedAt\":", Rfc3339(*updated_at))?;
    if let Some(Payment { method, reference, at }) = payment {
        json.text(",\"paymentMethod\":", method)?;
        json.optional_text(",\"paymentReference\":", reference.as_deref())?;
        json.time(",\"paidAt\":", Rfc3339(*at))?;
    }
    if let Some(Shipment { tracking_number, carrier, at }) = shipment {
        json.text(",\"trackingNumber\":", tracking_number)?;
        json.optional_text(",\"carrier\":", carrier.as_deref())?;
        json.time(",\"shippedAt\":", Rfc3339(*at))?;
    }
    if let Some(at) = delivered_at {
        json.time(",\"deliveredAt\":", Rfc3339(*at))?;
    }
    if let Some(Cancellation { reason, at }) = cancellation {
        json.optional_text(",\"cancelReason\":", reason.as_deref())?;
        json.time(",\"cancelledAt\":", Rfc3339(*at))?;
    }
    json.0.push(b'}');
    Ok(json.0)
}

/// JSON that is being written. The comma and the name of the field are written together with the value that follows.
struct Written(Vec<u8>);

impl Written {
    /// Writes a value that is already JSON.
    fn plain(&mut self, before: &str, value: impl AsRef<[u8]>) {
        self.0.extend_from_slice(before.as_bytes());
        self.0.extend_from_slice(value.as_ref());
    }

    /// Writes a text of this service, which needs no escapes.
    fn quoted(&mut self, before: &str, text: impl AsRef<[u8]>) {
        self.plain(before, b"\"");
        self.0.extend_from_slice(text.as_ref());
        self.0.push(b'"');
    }

    /// Writes a text of a client.
    fn text(&mut self, before: &str, text: &str) -> Result<(), serde_json::Error> {
        if text.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
            self.0.extend_from_slice(before.as_bytes());
            return serde_json::to_writer(&mut self.0, text);
        }
        self.quoted(before, text);
        Ok(())
    }

    /// Writes an optional text of a client; left out if it is `None`.
    fn optional_text(&mut self, before: &str, text: Option<&str>) -> Result<(), serde_json::Error> {
        text.map_or(Ok(()), |text| self.text(before, text))
    }

    fn time(&mut self, before: &str, at: Rfc3339) -> Result<(), serde_json::Error> {
        self.quoted(before, at.text().map_err(serde::ser::Error::custom)?);
        Ok(())
    }

    fn items(&mut self, before: &str, items: &[Item]) -> Result<(), serde_json::Error> {
        self.0.extend_from_slice(before.as_bytes());
        let mut begin = "{\"productId\":";
        for Item { product_id, name, quantity, unit_price } in items {
            self.text(begin, product_id)?;
            self.optional_text(",\"name\":", name.as_deref())?;
            self.plain(",\"quantity\":", Digits::of(quantity.get().into()));
            self.plain(",\"price\":", Amount::from(*unit_price).text());
            self.0.push(b'}');
            begin = ",{\"productId\":";
        }
        self.0.push(b']');
        Ok(())
    }
}

/// The items of a new order.
pub struct ItemsView<'a>(&'a [Item]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemView<'a> {
    product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    quantity: u32,
    price: Amount,
}

impl Serialize for ItemsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|item| ItemView {
            product_id: &item.product_id,
            name: item.name.as_deref(),
            quantity: item.quantity.get(),
            price: item.unit_price.into(),
        }))
    }
}

/// The fields of an event in addition to the common ones.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum ChangeView<'a> {
    Created {
        items: ItemsView<'a>,
        total: Amount,
        currency: Code,
        #[serde(skip_serializing_if = "Option::is_none")]
        shipping_address: Option<&'a str>,
        created_at: Rfc3339,
    },
    Paid {
        payment_method: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        payment_reference: Option<&'a str>,
        paid_at: Rfc3339,
    },
    Shipped {
        tracking_number: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        carrier: Option<&'a str>,
        shipped_at: Rfc3339,
    },
    Delivered {
        delivered_at: Rfc3339,
    },
    Cancelled {
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        cancelled_at: Rfc3339,
    },
}

impl<'a> ChangeView<'a> {
    /// The JSON of the change in `event`.
    pub fn of(event: &'a OrderEvent) -> Self {
        let at = Rfc3339(event.at);
        match &event.change {
            Change::Created { items, shipping_address } => Self::Created {
                items: ItemsView(items.lines()),
                total: items.total().into(),
                currency: Code(items.total().currency()),
                shipping_address: shipping_address.as_deref(),
                created_at: at,
            },
            Change::Paid { method, reference } => {
                Self::Paid { payment_method: method, payment_reference: reference.as_deref(), paid_at: at }
            }
            Change::Shipped { tracking_number, carrier } => {
                Self::Shipped { tracking_number, carrier: carrier.as_deref(), shipped_at: at }
            }
            Change::Delivered => Self::Delivered { delivered_at: at },
            Change::Cancelled { reason } => Self::Cancelled { reason: reason.as_deref(), cancelled_at: at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::OrderId,
        money::{Currency, Money},
        order::{Items, Quantity, Status},
        text::{Text, TextRule},
        timestamp::Timestamp,
    };

    fn text<R: TextRule>(text: &str) -> Text<R> {
        Text::parse(text).unwrap()
    }

    fn placed() -> Order {
        let item = |name: Option<&str>, minor| Item {
            product_id: text("prod-1"),
            name: name.map(text),
            quantity: Quantity::new(2).unwrap(),
            unit_price: Money::from_minor(minor, Currency::parse("USD").unwrap()).unwrap(),
        };
        Order {
            id: OrderId::new(7).unwrap(),
            customer_id: text("a \"b\" \\c/ é\u{2028}"),
            items: Items::new(vec![item(Some("Mouse"), 2_999), item(None, 5)]).unwrap(),
            shipping_address: None,
            status: Status::Pending,
            revision: 1,
            created_at: Timestamp::from_micros(1_736_937_000_000_000),
            updated_at: Timestamp::from_micros(1_736_937_000_250_000),
            payment: None,
            shipment: None,
            delivered_at: None,
            cancellation: None,
        }
    }

    fn written(of: &Order) -> String {
        String::from_utf8(order(of).unwrap()).unwrap()
    }

    #[test]
    fn the_fields_of_an_order_keep_their_order_and_texts_are_escaped() {
        let expected = concat!(
            r#"{"orderId":"7","customerId":"a \"b\" \\c/ é"#,
            "\u{2028}",
            r#"","status":"Pending","items":[{"productId":"prod-1","name":"Mouse","quantity":2,"price":29.99},"#,
            r#"{"productId":"prod-1","quantity":2,"price":0.05}],"total":60.08,"currency":"USD","revision":1,"#,
            r#""createdAt":"2025-01-15T10:30:00Z","updatedAt":"2025-01-15T10:30:00.250Z"}"#,
        );
        assert_eq!(written(&placed()), expected);
    }

    #[test]
    fn later_steps_are_added_and_absent_parts_are_not() {
        let at = Timestamp::from_micros(0);
        let payment = Payment { method: text("card"), reference: Some(text("r-1")), at };
        let shipment = Shipment { tracking_number: text("t-1"), carrier: None, at };
        let order = Order {
            shipping_address: Some(text("Street 1")),
            payment: Some(payment),
            shipment: Some(shipment),
            delivered_at: Some(at),
            cancellation: Some(Cancellation { reason: Some(text("late")), at }),
            ..placed()
        };
        let json = written(&order);
        assert!(json.contains(r#""currency":"USD","shippingAddress":"Street 1","revision":1,"#), "{json}");
        let steps = concat!(
            r#","paymentMethod":"card","paymentReference":"r-1","paidAt":"1970-01-01T00:00:00Z","trackingNumber":"t-1","#,
            r#""shippedAt":"1970-01-01T00:00:00Z","deliveredAt":"1970-01-01T00:00:00Z","cancelReason":"late","#,
            r#""cancelledAt":"1970-01-01T00:00:00Z"}"#,
        );
        assert!(json.ends_with(steps), "{json}");
    }
}
