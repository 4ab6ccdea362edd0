//! The refusals of access control, and the headers that explain them.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::table::{self, Called};
use crate::{
    identity::{
        Principal, Rejection, Role, Roles,
        limits::{Exceeded, RateLeft},
    },
    server::error::{ApiError, Reason},
};

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

pub fn not_served(called: Called, is_grpc: bool) -> ApiError {
    match called {
        Called::OtherMethods(other) => {
            let message = "the route does not have this method; Allow names those that it has";
            ApiError::new(Reason::MethodNotAllowed, message).with("allow", table::allowed(other))
        }
        _ if is_grpc => ApiError::new(Reason::RouteNotFound, "there is no such service or method"),
        _ => ApiError::new(Reason::RouteNotFound, "there is no such route; /openapi.json names those that there are"),
    }
}

pub fn missing() -> ApiError {
    let message = "this needs credentials: send the header authorization: Bearer KEY, with an API key or a token of the issuer, or a client \
                   certificate that is known here";
    ApiError::new(Reason::CredentialsMissing, message)
}

pub fn rejected(rejection: &Rejection) -> ApiError {
    let reason = match rejection {
        Rejection::Invalid(_) => Reason::CredentialsInvalid,
        Rejection::Expired(_) => Reason::CredentialsExpired,
    };
    ApiError::new(reason, rejection.to_string())
}

pub fn role_missing(principal: &Principal, wanted: Roles) -> ApiError {
    let names = |roles: Roles| roles.iter().map(Role::name).collect::<Vec<_>>();
    let (wanted, own) = (names(wanted), names(principal.roles()));
    let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
    let message = format!("this needs one of the roles {}; the caller has {own}", wanted.join(", "));
    ApiError::new(Reason::RoleMissing, message).with("roles", wanted.join(","))
}

/// The error of a call, or of a single command, that exceeds a limit of its caller.
#[must_use]
pub fn limited(exceeded: &Exceeded) -> ApiError {
    let Exceeded { limit, max, scope, retry_after, rate } = exceeded;
    let message = format!("the caller has reached its limit: {limit} {max} of {scope}");
    let error = ApiError::new(Reason::CallerLimit, message)
        .with("limit", limit)
        .with("limit_value", max)
        .with("scope", scope)
        .retry(*retry_after);
    match rate {
        Some(rate) => error.with("rate_limit", rate_of(rate)).with("rate_limit_policy", policy_of(rate)),
        None => error,
    }
}

/// Adds the headers that a refused client needs: how to identify itself (RFC 6750), the allowed methods, its rate.
pub fn explain(headers: &mut HeaderMap, error: &ApiError) {
    let challenge = match error.reason {
        Reason::CredentialsMissing => "Bearer realm=\"ordersystem\"",
        Reason::CredentialsInvalid => "Bearer realm=\"ordersystem\", error=\"invalid_token\"",
        Reason::CredentialsExpired => {
            "Bearer realm=\"ordersystem\", error=\"invalid_token\", error_description=\"the credentials have expired\""
        }
        Reason::RoleMissing => "Bearer realm=\"ordersystem\", error=\"insufficient_scope\"",
        _ => "",
    };
    if !challenge.is_empty() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    for (fact, name) in [("allow", header::ALLOW), ("rate_limit", RATE_LIMIT), ("rate_limit_policy", RATE_LIMIT_POLICY)]
    {
        if let Some(value) = error.fact(fact).and_then(|value| HeaderValue::from_str(value).ok()) {
            headers.insert(name, value);
        }
    }
}

/// Source: RateLimit header fields for HTTP, draft-ietf-httpapi-ratelimit-headers-10.
pub fn add_rate(headers: &mut HeaderMap, rate: &RateLeft) {
    for (name, value) in [(RATE_LIMIT, rate_of(rate)), (RATE_LIMIT_POLICY, policy_of(rate))] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
}

fn rate_of(rate: &RateLeft) -> String {
    format!("\"caller\";r={};t={}", rate.remaining, rate.reset_seconds)
}

fn policy_of(rate: &RateLeft) -> String {
    format!("\"caller\";q={};w={}", rate.policy.quota, rate.policy.window_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::text::Actor;

    #[test]
    fn a_refusal_names_the_remedy() {
        let principal = Principal::verified(Actor::parse("shop").unwrap(), Roles::of(&[Role::Events]), None);
        let error = role_missing(&principal, Roles::of(&[Role::Writer, Role::Customer]));
        assert_eq!(error.fact("roles"), Some("writer,customer"));
        let mut headers = HeaderMap::new();
        explain(&mut headers, &error);
        assert!(headers[header::WWW_AUTHENTICATE].to_str().unwrap().contains("insufficient_scope"));
    }
}
