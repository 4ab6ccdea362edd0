//! Converts external input to requests of the application, and reports every violation at once.
//!
//! Both protocols fill the same drafts. A draft's field is `None` if the protocol layer could not read it and has already reported that.

use crate::{
    application::{
        Consistency, OrderRequest,
        tokens::{self, InvalidCursor, Signer},
    },
    domain::{
        ids::OrderId,
        money::{Money, MoneyError},
        order::{Action, Item, Items, ItemsError, Quantity, item::MAX_ITEMS},
        text::{Text, TextRule},
        visible,
    },
};

/// One violation in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the API's protos name it: `items[0].unit_price`.
    pub field: String,
    /// The constraint.
    pub description: String,
}

/// The maximum number of reported violations of one request.
const MAX_VIOLATIONS: usize = 1_000;

/// All violations in the input.
#[derive(Clone, Debug, Default)]
pub struct Violations {
    list: Vec<Violation>,
    /// One of them concerns a cursor or token of another log.
    names_another_log: bool,
    /// A cursor or token cannot be checked yet: not a violation by the client, but the request cannot proceed.
    log_is_unknown: bool,
}

impl Violations {
    /// Records a violation of `field`.
    pub fn add(&mut self, field: impl Into<String>, description: impl ToString) {
        // More would not help the client.
        if self.list.len() >= MAX_VIOLATIONS {
            return;
        }
        self.list.push(Violation { field: field.into(), description: description.to_string() });
    }

    /// Records a violation by a cursor or token.
    pub fn add_cursor(&mut self, field: &str, error: InvalidCursor) {
        match error {
            InvalidCursor::LogUnknown => self.log_is_unknown = true,
            InvalidCursor::AnotherLog => {
                self.names_another_log = true;
                self.add(field, error.description());
            }
            InvalidCursor::Malformed | InvalidCursor::AnotherQuery => self.add(field, error.description()),
        }
    }

    /// Whether there are no violations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && !self.log_is_unknown
    }

    /// Whether the only problem is a cursor or token that cannot be checked yet.
    #[must_use]
    pub fn is_only_unknown(&self) -> bool {
        self.list.is_empty() && self.log_is_unknown
    }

    /// Whether a cursor or token belongs to another log: the client has to start over rather than correct its input.
    #[must_use]
    pub const fn names_another_log(&self) -> bool {
        self.names_another_log
    }

    /// The violations.
    #[must_use]
    pub fn into_vec(self) -> Vec<Violation> {
        self.list
    }

    /// Copies the findings of `other` about the logs of cursors and tokens.
    pub const fn adopt_logs(&mut self, other: &Self) {
        self.names_another_log |= other.names_another_log;
        self.log_is_unknown |= other.log_is_unknown;
    }

    /// Returns `value` if there are no violations; otherwise all of them.
    ///
    /// # Errors
    /// All violations.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, Self> {
        match value {
            Some(value) if self.is_empty() => Ok(value),
            _ if !self.is_empty() => Err(self),
            _ => {
                self.add("request", "is incomplete");
                Err(self)
            }
        }
    }

    /// Unwraps a parsed field or records its error.
    pub fn check<T>(&mut self, field: &str, parsed: Result<T, impl ToString>) -> Option<T> {
        parsed.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// Required text.
    pub fn required<R: TextRule>(&mut self, field: &str, text: &str) -> Option<Text<R>> {
        let parsed = Text::parse(text).and_then(|parsed| visible::check(text).map(|()| parsed));
        self.check(field, parsed.map_err(|error| error.to_string()))
    }

    /// Optional text: `Some(None)` if omitted.
    #[allow(clippy::option_option, reason = "wrong, left out and given are three things")]
    pub fn optional<R: TextRule>(&mut self, field: &str, text: &str) -> Option<Option<Text<R>>> {
        let parsed = Text::parse_optional(text).and_then(|parsed| visible::check(text).map(|()| parsed));
        self.check(field, parsed.map_err(|error| error.to_string()))
    }

    /// An order id.
    pub fn order_id(&mut self, field: &str, text: &str) -> Option<OrderId> {
        self.check(field, text.parse::<OrderId>())
    }
}

/// The common fields of every command.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetaDraft<'a> {
    /// The idempotency key; empty: none.
    pub request_id: &'a str,
    /// The revision that the client expects the order to have.
    pub expected_revision: Option<i64>,
    /// The originator of the command; empty: unknown.
    pub actor: &'a str,
}

/// One item of a new order.
#[derive(Clone, Debug)]
pub struct ItemDraft<'a> {
    /// The product.
    pub product_id: Option<&'a str>,
    /// The displayed name; empty: none.
    pub name: Option<&'a str>,
    /// The number of pieces.
    pub quantity: Option<i64>,
    /// The price of one piece.
    pub unit_price: Option<Result<Money, MoneyError>>,
}

/// A new order.
#[derive(Clone, Debug)]
pub struct OrderDraft<'a> {
    /// The customer.
    pub customer_id: Option<&'a str>,
    /// The lines.
    pub items: Option<Vec<ItemDraft<'a>>>,
    /// The delivery address; empty: unknown.
    pub shipping_address: Option<&'a str>,
}

/// A command for an existing order, or for a new one (`order_id` is `None`).
///
/// # Errors
/// All violations, including earlier ones in `violations`.
pub fn request(
    mut violations: Violations,
    meta: MetaDraft<'_>,
    order_id: Option<&str>,
    action: impl FnOnce(&mut Violations) -> Option<Action>,
) -> Result<OrderRequest, Violations> {
    let request_id = violations.optional("request_id", meta.request_id);
    let actor = violations.optional("actor", meta.actor);
    let expected_revision = expected_revision(&mut violations, meta.expected_revision, order_id.is_none());
    let id = order_id.map(|text| violations.order_id("order_id", text));
    let action = action(&mut violations);
    let request = action.map(|action| OrderRequest {
        request_id: request_id.flatten(),
        expected_revision,
        actor: actor.flatten(),
        order_id: id.flatten(),
        action,
    });
    violations.finish(request)
}

fn expected_revision(violations: &mut Violations, revision: Option<i64>, is_new: bool) -> Option<u64> {
    match revision? {
        0 if is_new => Some(0),
        _ if is_new => {
            violations.add("expected_revision", "must be left out or 0: a new order has no revision yet");
            None
        }
        revision => match u64::try_from(revision) {
            Ok(revision) if revision > 0 => Some(revision),
            _ => {
                violations.add("expected_revision", "must be at least 1");
                None
            }
        },
    }
}

/// The payload of a CreateOrder.
pub fn create_order(violations: &mut Violations, draft: OrderDraft<'_>) -> Option<Action> {
    let customer_id = draft.customer_id.and_then(|text| violations.required("customer_id", text));
    let shipping_address = draft.shipping_address.and_then(|text| violations.optional("shipping_address", text));
    let items = draft.items.and_then(|items| self::items(violations, items));
    Some(Action::Create { customer_id: customer_id?, items: items?, shipping_address: shipping_address? })
}

fn items(violations: &mut Violations, drafts: Vec<ItemDraft<'_>>) -> Option<Items> {
    if drafts.len() > MAX_ITEMS {
        // One violation is enough: reporting ten thousand items would not help.
        violations.add("items", ItemsError::TooMany);
        return None;
    }
    let count = drafts.len();
    let lines: Vec<Item> =
        drafts.into_iter().enumerate().filter_map(|(index, draft)| item(violations, index, draft)).collect();
    if lines.len() < count {
        return None;
    }
    Items::new(lines)
        .and_then(Items::bounded)
        .map_err(|error| match error {
            ItemsError::MixedCurrencies(index) => violations.add(format!("items[{index}].unit_price"), error),
            _ => violations.add("items", error),
        })
        .ok()
}

fn item(violations: &mut Violations, index: usize, draft: ItemDraft<'_>) -> Option<Item> {
    // The field name is only formatted if there is a violation.
    let mut note = |field: &str, description: String| violations.add(format!("items[{index}].{field}"), description);
    let product_id =
        draft.product_id.and_then(|text| Text::parse(text).map_err(|e| note("product_id", e.to_string())).ok());
    let name = draft.name.and_then(|text| Text::parse_optional(text).map_err(|e| note("name", e.to_string())).ok());
    let quantity =
        draft.quantity.and_then(|pieces| Quantity::new(pieces).map_err(|e| note("quantity", e.to_string())).ok());
    let unit_price = draft.unit_price.and_then(|price| price.map_err(|e| note("unit_price", e.to_string())).ok());
    Some(Item { product_id: product_id?, name: name?, quantity: quantity?, unit_price: unit_price? })
}

/// The payload of a PayOrder.
pub fn pay_order(violations: &mut Violations, method: Option<&str>, reference: Option<&str>) -> Option<Action> {
    let method = method.and_then(|text| violations.required("payment_method", text));
    let reference = reference.and_then(|text| violations.optional("payment_reference", text));
    Some(Action::Pay { method: method?, reference: reference? })
}

/// The payload of a ShipOrder.
pub fn ship_order(violations: &mut Violations, tracking_number: Option<&str>, carrier: Option<&str>) -> Option<Action> {
    let tracking_number = tracking_number.and_then(|text| violations.required("tracking_number", text));
    let carrier = carrier.and_then(|text| violations.optional("carrier", text));
    Some(Action::Ship { tracking_number: tracking_number?, carrier: carrier? })
}

/// The payload of a CancelOrder.
pub fn cancel_order(violations: &mut Violations, reason: Option<&str>) -> Option<Action> {
    let reason = reason.and_then(|text| violations.optional("reason", text));
    Some(Action::Cancel { reason: reason? })
}

/// A consistency token; empty: the current state of the node.
pub fn consistency_token(violations: &mut Violations, field: &str, token: &str, log: Option<&Signer>) -> Consistency {
    match tokens::decode_token(token, log) {
        Ok(position) => Consistency::AtLeast(position),
        Err(error) => {
            violations.add_cursor(field, error);
            Consistency::Eventual
        }
    }
}

/// A page size: 0 means the default.
pub fn page_size(violations: &mut Violations, field: &str, size: i64) -> usize {
    match usize::try_from(size) {
        Ok(0) => super::limits::DEFAULT_PAGE_SIZE,
        Ok(size) if size <= super::limits::MAX_PAGE_SIZE => size,
        _ => {
            violations.add(field, format!("must be a whole number of 0 to {}", super::limits::MAX_PAGE_SIZE));
            super::limits::DEFAULT_PAGE_SIZE
        }
    }
}

/// Merges two lists of violations.
#[must_use]
pub fn join(mut first: Violations, second: Option<Violations>) -> Violations {
    if let Some(second) = second {
        first.adopt_logs(&second);
        first.list.extend(second.list);
    }
    first
}
