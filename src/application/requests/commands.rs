//! The commands: the fields of a request, how they are parsed, and the fingerprint that identifies a retry.

use std::fmt;

use strum::{IntoStaticStr, VariantArray};
use xxhash_rust::xxh3::Xxh3;

use super::{
    fields::{Field, FieldPath},
    violations::Violations,
};
use crate::{
    application::{AppError, Scope},
    domain::{
        ids::OrderId,
        money::{Money, MoneyError},
        order::{Action, Item, Items, ItemsError, Quantity, item::MAX_ITEMS},
        text::{Actor, RequestId},
    },
    identity::{Principal, Role, Roles},
    ports::event_store::Revision,
};

/// The kinds of command, under which they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[allow(missing_docs, reason = "named as the calls of the API are")]
pub enum CommandKind {
    CreateOrder,
    PayOrder,
    ShipOrder,
    DeliverOrder,
    CancelOrder,
}

impl CommandKind {
    /// The kind of the command that has this name in the API: "PayOrder".
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::VARIANTS.iter().copied().find(|kind| <&str>::from(*kind) == name)
    }

    /// The roles that may send the command; one of them is enough. A customer may place, pay and cancel its own orders, but neither ship nor deliver
    /// them.
    #[must_use]
    pub const fn roles(self) -> Roles {
        match self {
            Self::CreateOrder | Self::PayOrder | Self::CancelOrder => Roles::of(&[Role::Writer, Role::Customer]),
            Self::ShipOrder | Self::DeliverOrder => Roles::of(&[Role::Writer]),
        }
    }

    /// Checks that `caller` has one of the roles.
    ///
    /// # Errors
    /// [`AppError::RoleMissing`].
    pub fn check_roles(self, caller: &Principal) -> Result<(), AppError> {
        let (needed, own) = (self.roles(), caller.roles());
        if own.has_any(needed) { Ok(()) } else { Err(AppError::RoleMissing { needed, own }) }
    }
}

/// A command as received by a protocol server.
#[derive(Clone, Debug)]
pub struct OrderRequest {
    /// The client's idempotency key.
    pub request_id: Option<RequestId>,
    /// The revision that the client expects the order to have.
    pub expected_revision: Option<Revision>,
    /// The originator of the command, as the client names it.
    pub actor: Option<Actor>,
    /// The order.
    pub target: Target,
    /// The action.
    pub action: Action,
    /// The verified caller.
    pub caller: Principal,
}

/// The order that a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<Id = OrderId> {
    /// A new one, whose id the service chooses.
    New,
    /// The one with this id.
    Existing(Id),
}

impl OrderRequest {
    /// The kind of the command.
    #[must_use]
    pub const fn kind(&self) -> CommandKind {
        match self.action {
            Action::Create { .. } => CommandKind::CreateOrder,
            Action::Pay { .. } => CommandKind::PayOrder,
            Action::Ship { .. } => CommandKind::ShipOrder,
            Action::Deliver => CommandKind::DeliverOrder,
            Action::Cancel { .. } => CommandKind::CancelOrder,
        }
    }

    /// The orders that the command may change.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::of(&self.caller, Role::Writer)
    }

    /// A hash of the request. It is stored, so its input is explicit and must never change: the command's name, the expected revision and every field,
    /// each prefixed with its length.
    pub(in crate::application) fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        let mut field = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        field(self.action.name().as_bytes());
        field(&self.expected_revision.map_or(u64::MAX, |revision| revision).to_le_bytes());
        match &self.action {
            Action::Create { customer_id, items, shipping_address } => {
                field(customer_id.as_bytes());
                field(shipping_address.as_deref().unwrap_or_default().as_bytes());
                for item in items.lines() {
                    field(item.product_id.as_bytes());
                    field(item.name.as_deref().unwrap_or_default().as_bytes());
                    field(&item.quantity.get().to_le_bytes());
                    field(&item.unit_price.minor().to_le_bytes());
                    field(&item.unit_price.currency().code_bytes());
                }
            }
            Action::Pay { method, reference } => {
                field(method.as_bytes());
                field(reference.as_deref().unwrap_or_default().as_bytes());
            }
            Action::Ship { tracking_number, carrier } => {
                field(tracking_number.as_bytes());
                field(carrier.as_deref().unwrap_or_default().as_bytes());
            }
            Action::Deliver => {}
            Action::Cancel { reason } => field(reason.as_deref().unwrap_or_default().as_bytes()),
        }
        hash.digest128()
    }
}

/// A command.
#[derive(Clone, Debug)]
pub struct CommandDraft<'a> {
    /// The common fields.
    pub meta: MetaDraft<'a>,
    /// The order, by its id as text.
    pub target: Target<Option<&'a str>>,
    /// The action.
    pub action: ActionDraft<'a>,
}

impl CommandDraft<'_> {
    /// The kind of the command.
    #[must_use]
    pub const fn kind(&self) -> CommandKind {
        match self.action {
            ActionDraft::Create(_) => CommandKind::CreateOrder,
            ActionDraft::Pay { .. } => CommandKind::PayOrder,
            ActionDraft::Ship { .. } => CommandKind::ShipOrder,
            ActionDraft::Deliver => CommandKind::DeliverOrder,
            ActionDraft::Cancel { .. } => CommandKind::CancelOrder,
        }
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

/// The action of a command, with its payload. Omitted text is empty.
#[derive(Clone, Debug)]
pub enum ActionDraft<'a> {
    /// CreateOrder.
    Create(OrderDraft<'a>),
    /// PayOrder.
    Pay {
        /// The payment method.
        method: Option<&'a str>,
        /// The payment provider's reference.
        reference: Option<&'a str>,
    },
    /// ShipOrder.
    Ship {
        /// The carrier's tracking number.
        tracking_number: Option<&'a str>,
        /// The carrier.
        carrier: Option<&'a str>,
    },
    /// DeliverOrder.
    Deliver,
    /// CancelOrder.
    Cancel {
        /// The reason.
        reason: Option<&'a str>,
    },
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
    pub unit_price: Option<Result<Money, PriceError>>,
}

/// Why an item has no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PriceError {
    /// It was left out.
    LeftOut,
    /// It is not a valid amount.
    Invalid(MoneyError),
}

/// The request of a command by `caller`.
///
/// # Errors
/// All violations, including earlier ones in `violations`.
pub fn command(
    mut violations: Violations,
    draft: CommandDraft<'_>,
    caller: &Principal,
) -> Result<OrderRequest, Violations> {
    let CommandDraft { meta, target, action } = draft;
    let request_id = violations.optional(Field::RequestId, meta.request_id);
    let actor = violations.optional(Field::Actor, meta.actor);
    let is_new = matches!(target, Target::New);
    let expected_revision = expected_revision(&mut violations, meta.expected_revision, is_new);
    let target = match target {
        Target::New => Some(Target::New),
        Target::Existing(id) => id.and_then(|id| violations.order_id(Field::OrderId, id)).map(Target::Existing),
    };
    let action = match action {
        ActionDraft::Create(draft) => create_order(&mut violations, draft),
        ActionDraft::Pay { method, reference } => pay_order(&mut violations, method, reference),
        ActionDraft::Ship { tracking_number, carrier } => ship_order(&mut violations, tracking_number, carrier),
        ActionDraft::Deliver => Some(Action::Deliver),
        ActionDraft::Cancel { reason } => cancel_order(&mut violations, reason),
    };
    let request = target.zip(action).map(|(target, action)| OrderRequest {
        request_id: request_id.flatten(),
        expected_revision,
        actor: actor.flatten(),
        target,
        action,
        caller: caller.clone(),
    });
    violations.finish(request)
}

fn expected_revision(violations: &mut Violations, revision: Option<i64>, is_new: bool) -> Option<u64> {
    match revision? {
        0 if is_new => Some(0),
        _ if is_new => {
            violations.add(Field::ExpectedRevision, "must be unset or 0: a new order has no revision yet");
            None
        }
        revision => match u64::try_from(revision) {
            Ok(revision) if revision > 0 => Some(revision),
            _ => {
                violations.add(Field::ExpectedRevision, "must be at least 1");
                None
            }
        },
    }
}

fn create_order(violations: &mut Violations, draft: OrderDraft<'_>) -> Option<Action> {
    let customer_id = draft.customer_id.and_then(|text| violations.required(Field::CustomerId, text));
    let shipping_address = draft.shipping_address.and_then(|text| violations.optional(Field::ShippingAddress, text));
    let items = draft.items.and_then(|items| self::items(violations, items));
    Some(Action::Create { customer_id: customer_id?, items: items?, shipping_address: shipping_address? })
}

fn items(violations: &mut Violations, drafts: Vec<ItemDraft<'_>>) -> Option<Items> {
    if drafts.len() > MAX_ITEMS {
        // One violation is enough: reporting ten thousand items would not help.
        violations.add(Field::Items, ItemsError::TooMany);
        return None;
    }
    let count = drafts.len();
    let lines: Vec<Item> =
        drafts.into_iter().enumerate().filter_map(|(index, draft)| item(violations, index, draft)).collect();
    if lines.len() < count {
        return None;
    }
    let items = Items::new(lines).and_then(Items::bounded);
    items.map_err(|error| violations.add(field_of_items(error), error)).ok()
}

const fn field_of_items(error: ItemsError) -> FieldPath {
    match error {
        ItemsError::MixedCurrencies(index) => FieldPath::OfItem(index, Field::UnitPrice),
        _ => FieldPath::Of(Field::Items),
    }
}

fn item(violations: &mut Violations, index: usize, draft: ItemDraft<'_>) -> Option<Item> {
    let of = |field| FieldPath::OfItem(index, field);
    let product_id = draft.product_id.and_then(|text| violations.required(of(Field::ProductId), text));
    let name = draft.name.and_then(|text| violations.optional(of(Field::Name), text));
    let quantity = draft.quantity.and_then(|pieces| violations.check(of(Field::Quantity), Quantity::new(pieces)));
    let unit_price = draft.unit_price.and_then(|price| violations.check(of(Field::UnitPrice), price));
    Some(Item { product_id: product_id?, name: name?, quantity: quantity?, unit_price: unit_price? })
}

impl From<MoneyError> for PriceError {
    fn from(error: MoneyError) -> Self {
        Self::Invalid(error)
    }
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LeftOut => f.write_str("is required"),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

fn pay_order(violations: &mut Violations, method: Option<&str>, reference: Option<&str>) -> Option<Action> {
    let method = method.and_then(|text| violations.required(Field::PaymentMethod, text));
    let reference = reference.and_then(|text| violations.optional(Field::PaymentReference, text));
    Some(Action::Pay { method: method?, reference: reference? })
}

fn ship_order(violations: &mut Violations, tracking_number: Option<&str>, carrier: Option<&str>) -> Option<Action> {
    let tracking_number = tracking_number.and_then(|text| violations.required(Field::TrackingNumber, text));
    let carrier = carrier.and_then(|text| violations.optional(Field::Carrier, text));
    Some(Action::Ship { tracking_number: tracking_number?, carrier: carrier? })
}

fn cancel_order(violations: &mut Violations, reason: Option<&str>) -> Option<Action> {
    let reason = reason.and_then(|text| violations.optional(Field::Reason, text));
    Some(Action::Cancel { reason: reason? })
}
