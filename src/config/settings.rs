//! The table of settings. A new one needs a row here and a line in `typed.rs`.

/// The kind of a setting's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; as a flag it has no value.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A decimal integer of this range, both ends included.
    Integer {
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
    /// Text with its own syntax, validated by the line in `typed.rs`.
    Text,
    /// The address of a server; it may contain a password, which is never shown.
    ServerUrl,
    /// Comma separated texts; in a file also a list. May be empty.
    List,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in kebab-case: the flag `--node-id`, the variable `ORDERSYSTEM_NODE_ID`, the file key `node_id`.
    pub key: &'static str,
    /// The kind of its values.
    pub kind: Kind,
    /// Its default; `None` if it is optional.
    pub default: Option<&'static str>,
    /// The key of the same setting in the `appsettings.json` of the .NET samples.
    pub appsettings_key: Option<&'static str>,
    /// One sentence for `--help` and docs/configuration.md.
    pub help: &'static str,
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, default: Some(default), appsettings_key: None, help }
}

const fn optional(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, default: None, appsettings_key: None, help }
}

impl Setting {
    const fn or_appsettings(mut self, key: &'static str) -> Self {
        self.appsettings_key = Some(key);
        self
    }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// The maximum of all durations: one day.
const DAY_MS: u64 = 86_400_000;
const PORT: u64 = u16::MAX as u64;

/// Every setting, in the order of `--help` and `ordersystem config`.
pub const SETTINGS: &[Setting] = &[
    setting("transport", Kind::Choice(&["inmemory", "redis", "nats"]), "inmemory", "Message bus"),
    setting("persistence", Kind::Choice(&["inmemory", "embedded", "redis", "nats"]), "inmemory", "Event store"),
    setting(
        "redis",
        Kind::ServerUrl,
        "localhost:6379",
        "Redis server: host:port, redis[s]://[user:password@]host:port[/db], or redis[s]+sentinel://[user:password@]host:port,…/service[/db]",
    )
    .or_appsettings("ConnectionStrings.Redis"),
    optional(
        "redis-password-file",
        Kind::Text,
        "File with the password for Redis; its user, if any, is in the address",
    ),
    setting("redis-prefix", Kind::Text, "ordersystem", "Prefix of Redis keys: 1 to 64 of A-Z a-z 0-9 . _ -"),
    setting(
        "redis-cache",
        Kind::Flag,
        "false",
        "Keep the state of orders in Redis too, shared by all nodes of the log",
    ),
    setting(
        "event-format",
        Kind::Choice(&["protobuf", "json"]),
        "protobuf",
        "Encoding of the events that are published to a broker",
    ),
    setting(
        "nats",
        Kind::ServerUrl,
        "nats://localhost:4222",
        "NATS server with JetStream: host:port or nats://[user:password@]host:port, several comma separated",
    )
    .or_appsettings("Nats.Url"),
    setting(
        "nats-prefix",
        Kind::Text,
        "ordersystem",
        "Prefix of streams and subjects in NATS: 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    setting(
        "nats-replicas",
        Kind::Choice(&["1", "3", "5"]),
        "1",
        "Replicas of each stream that the node creates in a NATS cluster",
    ),
    optional(
        "nats-password-file",
        Kind::Text,
        "File with the password for NATS; its user is in the address: nats://user@host:port",
    ),
    optional("nats-token-file", Kind::Text, "File with the token for NATS"),
    optional("nats-credentials", Kind::Text, "Credentials file (.creds) for NATS: a JWT and the seed of an nkey"),
    optional("nats-nkey", Kind::Text, "File with the seed of an nkey for NATS"),
    optional(
        "nats-ca",
        Kind::Text,
        "PEM file with the authorities that sign the certificates of NATS, in addition to those of the system",
    ),
    optional("nats-cert", Kind::Text, "PEM file with the client certificate for NATS"),
    optional("nats-key", Kind::Text, "PEM file with the private key of that certificate"),
    setting(
        "nats-monitor",
        Kind::List,
        "",
        "Monitoring ports of all NATS servers, host:port comma separated, to read whether they sync; empty: port 8222 of their hosts",
    ),
    setting(
        "nats-synced",
        Kind::Flag,
        "false",
        "Assert that all NATS servers have sync_interval: always, where their monitoring ports cannot be reached",
    ),
    setting(
        "require-durable",
        Kind::Flag,
        "false",
        "Refuse to start unless acknowledged commands survive a power loss",
    ),
    setting("cluster", Kind::Flag, "false", "Serve one set of orders with other nodes, on redis or nats persistence"),
    setting("node-id", Kind::Text, "auto", "Name of this node: 1 to 64 of A-Z a-z 0-9 . _ -, or auto"),
    setting("port", integer(0, PORT), "5000", "Port for gRPC and HTTP; 0 takes any free port"),
    setting("bind", Kind::Text, "127.0.0.1", "IP address to listen on, or its name; 0.0.0.0 or :: for all"),
    optional("grpc-port", integer(0, PORT), "Separate port for gRPC; 0 takes any free port"),
    optional(
        "tls-cert",
        Kind::Text,
        "PEM file with the server's certificate chain; both APIs then accept TLS only",
    ),
    optional("tls-key", Kind::Text, "PEM file with the private key of that certificate"),
    optional(
        "tls-client-ca",
        Kind::Text,
        "PEM file with the authorities that sign client certificates; clients must then present one",
    ),
    optional(
        "tls-client-crl",
        Kind::Text,
        "PEM file with the revocation lists of those authorities, one for each; reloaded when it changes",
    ),
    optional("data-dir", Kind::Text, "Folder for the data of this node"),
    setting(
        "worker-id",
        integer(0, 31),
        "0",
        "Worker part of issued ids, unique to this node; if left out, a free one",
    )
    .or_appsettings("DistributedId.WorkerId"),
    setting("datacenter-id", integer(0, 31), "0", "Datacenter part of issued ids")
        .or_appsettings("DistributedId.DataCenterId"),
    optional(
        "admin-port",
        integer(0, PORT),
        "Additional port whose clients are all operators; restrict who can reach it; 0 takes any free port",
    ),
    setting(
        "operators",
        Kind::Choice(&["local", "anyone"]),
        "local",
        "Who may use AdminService, /metrics and details of health: clients on this machine, or anyone",
    ),
    setting(
        "allowed-hosts",
        Kind::List,
        "",
        "Host names under which the node is served, comma separated, or *; empty: the machine's own names on loopback, otherwise any",
    ),
    setting(
        "reflection",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether gRPC reflection is on, for clients such as grpcurl; auto: on loopback",
    ),
    setting(
        "swagger",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether Swagger UI is served at /swagger; auto: on loopback",
    ),
    setting("log-level", Kind::Text, "info", "Log filter: a level, or directives as in info,ordersystem=debug"),
    setting("log-format", Kind::Choice(&["text", "json"]), "text", "Format of the log lines"),
    setting(
        "shutdown-grace-ms",
        integer(0, DAY_MS),
        "25000",
        "Time for running requests to finish at shutdown, ms",
    ),
    setting("request-timeout-ms", integer(1, DAY_MS), "30000", "Time limit of one request, ms"),
    setting(
        "max-in-flight",
        integer(1, 1_000_000),
        "10000",
        "Maximum number of requests in flight; lower while they are slow",
    ),
    setting("max-connections", integer(1, 1_000_000), "10000", "Maximum number of open connections"),
    setting("max-message-bytes", integer(1_024, 1 << 30), "4194304", "Maximum size of a request message, bytes"),
    setting(
        "max-concurrent-streams",
        integer(1, 1_000_000),
        "128",
        "Maximum number of open HTTP/2 streams on one connection",
    ),
    setting("max-event-streams", integer(1, 1_000_000), "10000", "Maximum number of open event streams"),
    setting(
        "max-event-streams-per-connection",
        integer(1, 1_000_000),
        "100",
        "Maximum number of open event streams on one connection",
    ),
    setting(
        "max-connection-age-ms",
        integer(0, DAY_MS),
        "3600000",
        "Age at which a connection is asked to close, ms; 0: never",
    ),
    setting("max-connection-age-grace-ms", integer(0, DAY_MS), "30000", "Time after that until it is closed, ms"),
    setting("keepalive-interval-ms", integer(100, DAY_MS), "30000", "Idle time after which an HTTP/2 ping is sent, ms"),
    setting(
        "keepalive-timeout-ms",
        integer(100, DAY_MS),
        "10000",
        "Time without an answer to a ping after which the connection is closed, ms",
    ),
    setting("cached-orders", integer(1, 100_000_000), "100000", "Maximum number of orders cached in memory"),
    setting(
        "cache-mib",
        integer(1, 1 << 20),
        "128",
        "Maximum memory of cached orders, MiB; none over 64 KiB is cached",
    ),
    setting("outbox-batch-size", integer(1, 100_000), "500", "Number of events that the outbox publishes in one batch"),
    setting(
        "outbox-scan-interval-ms",
        integer(10, DAY_MS),
        "2000",
        "Interval at which the outbox polls the log, ms",
    ),
    setting("breaker-failures", integer(1, 1_000_000), "5", "Consecutive failures that open a circuit breaker"),
    setting(
        "breaker-successes",
        integer(1, 1_000),
        "2",
        "Consecutive successes that close a half-open circuit breaker",
    ),
    setting(
        "breaker-open-ms",
        integer(1, DAY_MS),
        "30000",
        "Maximum time that a circuit breaker stays open, ms; shorter when a health check succeeds",
    ),
    setting("recovery-interval-ms", integer(100, DAY_MS), "30000", "Interval of the recovery service, ms"),
    setting(
        "cors-allowed-origins",
        Kind::List,
        "",
        "Web origins that may call the APIs from a browser, comma separated, or *",
    ),
    setting(
        "consumer-max-attempts",
        integer(1, 1_000),
        "10",
        "Deliveries to a handler before an event becomes a dead letter",
    ),
];

/// The name of a setting in a configuration file: `node_id`.
#[must_use]
pub fn file_key(key: &str) -> String {
    key.replace('-', "_")
}
