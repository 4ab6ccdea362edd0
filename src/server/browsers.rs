//! Restrictions for web pages. A browser sends requests to ports of its own machine and network on behalf of any page that it shows, so its
//! statements about the page are checked first.
//!
//! Sources: the Fetch standard for `Origin`, Fetch Metadata Request Headers (W3C) for `Sec-Fetch-Site`, RFC 9110 section 7.2 for `Host`.

use std::{borrow::Cow, net::IpAddr};

use axum::body::Body;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Version, header, uri::Authority};

use super::error::{ApiError, Reason};
use crate::application::requests::Field;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// One year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
/// For responses that are not pages: they load nothing, and must not be framed.
const NOTHING_LOADED: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The host names under which the node is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any name.
    Any,
    /// These, in lower case and without ports.
    Named(Vec<String>),
}

impl Hosts {
    /// The configured names. Without configured names, a node that listens only on the local machine is served under the machine's own names: a page
    /// whose host name was rebound to this machine has another name.
    #[must_use]
    pub fn of(configured: &[String], bind: IpAddr) -> Self {
        if configured.iter().any(|name| name == "*") || (configured.is_empty() && !bind.is_loopback()) {
            return Self::Any;
        }
        let own = if configured.is_empty() {
            vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned(), bind.to_string()]
        } else {
            Vec::new()
        };
        Self::Named(configured.iter().map(|name| name.to_ascii_lowercase()).chain(own).collect())
    }

    fn has(&self, authority: &Authority) -> bool {
        let Self::Named(names) = self else { return true };
        // Nearly every request names its host like this, which is found without parsing the authority.
        if names.iter().any(|name| is_name_and_port(authority.as_str(), name)) {
            return true;
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        names.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// Whether `authority` is `name`, or `name` and a port. Never for an IPv6 address, which has brackets there.
fn is_name_and_port(authority: &str, name: &str) -> bool {
    let (authority, name) = (authority.as_bytes(), name.as_bytes());
    let Some((host, rest)) = authority.split_at_checked(name.len()) else { return false };
    let is_port = |rest: &[u8]| matches!(rest, [b':', port @ ..] if port.iter().all(u8::is_ascii_digit));
    host.eq_ignore_ascii_case(name) && (rest.is_empty() || is_port(rest))
}

/// Refuses requests that a page of another site has made a browser send.
#[derive(Clone, Debug)]
pub struct BrowserGate {
    hosts: Hosts,
    /// Origins that may send requests, in addition to pages of the node itself; `*` for all.
    allowed_origins: Vec<String>,
}

impl BrowserGate {
    /// Serves `hosts`, for pages of the node itself and of `allowed_origins`.
    #[must_use]
    pub const fn new(hosts: Hosts, allowed_origins: Vec<String>) -> Self {
        Self { hosts, allowed_origins }
    }

    /// Whether `request` is permitted.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` without a readable host, `HOST_NOT_ALLOWED`, and `CROSS_SITE_REQUEST` for requests that change state.
    pub fn check<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let authority = authority(request)?;
        if let Some(authority) = &authority
            && !self.hosts.has(authority)
        {
            let message = format!("{} is not an allowed host of this node; see --allowed-hosts", authority.host());
            return Err(ApiError::new(Reason::HostNotAllowed, message));
        }
        if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            // They change nothing, whatever their content type, and browsers hide the response from pages of other origins.
            return Ok(());
        }
        self.check_origin(request.headers(), authority.as_deref())
    }

    fn check_origin(&self, headers: &HeaderMap, host: Option<&Authority>) -> Result<(), ApiError> {
        let mut origins = headers.get_all(header::ORIGIN).iter();
        if let Some(origin) = origins.next() {
            let is_own = host.is_some_and(|host| is_origin_of(origin, host));
            // A browser sends one. Given several, another hop might evaluate a different one.
            let is_only = origins.next().is_none();
            return if is_only && (is_own || self.allows(origin)) { Ok(()) } else { Err(cross_site()) };
        }
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter().map(HeaderValue::as_bytes);
        if sites.all(|site| matches!(site, b"same-origin" | b"none")) { Ok(()) } else { Err(cross_site()) }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.allowed_origins.iter().any(|allowed| allowed == "*" || allowed.as_bytes() == origin.as_bytes())
    }
}

fn cross_site() -> ApiError {
    let message = "pages of other origins may not do this; see --cors-allowed-origins";
    ApiError::new(Reason::CrossSiteRequest, message)
}

/// The target host of the request, from its URI or its `Host`. Every HTTP/1.1 request has exactly one (RFC 9112 section 3.2).
fn authority<B>(request: &Request<B>) -> Result<Option<Cow<'_, Authority>>, ApiError> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad_host("must be given once"));
    }
    if let Some(authority) = request.uri().authority() {
        return Ok(Some(Cow::Borrowed(authority)));
    }
    match host {
        Some(host) => {
            let parsed =
                Authority::try_from(host.as_bytes()).ok().filter(|authority| !authority.as_str().contains('@'));
            parsed.map(|host| Some(Cow::Owned(host))).ok_or_else(|| bad_host("is not a host, optionally with a port"))
        }
        None if request.version() == Version::HTTP_11 => Err(bad_host("is required")),
        None => Ok(None),
    }
}

fn bad_host(description: &str) -> ApiError {
    ApiError::invalid(Field::Host, description)
}

/// Sets CSP, X-Frame-Options and Referrer-Policy.
pub fn secure_page(response: &mut Response<Body>, policy: &'static str) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-frame-options"), HeaderValue::from_static("DENY"));
}

/// Whether `origin` is that of pages which `host` itself serves. The scheme is ignored: a TLS terminator may be in front of the node.
fn is_origin_of(origin: &HeaderValue, host: &Authority) -> bool {
    let parsed = origin.to_str().ok().and_then(|origin| {
        let (scheme, authority) = origin.split_once("://")?;
        Some((scheme, authority.parse::<Authority>().ok()?))
    });
    parsed.is_some_and(|(scheme, origin)| {
        let default_port = if scheme == "https" { 443 } else { 80 };
        let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
        origin.host().eq_ignore_ascii_case(host.host()) && port(&origin) == port(host)
    })
}

/// Sets the security headers of a response. A page has its own policy for its resources.
pub fn secure(headers: &mut HeaderMap, is_tls: bool) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(NOTHING_LOADED);
    if is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(allowed_hosts: &[&str], bind: &str, origins: &[&str]) -> BrowserGate {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        BrowserGate::new(Hosts::of(&owned(allowed_hosts), bind.parse().unwrap()), owned(origins))
    }

    fn outcome(gate: &BrowserGate, method: &str, headers: &[(&str, &str)]) -> Option<Reason> {
        let mut request = Request::builder().method(method).uri("/orders");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        gate.check(&request.body(()).unwrap()).err().map(|error| error.reason)
    }

    #[test]
    fn on_loopback_the_node_is_served_under_the_names_of_its_machine_only() {
        let local = gate(&[], "127.0.0.1", &[]);
        for host in ["localhost", "localhost:5000", "LOCALHOST.", "127.0.0.1:5000", "[::1]:5000"] {
            assert_eq!(outcome(&local, "GET", &[("host", host)]), None, "{host}");
        }
        for host in ["rebound.example", "localhost.example:5000", "127.0.0.1.example", "10.0.0.1"] {
            assert_eq!(outcome(&local, "GET", &[("host", host)]), Some(Reason::HostNotAllowed), "{host}");
        }
        assert_eq!(outcome(&gate(&[], "0.0.0.0", &[]), "GET", &[("host", "orders.example")]), None);
        assert_eq!(outcome(&gate(&["*"], "127.0.0.1", &[]), "GET", &[("host", "orders.example")]), None);
        let named = gate(&["Orders.example"], "0.0.0.0", &[]);
        assert_eq!(outcome(&named, "GET", &[("host", "orders.example:443")]), None);
        assert_eq!(outcome(&named, "GET", &[("host", "localhost")]), Some(Reason::HostNotAllowed));
    }

    #[test]
    fn what_precedes_the_host_of_an_authority_is_not_its_host() {
        let hosts = Hosts::of(&[], "127.0.0.1".parse().unwrap());
        for authority in
            ["localhost:5000@rebound.example", "localhost:@rebound.example", "localhost@rebound.example:5000"]
        {
            assert!(!hosts.has(&authority.parse().unwrap()), "{authority}");
        }
        for authority in ["localhost", "LocalHost:5000", "user@localhost:5000", "[::1]", "[::1]:5000"] {
            assert!(hosts.has(&authority.parse().unwrap()), "{authority}");
        }
    }

    #[test]
    fn a_request_of_http_1_1_names_one_host() {
        let any = gate(&["*"], "127.0.0.1", &[]);
        for headers in [&[][..], &[("host", "a"), ("host", "a")], &[("host", "a b")], &[("host", "user@a")]] {
            assert_eq!(outcome(&any, "GET", headers), Some(Reason::InvalidArgument), "{headers:?}");
        }
    }

    #[test]
    fn a_page_of_another_site_cannot_change_anything() {
        let gate = gate(&[], "127.0.0.1", &["https://shop.example"]);
        let with = |name, value| outcome(&gate, "POST", &[("host", "localhost:5000"), (name, value)]);
        for origin in ["http://evil.example", "null", "http://localhost:6000", "http://localhost", "nonsense"] {
            assert_eq!(with("origin", origin), Some(Reason::CrossSiteRequest), "{origin}");
        }
        for origin in ["http://localhost:5000", "https://localhost:5000", "https://shop.example"] {
            assert_eq!(with("origin", origin), None, "{origin}");
        }
        for site in ["cross-site", "same-site", "nonsense"] {
            assert_eq!(with("sec-fetch-site", site), Some(Reason::CrossSiteRequest), "{site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(with("sec-fetch-site", site), None, "{site}");
        }
        for (name, first, second) in [
            ("origin", "https://shop.example", "http://evil.example"),
            ("origin", "https://shop.example", "https://shop.example"),
            ("sec-fetch-site", "same-origin", "cross-site"),
        ] {
            let twice = [("host", "localhost:5000"), (name, first), (name, second)];
            assert_eq!(outcome(&gate, "POST", &twice), Some(Reason::CrossSiteRequest), "{first} and {second}");
        }
        assert_eq!(outcome(&gate, "POST", &[("host", "localhost:5000")]), None, "no browser");
        let read = [("host", "localhost:5000"), ("origin", "http://evil.example"), ("sec-fetch-site", "cross-site")];
        assert_eq!(outcome(&gate, "GET", &read), None, "is answered, but not shown to the page");
    }
}
