//! The JSON of replies, serialised directly from the domain.

use std::fmt;

use axum::{body::Body, response::IntoResponse};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::{Serialize, Serializer};

use super::{
    decimal::{Amount, Code},
    order_json,
    problem::CONSISTENCY_TOKEN,
    time::Rfc3339,
};
use crate::{
    application::{
        VersionedOrder,
        stats::total_of,
        tokens::{self, Signer},
    },
    codec::{digits::Digits, status_of_code},
    domain::{ids::OrderId, timestamp::Timestamp},
    ports::{event_store::Position, read_model::Row},
    server::error::ApiError,
};

/// The number of headers of most replies, including those added by the outer layers.
const USUAL_HEADERS: usize = 12;

/// A reply with a JSON body.
pub fn json(status: StatusCode, body: &impl Serialize) -> Response<Body> {
    let mut bytes = Vec::with_capacity(512);
    // Fails only for maps with keys that are not text, which these views do not contain.
    if let Err(error) = serde_json::to_writer(&mut bytes, body) {
        return ApiError::internal(error).into_response();
    }
    json_of(status, bytes)
}

fn json_of(status: StatusCode, bytes: Vec<u8>) -> Response<Body> {
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().reserve(USUAL_HEADERS);
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

/// The path of an order in the list at `list`.
///
/// # Errors
/// As [`header_value`].
pub fn location(list: &str, id: OrderId) -> Result<HeaderValue, ApiError> {
    let mut path = Vec::with_capacity(list.len() + 1 + Digits::MAX);
    path.extend_from_slice(list.as_bytes());
    path.push(b'/');
    path.extend_from_slice(Digits::of(id.get()).as_ref());
    Ok(unique(HeaderValue::from_maybe_shared(Bytes::from(path)).map_err(ApiError::internal)?))
}

/// A header value whose text differs each time: HTTP/2 does not add it to the tables of recent headers, which both sides keep.
///
/// # Errors
/// As [`header_value`].
pub fn unique_header_value(text: String) -> Result<HeaderValue, ApiError> {
    Ok(unique(header_value(text)?))
}

fn unique(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// Adds the consistency token of the reply.
///
/// # Errors
/// [`Reason::Internal`](crate::server::error::Reason::Internal) if the token is not a valid header, which would be a bug.
pub fn set_token(response: &mut Response<Body>, signer: &Signer, position: Position) -> Result<(), ApiError> {
    let token = unique_header_value(tokens::encode_token(signer, position))?;
    response.headers_mut().insert(CONSISTENCY_TOKEN, token);
    Ok(())
}

/// A reply with an order, its entity tag and its consistency token.
///
/// # Errors
/// [`Reason::Internal`](crate::server::error::Reason::Internal) if the order cannot be written as JSON, which does not occur in practice.
pub fn order(status: StatusCode, loaded: &VersionedOrder, signer: &Signer) -> Result<Response<Body>, ApiError> {
    let mut response = json_of(status, order_json::order(&loaded.order).map_err(ApiError::internal)?);
    tag(&mut response, loaded, signer)?;
    Ok(response)
}

/// A 304: the client's copy of the order is current.
///
/// # Errors
/// [`Reason::Internal`](crate::server::error::Reason::Internal) if the token or the entity tag is not a valid header, which would be a bug.
pub fn not_modified(loaded: &VersionedOrder, signer: &Signer) -> Result<Response<Body>, ApiError> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    tag(&mut response, loaded, signer)?;
    Ok(response)
}

fn tag(response: &mut Response<Body>, loaded: &VersionedOrder, signer: &Signer) -> Result<(), ApiError> {
    let mut etag = Vec::with_capacity(Digits::MAX + 2);
    etag.push(b'"');
    etag.extend_from_slice(Digits::of(loaded.order.revision).as_ref());
    etag.push(b'"');
    let etag = HeaderValue::from_maybe_shared(Bytes::from(etag)).map_err(ApiError::internal)?;
    response.headers_mut().insert(header::ETAG, etag);
    set_token(response, signer, loaded.position)
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
            total_of(row).ok_or_else(|| ApiError::internal("a row of the read model has an unknown currency"))?;
        Ok(Self {
            order_id: Text(row.id),
            customer_id: &row.customer,
            status: status_of_code(row.status)
                .ok_or_else(|| ApiError::internal("a row of the read model has an unknown status"))?
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
