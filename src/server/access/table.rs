//! The table of rules, which defines who may call what: one row for each gRPC method and each REST route. A call without a row is refused.
//!
//! The rows of the single commands are derived from their kinds, which name the allowed roles; all others are written here.

use std::{borrow::Cow, collections::HashMap, sync::LazyLock};

use http::Method;
use strum::VariantArray as _;

use crate::{
    application::{Scope, admission::Class, requests::CommandKind},
    identity::{Principal, Role, Roles},
};

/// The callers that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Everyone, without credentials.
    Public,
    /// Every verified caller, whatever its roles.
    Verified,
    /// A caller with one of these roles.
    OneOf(Roles),
}

/// The kind of a call, which decides its limits and its audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Changes an order.
    Command,
    /// Reads something.
    Read,
    /// May stay open: it counts as a stream of its caller until it ends.
    Stream,
    /// An action of an operator; each is audited.
    Admin,
    /// A page, a document, or a probe.
    Page,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Command, Self::Read, Self::Stream, Self::Admin, Self::Page];

    /// The name, as in the audit and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Read => "read",
            Self::Stream => "stream",
            Self::Admin => "admin",
            Self::Page => "page",
        }
    }
}

/// The rule of one method or route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The HTTP method of a route; empty for a gRPC method.
    pub method: &'static str,
    /// The full name of the method as in `/package.Service/Method`, or the template of the route.
    pub path: Cow<'static, str>,
    /// The callers that are allowed.
    pub policy: Policy,
    /// Its kind.
    pub kind: Kind,
    /// The limit that applies to it under load; `None`: it is always admitted.
    pub class: Option<Class>,
    /// The number of its method among the methods, or of its path among the paths.
    pub number: usize,
}

impl Rule {
    /// Whether a call may stay open, so that its caller has to be verified again while it is.
    #[must_use]
    pub fn stays_open(&self) -> bool {
        self.kind == Kind::Stream || self.path == REBUILD
    }

    /// Whether each message of a call is a command, which is checked like a call of its own.
    #[must_use]
    pub fn has_commands(&self) -> bool {
        self.path == EXECUTE
    }

    /// The orders that a stream shows to `caller` from its opening to its end; `None` if it is not about orders, or has commands.
    #[must_use]
    pub fn scope_of_stream(&self, caller: &Principal) -> Option<Scope> {
        let Policy::OneOf(roles) = self.policy else { return None };
        if self.kind != Kind::Stream || self.has_commands() || !roles.has(Role::Customer) {
            return None;
        }
        // The other role is for the orders of all customers.
        let for_all = roles.iter().find(|role| *role != Role::Customer)?;
        Some(Scope::of(caller, for_all))
    }
}

const READS: Policy = Policy::OneOf(Roles::of(&[Role::Reader, Role::Customer]));
const WRITES: Policy = Policy::OneOf(Roles::of(&[Role::Writer, Role::Customer]));
const FOLLOWS: Policy = Policy::OneOf(Roles::of(&[Role::Events, Role::Customer]));
const DRAWS_IDS: Policy = Policy::OneOf(Roles::of(&[Role::Writer]));
const OPERATES: Policy = Policy::OneOf(Roles::of(&[Role::Operator]));

const fn rpc(path: &'static str, policy: Policy, kind: Kind) -> Rule {
    Rule { method: "", path: Cow::Borrowed(path), policy, kind, class: None, number: 0 }
}

const fn get(path: &'static str, policy: Policy, kind: Kind) -> Rule {
    Rule { method: "GET", path: Cow::Borrowed(path), policy, kind, class: None, number: 0 }
}

/// The service of the commands.
const COMMANDS: &str = "/catga.orders.v1.OrderCommandService/";
/// The method with a stream of commands.
const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
/// The action of operators that reports its progress in a stream.
const REBUILD: &str = "/catga.system.v1.AdminService/RebuildProjections";

/// The gRPC methods without the single commands.
const OTHER_METHODS: &[Rule] = &[
    rpc(EXECUTE, WRITES, Kind::Stream),
    rpc("/catga.orders.v1.OrderQueryService/GetOrder", READS, Kind::Read),
    rpc("/catga.orders.v1.OrderQueryService/ListOrders", READS, Kind::Read),
    rpc("/catga.orders.v1.OrderQueryService/BatchGetOrders", READS, Kind::Read),
    rpc("/catga.orders.v1.OrderQueryService/GetOrderStats", READS, Kind::Read),
    rpc("/catga.orders.v1.OrderHistoryService/StreamOrderHistory", READS, Kind::Stream),
    rpc("/catga.orders.v1.OrderHistoryService/StreamEvents", FOLLOWS, Kind::Stream),
    rpc("/catga.ids.v1.IdService/GenerateId", DRAWS_IDS, Kind::Read),
    rpc("/catga.ids.v1.IdService/GenerateIds", DRAWS_IDS, Kind::Read),
    rpc("/catga.ids.v1.IdService/StreamIds", DRAWS_IDS, Kind::Stream),
    rpc("/catga.ids.v1.IdService/ParseId", Policy::Verified, Kind::Read),
    rpc("/catga.system.v1.SystemService/GetServerInfo", Policy::Verified, Kind::Read),
    rpc("/catga.system.v1.SystemService/GetCluster", OPERATES, Kind::Read),
    rpc("/catga.system.v1.SystemService/WatchCluster", OPERATES, Kind::Stream),
    rpc("/catga.system.v1.SystemService/ListCircuitBreakers", OPERATES, Kind::Read),
    rpc("/catga.system.v1.AdminService/ListDeadLetters", OPERATES, Kind::Admin),
    rpc("/catga.system.v1.AdminService/ReplayDeadLetters", OPERATES, Kind::Admin),
    rpc("/catga.system.v1.AdminService/DiscardDeadLetters", OPERATES, Kind::Admin),
    rpc(REBUILD, OPERATES, Kind::Admin),
    rpc("/catga.system.v1.AdminService/GetConfiguration", OPERATES, Kind::Admin),
    rpc("/catga.system.v1.AdminService/GetLogLevel", OPERATES, Kind::Admin),
    rpc("/catga.system.v1.AdminService/SetLogLevel", OPERATES, Kind::Admin),
    rpc("/grpc.health.v1.Health/Check", Policy::Public, Kind::Page),
    rpc("/grpc.health.v1.Health/Watch", Policy::Public, Kind::Page),
    rpc("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Policy::Verified, Kind::Stream),
    rpc("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Policy::Verified, Kind::Stream),
];

/// The routes of REST and of the pages, without the routes of orders.
const OTHER_ROUTES: &[Rule] = &[
    get("/stats", READS, Kind::Read),
    get("/events", FOLLOWS, Kind::Stream),
    get("/api/id", DRAWS_IDS, Kind::Read),
    get("/api/id/{id}", Policy::Verified, Kind::Read),
    get("/cluster", OPERATES, Kind::Read),
    get("/metrics", OPERATES, Kind::Read),
    get("/", Policy::Public, Kind::Page),
    get("/health", Policy::Public, Kind::Page),
    get("/health/ready", Policy::Public, Kind::Page),
    get("/health/live", Policy::Public, Kind::Page),
    get("/openapi.json", Policy::Public, Kind::Page),
    get("/swagger", Policy::Public, Kind::Page),
    get("/swagger/", Policy::Public, Kind::Page),
    get("/swagger/{file}", Policy::Public, Kind::Page),
    get("/dashboard", Policy::Public, Kind::Page),
    get("/dashboard/", Policy::Public, Kind::Page),
    get("/dashboard/{file}", Policy::Public, Kind::Page),
];

static METHODS: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let command = |kind: &CommandKind| {
        let name: &str = kind.into();
        let path = Cow::Owned(format!("{COMMANDS}{name}"));
        Rule { method: "", path, policy: Policy::OneOf(kind.roles()), kind: Kind::Command, class: None, number: 0 }
    };
    let methods = CommandKind::VARIANTS.iter().map(command).chain(OTHER_METHODS.iter().cloned());
    methods.enumerate().map(|(number, rule)| Rule { class: class_of_method(&rule.path), number, ..rule }).collect()
});

static ROUTES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let of_orders = ["", "/api"].into_iter().flat_map(routes_of_orders);
    let routes = of_orders.chain(OTHER_ROUTES.iter().cloned());
    let mut paths = Vec::new();
    let numbered = routes.map(|rule| {
        let number = paths.iter().position(|path| *path == rule.path).unwrap_or_else(|| {
            paths.push(rule.path.clone());
            paths.len() - 1
        });
        Rule { class: class_of_route(rule.method, &rule.path), number, ..rule }
    });
    numbered.collect()
});

/// The rows of a page instead of a stream, for each route that has both: a page is an ordinary read, and costs as much as a batch.
static PAGES: LazyLock<HashMap<&str, Rule>> = LazyLock::new(|| {
    let streams = ROUTES.iter().filter(|rule| rule.kind == Kind::Stream);
    streams.map(|rule| (&*rule.path, Rule { kind: Kind::Read, class: Some(Class::BulkRead), ..rule.clone() })).collect()
});

/// The rows of methods, ordered by the length of the path, which decides most comparisons.
static BY_METHOD: LazyLock<Vec<&Rule>> = LazyLock::new(|| {
    let mut rules: Vec<_> = METHODS.iter().collect();
    rules.sort_by_key(|rule| (rule.path.len(), &*rule.path));
    rules
});

/// The rows of each path. The router is that of the routes themselves: a literal segment takes precedence over a parameter.
static BY_PATH: LazyLock<matchit::Router<Vec<&'static Rule>>> = LazyLock::new(|| {
    let mut paths: Vec<(&str, Vec<&Rule>)> = Vec::new();
    for rule in ROUTES.iter() {
        match paths.iter_mut().find(|(path, _)| *path == rule.path) {
            Some((_, rules)) => rules.push(rule),
            None => paths.push((&rule.path, vec![rule])),
        }
    }
    let mut router = matchit::Router::new();
    for (path, rules) in paths {
        // Fails only for a path that the router of the routes would refuse as well.
        let _ = router.insert(path, rules);
    }
    router
});

/// The rows of the gRPC methods.
#[must_use]
pub fn methods() -> &'static [Rule] {
    &METHODS
}

/// The rows of the routes. A template matches one segment where it has `{…}`; the first row that matches counts.
#[must_use]
pub fn routes() -> &'static [Rule] {
    &ROUTES
}

/// The paths of the routes, in the order of their numbers.
#[must_use]
pub fn paths() -> Vec<&'static str> {
    let mut paths = Vec::new();
    for rule in ROUTES.iter() {
        if rule.number == paths.len() {
            paths.push(&*rule.path);
        }
    }
    paths
}

fn routes_of_orders(prefix: &str) -> Vec<Rule> {
    let row = |method, path: String, policy, kind| Rule {
        method,
        path: Cow::Owned(path),
        policy,
        kind,
        class: None,
        number: 0,
    };
    let (all, one) = (format!("{prefix}/orders"), format!("{prefix}/orders/{{id}}"));
    let command = |kind: &CommandKind| {
        let name: &str = kind.into();
        let path = match kind {
            CommandKind::CreateOrder => all.clone(),
            _ => format!("{one}/{}", name.trim_end_matches("Order").to_ascii_lowercase()),
        };
        row("POST", path, Policy::OneOf(kind.roles()), Kind::Command)
    };
    let mut rows: Vec<_> = CommandKind::VARIANTS.iter().map(command).collect();
    rows.push(row("GET", all.clone(), READS, Kind::Read));
    rows.push(row("GET", one.clone(), READS, Kind::Read));
    rows.push(row("GET", format!("{one}/history"), READS, Kind::Stream));
    rows
}

/// The rule of the gRPC method at `path`; `None` if it is not classified.
#[must_use]
pub fn of_method(path: &str) -> Option<&'static Rule> {
    let found = BY_METHOD.binary_search_by_key(&(path.len(), path), |rule| (rule.path.len(), &*rule.path));
    found.ok().and_then(|place| BY_METHOD.get(place).copied())
}

/// The entry of the table for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// Its rule.
    Rule(&'static Rule),
    /// The path has other methods.
    OtherMethods(&'static Rule),
    /// It is not classified.
    None,
}

impl Called {
    /// The rule, if there is one.
    #[must_use]
    pub const fn rule(self) -> Option<&'static Rule> {
        match self {
            Self::Rule(rule) => Some(rule),
            Self::OtherMethods(_) | Self::None => None,
        }
    }

    /// The number of its method or path.
    #[must_use]
    pub const fn number(self) -> Option<usize> {
        match self {
            Self::Rule(rule) | Self::OtherMethods(rule) => Some(rule.number),
            Self::None => None,
        }
    }

    /// Whether it is a route of REST that may stay open.
    #[must_use]
    pub fn is_stream_of_rest(self) -> bool {
        matches!(self, Self::Rule(rule) if rule.kind == Kind::Stream && !rule.method.is_empty())
    }

    /// The row of the same route for a page.
    #[must_use]
    pub fn as_page(self) -> Self {
        match self {
            Self::Rule(rule) => PAGES.get(&*rule.path).map_or(self, Self::Rule),
            Self::OtherMethods(_) | Self::None => self,
        }
    }

    /// The path as in the table, without any values sent by a client.
    #[must_use]
    pub fn path(self) -> Option<&'static str> {
        match self {
            Self::Rule(rule) | Self::OtherMethods(rule) => Some(&rule.path),
            Self::None => None,
        }
    }
}

/// The entry for a call of `path`: of a gRPC method, or else of a route.
#[must_use]
pub fn called(is_grpc: bool, method: &Method, path: &str) -> Called {
    if is_grpc { of_method(path).map_or(Called::None, Called::Rule) } else { of_route(method, path) }
}

/// The rule of the route at `path` with `method`. HEAD is a GET without its body.
#[must_use]
pub fn of_route(method: &Method, path: &str) -> Called {
    let Ok(found) = BY_PATH.at(path) else { return Called::None };
    let method = if *method == Method::HEAD { "GET" } else { method.as_str() };
    match found.value.iter().find(|rule| rule.method == method) {
        Some(rule) => Called::Rule(rule),
        None => found.value.last().map_or(Called::None, |rule| Called::OtherMethods(rule)),
    }
}

/// The methods of the path of `rule`, as in the header `Allow`.
#[must_use]
pub fn allowed(rule: &Rule) -> String {
    let methods = ROUTES.iter().filter(|other| other.path == rule.path).flat_map(|rule| match rule.method {
        "GET" => vec!["GET", "HEAD"],
        other => vec![other],
    });
    methods.collect::<Vec<_>>().join(",")
}

/// The kind of call of a gRPC method; `None` for methods that are always admitted: streams, ids, and health.
fn class_of_method(path: &str) -> Option<Class> {
    match path.strip_prefix("/catga.orders.v1.")? {
        // Each of its commands is admitted separately.
        "OrderCommandService/ExecuteCommands" => None,
        "OrderQueryService/GetOrder" | "OrderQueryService/GetOrderStats" => Some(Class::Read),
        "OrderQueryService/ListOrders" | "OrderQueryService/BatchGetOrders" => Some(Class::BulkRead),
        command if command.starts_with("OrderCommandService/") => Some(Class::Command),
        _ => None,
    }
}

/// The kind of call of a REST route; pages of histories are in [`PAGES`].
fn class_of_route(method: &str, path: &str) -> Option<Class> {
    if path == "/stats" {
        return Some(Class::Read);
    }
    let order = path.strip_prefix("/api").unwrap_or(path).strip_prefix("/orders")?;
    match method {
        "POST" => Some(Class::Command),
        "GET" if order.is_empty() => Some(Class::BulkRead),
        "GET" if !order.ends_with("/history") => Some(Class::Read),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_found_by_its_method_and_the_form_of_its_path() {
        let path_of = |method: Method, path: &str| match of_route(&method, path) {
            Called::Rule(rule) => Some(&*rule.path),
            Called::OtherMethods(_) | Called::None => None,
        };
        assert_eq!(path_of(Method::GET, "/orders/7"), Some("/orders/{id}"));
        assert_eq!(path_of(Method::HEAD, "/orders/7"), Some("/orders/{id}"));
        assert_eq!(path_of(Method::POST, "/api/orders/7/pay"), Some("/api/orders/{id}/pay"));
        assert_eq!(path_of(Method::GET, "/"), Some("/"));
        for path in ["", "//", "/orders/", "/orders/7/pay/", "/orders/7/refund", "/api", "/Orders", "/orders%2F7"] {
            assert_eq!(of_route(&Method::GET, path), Called::None, "{path}");
        }
        let Called::OtherMethods(rule) = of_route(&Method::PUT, "/orders") else { panic!("it has other methods") };
        assert_eq!(allowed(rule), "POST,GET,HEAD");
    }

    #[test]
    fn the_page_on_security_has_the_same_table() {
        let who = |policy| match policy {
            Policy::Public => "everyone".to_owned(),
            Policy::Verified => "every verified caller".to_owned(),
            Policy::OneOf(roles) => {
                roles.iter().map(|role| format!("`{}`", role.name())).collect::<Vec<_>>().join(", ")
            }
        };
        let row = |rule: &Rule| {
            let called = format!("{} {}", rule.method, rule.path);
            format!("| `{}` | {} | {} |", called.trim_start(), who(rule.policy), rule.kind.name())
        };
        let expected: Vec<_> = methods().iter().chain(routes()).map(row).collect();
        let page = include_str!("../../../docs/security.md");
        let (_, section) = page.split_once("## Who may call what").unwrap();
        let (section, _) = section.split_once("\n## ").unwrap();
        let found: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn no_method_or_route_has_two_rows() {
        let mut rows: Vec<_> = methods().iter().chain(routes()).map(|rule| (rule.method, &*rule.path)).collect();
        let all = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), all);
        for rule in methods() {
            assert_eq!(of_method(&rule.path), Some(rule));
        }
    }

    #[test]
    fn streams_and_reports_on_the_node_are_always_admitted() {
        for (path, class) in [
            ("/catga.orders.v1.OrderCommandService/CreateOrder", Some(Class::Command)),
            ("/catga.orders.v1.OrderCommandService/ExecuteCommands", None),
            ("/catga.orders.v1.OrderQueryService/GetOrder", Some(Class::Read)),
            ("/catga.orders.v1.OrderQueryService/ListOrders", Some(Class::BulkRead)),
            ("/catga.orders.v1.OrderHistoryService/StreamEvents", None),
            ("/catga.system.v1.SystemService/GetServerInfo", None),
            ("/grpc.health.v1.Health/Check", None),
        ] {
            assert_eq!(of_method(path).unwrap().class, class, "{path}");
        }
        for (method, path, class) in [
            (Method::POST, "/orders", Some(Class::Command)),
            (Method::POST, "/api/orders/7/pay", Some(Class::Command)),
            (Method::GET, "/orders", Some(Class::BulkRead)),
            (Method::GET, "/orders/7", Some(Class::Read)),
            (Method::GET, "/orders/7/history", None),
            (Method::GET, "/stats", Some(Class::Read)),
            (Method::GET, "/events", None),
            (Method::GET, "/health/ready", None),
            (Method::GET, "/metrics", None),
        ] {
            let Called::Rule(rule) = of_route(&method, path) else { panic!("{path} has a row") };
            assert_eq!(rule.class, class, "{method} {path}");
        }
    }
}
