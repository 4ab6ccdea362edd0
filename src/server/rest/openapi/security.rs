//! The roles that may call each operation, where callers are identified.

use http::Method;
use serde_json::{Value, json};

use super::operations::Operation;
use crate::{
    identity::Role,
    server::access::table::{self, Called, Policy},
};

/// The name of the scheme.
const SCHEME: &str = "credentials";

/// The way to identify a caller, for the Authorize button of Swagger UI.
pub fn schemes() -> Value {
    let description = "An API key, or a token of the issuer. Needed only on a node with --identities; a client certificate that is known there \
                       does as well.";
    json!({ SCHEME: { "type": "http", "scheme": "bearer", "description": description } })
}

/// Adds the security requirement to an operation, the roles that may call it, and the refusals.
pub fn add(operation: &mut Operation) {
    let method = operation.method.to_ascii_uppercase().parse().unwrap_or(Method::GET);
    let Called::Rule(rule) = table::of_route(&method, &operation.path) else { return };
    let roles = match rule.policy {
        Policy::Public => return,
        Policy::Verified => "Where callers are identified: any of them.".to_owned(),
        Policy::OneOf(roles) => {
            let roles: Vec<_> = roles.iter().map(Role::name).collect();
            format!("Where callers are identified: one of the roles {}.", roles.join(", "))
        }
    };
    let value = &mut operation.value;
    value["description"] = json!(roles);
    // The empty requirement makes credentials optional: a node may not identify callers.
    value["security"] = json!([{ SCHEME: [] }, {}]);
    for status in [401, 403, 429] {
        value["responses"][status.to_string()] = json!({ "$ref": format!("#/components/responses/Problem{status}") });
    }
}
