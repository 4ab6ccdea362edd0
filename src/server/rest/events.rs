//! One event as JSON: flat, as in the history of the reference API.

use serde::Serialize;

use super::order_json::ChangeView;
use crate::{
    application::{
        AppError,
        tokens::{self, Signer},
    },
    codec,
    ports::event_store::{LogPoint, StoredEvent},
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
    #[serde(skip_serializing_if = "str::is_empty")]
    on_behalf_of: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceparent: &'a str,
    #[serde(flatten)]
    change: ChangeView<'a>,
}

/// Appends the JSON of a stored event to `out`.
///
/// # Errors
/// [`AppError::Corrupt`] if the event cannot be read.
pub fn write(stored: &StoredEvent, signer: &Signer, out: &mut Vec<u8>) -> Result<(), AppError> {
    // The message contains the actor of the event, the domain event its content.
    let message = codec::decode_message(&stored.payload)?;
    let event = codec::decode(&stored.payload)?;
    let view = EventView {
        kind: event.change.kind().name(),
        event_id: &message.event_id,
        order_id: &message.order_id,
        revision: stored.revision,
        cursor: tokens::encode_cursor(signer, LogPoint::after(stored)),
        customer_id: &event.customer_id,
        request_id: &message.request_id,
        actor: &message.actor,
        on_behalf_of: &message.on_behalf_of,
        traceparent: &message.traceparent,
        change: ChangeView::of(&event),
    };
    serde_json::to_writer(out, &view).map_err(|error| AppError::Corrupt(error.to_string()))
}
