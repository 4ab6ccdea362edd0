//! The settings of the server: addresses, TLS, access and bounds.

use std::{
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
};

use crate::settings::{
    ConfigError, DAY_MS, Kind, Setting, Values, integer as integer_kind,
    parse::{integer, list, quoted},
};

const PORT: u64 = u16::MAX as u64;

/// The listeners.
pub const NETWORK_AND_TLS: &[Setting] = &[
    Setting::new("port", integer_kind(0, PORT), "5000", "Port for gRPC and HTTP; 0 takes any free port").common(),
    Setting::new("bind", Kind::Text, "127.0.0.1", "IP address to listen on, or its name; 0.0.0.0 or :: for all")
        .common(),
    Setting::optional("grpc-port", integer_kind(0, PORT), "Separate port for gRPC; 0 takes any free port"),
    Setting::optional(
        "tls-cert",
        Kind::File,
        "PEM file with the server's certificate chain; both APIs then accept TLS only",
    )
    .common(),
    Setting::optional("tls-key", Kind::File, "PEM file with the private key of that certificate").common(),
    Setting::optional(
        "tls-client-ca",
        Kind::File,
        "PEM file with the authorities that sign client certificates; clients must then present one",
    ),
    Setting::optional(
        "tls-client-crl",
        Kind::File,
        "PEM file with the revocation lists of those authorities, one for each; reloaded when it changes",
    ),
];

/// The settings of access.
pub const ACCESS: &[Setting] = &[
    Setting::optional(
        "identities",
        Kind::File,
        "TOML file with the callers: API keys, issuer of tokens, client certificates, limits; read again when it changes",
    )
    .common(),
    Setting::new("require-auth", Kind::Flag, "false", "Refuse to start without --identities").common(),
    Setting::optional(
        "admin-port",
        integer_kind(0, PORT),
        "Additional port whose clients are all operators without --identities, and need the role with it; restrict who can reach it; 0 takes any free port",
    ),
    Setting::new(
        "operators",
        Kind::Choice(&["local", "anyone"]),
        "local",
        "Who may use AdminService, /metrics and details of health without --identities: clients on this machine, or anyone",
    ),
    Setting::new(
        "allowed-hosts",
        Kind::List,
        "",
        "Host names under which the node is served, comma separated, or *; empty: the machine's own names on loopback, otherwise any",
    ),
    Setting::new(
        "cors-allowed-origins",
        Kind::List,
        "",
        "Web origins that may call the APIs from a browser, comma separated, or *",
    ),
    Setting::new(
        "reflection",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether gRPC reflection is on, for clients such as grpcurl; auto: on loopback",
    ),
    Setting::new(
        "swagger",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether Swagger UI is served at /swagger; auto: on loopback",
    ),
];

/// The bounds.
pub const LIMITS: &[Setting] = &[
    Setting::new("request-timeout-ms", integer_kind(1, DAY_MS), "30000", "Time limit of one request, ms"),
    Setting::new(
        "max-in-flight",
        integer_kind(1, 1_000_000),
        "10000",
        "Maximum number of requests in flight; lower while they are slow",
    ),
    Setting::new(
        "max-message-bytes",
        integer_kind(1_024, 1 << 30),
        "4194304",
        "Maximum size of a request message, bytes",
    ),
    Setting::new(
        "max-event-streams",
        integer_kind(1, 1_000_000),
        "10000",
        "Maximum number of open streams: of events, and other calls that stay open",
    ),
    Setting::new(
        "max-event-streams-per-connection",
        integer_kind(1, 1_000_000),
        "100",
        "Maximum number of open streams on one connection",
    ),
    Setting::new("max-connections", integer_kind(1, 1_000_000), "10000", "Maximum number of open connections"),
    Setting::new(
        "max-concurrent-streams",
        integer_kind(1, 1_000_000),
        "128",
        "Maximum number of open HTTP/2 streams on one connection",
    ),
    Setting::new(
        "max-connection-age-ms",
        integer_kind(0, DAY_MS),
        "3600000",
        "Age at which a connection is asked to close, ms; 0: never",
    ),
    Setting::new(
        "max-connection-age-grace-ms",
        integer_kind(0, DAY_MS),
        "30000",
        "Time after that until it is closed, ms",
    ),
    Setting::new(
        "keepalive-interval-ms",
        integer_kind(100, DAY_MS),
        "30000",
        "Idle time after which an HTTP/2 ping is sent, ms",
    ),
    Setting::new(
        "keepalive-timeout-ms",
        integer_kind(100, DAY_MS),
        "10000",
        "Time without an answer to a ping after which the connection is closed, ms",
    ),
    Setting::new(
        "shutdown-grace-ms",
        integer_kind(0, DAY_MS),
        "25000",
        "Time for running requests to finish at shutdown, ms",
    ),
];

/// The server: addresses and bounds.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port for gRPC and HTTP; 0 for any free one.
    pub port: u16,
    /// A separate port for gRPC; 0 for any free one.
    pub grpc_port: Option<u16>,
    /// An additional port whose clients are all operators; 0 for any free one.
    pub admin_port: Option<u16>,
    /// The identity file; `None`: callers are not identified.
    pub identities: Option<PathBuf>,
    /// Whether every client counts as an operator.
    pub anyone_operates: bool,
    /// The host names under which the node is served; `*` for any; empty: determined by the listen address.
    pub allowed_hosts: Vec<String>,
    /// Whether gRPC reflection is enabled.
    pub has_reflection: bool,
    /// Whether Swagger UI is enabled.
    pub has_swagger: bool,
    /// How long running requests may take to finish at shutdown.
    pub shutdown_grace_ms: u64,
    /// The maximum duration of a request.
    pub request_timeout_ms: u64,
    /// The maximum number of concurrent requests.
    pub max_in_flight: usize,
    /// The maximum number of open connections.
    pub max_connections: usize,
    /// The maximum size of a request message, in bytes.
    pub max_message_bytes: usize,
    /// The maximum number of open HTTP/2 streams on one connection.
    pub max_concurrent_streams: u32,
    /// The maximum number of open event streams.
    pub max_event_streams: usize,
    /// The maximum number of open event streams on one connection.
    pub max_event_streams_per_connection: usize,
    /// The age at which a connection is asked to close; 0 for never.
    pub max_connection_age_ms: u64,
    /// The time after that at which it is closed anyway.
    pub max_connection_age_grace_ms: u64,
    /// The silence after which an HTTP/2 ping is sent.
    pub keepalive_interval_ms: u64,
    /// The time without a pong after which the connection is closed.
    pub keepalive_timeout_ms: u64,
    /// The TLS files, if TLS is enabled.
    pub tls: Option<TlsConfig>,
    /// Web origins that may send requests from a browser; `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
}

/// The TLS files, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The CA of client certificates, which are then required.
    pub client_ca: Option<PathBuf>,
    /// The revocation list of that CA.
    pub client_crl: Option<PathBuf>,
}

impl ServerConfig {
    /// Reads the settings.
    ///
    /// # Errors
    /// The setting that is invalid, and why.
    pub fn of(values: &Values) -> Result<Self, ConfigError> {
        let bind = values.parse("bind", bind)?;
        let is_on = |key| values.parse(key, |text| Ok(text == "on" || (text == "auto" && bind.is_loopback())));
        Ok(Self {
            bind,
            port: values.integer("port")?,
            grpc_port: values.parse_optional("grpc-port", integer)?,
            admin_port: values.parse_optional("admin-port", integer)?,
            identities: identities(values)?,
            anyone_operates: values.parse("operators", |text| Ok(text == "anyone"))?,
            allowed_hosts: values.parse("allowed-hosts", hosts)?,
            has_reflection: is_on("reflection")?,
            has_swagger: is_on("swagger")?,
            shutdown_grace_ms: values.integer("shutdown-grace-ms")?,
            request_timeout_ms: values.integer("request-timeout-ms")?,
            max_in_flight: values.integer("max-in-flight")?,
            max_connections: values.integer("max-connections")?,
            max_message_bytes: values.integer("max-message-bytes")?,
            max_concurrent_streams: values.integer("max-concurrent-streams")?,
            max_event_streams: values.integer("max-event-streams")?,
            max_event_streams_per_connection: values.integer("max-event-streams-per-connection")?,
            max_connection_age_ms: values.integer("max-connection-age-ms")?,
            max_connection_age_grace_ms: values.integer("max-connection-age-grace-ms")?,
            keepalive_interval_ms: values.integer("keepalive-interval-ms")?,
            keepalive_timeout_ms: values.integer("keepalive-timeout-ms")?,
            tls: tls(values)?,
            cors_allowed_origins: values.parse("cors-allowed-origins", origins)?,
        })
    }

    /// The address for HTTP, and for gRPC unless it has its own.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// The address of the port for operators, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_port.map(|port| SocketAddr::new(self.bind, port))
    }

    /// The address of the separate gRPC port, if there is one.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_port.map(|port| SocketAddr::new(self.bind, port))
    }
}

fn identities(values: &Values) -> Result<Option<PathBuf>, ConfigError> {
    let file = values.path("identities");
    if values.switch("require-auth")? && file.is_none() {
        return Err(values.error("require-auth", "callers are known by a file: name it with --identities FILE"));
    }
    Ok(file)
}

fn tls(values: &Values) -> Result<Option<TlsConfig>, ConfigError> {
    let client_crl = values.path("tls-client-crl");
    match (values.path("tls-cert"), values.path("tls-key"), values.path("tls-client-ca")) {
        (_, _, None) if client_crl.is_some() => {
            Err(values.error("tls-client-crl", "revocation lists need their authorities: --tls-client-ca FILE"))
        }
        (None, None, None) => Ok(None),
        (Some(cert), Some(key), client_ca) => Ok(Some(TlsConfig { cert, key, client_ca, client_crl })),
        (None, Some(_), _) => Err(values.error("tls-key", "a key needs its certificate: --tls-cert FILE")),
        (Some(_), None, _) => Err(values.error("tls-cert", "a certificate needs its private key: --tls-key FILE")),
        (None, None, Some(_)) => {
            Err(values.error("tls-client-ca", "client certificates need TLS: --tls-cert FILE --tls-key FILE"))
        }
    }
}

fn bind(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if !is_name || text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{} is neither an IP address nor a name that resolves to one", quoted(text)));
    }
    let found = (text, 0).to_socket_addrs().map_err(|error| format!("{}: {error}", quoted(text)))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    // A single listener: of the two addresses of `localhost`, the one that every client tries.
    found.sort_by_key(IpAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("{} does not resolve to an address", quoted(text)))
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts = list(text);
    let is_host = |host: &&str| {
        let parsed = host.parse::<http::uri::Authority>();
        let has_no_port = |authority: http::uri::Authority| authority.port().is_none() && authority.host() == *host;
        **host == *"*" || host.parse::<std::net::Ipv6Addr>().is_ok() || parsed.is_ok_and(has_no_port)
    };
    match hosts.iter().find(|host| !is_host(host)) {
        Some(wrong) => {
            Err(format!("{} is neither a host without a port, such as orders.example, nor *", quoted(wrong)))
        }
        None => Ok(hosts.into_iter().map(str::to_owned).collect()),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins = list(text);
    if origins.contains(&"*") && origins.len() > 1 {
        return Err("* already allows every origin: give it alone".to_owned());
    }
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(wrong) => Err(format!("{} is neither an origin, such as https://shop.example:8443, nor *", quoted(wrong))),
        None => Ok(origins.into_iter().map(str::to_owned).collect()),
    }
}

/// As sent by browsers: scheme and host, optionally a port, in lower case, without a path. Anything else never matches.
fn is_origin(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::authority).map(|authority| authority.as_str());
    let rebuilt = |scheme: &str| host.is_some_and(|host| format!("{scheme}://{host}") == text && !host.contains('@'));
    let lower_case = !text.contains(|c: char| c.is_ascii_uppercase());
    text == "*" || lower_case && (rebuilt("http") || rebuilt("https"))
}
