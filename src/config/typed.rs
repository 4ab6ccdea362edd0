//! The configuration as the rest of the program sees it: every value in a type that can only hold what is allowed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::secrets;
use super::url::ServerUrl;
use super::values::{self, Values, integer, quoted};
use super::{ConfigError, EffectiveSetting};
use crate::id_generator::NodeIdentity;
use crate::telemetry::{LogConfig, LogFormat};

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The message bus.
    pub transport: Transport,
    /// The event store.
    pub persistence: Persistence,
    /// The Redis server, for a Redis transport or persistence.
    pub redis: ServerUrl,
    /// What keys in Redis begin with: 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    pub redis_prefix: String,
    /// Whether folded orders are kept in Redis, whatever the persistence.
    pub redis_cache: bool,
    /// In what form events are published on a broker.
    pub event_format: EventFormat,
    /// The NATS server, for a NATS transport or persistence.
    pub nats: ServerUrl,
    /// What streams and subjects in NATS begin with: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub nats_prefix: String,
    /// On how many servers of a NATS cluster a stream that is made is kept: 1, 3 or 5.
    pub nats_replicas: usize,
    /// Who this is to NATS and whom it trusts.
    pub nats_access: NatsAccess,
    /// The monitoring ports of the NATS servers, `host:port`; none for the usual one of their hosts.
    pub nats_monitor: Vec<String>,
    /// Whether the operator asserts that all NATS servers sync before they acknowledge.
    pub nats_synced: bool,
    /// Whether to refuse to start with a durability below [`Durability::Machine`](crate::ports::event_store::Durability::Machine).
    pub require_durable: bool,
    /// Whether other nodes serve the same orders.
    pub cluster: bool,
    /// Who this node is and where it keeps its files.
    pub node: NodeConfig,
    /// The listening side.
    pub server: ServerConfig,
    /// Logging.
    pub log: LogConfig,
    /// The relay from the log to the message bus.
    pub outbox: OutboxConfig,
    /// The handlers of events.
    pub consumer: ConsumerConfig,
    /// The circuit breakers before the backends.
    pub breaker: BreakerConfig,
    /// How often the recovery service looks.
    pub recovery_interval_ms: u64,
    /// How many folded orders are kept in memory.
    pub cached_orders: usize,
    /// How much memory they may take, in MiB.
    pub cache_mib: usize,
    /// Every setting with its source, secrets hidden, in the order of the table.
    pub effective: Vec<EffectiveSetting>,
}

/// Who a node is to NATS and whom it trusts, beside what the address says: files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NatsAccess {
    /// A credentials file with a JWT and the seed of an nkey.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an nkey.
    pub nkey: Option<PathBuf>,
    /// PEM file with who signs the servers' certificates.
    pub ca: Option<PathBuf>,
    /// PEM files with the certificate to show and its private key.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// Who this node is and where it keeps its files.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The name of the node.
    pub id: NodeId,
    /// The node's part of issued ids.
    pub identity: NodeIdentity,
    /// Whether the operator gave this node its worker number: then it is that one or none. One in the samples' `appsettings.json`, which
    /// nodes share, is only tried first.
    pub has_chosen_worker: bool,
    /// The folder for what the node keeps on disk.
    pub data_dir: Option<PathBuf>,
}

/// The name of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeId {
    /// The program makes one up.
    Auto,
    /// 1 to 64 characters of `A-Z a-z 0-9 . _ -`.
    Named(String),
}

/// The listening side: addresses and bounds.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to listen on.
    pub bind: IpAddr,
    /// The port for gRPC and HTTP; 0 for any free one.
    pub port: u16,
    /// A port of its own for gRPC; 0 for any free one.
    pub grpc_port: Option<u16>,
    /// A port more whose clients are all operators; 0 for any free one.
    pub admin_port: Option<u16>,
    /// Whether every client is taken for an operator.
    pub anyone_operates: bool,
    /// The names under which the node is served; `*` for any; none: by the address that it listens on.
    pub allowed_hosts: Vec<String>,
    /// Whether gRPC services describe themselves.
    pub has_reflection: bool,
    /// Whether there is a page to try REST out.
    pub has_swagger: bool,
    /// How long running requests may take to end at a stop.
    pub shutdown_grace_ms: u64,
    /// The longest time for one request.
    pub request_timeout_ms: u64,
    /// Requests worked on at once.
    pub max_in_flight: usize,
    /// Connections open at once.
    pub max_connections: usize,
    /// The largest request message, in bytes.
    pub max_message_bytes: usize,
    /// HTTP/2 streams open at once on one connection.
    pub max_concurrent_streams: u32,
    /// Streams of events open at once.
    pub max_event_streams: usize,
    /// Those of one connection.
    pub max_event_streams_per_connection: usize,
    /// The age at which a connection is asked to close; 0 for never.
    pub max_connection_age_ms: u64,
    /// How long after that it is closed anyway.
    pub max_connection_age_grace_ms: u64,
    /// HTTP/2 ping after this much silence.
    pub keepalive_interval_ms: u64,
    /// A ping unanswered for this long closes the connection.
    pub keepalive_timeout_ms: u64,
    /// The files for TLS, if the doors speak it.
    pub tls: Option<TlsConfig>,
    /// Web origins that may call from a browser; `*` alone for all.
    pub cors_allowed_origins: Vec<String>,
}

/// The files for TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConfig {
    /// The server's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who signs the certificates that clients must show then.
    pub client_ca: Option<PathBuf>,
    /// What those have revoked.
    pub client_crl: Option<PathBuf>,
}

impl ServerConfig {
    /// The address for HTTP, and for gRPC unless it has its own.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.bind, self.port)
    }

    /// The address for operators alone, if there is one.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_port.map(|port| SocketAddr::new(self.bind, port))
    }

    /// The address for gRPC alone, if it has one.
    #[must_use]
    pub fn grpc_address(&self) -> Option<SocketAddr> {
        self.grpc_port.map(|port| SocketAddr::new(self.bind, port))
    }
}

/// The relay from the log to the message bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxConfig {
    /// Events published at once.
    pub batch_size: usize,
    /// How often it looks without being woken.
    pub scan_interval_ms: u64,
}

/// The handlers of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Deliveries before an event is a dead letter.
    pub max_attempts: u32,
}

/// The circuit breakers before the backends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// So many failures in a row open one.
    pub failures: u32,
    /// So many successes in a row close a half-open one.
    pub successes: u32,
    /// How long it stays open at the longest.
    pub open_ms: u64,
}

/// The message bus of `--transport`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Within this process.
    InMemory,
    /// Redis streams.
    Redis,
    /// NATS JetStream.
    Nats,
}

impl Transport {
    /// The name, as in `--transport`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InMemory => "inmemory",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

/// The event store of `--persistence`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Within this process, gone when it ends.
    InMemory,
    /// SQLite in the data folder.
    Embedded,
    /// Redis.
    Redis,
    /// NATS JetStream.
    Nats,
}

impl Persistence {
    /// The name, as in `--persistence`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InMemory => "inmemory",
            Self::Embedded => "embedded",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

/// The form of events on a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventFormat {
    /// `catga.events.v1.OrderEvent` as it is stored.
    Protobuf,
    /// The same as JSON.
    Json,
}

pub(super) fn build(values: &Values) -> Result<Config, ConfigError> {
    Ok(Config {
        transport: values.parse("transport", transport)?,
        persistence: values.parse("persistence", persistence)?,
        redis: secrets::redis(values)?,
        redis_prefix: values.parse("redis-prefix", short_name)?,
        redis_cache: values.switch("redis-cache")?,
        event_format: values.parse("event-format", event_format)?,
        nats: secrets::nats(values)?,
        nats_prefix: values.parse("nats-prefix", subject_name)?,
        nats_replicas: values.integer("nats-replicas")?,
        nats_access: nats_access(values)?,
        nats_monitor: values.parse("nats-monitor", host_ports)?,
        nats_synced: values.switch("nats-synced")?,
        require_durable: values.switch("require-durable")?,
        cluster: values.switch("cluster")?,
        node: node(values)?,
        server: server(values)?,
        log: LogConfig {
            level: values.parse("log-level", log_level)?,
            format: values.parse("log-format", log_format)?,
        },
        outbox: OutboxConfig {
            batch_size: values.integer("outbox-batch-size")?,
            scan_interval_ms: values.integer("outbox-scan-interval-ms")?,
        },
        consumer: ConsumerConfig { max_attempts: values.integer("consumer-max-attempts")? },
        breaker: BreakerConfig {
            failures: values.integer("breaker-failures")?,
            successes: values.integer("breaker-successes")?,
            open_ms: values.integer("breaker-open-ms")?,
        },
        recovery_interval_ms: values.integer("recovery-interval-ms")?,
        cached_orders: values.integer("cached-orders")?,
        cache_mib: values.integer("cache-mib")?,
        effective: values.effective(),
    })
}

fn nats_access(values: &Values) -> Result<NatsAccess, ConfigError> {
    let file = |key| values.parse_optional(key, |text| Ok(PathBuf::from(text)));
    let files =
        [file("nats-credentials")?, file("nats-nkey")?, file("nats-ca")?, file("nats-cert")?, file("nats-key")?];
    NatsAccess::of(files).map_err(|(key, why)| values.error(key, why))
}

impl NatsAccess {
    /// The settings that it is made of, in this order.
    pub const SETTINGS: [&str; 5] = ["nats-credentials", "nats-nkey", "nats-ca", "nats-cert", "nats-key"];

    /// What the files of [`NatsAccess::SETTINGS`] amount to.
    ///
    /// # Errors
    /// The setting that does not go with the others, and why.
    pub fn of(
        [credentials, nkey, ca, certificate, key]: [Option<PathBuf>; 5],
    ) -> Result<Self, (&'static str, &'static str)> {
        if credentials.is_some() && nkey.is_some() {
            return Err(("nats-nkey", "a credentials file holds a key of its own: give one of the two"));
        }
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => return Err(("nats-cert", "needs its private key: --nats-key FILE")),
            (None, Some(_)) => return Err(("nats-key", "needs its certificate: --nats-cert FILE")),
        };
        Ok(Self { credentials, nkey, ca, certificate })
    }
}

/// `host:port`, comma separated, each perhaps with `http://` before it.
fn host_ports(text: &str) -> Result<Vec<String>, String> {
    let address = |text: &str| {
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let port = rest.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>().unwrap_or_default()));
        match port {
            Some((host, 1..)) if !host.is_empty() && !host.contains(['/', '@', ' ']) => Ok(rest.to_owned()),
            _ => Err(format!("{} is not host:port", quoted(text))),
        }
    };
    values::list(text).into_iter().map(address).collect()
}

fn node(values: &Values) -> Result<NodeConfig, ConfigError> {
    let (datacenter_id, worker_id) = (values.integer("datacenter-id")?, values.integer("worker-id")?);
    Ok(NodeConfig {
        id: values.parse("node-id", node_id)?,
        identity: NodeIdentity::new(datacenter_id, worker_id).map_err(|error| values.error("worker-id", error))?,
        has_chosen_worker: values.is_chosen("worker-id"),
        data_dir: values.parse_optional("data-dir", |text| Ok(PathBuf::from(text)))?,
    })
}

fn server(values: &Values) -> Result<ServerConfig, ConfigError> {
    let bind = values.parse("bind", bind)?;
    let is_on = |key| values.parse(key, |text| Ok(text == "on" || (text == "auto" && bind.is_loopback())));
    Ok(ServerConfig {
        bind,
        port: values.integer("port")?,
        grpc_port: values.parse_optional("grpc-port", integer)?,
        admin_port: values.parse_optional("admin-port", integer)?,
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

fn tls(values: &Values) -> Result<Option<TlsConfig>, ConfigError> {
    let file = |key| values.parse_optional(key, |text| Ok(PathBuf::from(text)));
    let client_crl = file("tls-client-crl")?;
    match (file("tls-cert")?, file("tls-key")?, file("tls-client-ca")?) {
        (_, _, None) if client_crl.is_some() => {
            Err(values.error("tls-client-crl", "revoked by whom? It needs --tls-client-ca FILE"))
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

fn transport(text: &str) -> Result<Transport, String> {
    match text {
        "inmemory" => Ok(Transport::InMemory),
        "redis" => Ok(Transport::Redis),
        "nats" => Ok(Transport::Nats),
        other => Err(format!("{} is unknown", quoted(other))),
    }
}

fn persistence(text: &str) -> Result<Persistence, String> {
    match text {
        "inmemory" => Ok(Persistence::InMemory),
        "embedded" => Ok(Persistence::Embedded),
        "redis" => Ok(Persistence::Redis),
        "nats" => Ok(Persistence::Nats),
        other => Err(format!("{} is unknown", quoted(other))),
    }
}

fn event_format(text: &str) -> Result<EventFormat, String> {
    match text {
        "protobuf" => Ok(EventFormat::Protobuf),
        "json" => Ok(EventFormat::Json),
        other => Err(format!("{} is unknown", quoted(other))),
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(format!("{} is unknown", quoted(other))),
    }
}

fn node_id(text: &str) -> Result<NodeId, String> {
    if text == "auto" { Ok(NodeId::Auto) } else { short_name(text).map(NodeId::Named) }
}

pub(super) fn short_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("{} is not 1 to 64 of A-Z a-z 0-9 . _ -", quoted(text)))
    }
}

/// A name that is one part of a subject of NATS, which dots divide.
pub(super) fn subject_name(text: &str) -> Result<String, String> {
    match short_name(text) {
        Ok(name) if !name.contains('.') => Ok(name),
        _ => Err(format!("{} is not 1 to 64 of A-Z a-z 0-9 _ -", quoted(text))),
    }
}

fn bind(text: &str) -> Result<IpAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let is_name = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if !is_name || text.ends_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{} is not an IP address, nor the name of one", quoted(text)));
    }
    let found = (text, 0).to_socket_addrs().map_err(|error| format!("{}: {error}", quoted(text)))?;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    // One listener: of the two that `localhost` has, the one that every client tries.
    found.sort_by_key(IpAddr::is_ipv6);
    found.first().copied().ok_or_else(|| format!("{} has no address", quoted(text)))
}

/// A lone word is taken for a level only: as a target, what [`EnvFilter`] makes of it, a misspelt level would silently
/// log something else.
fn log_level(text: &str) -> Result<String, String> {
    for directive in text.split(',').map(str::trim) {
        let has_form = directive.contains(['=', '[', ']']);
        // LevelFilter takes an empty text for "error".
        if directive.is_empty() || !has_form && directive.parse::<LevelFilter>().is_err() {
            return Err(format!(
                "{} is not a level (off, error, warn, info, debug, trace) nor target=level",
                quoted(directive)
            ));
        }
    }
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| format!("{}: {error}", quoted(text)))
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    let hosts = values::list(text);
    let is_host = |host: &&str| {
        let parsed = host.parse::<http::uri::Authority>();
        let has_no_port = |authority: http::uri::Authority| authority.port().is_none() && authority.host() == *host;
        **host == *"*" || host.parse::<std::net::Ipv6Addr>().is_ok() || parsed.is_ok_and(has_no_port)
    };
    match hosts.iter().find(|host| !is_host(host)) {
        Some(wrong) => Err(format!("{} is not a host as in orders.example, without a port, nor *", quoted(wrong))),
        None => Ok(hosts.into_iter().map(str::to_owned).collect()),
    }
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    let origins = values::list(text);
    if origins.contains(&"*") && origins.len() > 1 {
        return Err("* already allows every origin: give it alone".to_owned());
    }
    match origins.iter().find(|origin| !is_origin(origin)) {
        Some(wrong) => Err(format!("{} is not an origin as in https://shop.example:8443, nor *", quoted(wrong))),
        None => Ok(origins.into_iter().map(str::to_owned).collect()),
    }
}

/// As browsers send it: scheme and host, perhaps a port, in lower case, without a path. Anything else never matches.
fn is_origin(text: &str) -> bool {
    let uri = text.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::authority).map(|authority| authority.as_str());
    let rebuilt = |scheme: &str| host.is_some_and(|host| format!("{scheme}://{host}") == text && !host.contains('@'));
    let lower_case = !text.contains(|c: char| c.is_ascii_uppercase());
    text == "*" || lower_case && (rebuilt("http") || rebuilt("https"))
}
