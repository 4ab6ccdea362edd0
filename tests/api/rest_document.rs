//! The OpenAPI document against the live server: the same routes, the same methods, and replies that match its schemas.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::rest::{Reply, Rest};

const METHODS: [Method; 6] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::TRACE];

#[tokio::test]
async fn the_document_and_the_router_have_the_same_routes() {
    let rest = Rest::start().await;
    let document = rest.get("/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let documented: BTreeSet<_> = document["paths"].as_object().expect("paths").keys().cloned().collect();
    let served: BTreeSet<_> = ordersystem::server::paths().into_iter().collect();
    assert_eq!(documented, served);
    for path in served {
        for method in METHODS {
            let is_documented = document["paths"][&path][method.as_str().to_lowercase()].is_object();
            let reply =
                Reply::of(rest.request(method.clone(), &path.replace("{id}", "1").replace("{file}", "x"))).await;
            let is_served = reply.status != 405;
            assert_eq!(is_served, is_documented, "{method} {path}: {reply:?}");
            assert!(!reply.text.contains("there is no such route"), "{method} {path}");
        }
    }
}

#[tokio::test]
async fn every_reference_and_operation_id_of_the_document_is_sound() {
    let rest = Rest::start().await;
    let document = rest.get("/openapi.json").await.json();
    let mut references = Vec::new();
    collect(&document, "$ref", &mut references);
    assert!(references.len() > 100);
    for reference in references {
        let target =
            document.pointer(reference.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference"));
        assert!(target.is_some_and(Value::is_object), "{reference}");
    }
    let mut ids = Vec::new();
    collect(&document, "operationId", &mut ids);
    let distinct: BTreeSet<_> = ids.iter().map(|id| id.as_str()).collect();
    assert_eq!(distinct.len(), ids.len());
}

fn collect<'a>(value: &'a Value, key: &str, into: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get(key));
            fields.values().for_each(|value| collect(value, key, into));
        }
        Value::Array(elements) => elements.iter().for_each(|value| collect(value, key, into)),
        _ => {}
    }
}

#[tokio::test]
async fn replies_have_the_status_the_headers_and_the_shape_that_the_document_promises() {
    let rest = Rest::start().await;
    let document = rest.get("/openapi.json").await.json();
    let order = json!({ "customerId": "c", "shippingAddress": "s", "items": [{ "productId": 1, "name": "n", "quantity": 1, "price": 1 }] });
    let placed = rest.post("/orders", &order).await;
    check(&document, "post", "/orders", &placed);
    let id = placed.string("orderId");
    let commands = [
        ("pay", json!({ "paymentMethod": "card", "paymentReference": "r" })),
        ("ship", json!({ "trackingNumber": "T", "carrier": "dhl" })),
        ("ship", json!({})),
        ("ship", json!({ "trackingNumber": "T" })),
        ("deliver", json!({})),
        ("cancel", json!({})),
    ];
    for (action, body) in commands {
        let reply = rest.post(&format!("/orders/{id}/{action}"), &body).await;
        check(&document, "post", &format!("/orders/{{id}}/{action}"), &reply);
    }
    let other = rest.order("d").await;
    check(
        &document,
        "post",
        "/api/orders/{id}/cancel",
        &rest.post(&format!("/api/orders/{other}/cancel"), &json!({ "reason": "r" })).await,
    );
    check(&document, "post", "/orders", &Reply::of(rest.request(Method::POST, "/orders").body("x")).await);
    let one = format!("/orders/{id}");
    for (template, path) in [
        ("/", "/"),
        ("/", "/?x=1"),
        ("/health", "/health"),
        ("/health/ready", "/health/ready"),
        ("/health/live", "/health/live"),
        ("/stats", "/stats"),
        ("/metrics", "/metrics"),
        ("/cluster", "/cluster"),
        ("/orders", "/orders"),
        ("/orders", "/orders?pageSize=x"),
        ("/orders/{id}", &one),
        ("/orders/{id}", &format!("{one}?revision=1")),
        ("/orders/{id}", &format!("{one}?revision=9")),
        ("/orders/{id}", "/orders/7"),
        ("/orders/{id}", "/orders/x"),
        ("/orders/{id}/history", &format!("{one}/history")),
        ("/orders/{id}/history", "/orders/7/history"),
        ("/events", "/events"),
        ("/events", "/events?pageSize=1"),
        ("/events", "/events?cursor=x"),
        ("/api/id", "/api/id"),
        ("/api/id", "/api/id?count=3"),
        ("/api/id", "/api/id?count=0"),
        ("/api/id/{id}", "/api/id/123456789012345"),
        ("/api/id/{id}", "/api/id/x"),
        ("/openapi.json", "/openapi.json"),
        ("/swagger", "/swagger"),
        ("/swagger/", "/swagger/"),
        ("/swagger/{file}", "/swagger/index.html"),
        ("/swagger/{file}", "/swagger/swagger-ui.css"),
        ("/swagger/{file}", "/swagger/swagger-initializer.js"),
        ("/swagger/{file}", "/swagger/favicon-32x32.png"),
        ("/swagger/{file}", "/swagger/x"),
        ("/dashboard", "/dashboard"),
        ("/dashboard/", "/dashboard/"),
        ("/dashboard/{file}", "/dashboard/console.css"),
        ("/dashboard/{file}", "/dashboard/index.html"),
        ("/dashboard/{file}", "/dashboard/x"),
        ("/dashboard/{file}", "/dashboard/main.js"),
    ] {
        check(&document, "get", template, &rest.get(path).await);
    }
}

#[tokio::test]
async fn the_examples_of_the_document_are_accepted() {
    let rest = Rest::start().await;
    let document = rest.get("/openapi.json").await.json();
    let example = |path: &str| {
        let body = &document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"];
        assert!(body.is_object(), "{path} has no example");
        body.clone()
    };
    for actions in [&["pay", "ship", "deliver"][..], &["cancel"]] {
        let placed = rest.post("/orders", &example("/orders")).await;
        assert_eq!(placed.status, 201, "{placed:?}");
        let id = placed.string("orderId");
        for action in actions {
            let body = example(&format!("/orders/{{id}}/{action}"));
            let done = rest.post(&format!("/orders/{id}/{action}"), &body).await;
            assert_eq!(done.status, 200, "{action}: {done:?}");
        }
    }
}

#[tokio::test]
async fn swagger_ui_fits_a_phone() {
    let rest = Rest::start().await;
    let page = rest.get("/swagger/index.html").await;
    assert_eq!(page.text.matches("<meta name=\"viewport\" content=\"width=device-width").count(), 1, "{page:?}");
}

/// Asserts that the reply is one of those that the document lists for `method` of `path`.
fn check(document: &Value, method: &str, path: &str, reply: &Reply) {
    let mut response = &document["paths"][path][method]["responses"][reply.status.as_u16().to_string()];
    if let Some(reference) = response["$ref"].as_str() {
        response = document.pointer(&reference[1..]).expect("a response");
    }
    assert!(response["description"].is_string(), "{method} {path} does not document {reply:?}");
    if let Some(headers) = response["headers"].as_object() {
        for name in
            headers.keys().filter(|name| !["Link", "Retry-After", "X-Consistency-Token"].contains(&name.as_str()))
        {
            assert!(reply.headers.contains_key(name), "{method} {path}: no {name} in {reply:?}");
        }
    }
    let Some(content) = response["content"].as_object() else {
        assert_eq!(reply.text, "", "{method} {path}");
        return;
    };
    let media_type = reply.header("content-type").split(';').next().expect("a type");
    let schema =
        &content.get(media_type).unwrap_or_else(|| panic!("{method} {path} does not document {media_type}"))["schema"];
    if media_type.ends_with("json")
        && let Err(error) = conforms(document, schema, &reply.json())
    {
        panic!("{method} {path}: {error}\n{}", reply.text);
    }
}

/// The subset of JSON Schema that the document uses for replies.
fn conforms(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let rules = schema.as_object().ok_or("a schema is an object")?;
    for (rule, wanted) in rules {
        let is_kept = match rule.as_str() {
            "$ref" => {
                let target = wanted.as_str().and_then(|text| document.pointer(&text[1..])).ok_or("a reference")?;
                conforms(document, target, value).map_err(|error| format!("{wanted}: {error}"))?;
                true
            }
            "type" => is_of_type(wanted, value),
            "enum" => wanted.as_array().is_some_and(|all| all.contains(value)),
            "const" => wanted == value,
            "allOf" => each(document, wanted, value).iter().all(Result::is_ok),
            "oneOf" => each(document, wanted, value).iter().filter(|outcome| outcome.is_ok()).count() == 1,
            "required" => wanted
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| value.get(name.as_str().unwrap_or_default()).is_some()),
            "properties" | "additionalProperties" => {
                properties(document, rules.get("properties"), rules.get("additionalProperties"), value)?;
                true
            }
            "items" => {
                let elements = value.as_array().into_iter().flatten();
                elements.map(|element| conforms(document, wanted, element)).collect::<Result<Vec<_>, _>>()?;
                true
            }
            "minimum" => value.as_f64() >= wanted.as_f64(),
            "maximum" => value.as_f64() <= wanted.as_f64(),
            "maxItems" => value.as_array().is_none_or(|all| Some(all.len() as u64) <= wanted.as_u64()),
            "description" | "format" | "pattern" => true,
            other => return Err(format!("the check does not know {other}")),
        };
        if !is_kept {
            return Err(format!("{value} breaks {rule}: {wanted}"));
        }
    }
    Ok(())
}

fn each(document: &Value, schemas: &Value, value: &Value) -> Vec<Result<(), String>> {
    schemas.as_array().into_iter().flatten().map(|schema| conforms(document, schema, value)).collect()
}

fn properties(document: &Value, named: Option<&Value>, others: Option<&Value>, value: &Value) -> Result<(), String> {
    for (name, value) in value.as_object().into_iter().flatten() {
        match (named.and_then(|named| named.get(name)), others) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                conforms(document, schema, value).map_err(|error| format!("{name}: {error}"))?;
            }
            (None, Some(Value::Bool(false))) => return Err(format!("{name} is not documented")),
            _ => {}
        }
    }
    Ok(())
}

fn is_of_type(wanted: &Value, value: &Value) -> bool {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => false,
    };
    match wanted {
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => wanted.as_str().is_some_and(is),
    }
}
