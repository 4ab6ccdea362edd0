//! The retry policy of `service_config.json`. tonic does not read a service config; a test checks that this is equivalent.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, sleep};
use tonic::{Code, Status, body::Body};

use crate::{
    backoff::times_between,
    channel::{Channel, Response},
};

/// The calls that are safe to retry: they have no side effects, or only use up ids. A service without a method stands for all its methods.
const SAFE: [(&str, Option<&str>); 7] = [
    ("catga.orders.v1.OrderQueryService", None),
    ("catga.system.v1.SystemService", Some("GetServerInfo")),
    ("catga.system.v1.SystemService", Some("GetCluster")),
    ("catga.ids.v1.IdService", Some("GenerateId")),
    ("catga.ids.v1.IdService", Some("GenerateIds")),
    ("catga.ids.v1.IdService", Some("ParseId")),
    ("grpc.health.v1.Health", Some("Check")),
];
const MAX_ATTEMPTS: u32 = 4;
const INITIAL_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(2);
const BACKOFF_MULTIPLIER: u32 = 2;
const RETRYABLE: Code = Code::Unavailable;

/// Tokens in thousandths: the maximum, and the refund of a success.
const MAX_TOKENS: u64 = 100_000;
const TOKEN_RATIO: u64 = 100;
/// The cost of a failure.
const TOKEN: u64 = 1_000;

/// Whether the call to `path` (`/package.Service/Method`) may be sent again.
pub(crate) fn is_safe(path: &str) -> bool {
    let Some((service, method)) = path.strip_prefix('/').and_then(|name| name.split_once('/')) else { return false };
    SAFE.iter().any(|(safe, only)| *safe == service && only.is_none_or(|only| only == method))
}

/// Stops retries while most calls fail, so that they do not add to the load: gRPC's retry throttling.
#[derive(Debug)]
pub(crate) struct Throttle {
    tokens: AtomicU64,
}

impl Default for Throttle {
    fn default() -> Self {
        Throttle { tokens: AtomicU64::new(MAX_TOKENS) }
    }
}

impl Throttle {
    /// Records a failure; returns whether a retry is allowed.
    fn failed(&self) -> bool {
        self.change(|tokens| tokens.saturating_sub(TOKEN)) > MAX_TOKENS / 2
    }

    fn succeeded(&self) {
        self.change(|tokens| MAX_TOKENS.min(tokens + TOKEN_RATIO));
    }

    fn change(&self, change: impl Fn(u64) -> u64) -> u64 {
        let before = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |tokens| Some(change(tokens)));
        change(before.unwrap_or_else(|tokens| tokens))
    }
}

/// Makes a call that is safe to send again up to [`MAX_ATTEMPTS`] times, until `deadline`.
///
/// As in every gRPC library, a call is only retried if it fails before its reply has begun.
pub(crate) async fn call(
    channel: &Channel,
    throttle: &Throttle,
    request: http::Request<Body>,
    deadline: Option<Instant>,
) -> Result<Response, Status> {
    let (mut parts, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut backoff = INITIAL_BACKOFF;
    let mut attempt = 1;
    loop {
        let again = http::Request::from_parts(parts.clone(), Body::new(Full::new(body.clone())));
        let outcome = channel.attempt(again, deadline).await;
        if code(&outcome) != RETRYABLE {
            throttle.succeeded();
            return outcome;
        }
        let wait = times_between(backoff, 0.8, 1.2);
        let is_too_late = deadline.is_some_and(|deadline| Instant::now() + wait >= deadline);
        if !throttle.failed() || attempt == MAX_ATTEMPTS || is_too_late {
            return outcome;
        }
        sleep(wait).await;
        backoff = MAX_BACKOFF.min(backoff * BACKOFF_MULTIPLIER);
        parts.headers.insert("grpc-previous-rpc-attempts", HeaderValue::from(attempt));
        attempt += 1;
        if let Some(deadline) = deadline {
            parts.headers.insert("grpc-timeout", remaining(deadline));
        }
    }
}

/// The code of an attempt that has failed; OK if it has not, or if messages may come before the failure.
fn code(outcome: &Result<Response, Status>) -> Code {
    match outcome {
        Ok(response) => Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()),
        Err(status) => status.code(),
    }
}

/// The time until `deadline` in gRPC's format: at most eight digits.
fn remaining(deadline: Instant) -> HeaderValue {
    let millis = deadline.saturating_duration_since(Instant::now()).as_millis().clamp(1, 99_999_999);
    HeaderValue::try_from(format!("{millis}m")).unwrap_or_else(|_| HeaderValue::from_static("1m"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seconds(time: Duration) -> String {
        format!("{}s", time.as_secs_f64())
    }

    #[test]
    fn the_policy_is_that_of_the_service_config_that_all_clients_share() {
        let config: Value = serde_json::from_str(include_str!("../service_config.json")).unwrap();
        let names = SAFE.map(|(service, method)| match method {
            Some(method) => json!({"service": service, "method": method}),
            None => json!({"service": service}),
        });
        let here = json!({
            "methodConfig": [{
                "name": names,
                "retryPolicy": {
                    "maxAttempts": MAX_ATTEMPTS,
                    "initialBackoff": seconds(INITIAL_BACKOFF),
                    "maxBackoff": seconds(MAX_BACKOFF),
                    "backoffMultiplier": BACKOFF_MULTIPLIER,
                    "retryableStatusCodes": [format!("{RETRYABLE:?}").to_uppercase()],
                },
            }],
            "retryThrottling": {
                "maxTokens": MAX_TOKENS / TOKEN,
                "tokenRatio": TOKEN_RATIO as f64 / TOKEN as f64,
            },
        });
        assert_eq!(here, config);
    }

    #[test]
    fn a_path_is_safe_by_its_service_or_by_its_method() {
        assert!(is_safe("/catga.orders.v1.OrderQueryService/GetOrder"));
        assert!(is_safe("/catga.ids.v1.IdService/GenerateIds"));
        assert!(is_safe("/grpc.health.v1.Health/Check"));
        assert!(!is_safe("/catga.ids.v1.IdService/StreamIds"));
        assert!(!is_safe("/catga.orders.v1.OrderCommandService/CreateOrder"));
        assert!(!is_safe("/catga.orders.v1.OrderQueryServices/GetOrder"));
        assert!(!is_safe("/catga.system.v1.SystemService/WatchCluster"));
        assert!(!is_safe("nonsense"));
    }

    #[test]
    fn fifty_failures_stop_retries_until_enough_calls_have_succeeded() {
        let throttle = Throttle::default();
        assert_eq!((0..60).filter(|_| throttle.failed()).count(), 49);
        (0..110).for_each(|_| throttle.succeeded());
        assert!(!throttle.failed(), "40 tokens and 11 more, less one, are just half of all");
        (0..11).for_each(|_| throttle.succeeded());
        assert!(throttle.failed(), "50 tokens and 1.1 more, less one, are more than half");
    }
}
