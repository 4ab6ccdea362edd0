//! The queries: one order, the list, the counts.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode};
use serde::{Serialize, Serializer};

use super::{
    Reply, Shared,
    decimal::Amount,
    headers,
    orders::{Id, path_id},
    problem::settle,
    query::Query,
    time::{self, Rfc3339},
    view::{self, RowView},
};
use crate::{
    application::{
        order_repository::AsOf,
        queries::{GetOrder, GetOrderStats},
        requests::{self, Violations},
        tokens::{self, PageKey},
    },
    codec::timestamp_to_proto,
    domain::{money::Currency, order::Status, timestamp::Timestamp},
    ports::read_model::Totals,
    proto::catga::orders::v1 as pb,
    server::{
        ApiState,
        error::ApiError,
        grpc::{convert::status_to_proto, queries},
    },
};

/// `GET /orders/{id}`
///
/// # Errors
/// As in the table of reasons.
pub async fn get(State(context): State<Shared>, id: Id, request: Request) -> Reply {
    let request = request.into_parts().0;
    let log = context.known_log();
    let mut violations = Violations::default();
    let id = path_id(id, &mut violations);
    let order_id = id.as_deref().and_then(|id| violations.order_id("id", id));
    let query = Query::read(&request.uri, ["revision", "asOf"], &mut violations);
    let until = until(&query, &mut violations);
    let consistency = headers::consistency(&request.headers, &mut violations, log.as_ref());
    headers::check_if_none_match(&request.headers, &mut violations);
    let query = order_id.zip(until).map(|(order_id, until)| GetOrder { order_id, until, consistency });
    let loaded = context.mediator.get_order(violations.finish(query)?).await?;
    let log = context.log()?;
    if headers::has_already(&request.headers, loaded.order.revision) {
        return view::not_modified(&loaded, &log);
    }
    view::order(StatusCode::OK, &loaded, &log)
}

fn until(query: &Query<2>, violations: &mut Violations) -> Option<AsOf> {
    if query.get("revision").is_some() && query.get("asOf").is_some() {
        violations.add("asOf", "must be left out together with revision");
    }
    if query.get("revision").is_some() {
        return match query.number("revision", violations).map(i64::cast_unsigned) {
            Some(0) => {
                violations.add("revision", "must be at least 1");
                None
            }
            revision => revision.map(AsOf::Revision),
        };
    }
    if query.get("asOf").is_some() {
        return time_of(query, "asOf", violations).map(AsOf::Time);
    }
    Some(AsOf::Latest)
}

/// The value of a time parameter; records a violation if it is invalid.
fn time_of<const N: usize>(query: &Query<N>, name: &str, violations: &mut Violations) -> Option<Timestamp> {
    let text = query.get(name)?;
    let at = time::parse(text);
    if at.is_none() {
        violations.add(name, "must be a time as RFC 3339 has it, such as 2025-01-15T10:30:00Z, of the years 1 to 9999");
    }
    at
}

/// The sort orders of the list.
pub const ORDERS_BY: [pb::OrderBy; 2] = [pb::OrderBy::CreatedDesc, pb::OrderBy::CreatedAsc];

/// The name of a sort order.
#[must_use]
pub const fn order_by_name(order: pb::OrderBy) -> &'static str {
    match order {
        pb::OrderBy::CreatedAsc => "createdAsc",
        pb::OrderBy::CreatedDesc | pb::OrderBy::Unspecified => "createdDesc",
    }
}

/// The parameters of `GET /orders`.
pub const LIST_PARAMETERS: [&str; 7] =
    ["pageSize", "pageToken", "customerId", "status", "createdAfter", "createdBefore", "orderBy"];

/// `GET /orders`
///
/// # Errors
/// As in the table of reasons.
pub async fn list(State(context): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let log = context.known_log();
    let mut noted = Violations::default();
    let query = Query::read(&request.uri, LIST_PARAMETERS, &mut noted);
    let wanted = list_request(&query, &request.headers, &mut noted);
    let (list, fingerprint) = settle(noted, queries::parse_list(&wanted, log.as_ref()))?;
    let page = context.mediator.list_orders(list).await?;
    let log = context.log()?;
    let rows = page.answer.rows.iter().map(RowView::of).collect::<Result<Vec<_>, _>>()?;
    let mut response = view::json(StatusCode::OK, &rows);
    view::set_token(&mut response, &log, page.position)?;
    if let Some(next) = page.answer.next {
        let key = PageKey { created_at_micros: next.created_at_micros, order_id: next.id };
        let link = query.next_link(request.uri.path(), "pageToken", &tokens::encode_page_token(&log, fingerprint, key));
        response.headers_mut().insert(http::header::LINK, view::header_value(link)?);
    }
    Ok(response)
}

fn list_request(query: &Query<7>, headers: &HeaderMap, noted: &mut Violations) -> pb::ListOrdersRequest {
    let text = |name| query.get(name).unwrap_or_default().to_owned();
    let page_size = query.number("pageSize", noted).map_or(0, |size| requests::page_size(noted, "pageSize", size));
    let status =
        query.choice("status", &Status::ALL, Status::name, noted).map_or(pb::OrderStatus::Unspecified, status_to_proto);
    let order_by = query.choice("orderBy", &ORDERS_BY, order_by_name, noted).unwrap_or_default();
    let consistency = headers::consistency_token(headers, noted)
        .map(|token| pb::ReadConsistency { level: pb::ConsistencyLevel::AtLeast.into(), token: token.to_owned() });
    pb::ListOrdersRequest {
        page_size: i32::try_from(page_size).unwrap_or(0),
        page_token: text("pageToken"),
        customer_id: text("customerId"),
        status: status.into(),
        created_after: time_of(query, "createdAfter", noted).map(timestamp_to_proto),
        created_before: time_of(query, "createdBefore", noted).map(timestamp_to_proto),
        order_by: order_by.into(),
        consistency,
    }
}

/// The currency of `totalRevenue`.
pub const REVENUE_CURRENCY: &str = super::input::DEFAULT_CURRENCY;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsView {
    total_orders: u64,
    by_status: ByStatus,
    total_revenue: Amount,
    revenue_by_currency: BTreeMap<String, Amount>,
    timestamp: Rfc3339,
}

/// The number of orders per status, in life cycle order.
struct ByStatus([(&'static str, u64); Status::ALL.len()]);

impl Serialize for ByStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0)
    }
}

/// `GET /stats`
///
/// # Errors
/// As in the table of reasons.
pub async fn stats(State(context): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let log = context.known_log();
    let mut violations = Violations::default();
    super::query::none(&request.uri, &mut violations);
    let consistency = headers::consistency(&request.headers, &mut violations, log.as_ref());
    violations.finish(Some(()))?;
    let stats = context.mediator.get_order_stats(GetOrderStats { consistency }).await?;
    let log = context.log()?;
    let mut response = view::json(StatusCode::OK, &stats_view(&context, &stats.answer)?);
    view::set_token(&mut response, &log, stats.position)?;
    Ok(response)
}

fn stats_view(context: &ApiState, totals: &[Totals]) -> Result<StatsView, ApiError> {
    let currency = |code: &str| Currency::parse(code).map_err(ApiError::internal);
    let main = currency(REVENUE_CURRENCY)?;
    let revenue = queries::revenue_by_currency(totals);
    let count = |status| queries::count_in(totals, status);
    let by_currency = revenue.iter().map(|(code, minor)| {
        let code = std::str::from_utf8(code).map_err(ApiError::internal)?;
        Ok((code.to_owned(), Amount::of_minor(*minor, currency(code)?)))
    });
    Ok(StatsView {
        total_orders: Status::ALL.into_iter().map(count).sum(),
        by_status: ByStatus(Status::ALL.map(|status| (status.name(), count(status)))),
        total_revenue: Amount::of_minor(revenue.get(&main.code_bytes()).copied().unwrap_or_default(), main),
        revenue_by_currency: by_currency.collect::<Result<_, ApiError>>()?,
        timestamp: Rfc3339(Timestamp::from_micros(context.clock.now_micros())),
    })
}
