//! Every operation: its parameters, its body and all its responses.

use serde_json::{Map, Value, json};

use super::schemas;
use crate::{
    application::requests::Field,
    server::{
        call::EVENT_STREAM,
        rest::{
            PREFIXES,
            history::EVENTS_PARAMETERS,
            orders::{self, CommandRoute},
            queries::LIST_PARAMETERS,
        },
    },
};

/// One method of one path.
pub struct Operation {
    pub path: String,
    pub method: &'static str,
    pub value: Value,
}

/// The error statuses of any route: for an unknown parameter, and a fault of the service.
const ANY: [u16; 2] = [400, 500];
/// The additional error statuses of a query through the mediator.
const QUERY: [u16; 3] = [429, 503, 504];
/// The additional error statuses of a command.
const COMMAND: [u16; 7] = [408, 413, 415, 422, 429, 503, 504];
/// The additional error statuses of a command for an existing order.
const CHANGE: [u16; 3] = [404, 409, 412];

/// All operations.
pub fn all() -> Vec<Operation> {
    let mut all = system();
    for prefix in PREFIXES {
        all.extend(order_operations(prefix));
    }
    all.extend(documents());
    all
}

struct Builder {
    path: String,
    method: &'static str,
    value: Value,
}

impl Builder {
    fn new(method: &'static str, path: &str, tag: &str, id: &str, summary: &str) -> Self {
        let value = json!({ "operationId": id, "summary": summary, "tags": [tag], "responses": {} });
        Self { path: path.to_owned(), method, value }.problems(&ANY)
    }

    fn get(path: &str, tag: &str, id: &str, summary: &str) -> Self {
        Self::new("get", path, tag, id, summary)
    }

    fn parameters(mut self, names: &[&str]) -> Self {
        let references = names.iter().map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
        self.value["parameters"] = references.collect();
        self
    }

    fn fields(self, fields: &[Field]) -> Self {
        let names: Vec<_> = fields.iter().map(|field| field.rest_name()).collect();
        self.parameters(&names)
    }

    fn body(mut self, schema: &str, required: bool) -> Self {
        let content =
            json!({ "application/json": { "schema": schemas::reference(schema), "example": example(schema) } });
        self.value["requestBody"] = json!({ "required": required, "content": content });
        self
    }

    fn problems(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self.value["responses"][status.to_string()] =
                json!({ "$ref": format!("#/components/responses/Problem{status}") });
        }
        self
    }

    fn answer(mut self, status: u16, description: &str, content: &[(&str, Value)], headers: &[&str]) -> Self {
        let mut response = json!({ "description": description });
        if !content.is_empty() {
            let content = content.iter().map(|(kind, schema)| ((*kind).to_owned(), json!({ "schema": schema })));
            response["content"] = Value::Object(content.collect());
        }
        if !headers.is_empty() {
            let reference =
                |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
            response["headers"] = Value::Object(headers.iter().map(reference).collect::<Map<_, _>>());
        }
        self.value["responses"][status.to_string()] = response;
        self
    }

    fn json(self, status: u16, description: &str, schema: &str, headers: &[&str]) -> Self {
        self.answer(status, description, &[("application/json", schemas::reference(schema))], headers)
    }

    /// Documents that the route also replies with server-sent events. They are not declared as another type of the response: generators would turn
    /// the type of a page into "events or text".
    fn event_stream(mut self) -> Self {
        self.value["x-event-stream"] = json!({ "accept": EVENT_STREAM, "data": schemas::reference("Event") });
        self
    }

    fn done(self) -> Operation {
        Operation { path: self.path, method: self.method, value: self.value }
    }
}

fn system() -> Vec<Operation> {
    let get = |path: &str, id: &str, summary: &str| Builder::get(path, "System", id, summary);
    vec![
        get("/", "getRoot", "Information about this node; a browser is redirected to the dashboard.")
            .json(200, "The node.", "Root", &[])
            .answer(302, "For Accept: text/html: the dashboard.", &[], &["Location"])
            .done(),
        get("/health", "getHealth", "The health of every component of the node.")
            .json(200, "Healthy or Degraded.", "Health", &[])
            .json(503, "Unhealthy.", "Health", &[])
            .done(),
        get("/health/ready", "getReadiness", "Whether this node can serve: for load balancers.")
            .json(200, "Ready.", "Readiness", &[])
            .json(503, "Not ready.", "Readiness", &[])
            .done(),
        get("/health/live", "getLiveness", "Whether this process works, regardless of its backends.")
            .json(200, "Live.", "Liveness", &[])
            .json(503, "Not live.", "Liveness", &[])
            .done(),
        get("/stats", "getStats", "Counts and revenue over all orders. Revenue excludes cancelled orders.")
            .parameters(&["X-Consistency-Token"])
            .json(200, "The counts.", "Stats", &["X-Consistency-Token"])
            .problems(&QUERY)
            .done(),
        get("/metrics", "getMetrics", "Metrics for Prometheus.")
            .answer(200, "The metrics.", &[("text/plain", json!({ "type": "string" }))], &[])
            .done(),
        get(
            "/cluster",
            "getCluster",
            "The nodes, the work that each one leads, how far each has followed the log, and the changes of leaders that this node has seen.",
        )
        .json(200, "The nodes that hold a worker number.", "Cluster", &[])
        .problems(&QUERY)
        .done(),
        Builder::get("/events", "Events", "getEvents", "The events of all orders, in commit order.")
            .fields(&[&EVENTS_PARAMETERS[..], &[Field::LastEventId]].concat())
            .json(200, EVENTS, "EventPage", &["Link", "X-Consistency-Token"])
            .event_stream()
            .problems(&[429, 503])
            .done(),
        Builder::get("/api/id", "Ids", "newId", "New ids, unique across all nodes.")
            .parameters(&["count"])
            .json(200, "One id, or `count` ids.", "NewIds", &[])
            .problems(&[503])
            .done(),
        Builder::get("/api/id/{id}", "Ids", "parseId", "The parts of an id.")
            .parameters(&["id"])
            .json(200, "The parts.", "IdParts", &[])
            .done(),
    ]
}

const EVENTS: &str = "The events; with Accept: text/event-stream as server-sent events, live: `data` is one event, `id` is what to resume \
                      after. `event: caughtUp` says once that everything older has been sent; `event: reconnect` or `event: problem` ends a stream.";

/// A body that the service accepts, as in the README.
fn example(schema: &str) -> Value {
    match schema {
        "CreateOrder" => json!({
            "customerId": "customer-123",
            "items": [
                { "productId": "prod-1", "name": "Laptop", "quantity": 1, "price": 999.99 },
                { "productId": "prod-2", "name": "Mouse", "quantity": 2, "price": 29.99 },
            ],
            "shippingAddress": "1 Main Street, Springfield",
        }),
        "Payment" => json!({ "paymentMethod": "credit_card", "paymentReference": "pay-1" }),
        "Shipment" => json!({ "trackingNumber": "1Z999AA10123456784", "carrier": "UPS" }),
        "Cancellation" => json!({ "reason": "ordered twice" }),
        _ => json!({}),
    }
}

fn order_operations(prefix: &str) -> Vec<Operation> {
    let id = |id: &str| if prefix.is_empty() { id.to_owned() } else { format!("{id}Api") };
    // The other prefix is a separate group: in one group each operation would appear twice.
    let tag = if prefix.is_empty() { "Orders" } else { "Orders under /api" };
    let collection = format!("{prefix}/orders");
    let one = format!("{prefix}/orders/{{id}}");
    let command = |command: CommandRoute| {
        let path = format!("{one}/{}", command.action);
        Builder::new("post", &path, tag, &id(command.operation_id), command.summary)
            .parameters(&["id", "Idempotency-Key", "If-Match", "X-Actor"])
            .body(command.body, command.needs_body)
            .json(200, "The order after the command.", "Order", &["ETag", "X-Consistency-Token"])
            .problems(&COMMAND)
            .problems(&CHANGE)
            .done()
    };
    let mut all = vec![
        Builder::new("post", &collection, tag, &id("createOrder"), "Places an order.")
            .parameters(&["Idempotency-Key", "If-Match-New", "X-Actor"])
            .body("CreateOrder", true)
            .json(201, "The placed order.", "Order", &["Location", "ETag", "X-Consistency-Token"])
            .problems(&COMMAND)
            .problems(&[409, 412])
            .done(),
        Builder::get(&collection, tag, &id("listOrders"), "A page of the list of orders.")
            .fields(&[&LIST_PARAMETERS[..], &[Field::ConsistencyToken]].concat())
            .json(200, "The page.", "OrderPage", &["Link", "X-Consistency-Token"])
            .problems(&QUERY)
            .done(),
        Builder::get(&one, tag, &id("getOrder"), "An order, now or at an earlier revision or time.")
            .parameters(&["id", "revision", "asOf", "If-None-Match", "X-Consistency-Token"])
            .json(200, "The order.", "Order", &["ETag", "X-Consistency-Token"])
            .answer(304, "Not modified since the given entity tag.", &[], &["ETag", "X-Consistency-Token"])
            .problems(&[404])
            .problems(&QUERY)
            .done(),
        Builder::get(&format!("{one}/history"), tag, &id("getHistory"), "The events of one order.")
            .parameters(&["id", "fromRevision", "pageSize", "Last-Event-ID"])
            .json(200, EVENTS, "EventPage", &["Link", "X-Consistency-Token"])
            .event_stream()
            .problems(&[404, 429, 503])
            .done(),
    ];
    all.extend(orders::commands().into_iter().map(command));
    all
}

fn documents() -> Vec<Operation> {
    let text = || json!({ "type": "string" });
    let files =
        ["text/html", "text/css", "text/javascript", "image/png", "application/json", "application/octet-stream"];
    let any_file: Vec<_> = files.iter().map(|kind| (*kind, text())).collect();
    let get = |path: &str, id: &str, summary: &str| {
        let mut builder = Builder::get(path, "System", id, summary);
        // These ignore parameters: browsers and caches add their own.
        builder.value["responses"] = json!({});
        builder.problems(&[500])
    };
    vec![
        get("/openapi.json", "getOpenApi", "This document.")
            .answer(200, "The document.", &[("application/json", json!({ "type": "object" }))], &[])
            .done(),
        get("/swagger", "getSwagger", "Swagger UI.").answer(302, "Its page.", &[], &["Location"]).done(),
        get("/swagger/", "getSwaggerFolder", "Swagger UI, with a slash.")
            .answer(302, "Its page.", &[], &["Location"])
            .done(),
        get("/swagger/{file}", "getSwaggerFile", "A file of Swagger UI.")
            .parameters(&["file"])
            .answer(200, "The file.", &any_file, &[])
            .problems(&[404])
            .done(),
        get("/dashboard", "getDashboard", "The dashboard.")
            .answer(200, "Its page.", &[("text/html", text())], &[])
            .done(),
        get("/dashboard/", "getDashboardFolder", "The dashboard, with a slash.")
            .answer(200, "Its page.", &[("text/html", text())], &[])
            .done(),
        get("/dashboard/{file}", "getDashboardFile", "A file of the dashboard.")
            .parameters(&["file"])
            .answer(200, "The file.", &[("text/html", text()), ("text/css", text()), ("text/javascript", text())], &[])
            .problems(&[404])
            .done(),
    ]
}
