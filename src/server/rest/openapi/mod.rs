//! The OpenAPI 3.1 document of the REST gateway, checked against the live server by tests.

mod operations;
mod schemas;
mod security;

use serde_json::{Map, Value, json};

use super::history::LATEST;
use crate::server::{DEFAULT_PAGE_SIZE, MAX_IDS_PER_CALL, MAX_PAGE_SIZE, SERVICE_NAME, VERSION, error::Reason};

/// `*`, or a list of entity tags. Source: RFC 9110, 8.8.3 and 13.1.
const ENTITY_TAGS: &str = r#"^(\*|(W/)?"[^"]*"( *, *(W/)?"[^"]*")*)$"#;

/// The whole document.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for mut operation in operations::all() {
        security::add(&mut operation);
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        path[operation.method] = operation.value;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": SERVICE_NAME,
            "version": VERSION,
            "description": "Event-sourced orders. The same operations as over gRPC. Every error is application/problem+json; every \
                input is read strictly: unknown or repeated fields and parameters are refused, and all violations are named at once. \
                An unknown path answers 404, an unknown method 405 with Allow.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": [
            { "name": "Orders", "description": "Commands and queries." },
            { "name": "Events", "description": "Events, as pages and as server-sent events." },
            { "name": "Ids", "description": "Snowflake ids." },
            { "name": "System", "description": "The node itself." },
            { "name": "Orders under /api", "description": "The same operations as Orders, under a second path." },
        ],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "parameters": parameters(),
            "headers": headers(),
            "responses": responses(),
            "securitySchemes": security::schemes(),
        },
    })
}

fn query(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
}

fn header(name: &str, description: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "required": false, "description": description, "schema": schema })
}

fn parameters() -> Value {
    let mut all = Map::new();
    let mut add = |key: &str, value: Value| all.insert(key.to_owned(), value);
    let id = json!({ "name": "id", "in": "path", "required": true, "description": "A Snowflake id.",
        "schema": schemas::reference("Id") });
    add("id", id);
    let file = json!({ "name": "file", "in": "path", "required": true, "description": "The name of a file.",
        "schema": { "type": "string" } });
    add("file", file);
    let key = json!({ "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$" });
    add(
        "Idempotency-Key",
        header(
            "Idempotency-Key",
            "Makes the command safe to retry: the same key with the same payload gets the first reply.",
            key,
        ),
    );
    add("X-Actor", header("X-Actor", "Who issues the command, for the record.", schemas::text(128)));
    let tags = json!({ "type": "string", "minLength": 1, "pattern": ENTITY_TAGS, "examples": ["\"3\"", "*"] });
    add(
        "If-Match",
        header(
            "If-Match",
            "The command is refused with 412 unless the order has one of these entity tags. Together with Idempotency-Key only one \
             strong tag, or *.",
            tags.clone(),
        ),
    );
    add(
        "If-Match-New",
        header(
            "If-Match",
            "A new order has no revision yet: only these two values are accepted, and they have no effect.",
            json!({ "type": "string", "enum": ["\"0\"", "*"] }),
        ),
    );
    add(
        "If-None-Match",
        header("If-None-Match", "Answered with 304 if the order still has one of these entity tags.", tags),
    );
    let token = json!({ "type": "string", "maxLength": 64 });
    add(
        "X-Consistency-Token",
        header("X-Consistency-Token", "From an earlier reply: this one will be at least as fresh.", token.clone()),
    );
    add(
        "Last-Event-ID",
        header(
            "Last-Event-ID",
            "For server-sent events only: continues after this id, whatever the query says.",
            token,
        ),
    );
    query_parameters(&mut add);
    Value::Object(all)
}

fn query_parameters(add: &mut impl FnMut(&str, Value) -> Option<Value>) {
    let time = json!({ "type": "string", "format": "date-time" });
    let number = |minimum: u64| json!({ "type": "integer", "minimum": minimum, "maximum": i64::MAX });
    let page_size = json!({ "type": "integer", "minimum": 0, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE });
    let count = json!({ "type": "integer", "minimum": 1, "maximum": MAX_IDS_PER_CALL });
    let opaque = json!({ "type": "string", "minLength": 1, "maxLength": 64 });
    let cursor = format!(
        "Continues after this cursor of an earlier reply; \"{LATEST}\": after the newest event. Default: from the first event."
    );
    for (name, description, schema) in [
        ("revision", "The order as it was right after this revision.", number(1)),
        ("asOf", "The order as it was at this time; not together with revision.", time.clone()),
        (
            "fromRevision",
            "The first revision to return; 0 means 1. At most one past the last: 404 (NOT_YET_THEN) for a later one.",
            number(0),
        ),
        ("pageSize", "Maximum number of entries; 0 means the default.", page_size),
        ("pageToken", "From the Link header of the previous page.", opaque.clone()),
        ("customerId", "Only orders, or events of orders, of this customer.", schemas::text(128)),
        (
            "status",
            "Only orders in this status; for events, only those that bring an order into it.",
            schemas::reference("Status"),
        ),
        ("createdAfter", "Only orders placed at or after this time.", time.clone()),
        ("createdBefore", "Only orders placed before this time.", time),
        (
            "orderBy",
            "Newest or oldest first.",
            json!({ "type": "string", "enum": ["createdDesc", "createdAsc"], "default": "createdDesc" }),
        ),
        ("cursor", cursor.as_str(), opaque),
        (
            "type",
            "Only events of this type; together with status only the one that brings an order into it.",
            schemas::reference("EventType"),
        ),
        ("count", "Number of ids. Without it, one id in another shape.", count),
    ] {
        add(name, query(name, description, schema));
    }
}

fn headers() -> Value {
    let text = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        "ETag": { "description": "The order's revision in quotes.", "schema": { "type": "string", "pattern": "^\"[0-9]+\"$" } },
        "Location": text("Where it is."),
        "Link": text("The next page: <…>; rel=\"next\". Absent on the last page."),
        "X-Consistency-Token": text("Pass this to a query to get a reply that is at least as fresh as this one."),
        "WWW-Authenticate": text("How to identify the caller. Source: RFC 6750."),
        "RateLimit": text("The remaining calls of the caller: r now, and more in t seconds."),
        "RateLimit-Policy": text("The rate of the caller: q calls in w seconds."),
        "Retry-After": { "description": "Seconds after which to retry.", "schema": { "type": "integer", "minimum": 1 } },
    })
}

/// The reasons that share an HTTP status, as one response.
fn responses() -> Value {
    let mut all = Map::new();
    for reason in Reason::ALL {
        let status = reason.spec().http_status;
        all.entry(format!("Problem{status}")).or_insert_with(|| problem(status));
    }
    Value::Object(all)
}

fn problem(status: u16) -> Value {
    let reasons = Reason::ALL.into_iter().map(Reason::spec).filter(|spec| spec.http_status == status);
    let titles: Vec<_> = reasons.map(|spec| spec.title).collect();
    let schema = schemas::reference(&format!("Problem{status}"));
    let mut response = json!({
        "description": titles.join("; "),
        "content": { super::problem::CONTENT_TYPE: { "schema": schema } },
    });
    let names: &[&str] = match status {
        401 | 403 => &["WWW-Authenticate"],
        409 | 503 => &["Retry-After"],
        429 => &["Retry-After", "RateLimit", "RateLimit-Policy"],
        _ => return response,
    };
    let reference = |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
    response["headers"] = Value::Object(names.iter().map(reference).collect());
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::application::requests::Field;

    fn names(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("name").and_then(Value::as_str).map(str::to_owned));
                if let Some(Value::Object(properties)) = fields.get("properties") {
                    into.extend(properties.keys().cloned());
                }
                fields.values().for_each(|value| names(value, into));
            }
            Value::Array(elements) => elements.iter().for_each(|value| names(value, into)),
            _ => {}
        }
    }

    #[test]
    fn every_object_has_a_name_and_none_that_clashes_with_a_constructor() {
        fn nested(value: &Value) -> impl Iterator<Item = &Value> {
            let fields = value.as_object().into_iter().flat_map(|fields| fields.values());
            fields.chain(value.as_array().into_iter().flatten())
        }
        fn has_objects(value: &Value) -> bool {
            value.get("properties").is_some_and(Value::is_object) || nested(value).any(has_objects)
        }
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        for (name, schema) in schemas {
            let properties = schema.get("properties").into_iter().flat_map(nested);
            let others = nested(schema).filter(|value| Some(*value) != schema.get("properties"));
            for value in properties.chain(others) {
                assert!(!has_objects(value), "{name} has an object without a name: {value}");
            }
            // The constructor of `Item` is `NewItem` in Go.
            let clash = name.strip_prefix("New").filter(|other| schemas.contains_key(*other));
            assert_eq!(clash, None);
        }
        for section in [&document["paths"], &document["components"]["responses"]] {
            assert!(!has_objects(section), "generators make up names for objects that have none");
        }
    }

    #[test]
    fn each_group_has_an_operation_once() {
        let document = document();
        let known: Vec<_> =
            document["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
        let mut seen = std::collections::BTreeSet::new();
        for path in document["paths"].as_object().unwrap().values() {
            for operation in path.as_object().unwrap().values() {
                let tag = operation["tags"][0].as_str().unwrap();
                assert!(known.contains(&tag), "{tag}");
                assert!(seen.insert((tag, operation["summary"].as_str().unwrap())), "{tag}: {}", operation["summary"]);
            }
        }
    }

    #[test]
    fn a_response_with_json_has_one_type() {
        let document = document();
        let operations = document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap());
        let mut streams = 0;
        for (method, operation) in operations.filter(|(_, operation)| operation["operationId"] != "getSwaggerFile") {
            for response in operation["responses"].as_object().unwrap().values() {
                let types = response["content"].as_object().map_or(0, Map::len);
                let has_json = response["content"].get("application/json").is_some();
                assert!(types == 1 || !has_json, "{method} {operation}");
            }
            streams += usize::from(operation["x-event-stream"]["accept"] == "text/event-stream");
        }
        assert_eq!(streams, 3);
    }

    #[test]
    fn every_name_that_rest_alone_has_for_a_field_is_in_the_document() {
        let mut documented = Vec::new();
        names(&document(), &mut documented);
        let differs = |field: &&Field| field.proto_name() != field.rest_name() && **field != Field::Request;
        for field in Field::ALL.iter().filter(differs) {
            assert!(documented.iter().any(|name| name == field.rest_name()), "{field:?}");
        }
    }
}
