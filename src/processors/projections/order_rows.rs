//! From stored events to the rows of the list of orders.

use std::sync::Arc;

use crate::{
    codec::{CodecError, EventHeader, EventKind},
    domain::order::Status,
    ports::{
        event_store::StoredEvent,
        read_model::{Row, RowChange},
    },
};

/// The number under which the read model keeps a status. Stored: never renumbered.
#[must_use]
pub const fn status_code(status: Status) -> u8 {
    match status {
        Status::Pending => 1,
        Status::Paid => 2,
        Status::Shipped => 3,
        Status::Delivered => 4,
        Status::Cancelled => 5,
    }
}

/// The status that the read model keeps under a number.
#[must_use]
pub fn status_of_code(code: u8) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status_code(*status) == code)
}

/// What an event changes in the list.
///
/// # Errors
/// [`CodecError`] if the event cannot be read.
pub fn row_change(stored: &StoredEvent) -> Result<RowChange, CodecError> {
    let header = EventHeader::read(&stored.payload)?;
    let at = header.at()?.as_micros();
    let status = match header.kind()? {
        EventKind::Created => return inserted(stored, &header, at),
        EventKind::Paid => Status::Paid,
        EventKind::Shipped => Status::Shipped,
        EventKind::Delivered => Status::Delivered,
        EventKind::Cancelled => Status::Cancelled,
    };
    Ok(RowChange::Update {
        id: stored.stream.0,
        status: status_code(status),
        revision: stored.revision,
        updated_at_micros: at,
    })
}

fn inserted(stored: &StoredEvent, header: &EventHeader, at: i64) -> Result<RowChange, CodecError> {
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
