//! The rules: which events a command produces, and how an event changes an order.

use super::{
    Action, Cancellation, Change, CorruptHistory, Order, OrderCommand, OrderError, OrderEvent, Payment, Shipment,
    Status,
};

/// Decides the events of `command` on the current order (`None`: it does not exist yet).
///
/// # Errors
/// [`OrderError`] when the rules refuse the command.
pub fn decide(order: Option<&Order>, command: &OrderCommand) -> Result<Vec<OrderEvent>, OrderError> {
    let (customer_id, at, change) = match (order, &command.action) {
        (None, Action::Create { customer_id, items, shipping_address }) => {
            let change = Change::Created { items: items.clone(), shipping_address: shipping_address.clone() };
            (customer_id.clone(), command.at, change)
        }
        (Some(_), Action::Create { .. }) => return Err(OrderError::AlreadyExists),
        (None, _) => return Err(OrderError::NotFound),
        (Some(order), action) => {
            let change = change(order.status, action)?;
            // Clocks of two nodes may disagree; the history of one order must still never go back in time.
            (order.customer_id.clone(), command.at.max(order.updated_at), change)
        }
    };
    Ok(vec![OrderEvent { order_id: command.order_id, customer_id, at, change }])
}

/// The state machine: Pending -> Paid -> Shipped -> Delivered, cancel from Pending or Paid.
fn change(status: Status, action: &Action) -> Result<Change, OrderError> {
    match (status, action) {
        (Status::Pending, Action::Pay { method, reference }) => {
            Ok(Change::Paid { method: method.clone(), reference: reference.clone() })
        }
        (Status::Paid, Action::Ship { tracking_number, carrier }) => {
            Ok(Change::Shipped { tracking_number: tracking_number.clone(), carrier: carrier.clone() })
        }
        (Status::Shipped, Action::Deliver) => Ok(Change::Delivered),
        (Status::Pending | Status::Paid, Action::Cancel { reason }) => Ok(Change::Cancelled { reason: reason.clone() }),
        (status, action) => Err(OrderError::IllegalTransition { status, command: action.name() }),
    }
}

/// Applies `event` to the previous state of the order (`None`: it did not exist).
///
/// # Errors
/// [`CorruptHistory`] if no command could have produced `event` here.
pub fn evolve(order: Option<&Order>, event: &OrderEvent) -> Result<Order, CorruptHistory> {
    let Some(order) = order else {
        return created(event);
    };
    let corrupt = CorruptHistory { revision: order.revision + 1 };
    if order.id != event.order_id || order.customer_id != event.customer_id || event.at < order.updated_at {
        return Err(corrupt);
    }
    let mut next = order.clone();
    next.revision += 1;
    next.updated_at = event.at;
    let at = event.at;
    next.status = match (order.status, &event.change) {
        (Status::Pending, Change::Paid { method, reference }) => {
            next.payment = Some(Payment { method: method.clone(), reference: reference.clone(), at });
            Status::Paid
        }
        (Status::Paid, Change::Shipped { tracking_number, carrier }) => {
            next.shipment = Some(Shipment { tracking_number: tracking_number.clone(), carrier: carrier.clone(), at });
            Status::Shipped
        }
        (Status::Shipped, Change::Delivered) => {
            next.delivered_at = Some(at);
            Status::Delivered
        }
        (Status::Pending | Status::Paid, Change::Cancelled { reason }) => {
            next.cancellation = Some(Cancellation { reason: reason.clone(), at });
            Status::Cancelled
        }
        _ => return Err(corrupt),
    };
    Ok(next)
}

fn created(event: &OrderEvent) -> Result<Order, CorruptHistory> {
    let Change::Created { items, shipping_address } = &event.change else {
        return Err(CorruptHistory { revision: 1 });
    };
    Ok(Order {
        id: event.order_id,
        customer_id: event.customer_id.clone(),
        items: items.clone(),
        shipping_address: shipping_address.clone(),
        status: Status::Pending,
        revision: 1,
        created_at: event.at,
        updated_at: event.at,
        payment: None,
        shipment: None,
        delivered_at: None,
        cancellation: None,
    })
}
