//! The JSON bodies of commands, parsed into the drafts that both APIs share.

use std::borrow::Cow;

use super::{
    decimal::Decimal,
    json::{self, Object, Slots},
};
use crate::{
    application::{
        limits::MAX_ITEMS,
        requests::{Field, ItemDraft, OrderDraft, PriceError, Violations},
    },
    domain::money::{Currency, Money, MoneyError},
};

/// The currency of prices when neither the order nor the item names one.
pub const DEFAULT_CURRENCY: &str = "USD";

/// The body of a new order. An unreadable field is `None`, with a recorded violation.
#[derive(Debug, Default)]
pub struct NewOrder<'a> {
    customer_id: Option<Cow<'a, str>>,
    items: Option<Vec<NewItem<'a>>>,
    shipping_address: Option<Cow<'a, str>>,
}

#[derive(Debug)]
struct NewItem<'a> {
    product_id: Option<Cow<'a, str>>,
    name: Option<Cow<'a, str>>,
    quantity: Option<i64>,
    price: Option<Result<Money, MoneyError>>,
}

impl<'a> NewOrder<'a> {
    /// Parses the body of a `POST /orders`.
    pub fn read(text: &'a str, violations: &mut Violations) -> Self {
        let fields = [Field::CustomerId, Field::Items, Field::ShippingAddress, Field::Currency];
        let Some([customer_id, items, shipping_address, currency]) = body(text, fields, violations) else {
            return Self::default();
        };
        let mut reader = Reader { object: Object::Body, violations };
        let customer_id = reader.required(Field::CustomerId, customer_id, json::text_or_integer);
        let shipping_address = reader.optional(Field::ShippingAddress, shipping_address);
        let currency = reader.currency(currency, Currency::parse(DEFAULT_CURRENCY).ok());
        let items = reader.items(items, currency);
        Self { customer_id, items, shipping_address }
    }

    /// The draft for the shared validation.
    #[must_use]
    pub fn draft(&self) -> OrderDraft<'_> {
        let items = self.items.as_deref().map(|items| items.iter().map(NewItem::draft).collect());
        OrderDraft {
            customer_id: self.customer_id.as_deref(),
            items,
            shipping_address: self.shipping_address.as_deref(),
        }
    }
}

impl NewItem<'_> {
    fn draft(&self) -> ItemDraft<'_> {
        ItemDraft {
            product_id: self.product_id.as_deref(),
            name: self.name.as_deref(),
            quantity: self.quantity,
            unit_price: self.price.map(|price| price.map_err(PriceError::Invalid)),
        }
    }
}

/// Two texts of a body, the first of which is required: for payment and shipment.
pub fn two_texts<'a>(text: &'a str, fields: [Field; 2], violations: &mut Violations) -> [Option<Cow<'a, str>>; 2] {
    let Some([first, second]) = body(text, fields, violations) else {
        return [None, None];
    };
    let mut reader = Reader { object: Object::Body, violations };
    [reader.required(fields[0], first, json::text), reader.optional(fields[1], second)]
}

/// One optional text of an optional body.
pub fn one_text<'a>(text: &'a str, field: Field, violations: &mut Violations) -> Option<Cow<'a, str>> {
    if text.is_empty() {
        return Some(Cow::Borrowed(""));
    }
    let [only] = body(text, [field], violations)?;
    Reader { object: Object::Body, violations }.optional(field, only)
}

/// A body without content: empty, or an object without fields.
pub fn nothing(text: &str, violations: &mut Violations) {
    if !text.is_empty() {
        body(text, [], violations);
    }
}

fn body<'a, const N: usize>(text: &'a str, fields: [Field; N], violations: &mut Violations) -> Option<Slots<'a, N>> {
    if text.is_empty() {
        violations.add(Field::Request, "is required");
        return None;
    }
    let read = json::object(text, fields, Object::Body, violations);
    violations.check(Field::Request, read)
}

/// Reads the fields of an object.
struct Reader<'v> {
    object: Object,
    violations: &'v mut Violations,
}

impl Reader<'_> {
    fn note(&mut self, field: Field, description: impl ToString) {
        self.violations.add(self.object.field(field), description);
    }

    fn required<'a, T>(
        &mut self,
        field: Field,
        raw: Option<&'a str>,
        read: impl FnOnce(&'a str) -> Result<T, &'static str>,
    ) -> Option<T> {
        match raw.ok_or("is required").and_then(read) {
            Ok(value) => Some(value),
            Err(description) => {
                self.note(field, description);
                None
            }
        }
    }

    /// Optional text: empty if omitted.
    fn optional<'a>(&mut self, field: Field, raw: Option<&'a str>) -> Option<Cow<'a, str>> {
        raw.map_or(Some(Cow::Borrowed("")), |raw| self.required(field, Some(raw), json::text))
    }

    /// The named currency, or else `otherwise`; `None` if it is invalid, with a recorded violation.
    fn currency(&mut self, raw: Option<&str>, otherwise: Option<Currency>) -> Option<Currency> {
        let Some(raw) = raw else {
            return otherwise;
        };
        let code = self.required(Field::Currency, Some(raw), json::text)?;
        Currency::parse(&code).map_err(|error| self.note(Field::Currency, error)).ok()
    }

    fn items<'a>(&mut self, raw: Option<&'a str>, currency: Option<Currency>) -> Option<Vec<NewItem<'a>>> {
        // One item beyond the limit is enough to detect that there are too many.
        let array = |raw| json::array(raw, MAX_ITEMS).ok_or("must be an array");
        let elements = self.required(Field::Items, raw, array)?;
        if elements.len() > MAX_ITEMS {
            // The shared validation reports that, and does not check the items.
            return Some(elements.iter().map(|_| NewItem::UNREAD).collect());
        }
        let items = elements.into_iter().enumerate();
        let items = items.map(|(index, raw)| NewItem::read(raw, index, currency, self.violations));
        Some(items.collect())
    }

    fn price(&mut self, raw: Option<&str>, currency: Option<Currency>) -> Option<Result<Money, MoneyError>> {
        const NO_DECIMAL: &str = "must be a decimal number such as 29.99, as a JSON number or a string";
        let text = self.required(Field::UnitPrice, raw, |raw| match raw.as_bytes().first() {
            Some(b'"') => json::text(raw).map_err(|_| NO_DECIMAL),
            _ => Ok(Cow::Borrowed(raw)),
        })?;
        let decimal = Decimal::parse(&text).map_err(|_| self.note(Field::UnitPrice, NO_DECIMAL)).ok()?;
        Some(decimal.to_money(currency?))
    }
}

impl NewItem<'static> {
    const UNREAD: Self = Self { product_id: None, name: None, quantity: None, price: None };
}

impl<'a> NewItem<'a> {
    fn read(raw: &'a str, index: usize, order_currency: Option<Currency>, violations: &mut Violations) -> Self {
        let fields = [Field::ProductId, Field::Name, Field::Quantity, Field::UnitPrice, Field::Currency];
        let object = Object::Item(index);
        let read = json::object(raw, fields, object, violations);
        let Some([product_id, name, quantity, price, currency]) = violations.check(object.whole(), read) else {
            return NewItem::UNREAD;
        };
        let mut reader = Reader { object, violations };
        let currency = reader.currency(currency, order_currency);
        Self {
            product_id: reader.required(Field::ProductId, product_id, json::text_or_integer),
            name: reader.optional(Field::Name, name),
            quantity: reader.required(Field::Quantity, quantity, read_quantity),
            price: reader.price(price, currency),
        }
    }
}

fn read_quantity(raw: &str) -> Result<i64, &'static str> {
    if !json::is_integer(raw) {
        return Err("must be a whole number, as a JSON number without decimals");
    }
    // A number that does not fit is out of range anyway; the shared validation knows the range.
    Ok(raw.parse().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> Vec<String> {
        let mut violations = Violations::default();
        NewOrder::read(text, &mut violations);
        violations.into_vec().into_iter().map(|violation| violation.field.over_rest().into_owned()).collect()
    }

    #[test]
    fn all_violations_are_reported_at_once() {
        let text = r#"{"customerId": true, "shippingAddress": 5, "currency": "usd", "note": "", "items": [
            {"productId": 1.5, "name": [], "quantity": 2.0, "price": "NaN"}, 7, {"productId": null, "quantity": "1", "price": {}, "x": 1}]}"#;
        assert_eq!(
            wrong(text),
            [
                "note",
                "customerId",
                "shippingAddress",
                "currency",
                "items[0].productId",
                "items[0].name",
                "items[0].quantity",
                "items[0].price",
                "items[1]",
                "items[2].x",
                "items[2].productId",
                "items[2].quantity",
                "items[2].price",
            ]
        );
    }

    #[test]
    fn a_body_that_is_not_an_object_is_one_violation() {
        for text in ["", "[]", "null", "{", "\"\"", "{}{}"] {
            assert_eq!(wrong(text), ["body"], "{text}");
        }
        assert_eq!(wrong("{}"), ["customerId", "items"]);
    }

    #[test]
    fn an_item_may_name_its_currency_and_otherwise_has_that_of_the_order() {
        let mut violations = Violations::default();
        let text = r#"{"currency":"JPY","items":[{"price":5},{"price":"1.50","currency":"EUR"}]}"#;
        let order = NewOrder::read(text, &mut violations);
        let prices: Vec<_> =
            order.draft().items.unwrap().into_iter().map(|item| item.unit_price.unwrap().unwrap()).collect();
        assert_eq!(
            prices.iter().map(|price| (price.minor(), price.currency().code().to_owned())).collect::<Vec<_>>(),
            [(5, "JPY".to_owned()), (150, "EUR".to_owned())]
        );
    }
}
