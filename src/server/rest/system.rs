//! The node: its information, health and metrics, and new ids.

use std::collections::BTreeMap;

use axum::{body::Body, extract::State};
use http::{Extensions, HeaderMap, HeaderValue, Response, StatusCode, Uri, header};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::{
    Reply, Shared,
    orders::{Id, path_id},
    query::{self, Query},
    time::Rfc3339,
    view::{self, Text},
};
use crate::{
    application::{
        AppError,
        ids::issued_at,
        requests::{self, Field, Violations},
        tokens,
    },
    domain::timestamp::Timestamp,
    ports::health::{ComponentHealth, HealthReport},
    server::{ApiState, SERVICE_NAME, VERSION, call::accepts, error::ApiError, operators},
};

fn now(api: &ApiState) -> Rfc3339 {
    Rfc3339(Timestamp::from_micros(api.clock.now_micros()))
}

fn mode(api: &ApiState) -> &'static str {
    if api.info.is_cluster { "Cluster" } else { "Standalone" }
}

/// Refuses every parameter, for a route that has none.
fn no_parameters(uri: &Uri) -> Result<(), ApiError> {
    let mut violations = Violations::default();
    query::none(uri, &mut violations);
    Ok(violations.finish(Some(()))?)
}

#[derive(Serialize)]
struct RootView<'a> {
    service: &'static str,
    version: &'static str,
    node: &'a str,
    mode: &'static str,
    transport: &'static str,
    persistence: &'static str,
    durability: &'static str,
    #[serde(rename = "durabilityDetail", skip_serializing_if = "Option::is_none")]
    durability_detail: Option<String>,
    authentication: &'static str,
    #[serde(rename = "securityWarning", skip_serializing_if = "Option::is_none")]
    security_warning: Option<&'static str>,
    status: &'static str,
    timestamp: Rfc3339,
}

/// `GET /`
///
/// # Errors
/// As in the table of reasons.
pub async fn root(State(api): State<Shared>, uri: Uri, headers: HeaderMap) -> Reply {
    no_parameters(&uri)?;
    let mut response = if accepts(&headers, "text/html") {
        super::redirect("/dashboard")
    } else {
        let info = &api.info;
        view::json(
            StatusCode::OK,
            &RootView {
                service: SERVICE_NAME,
                version: VERSION,
                node: &info.node,
                mode: mode(&api),
                transport: info.transport,
                persistence: info.persistence,
                durability: api.store.durability().name(),
                durability_detail: api.store.durability_detail(),
                authentication: info.authentication.name(),
                security_warning: info.security_warning,
                status: if api.draining.is_cancelled() { "draining" } else { "running" },
                timestamp: now(&api),
            },
        )
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

#[derive(Serialize)]
struct HealthView<'a> {
    status: &'static str,
    draining: bool,
    checks: BTreeMap<&'static str, CheckView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckView<'a> {
    status: &'static str,
    latency_ms: f64,
    detail: &'a str,
}

fn health_reply(
    status: &'static str,
    is_good: bool,
    report: &HealthReport,
    shown: fn(&ComponentHealth) -> bool,
    is_operator: bool,
) -> Response<Body> {
    let checks = report.components.iter().filter(|component| shown(component)).map(|component| {
        let finding = &component.finding;
        // Microsecond precision is sufficient.
        #[allow(clippy::cast_precision_loss, reason = "a few seconds at the most")]
        let latency_ms = component.latency.as_micros() as f64 / 1_000.0;
        // Addresses, paths and broker errors are for operators only.
        let detail = if is_operator { &*finding.detail } else { "" };
        (component.name, CheckView { status: finding.condition.name(), latency_ms, detail })
    });
    let view = HealthView { status, draining: report.is_draining, checks: checks.collect() };
    let code = if is_good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = view::json(code, &view);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// `GET /health`
///
/// # Errors
/// For parameters, since it has none.
pub async fn health(State(api): State<Shared>, uri: Uri, extensions: Extensions) -> Reply {
    no_parameters(&uri)?;
    let report = api.health.report().await;
    let condition = report.condition();
    let is_good = condition != crate::ports::health::Condition::Unhealthy;
    let is_operator = operators::require(&extensions).is_ok();
    Ok(health_reply(condition.name(), is_good, &report, |_| true, is_operator))
}

/// `GET /health/ready`
///
/// # Errors
/// For parameters, since it has none.
pub async fn ready(State(api): State<Shared>, uri: Uri, extensions: Extensions) -> Reply {
    no_parameters(&uri)?;
    let report = api.health.report().await;
    let status = if report.is_ready() { "Ready" } else { "NotReady" };
    let is_operator = operators::require(&extensions).is_ok();
    Ok(health_reply(status, report.is_ready(), &report, |component| component.required_for_readiness, is_operator))
}

#[derive(Serialize)]
struct LiveView {
    status: &'static str,
}

/// `GET /health/live`
///
/// # Errors
/// For parameters, since it has none.
pub async fn live(State(api): State<Shared>, uri: Uri) -> Reply {
    no_parameters(&uri)?;
    let (code, status) = match api.health.is_live() {
        true => (StatusCode::OK, "Live"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "NotLive"),
    };
    Ok(view::json(code, &LiveView { status }))
}

/// A turn to render the metrics.
static RENDERING: Semaphore = Semaphore::const_new(1);

/// `GET /metrics`
///
/// # Errors
/// For parameters, since it has none, and for clients that are not operators.
pub async fn metrics(State(api): State<Shared>, uri: Uri, extensions: Extensions) -> Reply {
    operators::require(&extensions)?;
    no_parameters(&uri)?;
    // One at a time: each reads every metric, which calls record meanwhile.
    let _turn = RENDERING.acquire().await;
    let mut response = Response::new(Body::from(api.metrics.render()));
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

#[derive(Serialize)]
struct ClusterView<'a> {
    mode: &'static str,
    nodes: Vec<NodeView<'a>>,
    takeovers: Vec<TakeoverView<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TakeoverView<'a> {
    noticed_at: Rfc3339,
    role: &'a str,
    from_node: &'a str,
    to_node: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NodeView<'a> {
    node: &'a str,
    address: &'a str,
    datacenter_id: u8,
    worker_id: u8,
    roles: &'a [String],
    position: String,
    lag: u64,
    is_this_node: bool,
}

/// `GET /cluster`: the nodes that serve this set of orders, their single-owner work, and how far each has followed the log.
///
/// # Errors
/// As in the table of reasons.
pub async fn cluster(State(api): State<Shared>, uri: Uri) -> Reply {
    no_parameters(&uri)?;
    let view = api.cluster.view().await.map_err(AppError::unavailable)?;
    let signer = api.signer()?;
    let nodes = view.nodes.iter().map(|node| NodeView {
        node: &node.name,
        address: &node.address,
        datacenter_id: node.identity.datacenter_id(),
        worker_id: node.identity.worker_id(),
        roles: &node.roles,
        position: tokens::encode_cursor(&signer, node.position.into()),
        lag: node.lag,
        is_this_node: node.name == api.cluster.this_node(),
    });
    let seen = api.cluster.takeovers();
    let takeovers = seen.iter().map(|takeover| TakeoverView {
        noticed_at: Rfc3339(takeover.at),
        role: &takeover.role,
        from_node: &takeover.from,
        to_node: &takeover.to,
    });
    let view = ClusterView { mode: mode(&api), nodes: nodes.collect(), takeovers: takeovers.collect() };
    Ok(view::json(StatusCode::OK, &view))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdView {
    id: i64,
    id_string: Text<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdsView {
    ids: Vec<i64>,
    id_strings: Vec<Text<i64>>,
}

/// `GET /api/id`
///
/// # Errors
/// As in the table of reasons.
pub async fn new_ids(State(api): State<Shared>, uri: Uri) -> Reply {
    let mut violations = Violations::default();
    let query = Query::read(&uri, [Field::Count], &mut violations);
    let count = query.number(Field::Count, &mut violations);
    let wanted = requests::id_count(violations, count.unwrap_or(1))?;
    let ids = api.mediator.generate_ids(wanted).await?;
    let mut response = if count.is_some() {
        let id_strings = ids.iter().copied().map(Text).collect();
        view::json(StatusCode::OK, &IdsView { ids, id_strings })
    } else {
        let id = *ids.first().ok_or_else(|| ApiError::internal("no id was generated"))?;
        view::json(StatusCode::OK, &IdView { id, id_string: Text(id) })
    };
    // An id is issued once.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PartsView<'a> {
    id: &'a serde_json::value::RawValue,
    id_string: &'a str,
    timestamp: Rfc3339,
    datacenter: u8,
    worker: u8,
    sequence: u16,
}

/// `GET /api/id/{id}`
///
/// # Errors
/// As in the table of reasons.
pub async fn id_parts(id: Id, uri: Uri) -> Reply {
    let mut violations = Violations::default();
    query::none(&uri, &mut violations);
    let id = path_id(id, Field::Id, &mut violations);
    let id = violations.finish(id)?;
    let parts = requests::id_parts(Violations::default(), &id)?;
    let view = PartsView {
        // A parsed id consists of digits, which are a JSON number.
        id: serde_json::from_str(&id).map_err(ApiError::internal)?,
        id_string: &id,
        timestamp: Rfc3339(issued_at(&parts)),
        datacenter: parts.datacenter_id,
        worker: parts.worker_id,
        sequence: parts.sequence,
    };
    Ok(view::json(StatusCode::OK, &view))
}
