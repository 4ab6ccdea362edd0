//! `catga.orders.v1.OrderQueryService`.

use prost::Message as _;
use tonic::{Request, Response, Status};
use xxhash_rust::xxh3::Xxh3;

use super::{convert, reply};
use crate::{
    application::{
        order_repository::AsOf,
        queries::{BatchGetOrders, GetOrder, GetOrderStats, ListOrders},
        requests::{self, Violations},
        tokens::{self, PageKey},
    },
    codec::{money_to_proto, status_code, status_of_code, timestamp_to_proto},
    domain::{
        money::{Currency, Money},
        order::Status as OrderStatus,
        text::CustomerId,
        timestamp::Timestamp,
    },
    ports::read_model::{ListFilter, ListOrder, ListQuery, Page, Row, RowKey, Totals},
    proto::catga::orders::v1::{self as pb, order_query_service_server::OrderQueryService},
    server::{ApiState, MAX_BATCH_SIZE, Signer, error::ApiError},
};

/// The OrderQueryService.
#[derive(Debug)]
pub struct Queries {
    context: ApiState,
}

impl Queries {
    /// Queries through the mediator of `context`.
    #[must_use]
    pub const fn new(context: ApiState) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl OrderQueryService for Queries {
    async fn get_order(&self, request: Request<pb::GetOrderRequest>) -> Result<Response<pb::GetOrderResponse>, Status> {
        let query = get_order(request.get_ref(), self.context.known_log().as_ref()).map_err(ApiError::from)?;
        let loaded = self.context.mediator.get_order(query).await.map_err(ApiError::from)?;
        let log = self.context.log()?;
        Ok(reply(pb::GetOrderResponse {
            order: Some(convert::order_to_proto(&loaded.order)),
            consistency_token: tokens::encode_token(&log, loaded.position),
        }))
    }

    async fn list_orders(
        &self,
        request: Request<pb::ListOrdersRequest>,
    ) -> Result<Response<pb::ListOrdersResponse>, Status> {
        Ok(reply(list_orders(&self.context, request.get_ref()).await?))
    }

    async fn get_order_stats(
        &self,
        request: Request<pb::GetOrderStatsRequest>,
    ) -> Result<Response<pb::GetOrderStatsResponse>, Status> {
        Ok(reply(get_order_stats(&self.context, request.get_ref()).await?))
    }

    async fn batch_get_orders(
        &self,
        request: Request<pb::BatchGetOrdersRequest>,
    ) -> Result<Response<pb::BatchGetOrdersResponse>, Status> {
        let query = batch_get_orders(request.get_ref(), self.context.known_log().as_ref()).map_err(ApiError::from)?;
        let found = self.context.mediator.batch_get_orders(query).await.map_err(ApiError::from)?;
        let log = self.context.log()?;
        // A missing order is missing as of the end of the log that the reply is at least as fresh as.
        let freshest = found.iter().flatten().map(|loaded| loaded.position).max().unwrap_or_default();
        let missing = request.get_ref().order_ids.iter().zip(&found).filter(|(_, order)| order.is_none());
        let response = pb::BatchGetOrdersResponse {
            not_found_order_ids: missing.map(|(id, _)| id.clone()).collect(),
            orders: found.iter().flatten().map(|loaded| convert::order_to_proto(&loaded.order)).collect(),
            consistency_token: tokens::encode_token(&log, freshest),
        };
        if response.encoded_len() > MAX_REPLY_BYTES {
            return Err(ApiError::reply_too_large(MAX_REPLY_BYTES).to_status());
        }
        Ok(reply(response))
    }
}

/// The default limit of gRPC clients: a larger reply would fail in the client without a reason. No other unary reply can be as large.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;

fn get_order(request: &pb::GetOrderRequest, log: Option<&Signer>) -> Result<GetOrder, Violations> {
    use pb::get_order_request::At;
    let mut violations = Violations::default();
    let order_id = violations.order_id("order_id", &request.order_id);
    let until = match &request.at {
        None => Some(AsOf::Latest),
        Some(At::Revision(revision)) => match u64::try_from(*revision) {
            Ok(revision) if revision > 0 => Some(AsOf::Revision(revision)),
            _ => {
                violations.add("revision", "must be at least 1");
                None
            }
        },
        Some(At::AsOf(at)) => convert::time_from_proto(&mut violations, "as_of", Some(at)).map(AsOf::Time),
    };
    let consistency = convert::consistency(&mut violations, request.consistency.as_ref(), log);
    let query = order_id.zip(until).map(|(order_id, until)| GetOrder { order_id, until, consistency });
    violations.finish(query)
}

fn batch_get_orders(request: &pb::BatchGetOrdersRequest, log: Option<&Signer>) -> Result<BatchGetOrders, Violations> {
    let mut violations = Violations::default();
    let consistency = convert::consistency(&mut violations, request.consistency.as_ref(), log);
    if request.order_ids.is_empty() || request.order_ids.len() > MAX_BATCH_SIZE {
        violations.add("order_ids", format!("must have 1 to {MAX_BATCH_SIZE} entries"));
        return violations.finish(None);
    }
    let ids = request.order_ids.iter().enumerate();
    let order_ids: Vec<_> =
        ids.filter_map(|(index, id)| violations.order_id(&format!("order_ids[{index}]"), id)).collect();
    violations.finish(Some(BatchGetOrders { order_ids, consistency }))
}

/// A page of the list of orders.
///
/// # Errors
/// [`ApiError`].
pub async fn list_orders(
    context: &ApiState,
    request: &pb::ListOrdersRequest,
) -> Result<pb::ListOrdersResponse, ApiError> {
    let (list, fingerprint) = parse_list(request, context.known_log().as_ref())?;
    let page = context.mediator.list_orders(list).await?;
    let log = context.log()?;
    let Page { rows, next } = page.answer;
    let key = next.map(|key| PageKey { created_at_micros: key.created_at_micros, order_id: key.id });
    Ok(pb::ListOrdersResponse {
        orders: rows.iter().map(row_to_proto).collect(),
        next_page_token: key.map_or_else(String::new, |key| tokens::encode_page_token(&log, fingerprint, key)),
        consistency_token: tokens::encode_token(&log, page.position),
    })
}

/// The query in `request`, with a hash of its filters for its page tokens.
///
/// # Errors
/// All violations.
pub fn parse_list(request: &pb::ListOrdersRequest, log: Option<&Signer>) -> Result<(ListOrders, u64), Violations> {
    let mut violations = Violations::default();
    let limit = requests::page_size(&mut violations, "page_size", request.page_size.into());
    let customer = violations.optional("customer_id", &request.customer_id).flatten();
    let status = convert::status_from_proto(&mut violations, "status", request.status);
    let created_after = convert::bound_from_proto(&mut violations, "created_after", request.created_after.as_ref());
    let created_before = convert::bound_from_proto(&mut violations, "created_before", request.created_before.as_ref());
    let order = match pb::OrderBy::try_from(request.order_by) {
        Ok(pb::OrderBy::Unspecified | pb::OrderBy::CreatedDesc) => ListOrder::NewestFirst,
        Ok(pb::OrderBy::CreatedAsc) => ListOrder::OldestFirst,
        Err(_) => {
            violations.add("order_by", "is not a known order");
            ListOrder::NewestFirst
        }
    };
    let fingerprint = list_fingerprint(customer.as_ref(), status, created_after, created_before, order);
    let after = if request.page_token.is_empty() {
        None
    } else {
        let parsed = tokens::decode_page_token(&request.page_token, log, fingerprint);
        parsed.map_err(|error| violations.add_cursor("page_token", error)).ok()
    };
    let consistency = convert::consistency(&mut violations, request.consistency.as_ref(), log);
    let filter = ListFilter {
        customer: customer.map(|id| id.shared()),
        status: status.map(status_code),
        created_from_micros: created_after.map(Timestamp::as_micros),
        created_to_micros: created_before.map(Timestamp::as_micros),
    };
    let after = after.map(|key| RowKey { created_at_micros: key.created_at_micros, id: key.order_id });
    let query = ListQuery { filter, order, after, limit };
    violations.finish(Some((ListOrders { query, consistency }, fingerprint)))
}

/// A page token is only valid for the query that it was issued for.
fn list_fingerprint(
    customer: Option<&CustomerId>,
    status: Option<OrderStatus>,
    created_after: Option<Timestamp>,
    created_before: Option<Timestamp>,
    order: ListOrder,
) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(customer.map_or("", |id| id.as_str()).as_bytes());
    hash.update(&[0, status.map_or(u8::MAX, status_code), u8::from(order == ListOrder::OldestFirst)]);
    for bound in [created_after, created_before] {
        hash.update(&bound.map_or(i64::MIN, Timestamp::as_micros).to_le_bytes());
    }
    hash.digest()
}

fn row_to_proto(row: &Row) -> pb::OrderSummary {
    let status = status_of_code(row.status).map_or(pb::OrderStatus::Unspecified, convert::status_to_proto);
    pb::OrderSummary {
        order_id: row.id.to_string(),
        customer_id: row.customer.to_string(),
        status: status.into(),
        total: money(row.currency, row.amount_minor).map(money_to_proto),
        item_count: i32::try_from(row.item_count).unwrap_or(i32::MAX),
        revision: convert::revision_to_proto(row.revision),
        created_at: Some(timestamp_to_proto(Timestamp::from_micros(row.created_at_micros))),
        updated_at: Some(timestamp_to_proto(Timestamp::from_micros(row.updated_at_micros))),
    }
}

/// The total of a row; `None` if the row is damaged.
#[must_use]
pub fn money(currency: [u8; 3], minor: i64) -> Option<Money> {
    let currency = Currency::parse(std::str::from_utf8(&currency).ok()?).ok()?;
    Money::from_minor(minor, currency).ok()
}

/// Counts and revenue over all orders.
///
/// # Errors
/// [`ApiError`].
pub async fn get_order_stats(
    context: &ApiState,
    request: &pb::GetOrderStatsRequest,
) -> Result<pb::GetOrderStatsResponse, ApiError> {
    let mut violations = Violations::default();
    let log = context.known_log();
    let consistency = convert::consistency(&mut violations, request.consistency.as_ref(), log.as_ref());
    convert::all_good(violations)?;
    let stats = context.mediator.get_order_stats(GetOrderStats { consistency }).await?;
    let log = context.log()?;
    let count = |status| i64::try_from(count_in(&stats.answer, status)).unwrap_or(i64::MAX);
    let by_status = OrderStatus::ALL.map(|status| (status, count(status)));
    Ok(pb::GetOrderStatsResponse {
        total_orders: by_status.iter().map(|(_, count)| count).sum(),
        by_status: by_status
            .map(|(status, count)| pb::StatusCount { status: convert::status_to_proto(status).into(), count })
            .into(),
        total_revenue: revenue(&stats.answer)?,
        consistency_token: tokens::encode_token(&log, stats.position),
    })
}

/// The revenue by currency.
fn revenue(totals: &[Totals]) -> Result<Vec<crate::proto::Money>, ApiError> {
    revenue_by_currency(totals).into_iter().map(|(code, minor)| large_money(code, minor)).collect()
}

/// The same in minor units, by the code of the currency.
#[must_use]
pub fn revenue_by_currency(totals: &[Totals]) -> std::collections::BTreeMap<[u8; 3], i128> {
    let mut sums = std::collections::BTreeMap::new();
    for group in totals.iter().filter(|group| status_of_code(group.status).is_some_and(OrderStatus::counts_as_revenue))
    {
        *sums.entry(group.currency).or_default() += group.amount_minor;
    }
    sums
}

/// The number of orders with `status`.
#[must_use]
pub fn count_in(totals: &[Totals], status: OrderStatus) -> u64 {
    totals.iter().filter(|group| group.status == status_code(status)).map(|group| group.count).sum()
}

/// A sum over many orders. The proto has 64 bits for its whole units: a larger sum is reported as the maximum.
fn large_money(code: [u8; 3], minor: i128) -> Result<crate::proto::Money, ApiError> {
    let currency = std::str::from_utf8(&code).ok().and_then(|code| Currency::parse(code).ok());
    let currency = currency.ok_or_else(|| ApiError::internal(format_args!("the totals have the currency {code:?}")))?;
    let minor_per_unit = 10_i128.pow(currency.exponent());
    let nanos = (minor % minor_per_unit) * 10_i128.pow(9 - currency.exponent());
    let (units, nanos) = match (i64::try_from(minor / minor_per_unit), i32::try_from(nanos)) {
        (Ok(units), Ok(nanos)) => (units, nanos),
        _ => (i64::MAX, 0),
    };
    Ok(crate::proto::Money { currency_code: currency.code().to_owned(), units, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_exact_beyond_64_bits_and_told_as_the_largest_number_beyond_what_the_proto_holds() {
        let parts = |code: &[u8; 3], minor| {
            let money = large_money(*code, minor).unwrap();
            (money.units, money.nanos)
        };
        let most = i128::from(i64::MAX);
        assert_eq!(parts(b"USD", most * 2), (184_467_440_737_095_516, 140_000_000));
        assert_eq!(parts(b"USD", most * 100 + 99), (i64::MAX, 990_000_000));
        assert_eq!(parts(b"USD", most * 100 + 100), (i64::MAX, 0));
        assert_eq!(parts(b"JPY", most + 1), (i64::MAX, 0));
        assert_eq!(parts(b"JPY", i128::MAX), (i64::MAX, 0));
    }
}
