//! The routes of the queries: one order, the list, the counts.

use std::collections::BTreeMap;

use axum::extract::{Request, State};
use http::{HeaderMap, StatusCode};
use serde::{Serialize, Serializer};

use super::{
    Reply, Shared,
    decimal::Amount,
    headers,
    orders::{Id, path_id},
    query::Query,
    time::{self, Rfc3339},
    view::{self, RowView},
};
use crate::{
    application::{
        queries::GetOrderStats,
        requests::{self, Field, GetOrderDraft, Given, ListDraft, UntilDraft, Violations},
        stats::OrderStats,
    },
    domain::{money::Currency, order::Status, timestamp::Timestamp},
    ports::read_model::ListOrder,
    server::{ApiState, error::ApiError, principal::reading},
};

/// `GET /orders/{id}`
///
/// # Errors
/// As in the table of reasons.
pub async fn get(State(api): State<Shared>, id: Id, request: Request) -> Reply {
    let request = request.into_parts().0;
    let signer = api.known_signer();
    let mut violations = Violations::default();
    let id = path_id(id, Field::OrderId, &mut violations);
    let query = Query::read(&request.uri, [Field::Revision, Field::AsOf], &mut violations);
    let until = until(&query, &mut violations);
    let consistency = headers::consistency(&request.headers, &mut violations);
    headers::check_if_none_match(&request.headers, &mut violations);
    let draft = GetOrderDraft { order_id: id.as_deref(), until, consistency };
    let query = requests::get_order(violations, draft, reading(&request.extensions), signer.as_ref())?;
    let loaded = api.mediator.get_order(query).await?;
    let signer = api.signer()?;
    if headers::has_already(&request.headers, loaded.order.revision) {
        return view::not_modified(&loaded, &signer);
    }
    view::order(StatusCode::OK, &loaded, &signer)
}

fn until(query: &Query<2>, violations: &mut Violations) -> Option<UntilDraft> {
    if query.get(Field::Revision).is_some() && query.get(Field::AsOf).is_some() {
        violations.add(Field::AsOf, "must not be combined with revision");
    }
    if query.get(Field::Revision).is_some() {
        return query.number(Field::Revision, violations).map(UntilDraft::Revision);
    }
    if query.get(Field::AsOf).is_some() {
        return Some(UntilDraft::Time(time_of(query, Field::AsOf)));
    }
    Some(UntilDraft::Latest)
}

/// The value of a time parameter.
fn time_of<const N: usize>(query: &Query<N>, field: Field) -> Given<Timestamp> {
    const NO_TIME: &str = "must be an RFC 3339 time such as 2025-01-15T10:30:00Z, of the years 1 to 9999";
    let Some(text) = query.get(field) else { return Ok(None) };
    time::parse(text).map(Some).ok_or_else(|| NO_TIME.to_owned())
}

/// The sort orders of the list.
pub const ORDERS_BY: [ListOrder; 2] = [ListOrder::NewestFirst, ListOrder::OldestFirst];

/// The name of a sort order.
#[must_use]
pub const fn order_by_name(order: ListOrder) -> &'static str {
    match order {
        ListOrder::OldestFirst => "createdAsc",
        ListOrder::NewestFirst => "createdDesc",
    }
}

/// The parameters of `GET /orders`.
pub const LIST_PARAMETERS: [Field; 7] = [
    Field::PageSize,
    Field::PageToken,
    Field::CustomerId,
    Field::Status,
    Field::CreatedAfter,
    Field::CreatedBefore,
    Field::OrderBy,
];

/// `GET /orders`
///
/// # Errors
/// As in the table of reasons.
pub async fn list(State(api): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let signer = api.known_signer();
    let mut violations = Violations::default();
    let query = Query::read(&request.uri, LIST_PARAMETERS, &mut violations);
    let draft = list_draft(&query, &request.headers, &mut violations);
    let wanted = requests::list_orders(violations, draft, &reading(&request.extensions), signer.as_ref())?;
    let page = api.mediator.list_orders(wanted.list.clone()).await?;
    let signer = api.signer()?;
    let rows = page.answer.rows.iter().map(RowView::of).collect::<Result<Vec<_>, _>>()?;
    let mut response = view::json(StatusCode::OK, &rows);
    view::set_token(&mut response, &signer, page.position)?;
    if let Some(last) = page.answer.next {
        let link = query.next_link(request.uri.path(), Field::PageToken, &wanted.next_page_token(&signer, last));
        response.headers_mut().insert(http::header::LINK, view::header_value(link)?);
    }
    Ok(response)
}

fn list_draft<'a>(query: &'a Query<7>, headers: &'a HeaderMap, violations: &mut Violations) -> ListDraft<'a> {
    ListDraft {
        page_size: query.number(Field::PageSize, violations).unwrap_or(0),
        page_token: query.get(Field::PageToken).unwrap_or_default(),
        customer_id: query.get(Field::CustomerId).unwrap_or_default(),
        status: query.choice(Field::Status, &Status::ALL, Status::name),
        order: query.choice(Field::OrderBy, &ORDERS_BY, order_by_name),
        created_after: time_of(query, Field::CreatedAfter),
        created_before: time_of(query, Field::CreatedBefore),
        consistency: headers::consistency(headers, violations),
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
pub async fn stats(State(api): State<Shared>, request: Request) -> Reply {
    let request = request.into_parts().0;
    let signer = api.known_signer();
    let mut violations = Violations::default();
    super::query::none(&request.uri, &mut violations);
    let consistency = headers::consistency(&request.headers, &mut violations);
    let consistency = requests::consistency(&mut violations, consistency, signer.as_ref());
    violations.finish(Some(()))?;
    let query = GetOrderStats { consistency, scope: reading(&request.extensions) };
    let found = api.mediator.get_order_stats(query).await?;
    let signer = api.signer()?;
    let stats = OrderStats::of(&found.answer).map_err(ApiError::internal)?;
    let mut response = view::json(StatusCode::OK, &stats_view(&api, &stats)?);
    view::set_token(&mut response, &signer, found.position)?;
    Ok(response)
}

fn stats_view(api: &ApiState, stats: &OrderStats) -> Result<StatsView, ApiError> {
    let main = Currency::parse(REVENUE_CURRENCY).map_err(ApiError::internal)?;
    let amount =
        |(currency, minor): (&Currency, &i128)| (currency.code().to_owned(), Amount::of_minor(*minor, *currency));
    Ok(StatsView {
        total_orders: stats.total_orders(),
        by_status: ByStatus(stats.by_status.map(|(status, count)| (status.name(), count))),
        total_revenue: Amount::of_minor(stats.revenue.get(&main).copied().unwrap_or_default(), main),
        revenue_by_currency: stats.revenue.iter().map(amount).collect(),
        timestamp: Rfc3339(Timestamp::from_micros(api.clock.now_micros())),
    })
}
