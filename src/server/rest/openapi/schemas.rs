//! The schemas of requests and responses.

use std::{collections::BTreeSet, sync::LazyLock};

use serde_json::{Map, Value, json};

use crate::{
    domain::{
        money::Currency,
        order::{EventKind, Status, item::MAX_QUANTITY},
        visible,
    },
    server::{MAX_ITEMS, error::Reason, rest::input::DEFAULT_CURRENCY},
};

/// The pattern of text without control or format characters, and with at least one visible character.
static VISIBLE: LazyLock<String> = LazyLock::new(|| {
    // Written by number if a regular expression has a syntax for that, else literally.
    let character = |code: &u32| match char::from_u32(*code) {
        Some(character) if *code > 0xFFFF => character.to_string(),
        _ => format!("\\u{code:04x}"),
    };
    let class = |table: &[(u32, u32)]| {
        table.iter().map(|(first, last)| format!("{}-{}", character(first), character(last))).collect::<String>()
    };
    let hidden = format!("\\u0000-\\u001f\\u007f-\\u009f{}", class(&visible::FORMAT));
    format!("^[^{hidden}]*[^\\s{hidden}{}][^{hidden}]*$", class(&visible::INVISIBLE))
});

/// A reference to the schema `name`.
pub fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Text of 1 to `max_chars` characters.
pub fn text(max_chars: usize) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": max_chars, "pattern": VISIBLE.as_str() })
}

/// Optional text; `null` and the empty string count as omitted.
fn optional_text(max_chars: usize) -> Value {
    json!({ "anyOf": [text(max_chars), { "type": "string", "const": "" }, { "type": "null" }] })
}

/// Text, or an integer that is read as its digits.
fn text_or_integer(max_chars: usize) -> Value {
    json!({ "anyOf": [text(max_chars), { "type": "integer" }] })
}

/// An object with `required` fields and optional ones, and no others.
fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// Every schema by its name.
pub fn all() -> Value {
    let mut all = Map::new();
    for group in [simple(), problems(), inputs(), orders(), events(), system()] {
        all.extend(group);
    }
    Value::Object(all)
}

type Schemas = Vec<(String, Value)>;

fn named<const N: usize>(schemas: [(&str, Value); N]) -> Schemas {
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

fn simple() -> Schemas {
    let names = |names: Vec<&str>| json!({ "type": "string", "enum": names });
    named([
        (
            "Id",
            json!({ "type": "string", "pattern": "^[1-9][0-9]{0,18}$", "description": "A Snowflake id, up to 9223372036854775807." }),
        ),
        ("Status", names(Status::ALL.map(Status::name).to_vec())),
        ("EventType", names(EventKind::ALL.map(EventKind::name).to_vec())),
        ("Time", json!({ "type": "string", "format": "date-time" })),
        (
            "Amount",
            json!({ "type": "number", "minimum": 0, "description": "Exact: read it as a decimal, not as a float." }),
        ),
        ("Count", json!({ "type": "integer", "minimum": 0 })),
        ("Revision", json!({ "type": "integer", "minimum": 1 })),
        (
            "Traceparent",
            json!({
                "type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "The W3C trace context of the command; omitted if it had none.",
            }),
        ),
        ("Currency", json!({ "type": "string", "enum": Currency::codes().collect::<Vec<_>>() })),
        (
            "Violation",
            object(
                &["field", "description"],
                json!({ "field": { "type": "string" }, "description": { "type": "string" } }),
            ),
        ),
        ("Problem", problem()),
    ])
}

/// One schema for each status that a problem may have: it names the reasons that share the status.
fn problems() -> Schemas {
    let statuses: BTreeSet<_> = Reason::ALL.into_iter().map(|reason| reason.spec().http_status).collect();
    let of = |status: u16| {
        let specs = Reason::ALL.into_iter().map(Reason::spec).filter(|spec| spec.http_status == status);
        let reasons: Vec<_> = specs.map(|spec| spec.name).collect();
        let own = json!({ "status": { "const": status }, "reason": { "enum": reasons } });
        json!({ "allOf": [reference("Problem")], "properties": own })
    };
    statuses.into_iter().map(|status| (format!("Problem{status}"), of(status))).collect()
}

fn problem() -> Value {
    let reasons: Vec<_> = Reason::ALL.into_iter().map(|reason| reason.spec().name).collect();
    object(
        &["type", "title", "status", "detail", "instance", "reason"],
        json!({
            "type": { "type": "string", "pattern": "^urn:ordersystem:problem:[a-z-]+$" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "instance": { "type": "string" },
            "reason": { "type": "string", "enum": reasons },
            "violations": { "type": "array", "items": reference("Violation"), "maxItems": 1000 },
            "orderId": reference("Id"),
            "orderStatus": reference("Status"),
            "command": { "type": "string" },
            "expectedRevision": reference("Count"),
            "actualRevision": reference("Count"),
            "requestId": { "type": "string" },
            "maxMessageBytes": reference("Count"),
            "requiredRoles": { "type": "array", "items": { "type": "string" } },
            "limit": { "type": "string", "enum": ["rate", "commands_in_flight", "streams"] },
            "limitValue": reference("Count"),
            "limitScope": { "type": "string" },
        }),
    )
}

fn inputs() -> Schemas {
    let currency = format!("ISO 4217; default: {DEFAULT_CURRENCY}. All items of an order have the same currency.");
    let currency = json!({ "anyOf": [reference("Currency"), { "type": "null" }], "description": currency });
    let item = object(
        &["productId", "quantity", "price"],
        json!({
            "productId": text_or_integer(128),
            "name": optional_text(256),
            "quantity": { "type": "integer", "minimum": 1, "maximum": MAX_QUANTITY },
            "price": {
                "type": ["number", "string"], "minimum": 0, "pattern": r"^(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$",
                "description": "The exact price of one piece, no finer than the currency's minor unit.",
            },
            "currency": currency,
        }),
    );
    let new_order = object(
        &["customerId", "items"],
        json!({
            "customerId": text_or_integer(128),
            "items": { "type": "array", "minItems": 1, "maxItems": MAX_ITEMS, "items": reference("CreateOrderItem") },
            "shippingAddress": optional_text(1024),
            "currency": currency,
        }),
    );
    let payment = json!({ "paymentMethod": text(64), "paymentReference": optional_text(128) });
    let shipment = json!({ "trackingNumber": text(128), "carrier": optional_text(64) });
    named([
        ("CreateOrderItem", item),
        ("CreateOrder", new_order),
        ("Payment", object(&["paymentMethod"], payment)),
        ("Shipment", object(&["trackingNumber"], shipment)),
        ("Delivery", object(&[], json!({}))),
        ("Cancellation", object(&[], json!({ "reason": optional_text(512) }))),
    ])
}

fn orders() -> Schemas {
    let string = || json!({ "type": "string" });
    let item = object(
        &["productId", "quantity", "price"],
        json!({ "productId": string(), "name": string(), "quantity": reference("Count"), "price": reference("Amount") }),
    );
    let order = object(
        &["orderId", "customerId", "status", "items", "total", "currency", "revision", "createdAt", "updatedAt"],
        json!({
            "orderId": reference("Id"), "customerId": string(), "status": reference("Status"),
            "items": { "type": "array", "items": reference("Item") },
            "total": reference("Amount"), "currency": reference("Currency"), "shippingAddress": string(),
            "revision": reference("Revision"), "createdAt": reference("Time"), "updatedAt": reference("Time"),
            "paymentMethod": string(), "paymentReference": string(), "paidAt": reference("Time"),
            "trackingNumber": string(), "carrier": string(), "shippedAt": reference("Time"), "deliveredAt": reference("Time"),
            "cancelReason": string(), "cancelledAt": reference("Time"),
        }),
    );
    let row = object(
        &["orderId", "customerId", "status", "total", "currency", "itemCount", "revision", "createdAt", "updatedAt"],
        json!({
            "orderId": reference("Id"), "customerId": string(), "status": reference("Status"), "total": reference("Amount"),
            "currency": reference("Currency"), "itemCount": reference("Count"), "revision": reference("Revision"),
            "createdAt": reference("Time"), "updatedAt": reference("Time"),
        }),
    );
    let by_status: Map<_, _> =
        Status::ALL.iter().map(|status| (status.name().to_owned(), reference("Count"))).collect();
    let status_names: Vec<_> = Status::ALL.map(Status::name).to_vec();
    let stats = object(
        &["totalOrders", "byStatus", "totalRevenue", "revenueByCurrency", "timestamp"],
        json!({
            "totalOrders": reference("Count"),
            "byStatus": reference("CountByStatus"),
            "totalRevenue": { "allOf": [reference("Amount")],
                "description": format!("In {DEFAULT_CURRENCY}, without cancelled orders; other currencies are in revenueByCurrency.") },
            "revenueByCurrency": { "type": "object", "additionalProperties": reference("Amount") },
            "timestamp": reference("Time"),
        }),
    );
    named([
        ("Item", item),
        ("Order", order),
        ("OrderSummary", row),
        ("OrderPage", json!({ "type": "array", "items": reference("OrderSummary") })),
        ("CountByStatus", object(&status_names, Value::Object(by_status))),
        ("Stats", stats),
    ])
}

fn events() -> Schemas {
    let string = || json!({ "type": "string" });
    let event = |kind: &str, required: &[&str], own: Value| {
        let mut properties = json!({
            "type": { "const": kind }, "eventId": string(), "orderId": reference("Id"), "revision": reference("Revision"),
            "cursor": string(), "customerId": string(), "requestId": string(), "actor": string(),
            "onBehalfOf": string(), "traceparent": reference("Traceparent"),
        });
        if let (Value::Object(all), Value::Object(own)) = (&mut properties, own) {
            all.extend(own);
        }
        object(&[&["type", "eventId", "orderId", "revision", "cursor", "customerId"], required].concat(), properties)
    };
    let created = json!({
        "items": { "type": "array", "items": reference("Item") }, "total": reference("Amount"), "currency": reference("Currency"),
        "shippingAddress": string(), "createdAt": reference("Time"),
    });
    let paid = json!({ "paymentMethod": string(), "paymentReference": string(), "paidAt": reference("Time") });
    let shipped = json!({ "trackingNumber": string(), "carrier": string(), "shippedAt": reference("Time") });
    let kinds = EventKind::ALL.map(EventKind::name);
    named([
        ("OrderCreated", event(kinds[0], &["items", "total", "currency", "createdAt"], created)),
        ("OrderPaid", event(kinds[1], &["paymentMethod", "paidAt"], paid)),
        ("OrderShipped", event(kinds[2], &["trackingNumber", "shippedAt"], shipped)),
        ("OrderDelivered", event(kinds[3], &["deliveredAt"], json!({ "deliveredAt": reference("Time") }))),
        (
            "OrderCancelled",
            event(kinds[4], &["cancelledAt"], json!({ "reason": string(), "cancelledAt": reference("Time") })),
        ),
        ("Event", json!({ "oneOf": kinds.map(reference) })),
        ("EventPage", json!({ "type": "array", "items": reference("Event") })),
    ])
}

fn system() -> Schemas {
    let string = || json!({ "type": "string" });
    let one_of = |names: &[&str]| json!({ "type": "string", "enum": names });
    let root = object(
        &[
            "service",
            "version",
            "node",
            "mode",
            "transport",
            "persistence",
            "durability",
            "authentication",
            "status",
            "timestamp",
        ],
        json!({
            "service": string(), "version": string(), "node": string(), "mode": one_of(&["Standalone", "Cluster"]),
            "transport": string(), "persistence": string(), "durability": one_of(&["unknown", "none", "process", "machine", "quorum"]),
            "durabilityDetail": string(), "authentication": one_of(&["none", "required"]), "securityWarning": string(),
            "status": one_of(&["running", "draining"]), "timestamp": reference("Time"),
        }),
    );
    let condition = || one_of(&["Healthy", "Degraded", "Unhealthy"]);
    let check = json!({ "status": condition(), "latencyMs": { "type": "number", "minimum": 0 }, "detail": string() });
    let health = |status: Value| {
        let checks = json!({ "type": "object", "additionalProperties": reference("Check") });
        object(
            &["status", "draining", "checks"],
            json!({ "status": status, "draining": { "type": "boolean" }, "checks": checks }),
        )
    };
    let node = json!({
        "node": string(), "address": string(),
        "datacenterId": { "type": "integer", "minimum": 0, "maximum": 31 },
        "workerId": { "type": "integer", "minimum": 0, "maximum": 31 },
        "roles": { "type": "array", "items": string() },
        "position": string(), "lag": reference("Count"), "isThisNode": { "type": "boolean" },
    });
    let takeover =
        json!({ "noticedAt": reference("Time"), "role": string(), "fromNode": string(), "toNode": string() });
    let cluster = json!({
        "mode": one_of(&["Standalone", "Cluster"]),
        "nodes": { "type": "array", "items": reference("ClusterNode") },
        "takeovers": { "type": "array", "items": reference("Takeover") },
    });
    let id = || json!({ "type": "integer", "minimum": 1, "maximum": i64::MAX });
    let new_id = object(&["id", "idString"], json!({ "id": id(), "idString": reference("Id") }));
    let new_ids = object(
        &["ids", "idStrings"],
        json!({ "ids": { "type": "array", "items": id() }, "idStrings": { "type": "array", "items": reference("Id") } }),
    );
    let small = |maximum: u32| json!({ "type": "integer", "minimum": 0, "maximum": maximum });
    let parts = json!({
        "id": id(), "idString": reference("Id"), "timestamp": reference("Time"), "datacenter": small(31), "worker": small(31),
        "sequence": small(4095),
    });
    named([
        ("Root", root),
        ("Check", object(&["status", "latencyMs", "detail"], check)),
        ("Health", health(condition())),
        ("Readiness", health(one_of(&["Ready", "NotReady"]))),
        ("Liveness", object(&["status"], json!({ "status": one_of(&["Live", "NotLive"]) }))),
        (
            "ClusterNode",
            object(&["node", "address", "datacenterId", "workerId", "roles", "position", "lag", "isThisNode"], node),
        ),
        ("Takeover", object(&["noticedAt", "role", "fromNode", "toNode"], takeover)),
        ("Cluster", object(&["mode", "nodes", "takeovers"], cluster)),
        ("IssuedId", new_id),
        ("IssuedIds", new_ids),
        ("NewIds", json!({ "oneOf": [reference("IssuedId"), reference("IssuedIds")] })),
        ("IdParts", object(&["id", "idString", "timestamp", "datacenter", "worker", "sequence"], parts)),
    ])
}
