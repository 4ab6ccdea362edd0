//! `catga.orders.v1.OrderQueryService`.

use std::sync::Arc;

use http::Extensions;
use prost::Message as _;
use tonic::{Request, Response, Status};

use super::{convert, frames::UnaryReply, reply};
use crate::{
    application::{
        AppError, Scope, VersionedOrder,
        limits::MAX_BATCH_SIZE,
        queries::{BatchGetOrders, GetOrder, GetOrderStats},
        requests::{self, Field, FieldPath, GetOrderDraft, ListDraft, ListRequest, UntilDraft, Violations},
        stats::{OrderStats, total_of},
        tokens::{self, Signer},
        turns::Turns,
    },
    codec::{money_to_proto, status_of_code, timestamp_to_proto},
    domain::{money::Currency, timestamp::Timestamp},
    ports::read_model::{ListOrder, Row},
    proto::catga::orders::v1::{self as pb, order_query_service_server::OrderQueryService},
    server::{
        ApiState,
        call::sending,
        error::ApiError,
        large::{LARGE_BYTES, Reserved},
        principal::reading,
        sending::SentBytes,
    },
};

/// The OrderQueryService.
#[derive(Debug)]
pub struct Queries {
    api: ApiState,
}

impl Queries {
    /// Queries through the mediator of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }

    /// Reads an order for a caller with `extensions`.
    ///
    /// # Errors
    /// As in the table of reasons.
    pub async fn answer(&self, request: &pb::GetOrderRequest, extensions: &Extensions) -> Result<UnaryReply, Status> {
        let query =
            get_order(request, reading(extensions), self.api.known_signer().as_ref()).map_err(ApiError::from)?;
        let loaded = self.api.mediator.get_order(query).await.map_err(ApiError::from)?;
        let token = tokens::encode_token(&self.api.signer()?, loaded.position);
        Ok(UnaryReply::written(|wire| {
            wire.message(1, |wire| convert::write_order(wire, &loaded.order));
            wire.text(2, &token);
        }))
    }
}

#[tonic::async_trait]
impl OrderQueryService for Queries {
    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        Ok(reply(self.answer(request.get_ref(), request.extensions()).await?.decode()?))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        let scope = reading(request.extensions());
        let query = list_orders(request.get_ref(), &scope, self.api.known_signer().as_ref()).map_err(ApiError::from)?;
        let page = self.api.mediator.list_orders(query.list.clone()).await.map_err(ApiError::from)?;
        let signer = self.api.signer()?;
        let next = page.answer.next.map(|last| query.next_page_token(&signer, last));
        Ok(reply(pb::ListOrdersResponse {
            orders: page.answer.rows.iter().map(row_to_proto).collect(),
            next_page_token: next.unwrap_or_default(),
            consistency_token: tokens::encode_token(&signer, page.position),
        }))
    }

    async fn get_order_stats(
        &self,
        request: Request<pb::GetOrderStatsRequest>,
    ) -> Result<Response<pb::GetOrderStatsResponse>, Status> {
        let mut violations = Violations::default();
        let signer = self.api.known_signer();
        let consistency = convert::consistency(request.get_ref().consistency.as_ref());
        let consistency = requests::consistency(&mut violations, consistency, signer.as_ref());
        convert::ensure_valid(violations)?;
        let query = GetOrderStats { consistency, scope: reading(request.extensions()) };
        let found = self.api.mediator.get_order_stats(query).await.map_err(ApiError::from)?;
        let signer = self.api.signer()?;
        let stats = OrderStats::of(&found.answer).map_err(ApiError::internal)?;
        Ok(reply(stats_to_proto(&stats, tokens::encode_token(&signer, found.position))))
    }

    async fn batch_get_orders(
        &self,
        request: Request<pb::BatchGetOrdersRequest>,
    ) -> Result<Response<pb::BatchGetOrdersResponse>, Status> {
        let (scope, signer) = (reading(request.extensions()), self.api.known_signer());
        let turns = self.api.streams_of(request.extensions()).turns_of_large_replies();
        let query = batch_get_orders(request.get_ref(), turns, scope, signer.as_ref()).map_err(ApiError::from)?;
        let found = self.api.mediator.batch_get_orders(query).await.map_err(ApiError::from)?;
        let signer = self.api.signer()?;
        // A missing order is missing as of the reply's position of the log.
        let freshest = found.iter().flatten().map(|loaded| loaded.position).max().unwrap_or_default();
        let missing = request.get_ref().order_ids.iter().zip(&found).filter(|(_, order)| order.is_none());
        let mut response = pb::BatchGetOrdersResponse {
            not_found_order_ids: missing.map(|(id, _)| id.clone()).collect(),
            orders: Vec::with_capacity(found.len()),
            consistency_token: tokens::encode_token(&signer, freshest),
        };
        let mut held = sending(request.extensions()).reservation();
        add_orders(&mut response, &found, &mut held).await?;
        let mut reply = reply(response);
        Reserved::hand_over(held, reply.extensions_mut());
        Ok(reply)
    }
}

/// The default limit of gRPC clients: a larger reply would fail in the client without a reason. No other unary reply can be as large.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
/// The bytes of messages that are encoded before other tasks have their turn.
const TURN_BYTES: usize = 64 * 1024;

/// Adds the orders that were `found`. Their bytes are reserved in `held` as they are added, and no order is encoded for a reply that is too large.
async fn add_orders(
    response: &mut pb::BatchGetOrdersResponse,
    found: &[Option<Arc<VersionedOrder>>],
    held: &mut SentBytes,
) -> Result<(), ApiError> {
    let (mut bytes, mut turn_began_at) = (response.encoded_len(), 0);
    for loaded in found.iter().flatten() {
        let order = convert::order_to_proto(&loaded.order);
        let length = order.encoded_len();
        bytes += 1 + prost::length_delimiter_len(length) + length;
        if bytes > MAX_REPLY_BYTES {
            return Err(ApiError::reply_too_large(MAX_REPLY_BYTES));
        }
        // Smaller replies do not count.
        if bytes as u64 > LARGE_BYTES && !held.set(bytes) {
            return Err(AppError::Overloaded.into());
        }
        response.orders.push(order);
        if bytes - turn_began_at >= TURN_BYTES {
            turn_began_at = bytes;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

fn get_order(request: &pb::GetOrderRequest, scope: Scope, signer: Option<&Signer>) -> Result<GetOrder, Violations> {
    use pb::get_order_request::At;
    let until = match &request.at {
        None => UntilDraft::Latest,
        Some(At::Revision(revision)) => UntilDraft::Revision(*revision),
        Some(At::AsOf(at)) => UntilDraft::Time(convert::time_from_proto(Some(at))),
    };
    let draft = GetOrderDraft {
        order_id: Some(&request.order_id),
        until: Some(until),
        consistency: convert::consistency(request.consistency.as_ref()),
    };
    requests::get_order(Violations::default(), draft, scope, signer)
}

fn batch_get_orders(
    request: &pb::BatchGetOrdersRequest,
    turns: Turns,
    scope: Scope,
    signer: Option<&Signer>,
) -> Result<BatchGetOrders, Violations> {
    let mut violations = Violations::default();
    let consistency =
        requests::consistency(&mut violations, convert::consistency(request.consistency.as_ref()), signer);
    if request.order_ids.is_empty() || request.order_ids.len() > MAX_BATCH_SIZE {
        violations.add(Field::OrderIds, format_args!("must have 1 to {MAX_BATCH_SIZE} entries"));
        return violations.finish(None);
    }
    let ids = request.order_ids.iter().enumerate();
    let order_ids: Vec<_> =
        ids.filter_map(|(index, id)| violations.order_id(FieldPath::Element(Field::OrderIds, index), id)).collect();
    violations.finish(Some(BatchGetOrders { order_ids, max_bytes: MAX_REPLY_BYTES, turns, consistency, scope }))
}

fn list_orders(
    request: &pb::ListOrdersRequest,
    scope: &Scope,
    signer: Option<&Signer>,
) -> Result<ListRequest, Violations> {
    let order = match pb::OrderBy::try_from(request.order_by) {
        Ok(pb::OrderBy::Unspecified) => Ok(None),
        Ok(pb::OrderBy::CreatedDesc) => Ok(Some(ListOrder::NewestFirst)),
        Ok(pb::OrderBy::CreatedAsc) => Ok(Some(ListOrder::OldestFirst)),
        Err(_) => Err("is not a known order".to_owned()),
    };
    let draft = ListDraft {
        page_size: request.page_size.into(),
        page_token: &request.page_token,
        customer_id: &request.customer_id,
        status: convert::status_from_proto(request.status),
        created_after: convert::bound_from_proto(request.created_after.as_ref()),
        created_before: convert::bound_from_proto(request.created_before.as_ref()),
        order,
        consistency: convert::consistency(request.consistency.as_ref()),
    };
    requests::list_orders(Violations::default(), draft, scope, signer)
}

fn row_to_proto(row: &Row) -> pb::OrderSummary {
    let status = status_of_code(row.status).map_or(pb::OrderStatus::Unspecified, convert::status_to_proto);
    pb::OrderSummary {
        order_id: row.id.to_string(),
        customer_id: row.customer.to_string(),
        status: status.into(),
        total: total_of(row).map(money_to_proto),
        item_count: i32::try_from(row.item_count).unwrap_or(i32::MAX),
        revision: convert::revision_to_proto(row.revision),
        created_at: Some(timestamp_to_proto(Timestamp::from_micros(row.created_at_micros))),
        updated_at: Some(timestamp_to_proto(Timestamp::from_micros(row.updated_at_micros))),
    }
}

fn stats_to_proto(stats: &OrderStats, consistency_token: String) -> pb::GetOrderStatsResponse {
    let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
    let by_status = stats.by_status.map(|(status, count)| pb::StatusCount {
        status: convert::status_to_proto(status).into(),
        count: number(count),
    });
    pb::GetOrderStatsResponse {
        total_orders: number(stats.total_orders()),
        by_status: by_status.into(),
        total_revenue: stats.revenue.iter().map(|(currency, minor)| large_money(*currency, *minor)).collect(),
        consistency_token,
    }
}

/// A sum over many orders. The proto has 64 bits for its whole units: a larger sum is reported as the maximum.
fn large_money(currency: Currency, minor: i128) -> crate::proto::Money {
    let minor_per_unit = 10_i128.pow(currency.exponent());
    let nanos = (minor % minor_per_unit) * 10_i128.pow(9 - currency.exponent());
    let (units, nanos) = match (i64::try_from(minor / minor_per_unit), i32::try_from(nanos)) {
        (Ok(units), Ok(nanos)) => (units, nanos),
        _ => (i64::MAX, 0),
    };
    crate::proto::Money { currency_code: currency.code().to_owned(), units, nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_exact_beyond_64_bits_and_saturates_at_the_limit_of_the_proto() {
        let parts = |code, minor| {
            let money = large_money(Currency::parse(code).unwrap(), minor);
            (money.units, money.nanos)
        };
        let most = i128::from(i64::MAX);
        assert_eq!(parts("USD", most * 2), (184_467_440_737_095_516, 140_000_000));
        assert_eq!(parts("USD", most * 100 + 99), (i64::MAX, 990_000_000));
        assert_eq!(parts("USD", most * 100 + 100), (i64::MAX, 0));
        assert_eq!(parts("JPY", most + 1), (i64::MAX, 0));
        assert_eq!(parts("JPY", i128::MAX), (i64::MAX, 0));
    }
}
