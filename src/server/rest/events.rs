//! One event as JSON: flat, as in the history of the seed.

use serde::Serialize;

use super::{
    decimal::Amount,
    time::Rfc3339,
    view::{Code, Items},
};
use crate::{
    application::{AppError, tokens},
    codec,
    domain::order::{Change, OrderEvent},
    ports::event_store::{LogPoint, StoredEvent},
    server::Signer,
};

/// The common fields of events, with those of its kind.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventView<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    event_id: &'a str,
    order_id: &'a str,
    revision: u64,
    cursor: String,
    customer_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    actor: &'a str,
    #[serde(flatten)]
    change: ChangeView<'a>,
}

#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum ChangeView<'a> {
    Created {
        items: Items<'a>,
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

/// Appends the JSON of a stored event to `out`.
///
/// # Errors
/// [`AppError::Corrupt`] if the event cannot be read.
pub fn write(stored: &StoredEvent, log: &Signer, out: &mut Vec<u8>) -> Result<(), AppError> {
    // The message contains the actor of the event, the domain event its meaning.
    let message = codec::decode_message(&stored.payload)?;
    let event = codec::decode(&stored.payload)?;
    let view = EventView {
        kind: event.change.kind().name(),
        event_id: &message.event_id,
        order_id: &message.order_id,
        revision: stored.revision,
        cursor: tokens::encode_cursor(log, LogPoint::after(stored)),
        customer_id: &event.customer_id,
        request_id: &message.request_id,
        actor: &message.actor,
        change: change(&event),
    };
    serde_json::to_writer(out, &view).map_err(|error| AppError::Corrupt(error.to_string()))
}

fn change(event: &OrderEvent) -> ChangeView<'_> {
    let at = Rfc3339(event.at);
    match &event.change {
        Change::Created { items, shipping_address } => ChangeView::Created {
            items: Items(items.lines()),
            total: items.total().into(),
            currency: Code(items.total().currency()),
            shipping_address: shipping_address.as_deref(),
            created_at: at,
        },
        Change::Paid { method, reference } => {
            ChangeView::Paid { payment_method: method, payment_reference: reference.as_deref(), paid_at: at }
        }
        Change::Shipped { tracking_number, carrier } => {
            ChangeView::Shipped { tracking_number, carrier: carrier.as_deref(), shipped_at: at }
        }
        Change::Delivered => ChangeView::Delivered { delivered_at: at },
        Change::Cancelled { reason } => ChangeView::Cancelled { reason: reason.as_deref(), cancelled_at: at },
    }
}
