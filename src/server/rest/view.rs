//! The JSON of replies, serialised directly from the domain.

use std::fmt;

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Serialize, Serializer};

use super::{decimal::Amount, problem::CONSISTENCY_TOKEN, time::Rfc3339};
use crate::{
    application::{
        VersionedOrder,
        stats::total_of,
        tokens::{self, Signer},
    },
    codec::status_of_code,
    domain::{
        money::Currency,
        order::{Change, Item, Order, OrderEvent},
        timestamp::Timestamp,
    },
    ports::{event_store::Position, read_model::Row},
    server::error::ApiError,
};

/// A reply with a JSON body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut bytes = Vec::with_capacity(512);
    // Fails only for maps with keys that are not text, which these views do not contain.
    if let Err(error) = serde_json::to_writer(&mut bytes, body) {
        return ApiError::internal(error).into_response();
    }
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Text of this service as a header value.
///
/// # Errors
/// If the text has characters that no header accepts, which would be a bug of the service.
pub fn header_value(text: String) -> Result<HeaderValue, ApiError> {
    HeaderValue::from_maybe_shared(Bytes::from(text)).map_err(ApiError::internal)
}

/// Adds the consistency token of the reply.
///
/// # Errors
/// Never in practice.
pub fn set_token(response: &mut Response<Body>, log: &Signer, position: Position) -> Result<(), ApiError> {
    let token = header_value(tokens::encode_token(log, position))?;
    response.headers_mut().insert(CONSISTENCY_TOKEN, token);
    Ok(())
}

/// A reply with an order, its entity tag and its consistency token.
///
/// # Errors
/// Never in practice.
pub fn order(status: StatusCode, loaded: &VersionedOrder, log: &Signer) -> Result<Response<Body>, ApiError> {
    let mut response = json(status, &OrderView::from(&loaded.order));
    tag(&mut response, loaded, log)?;
    Ok(response)
}

/// A reply that the client's copy is current.
///
/// # Errors
/// Never in practice.
pub fn not_modified(loaded: &VersionedOrder, log: &Signer) -> Result<Response<Body>, ApiError> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    tag(&mut response, loaded, log)?;
    Ok(response)
}

fn tag(response: &mut Response<Body>, loaded: &VersionedOrder, log: &Signer) -> Result<(), ApiError> {
    let etag = header_value(format!("\"{}\"", loaded.order.revision))?;
    response.headers_mut().insert(header::ETAG, etag);
    set_token(response, log, loaded.position)
}

/// An order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OrderView<'a> {
    order_id: Text<u64>,
    customer_id: &'a str,
    status: &'static str,
    items: Items<'a>,
    total: Amount,
    currency: Code,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipping_address: Option<&'a str>,
    revision: u64,
    created_at: Rfc3339,
    updated_at: Rfc3339,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_reference: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracking_number: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shipped_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered_at: Option<Rfc3339>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Rfc3339>,
}

impl<'a> From<&'a Order> for OrderView<'a> {
    fn from(order: &'a Order) -> Self {
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
        let (payment, shipment, cancellation) = (payment.as_ref(), shipment.as_ref(), cancellation.as_ref());
        let total = items.total();
        Self {
            order_id: Text(id.get()),
            customer_id,
            status: status.name(),
            items: Items(items.lines()),
            total: total.into(),
            currency: Code(total.currency()),
            shipping_address: shipping_address.as_deref(),
            revision: *revision,
            created_at: Rfc3339(*created_at),
            updated_at: Rfc3339(*updated_at),
            payment_method: payment.map(|payment| payment.method.as_str()),
            payment_reference: payment.and_then(|payment| payment.reference.as_deref()),
            paid_at: payment.map(|payment| Rfc3339(payment.at)),
            tracking_number: shipment.map(|shipment| shipment.tracking_number.as_str()),
            carrier: shipment.and_then(|shipment| shipment.carrier.as_deref()),
            shipped_at: shipment.map(|shipment| Rfc3339(shipment.at)),
            delivered_at: delivered_at.map(Rfc3339),
            cancel_reason: cancellation.and_then(|cancellation| cancellation.reason.as_deref()),
            cancelled_at: cancellation.map(|cancellation| Rfc3339(cancellation.at)),
        }
    }
}

/// The items of an order.
pub struct Items<'a>(pub &'a [Item]);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemView<'a> {
    product_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    quantity: u32,
    price: Amount,
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|item| ItemView {
            product_id: &item.product_id,
            name: item.name.as_deref(),
            quantity: item.quantity.get(),
            price: item.unit_price.into(),
        }))
    }
}

/// What an event has besides the fields that all have.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum ChangeView<'a> {
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

impl<'a> ChangeView<'a> {
    /// The JSON of the change in `event`.
    pub fn of(event: &'a OrderEvent) -> Self {
        let at = Rfc3339(event.at);
        match &event.change {
            Change::Created { items, shipping_address } => Self::Created {
                items: Items(items.lines()),
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

/// One row of the list of orders.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RowView<'a> {
    order_id: Text<u64>,
    customer_id: &'a str,
    status: &'static str,
    total: Amount,
    currency: Code,
    item_count: u32,
    revision: u64,
    created_at: Rfc3339,
    updated_at: Rfc3339,
}

impl<'a> RowView<'a> {
    /// The JSON of `row`.
    ///
    /// # Errors
    /// If the row has an unknown status or currency: the read model is damaged.
    pub fn of(row: &'a Row) -> Result<Self, ApiError> {
        let total =
            total_of(row).ok_or_else(|| ApiError::internal("a row of the list has a currency that there is not"))?;
        Ok(Self {
            order_id: Text(row.id),
            customer_id: &row.customer,
            status: status_of_code(row.status)
                .ok_or_else(|| ApiError::internal("a row of the list has a status that there is not"))?
                .name(),
            total: total.into(),
            currency: Code(total.currency()),
            item_count: row.item_count,
            revision: row.revision,
            created_at: Rfc3339(Timestamp::from_micros(row.created_at_micros)),
            updated_at: Rfc3339(Timestamp::from_micros(row.updated_at_micros)),
        })
    }
}

/// A value as JSON text: JavaScript would lose digits of a 63-bit number.
#[derive(Clone, Copy, Debug)]
pub struct Text<T>(pub T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// The code of a currency.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub Currency);

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.code())
    }
}
