//! Converts stored events to rows of the list of orders.

use std::sync::Arc;

use crate::{
    codec::{CodecError, EventHeader, status_code},
    domain::order::{EventKind, Status},
    ports::{
        event_store::StoredEvent,
        read_model::{Row, RowChange},
    },
};

/// The change that an event makes to the list.
///
/// # Errors
/// [`CodecError`] if the event cannot be read.
pub fn row_change(stored: &StoredEvent) -> Result<RowChange, CodecError> {
    let header = EventHeader::read(&stored.payload)?;
    let at = header.at()?.as_micros();
    let kind = header.kind()?;
    if kind == EventKind::Created {
        return inserted(stored, &header, at);
    }
    Ok(RowChange::Update {
        id: stored.stream.0,
        status: status_code(kind.status_after()),
        revision: stored.revision,
        updated_at_micros: at,
    })
}

fn inserted(stored: &StoredEvent, header: &EventHeader<'_>, at: i64) -> Result<RowChange, CodecError> {
    let (total, item_count) = header.created()?.ok_or_else(|| CodecError::Corrupt("not an OrderCreated".to_owned()))?;
    Ok(RowChange::Insert(Row {
        id: stored.stream.0,
        customer: Arc::from(header.customer_id()?),
        status: status_code(Status::Pending),
        created_at_micros: at,
        updated_at_micros: at,
        amount_minor: total.minor(),
        currency: total.currency().code_bytes(),
        item_count,
        revision: stored.revision,
    }))
}
