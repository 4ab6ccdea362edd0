//! The metrics of calls: duration, outcome, bytes and messages, by gRPC method or REST route.
//!
//! The names follow the conventions of OpenTelemetry. A client cannot invent labels: every call without a row in the table of rules is `_OTHER`.
//! Handles are created once, and found by the number of the row.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::Method;
use metrics::{Counter, Gauge, Histogram, SharedString};

use super::{
    access::table::{self, Called},
    grpc::request::{Method as Bounds, replies_many},
};
use crate::telemetry::metrics::Metrics;

/// The name for everything that the service does not know.
pub const OTHER: &str = "_OTHER";
/// The gRPC codes whose series exist from the start: success, and the codes that are a server's fault by convention. A counter that begins with its
/// first failure would hide that failure.
const FIRST_CODES: [u16; 6] = [0, 2, 4, 13, 14, 15];
/// The HTTP statuses whose series exist from the start.
const FIRST_STATUSES: [u16; 4] = [200, 500, 503, 504];
/// The status of a request whose client left before the reply.
pub const CLIENT_GONE: u16 = 499;
/// The code of a gRPC call whose client left before the reply.
pub const CANCELLED: u16 = 1;

/// An HTTP method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// GET
    Get,
    /// POST: every call of gRPC.
    Post,
    /// HEAD
    Head,
    /// OPTIONS
    Options,
    /// PUT
    Put,
    /// PATCH
    Patch,
    /// DELETE
    Delete,
    /// Any other.
    Other,
}

impl Verb {
    /// The HTTP method of a request.
    #[must_use]
    pub const fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::POST => Self::Post,
            Method::HEAD => Self::Head,
            Method::OPTIONS => Self::Options,
            Method::PUT => Self::Put,
            Method::PATCH => Self::Patch,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => OTHER,
        }
    }
}

/// The meters of a node.
#[derive(Debug)]
pub struct CallMeters {
    methods: Vec<Arc<Meter>>,
    routes: Vec<Arc<Meter>>,
}

impl CallMeters {
    /// The meters of every method and route.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let methods = table::methods().iter().map(|rule| Of::method(&rule.path)).chain([Of::OTHER_METHOD]);
        let routes = table::paths().into_iter().map(Of::Route).chain([Of::Route(OTHER)]);
        let meters = Self {
            methods: methods.map(|of| Arc::new(Meter::new(metrics, of))).collect(),
            routes: routes.map(|of| Arc::new(Meter::new(metrics, of))).collect(),
        };
        for meter in &meters.methods {
            for code in FIRST_CODES {
                meter.outcome(Verb::Post, code);
            }
        }
        for rule in table::routes() {
            let verb = if rule.method == "GET" { Verb::Get } else { Verb::Post };
            let meter = meters.of(false, Called::Rule(rule));
            for status in FIRST_STATUSES {
                meter.outcome(verb, status);
            }
        }
        Arc::new(meters)
    }

    /// The meter of a call.
    #[must_use]
    pub fn of(&self, is_grpc: bool, called: Called) -> &Arc<Meter> {
        let meters = if is_grpc { &self.methods } else { &self.routes };
        let others = meters.len() - 1;
        &meters[called.number().map_or(others, |number| number.min(others))]
    }
}

/// The subject of a meter.
#[derive(Clone, Copy, Debug)]
enum Of {
    Method { service: &'static str, method: &'static str },
    Route(&'static str),
}

impl Of {
    const OTHER_METHOD: Self = Self::Method { service: OTHER, method: OTHER };

    fn method(path: &'static str) -> Self {
        let named = path.strip_prefix('/').and_then(|path| path.split_once('/'));
        named.map_or(Self::OTHER_METHOD, |(service, method)| Self::Method { service, method })
    }

    /// Whether its calls are streams of messages.
    fn streams(self) -> bool {
        match self {
            Self::Method { service, method } => {
                let path = format!("/{service}/{method}");
                replies_many(&path) || Bounds::at(&path, usize::MAX).takes_many || method == "Watch"
            }
            Self::Route(_) => false,
        }
    }
}

/// The meter of one method or route.
#[derive(Debug)]
pub struct Meter {
    metrics: Metrics,
    of: Of,
    active: Gauge,
    received_bytes: Counter,
    sent_bytes: Counter,
    /// The messages, for a method that streams.
    messages: Option<Messages>,
    outcomes: Outcomes,
}

/// The messages of a method that streams.
#[derive(Debug)]
pub struct Messages {
    /// Messages from clients.
    pub received: Counter,
    /// Messages to clients.
    pub sent: Counter,
}

/// The outcomes that have occurred. They are few, and never removed: a list that only grows needs no lock.
#[derive(Debug, Default)]
struct Outcomes(OnceLock<Box<Outcome>>);

/// The series of one outcome.
#[derive(Debug)]
struct Outcome {
    verb: Verb,
    code: u16,
    count: Counter,
    /// Unset before the first call: a histogram has many series.
    seconds: OnceLock<Histogram>,
    next: Outcomes,
}

impl Meter {
    fn new(metrics: &Metrics, of: Of) -> Self {
        let counter = |name: &'static str| of.counter(name);
        let (active, received_bytes, sent_bytes, messages) = metrics::with_local_recorder(metrics, || match of {
            Of::Method { service, method } => (
                metrics::gauge!("rpc_server_active_requests", "rpc_service" => service, "rpc_method" => method),
                counter("rpc_server_request_bytes_total"),
                counter("rpc_server_response_bytes_total"),
                of.streams().then(|| Messages {
                    received: counter("rpc_server_stream_messages_received_total"),
                    sent: counter("rpc_server_stream_messages_sent_total"),
                }),
            ),
            Of::Route(route) => (
                metrics::gauge!("http_server_active_requests", "http_route" => route),
                counter("http_server_request_body_bytes_total"),
                counter("http_server_response_body_bytes_total"),
                None,
            ),
        });
        let metrics = metrics.clone();
        Self { metrics, of, active, received_bytes, sent_bytes, messages, outcomes: Outcomes::default() }
    }

    /// Counts a call that has begun.
    pub fn begin(&self) {
        self.active.increment(1.0);
    }

    /// Counts the end of a call after `took`, with this HTTP status or gRPC code; `None` if the client left before there was one.
    pub fn end(&self, verb: Verb, code: Option<u16>, took: Duration) {
        self.active.decrement(1.0);
        let gone = match self.of {
            Of::Method { .. } => CANCELLED,
            Of::Route(_) => CLIENT_GONE,
        };
        let outcome = self.outcome(verb, code.unwrap_or(gone));
        outcome.count.increment(1);
        outcome.seconds.get_or_init(|| self.seconds(outcome)).record(took.as_secs_f64());
    }

    /// Counts bytes of the body of a request.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.increment(bytes as u64);
    }

    /// Counts bytes of the body of a reply.
    pub fn sent(&self, bytes: usize) {
        self.sent_bytes.increment(bytes as u64);
    }

    /// The messages of a method that streams.
    #[must_use]
    pub const fn messages(&self) -> Option<&Messages> {
        self.messages.as_ref()
    }

    fn outcome(&self, verb: Verb, code: u16) -> &Outcome {
        let mut place = &self.outcomes;
        loop {
            let outcome = place.0.get_or_init(|| {
                let count = metrics::with_local_recorder(&self.metrics, || self.of.count(verb, code));
                Box::new(Outcome { verb, code, count, seconds: OnceLock::new(), next: Outcomes::default() })
            });
            if outcome.code == code && outcome.verb == verb {
                return outcome;
            }
            place = &outcome.next;
        }
    }

    fn seconds(&self, outcome: &Outcome) -> Histogram {
        let code = SharedString::from(outcome.code.to_string());
        metrics::with_local_recorder(&self.metrics, || match self.of {
            Of::Method { service, method } => {
                metrics::histogram!("rpc_server_duration_seconds", "rpc_service" => service, "rpc_method" => method, "rpc_grpc_status_code" => code)
            }
            Of::Route(route) => {
                let method = outcome.verb.name();
                metrics::histogram!("http_server_request_duration_seconds", "http_route" => route, "http_request_method" => method, "http_response_status_code" => code)
            }
        })
    }
}

impl Of {
    fn counter(self, name: &'static str) -> Counter {
        match self {
            Self::Method { service, method } => {
                metrics::counter!(name, "rpc_service" => service, "rpc_method" => method)
            }
            Self::Route(route) => metrics::counter!(name, "http_route" => route),
        }
    }

    fn count(self, verb: Verb, code: u16) -> Counter {
        let code = SharedString::from(code.to_string());
        match self {
            Self::Method { service, method } => {
                metrics::counter!("rpc_server_requests_total", "rpc_service" => service, "rpc_method" => method, "rpc_grpc_status_code" => code)
            }
            Self::Route(route) => {
                let method = verb.name();
                metrics::counter!("http_server_requests_total", "http_route" => route, "http_request_method" => method, "http_response_status_code" => code)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_counted_under_its_own_code_and_what_is_unknown_under_other() {
        let metrics = Metrics::new();
        let meters = CallMeters::new(&metrics);
        let rule = table::of_method("/catga.orders.v1.OrderCommandService/PayOrder").map(Called::Rule).unwrap();
        for code in [Some(0), Some(9), Some(9), None] {
            meters.of(true, rule).begin();
            meters.of(true, rule).end(Verb::Post, code, Duration::from_millis(3));
        }
        meters.of(true, rule).begin();
        meters.of(false, Called::None).end(Verb::Other, Some(404), Duration::ZERO);
        let text = metrics.render();
        let pay = "rpc_service=\"catga.orders.v1.OrderCommandService\",rpc_method=\"PayOrder\"";
        for line in [
            format!("rpc_server_requests_total{{{pay},rpc_grpc_status_code=\"0\"}} 1"),
            format!("rpc_server_requests_total{{{pay},rpc_grpc_status_code=\"1\"}} 1"),
            format!("rpc_server_requests_total{{{pay},rpc_grpc_status_code=\"9\"}} 2"),
            format!("rpc_server_requests_total{{{pay},rpc_grpc_status_code=\"13\"}} 0"),
            format!("rpc_server_duration_seconds_bucket{{{pay},rpc_grpc_status_code=\"9\",le=\"0.005\"}} 2"),
            format!("rpc_server_duration_seconds_bucket{{{pay},rpc_grpc_status_code=\"9\",le=\"0.0025\"}} 0"),
            format!("rpc_server_active_requests{{{pay}}} 1"),
            "http_server_requests_total{http_route=\"_OTHER\",http_request_method=\"_OTHER\",http_response_status_code=\"404\"} 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_method_and_route_has_its_own_meter() {
        let meters = CallMeters::new(&Metrics::new());
        let named = |meter: &Arc<Meter>| format!("{:?}", meter.of);
        for rule in table::methods() {
            let of = Of::method(&rule.path);
            assert_eq!(named(meters.of(true, Called::Rule(rule))), format!("{of:?}"));
        }
        for rule in table::routes() {
            assert_eq!(named(meters.of(false, Called::OtherMethods(rule))), format!("{:?}", Of::Route(&rule.path)));
        }
    }
}
