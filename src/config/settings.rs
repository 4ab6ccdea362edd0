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
    /// The path of a file.
    File,
    /// The path of a folder.
    Folder,
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
    /// Whether `-h` shows it, too.
    pub is_common: bool,
}

/// The settings of one section of `--help` and docs/configuration.md.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// The name of the section.
    pub heading: &'static str,
    /// Its settings.
    pub settings: &'static [Setting],
}

const fn setting(key: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Setting {
    Setting { key, kind, default: Some(default), appsettings_key: None, help, is_common: false }
}

const fn optional(key: &'static str, kind: Kind, help: &'static str) -> Setting {
    Setting { key, kind, default: None, appsettings_key: None, help, is_common: false }
}

impl Setting {
    const fn or_appsettings(mut self, key: &'static str) -> Self {
        self.appsettings_key = Some(key);
        self
    }

    const fn common(mut self) -> Self {
        self.is_common = true;
        self
    }
}

const fn integer(min: u64, max: u64) -> Kind {
    Kind::Integer { min, max }
}

/// The maximum of all durations: one day.
const DAY_MS: u64 = 86_400_000;
const PORT: u64 = u16::MAX as u64;

/// Every setting, by the sections of `--help` and docs/configuration.md, in their order.
pub const GROUPS: &[Group] = &[
    Group { heading: "Storage and transport", settings: STORAGE_AND_TRANSPORT },
    Group { heading: "Redis", settings: REDIS },
    Group { heading: "NATS", settings: NATS },
    Group { heading: "Node and cluster", settings: NODE_AND_CLUSTER },
    Group { heading: "Network and TLS", settings: NETWORK_AND_TLS },
    Group { heading: "Access", settings: ACCESS },
    Group { heading: "Logging", settings: LOGGING },
    Group { heading: "Limits", settings: LIMITS },
    Group { heading: "Tuning", settings: TUNING },
];

const STORAGE_AND_TRANSPORT: &[Setting] = &[
    setting("persistence", Kind::Choice(&["inmemory", "embedded", "redis", "nats"]), "inmemory", "Event store")
        .common(),
    setting("transport", Kind::Choice(&["inmemory", "redis", "nats"]), "inmemory", "Message bus").common(),
    optional("data-dir", Kind::Folder, "Folder for the data of this node").common(),
    setting(
        "require-durable",
        Kind::Flag,
        "false",
        "Refuse to start unless acknowledged commands survive a power loss",
    ),
    setting(
        "event-format",
        Kind::Choice(&["protobuf", "json"]),
        "protobuf",
        "Encoding of the events that are published to a broker",
    ),
];

const REDIS: &[Setting] = &[
    setting(
        "redis",
        Kind::ServerUrl,
        "localhost:6379",
        "Redis server: host:port, redis[s]://[user:password@]host:port[/db], or \
         redis[s]+sentinel://[user:password@]host:port,…/service[/db]",
    )
    .or_appsettings("ConnectionStrings.Redis")
    .common(),
    optional(
        "redis-password-file",
        Kind::File,
        "File with the password for Redis; its user, if any, is in the address",
    ),
    setting("redis-prefix", Kind::Text, "ordersystem", "Prefix of Redis keys: 1 to 64 of A-Z a-z 0-9 . _ -"),
    setting(
        "redis-cache",
        Kind::Flag,
        "false",
        "Keep the state of orders in Redis too, shared by all nodes of the log",
    ),
];

const NATS: &[Setting] = &[
    setting(
        "nats",
        Kind::ServerUrl,
        "nats://localhost:4222",
        "NATS server with JetStream: host:port or nats://[user:password@]host:port, several comma separated",
    )
    .or_appsettings("Nats.Url")
    .common(),
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
        Kind::File,
        "File with the password for NATS; its user is in the address: nats://user@host:port",
    ),
    optional("nats-token-file", Kind::File, "File with the token for NATS"),
    optional("nats-credentials", Kind::File, "Credentials file (.creds) for NATS: a JWT and the seed of an nkey"),
    optional("nats-nkey", Kind::File, "File with the seed of an nkey for NATS"),
    optional(
        "nats-ca",
        Kind::File,
        "PEM file with the authorities that sign the certificates of NATS, in addition to those of the system",
    ),
    optional("nats-cert", Kind::File, "PEM file with the client certificate for NATS"),
    optional("nats-key", Kind::File, "PEM file with the private key of that certificate"),
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
];

const NODE_AND_CLUSTER: &[Setting] = &[
    setting("cluster", Kind::Flag, "false", "Serve one set of orders with other nodes, on redis or nats persistence")
        .common(),
    setting("node-id", Kind::Text, "auto", "Name of this node: 1 to 64 of A-Z a-z 0-9 . _ -, or auto"),
    setting(
        "worker-id",
        integer(0, 31),
        "0",
        "Worker part of issued ids, unique to this node; if left out, a free one",
    )
    .or_appsettings("DistributedId.WorkerId"),
    setting("datacenter-id", integer(0, 31), "0", "Datacenter part of issued ids")
        .or_appsettings("DistributedId.DataCenterId"),
];

const NETWORK_AND_TLS: &[Setting] = &[
    setting("port", integer(0, PORT), "5000", "Port for gRPC and HTTP; 0 takes any free port").common(),
    setting("bind", Kind::Text, "127.0.0.1", "IP address to listen on, or its name; 0.0.0.0 or :: for all").common(),
    optional("grpc-port", integer(0, PORT), "Separate port for gRPC; 0 takes any free port"),
    optional("tls-cert", Kind::File, "PEM file with the server's certificate chain; both APIs then accept TLS only")
        .common(),
    optional("tls-key", Kind::File, "PEM file with the private key of that certificate").common(),
    optional(
        "tls-client-ca",
        Kind::File,
        "PEM file with the authorities that sign client certificates; clients must then present one",
    ),
    optional(
        "tls-client-crl",
        Kind::File,
        "PEM file with the revocation lists of those authorities, one for each; reloaded when it changes",
    ),
];

const ACCESS: &[Setting] = &[
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
        "cors-allowed-origins",
        Kind::List,
        "",
        "Web origins that may call the APIs from a browser, comma separated, or *",
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
];

const LOGGING: &[Setting] = &[
    setting("log-level", Kind::Text, "info", "Log filter: a level, or directives as in info,ordersystem=debug")
        .common(),
    setting("log-format", Kind::Choice(&["text", "json"]), "text", "Format of the log lines"),
];

const LIMITS: &[Setting] = &[
    setting("request-timeout-ms", integer(1, DAY_MS), "30000", "Time limit of one request, ms"),
    setting(
        "max-in-flight",
        integer(1, 1_000_000),
        "10000",
        "Maximum number of requests in flight; lower while they are slow",
    ),
    setting("max-message-bytes", integer(1_024, 1 << 30), "4194304", "Maximum size of a request message, bytes"),
    setting("max-event-streams", integer(1, 1_000_000), "10000", "Maximum number of open event streams"),
    setting(
        "max-event-streams-per-connection",
        integer(1, 1_000_000),
        "100",
        "Maximum number of open event streams on one connection",
    ),
    setting("max-connections", integer(1, 1_000_000), "10000", "Maximum number of open connections"),
    setting(
        "max-concurrent-streams",
        integer(1, 1_000_000),
        "128",
        "Maximum number of open HTTP/2 streams on one connection",
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
    setting("shutdown-grace-ms", integer(0, DAY_MS), "25000", "Time for running requests to finish at shutdown, ms"),
];

const TUNING: &[Setting] = &[
    setting("cached-orders", integer(1, 100_000_000), "100000", "Maximum number of orders cached in memory"),
    setting(
        "cache-mib",
        integer(1, 1 << 20),
        "128",
        "Maximum memory of cached orders, MiB; none over 64 KiB is cached",
    ),
    setting("outbox-batch-size", integer(1, 100_000), "500", "Number of events that the outbox publishes in one batch"),
    setting("outbox-scan-interval-ms", integer(10, DAY_MS), "2000", "Interval at which the outbox polls the log, ms"),
    setting(
        "consumer-max-attempts",
        integer(1, 1_000),
        "10",
        "Deliveries to a handler before an event becomes a dead letter",
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
];

/// Every setting, in the order of [`GROUPS`].
pub fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    GROUPS.iter().flat_map(|group| group.settings)
}

/// The setting of this name.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

/// The name of a setting in a configuration file: `node_id`.
#[must_use]
pub fn file_key(key: &str) -> String {
    key.replace('-', "_")
}
