//! The table of settings. Adding one is a row here and a line in `typed.rs`.

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`; as a flag it has no value.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A decimal integer of this range, both ends included.
    Integer {
        /// The smallest value.
        min: u64,
        /// The largest value.
        max: u64,
    },
    /// Text with a form of its own, checked by the line in `typed.rs`.
    Text,
    /// The address of a server; may hold a password, which is never shown.
    ServerUrl,
    /// Comma separated texts; in a file a list as well. May be empty.
    List,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name in kebab-case: the flag `--node-id`, the variable `ORDERSYSTEM_NODE_ID`, the file key `node_id`.
    pub key: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value when nothing sets it; `None` if it may be left out.
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

/// The longest duration of any setting: a day.
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
    optional("redis-password-file", Kind::Text, "File with the password for Redis; its user, if any, is in the address"),
    setting("redis-prefix", Kind::Text, "ordersystem", "What Redis keys begin with: 1 to 64 of A-Z a-z 0-9 . _ -"),
    setting("redis-cache", Kind::Switch, "false", "Keep folded orders in Redis too, for all nodes of the log"),
    setting("event-format", Kind::Choice(&["protobuf", "json"]), "protobuf", "Form of published events on a broker"),
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
        "What streams and subjects in NATS begin with: 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    setting(
        "nats-replicas",
        Kind::Choice(&["1", "3", "5"]),
        "1",
        "Servers of a NATS cluster that keep each stream that is made",
    ),
    optional(
        "nats-password-file",
        Kind::Text,
        "File with the password for NATS, whose user is in the address: nats://user@host:port",
    ),
    optional("nats-token-file", Kind::Text, "File with the token for NATS"),
    optional("nats-credentials", Kind::Text, "Credentials file (.creds) for NATS: a JWT and the seed of an nkey"),
    optional("nats-nkey", Kind::Text, "File with the seed of an nkey for NATS"),
    optional("nats-ca", Kind::Text, "PEM file with who signs NATS's certificates, beside those that the system trusts"),
    optional("nats-cert", Kind::Text, "PEM file with the certificate to show to NATS"),
    optional("nats-key", Kind::Text, "PEM file with the private key of that certificate"),
    setting(
        "nats-monitor",
        Kind::List,
        "",
        "Monitoring ports of all NATS servers, host:port comma separated, to learn whether they sync; none: 8222 of their hosts",
    ),
    setting(
        "nats-synced",
        Kind::Switch,
        "false",
        "Assert that all NATS servers have sync_interval: always, where their monitoring ports cannot be reached",
    ),
    setting(
        "require-durable",
        Kind::Switch,
        "false",
        "Refuse to start unless what is acknowledged survives a power loss",
    ),
    setting("cluster", Kind::Switch, "false", "Serve one set of orders with other nodes, on redis or nats persistence"),
    setting("node-id", Kind::Text, "auto", "Name of this node: 1 to 64 of A-Z a-z 0-9 . _ -, or auto"),
    setting("port", integer(0, PORT), "5000", "Port for gRPC and HTTP; 0 takes any free port"),
    setting("bind", Kind::Text, "127.0.0.1", "IP address to listen on, or its name; 0.0.0.0 or :: for all"),
    optional("grpc-port", integer(0, PORT), "A port of its own for gRPC; 0 takes any free port"),
    optional(
        "tls-cert",
        Kind::Text,
        "PEM file with the server's certificate chain: both doors speak TLS and nothing else",
    ),
    optional("tls-key", Kind::Text, "PEM file with the private key of that certificate"),
    optional("tls-client-ca", Kind::Text, "PEM file with who signs client certificates: clients must show one"),
    optional(
        "tls-client-crl",
        Kind::Text,
        "PEM file with what those have revoked, one list of each; read again when it changes",
    ),
    optional("data-dir", Kind::Text, "Folder for what this node keeps on disk"),
    setting(
        "worker-id",
        integer(0, 31),
        "0",
        "Worker part of issued ids, of no other node; if left out, one that is free",
    )
    .or_appsettings("DistributedId.WorkerId"),
    setting("datacenter-id", integer(0, 31), "0", "Datacenter part of issued ids")
        .or_appsettings("DistributedId.DataCenterId"),
    optional(
        "admin-port",
        integer(0, PORT),
        "A port more whose clients are all operators: not for everyone to reach; 0 takes any free port",
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
        "Names under which the node is served, comma separated, or *; none: this machine's own on loopback, else any",
    ),
    setting(
        "reflection",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether gRPC services describe themselves to clients such as grpcurl; auto: on loopback",
    ),
    setting(
        "swagger",
        Kind::Choice(&["auto", "on", "off"]),
        "auto",
        "Whether /swagger lets REST be tried out; auto: on loopback",
    ),
    setting("log-level", Kind::Text, "info", "Log filter: a level, or directives as in info,ordersystem=debug"),
    setting("log-format", Kind::Choice(&["text", "json"]), "text", "Form of the log lines"),
    setting(
        "shutdown-grace-ms",
        integer(0, DAY_MS),
        "25000",
        "How long running requests may take to end at a stop, ms",
    ),
    setting("request-timeout-ms", integer(1, DAY_MS), "30000", "Longest time for one request, ms"),
    setting("max-in-flight", integer(1, 1_000_000), "10000", "Most requests worked on at once; fewer while they take long"),
    setting("max-connections", integer(1, 1_000_000), "10000", "Connections open at once"),
    setting("max-message-bytes", integer(1_024, 1 << 30), "4194304", "Largest request message, bytes"),
    setting("max-concurrent-streams", integer(1, 1_000_000), "128", "HTTP/2 streams open at once on one connection"),
    setting("max-event-streams", integer(1, 1_000_000), "10000", "Streams of events open at once; more are refused"),
    setting("max-event-streams-per-connection", integer(1, 1_000_000), "100", "Those of one connection"),
    setting(
        "max-connection-age-ms",
        integer(0, DAY_MS),
        "3600000",
        "Age at which a connection is asked to close, ms; 0 never",
    ),
    setting("max-connection-age-grace-ms", integer(0, DAY_MS), "30000", "How long after that it is closed anyway, ms"),
    setting("keepalive-interval-ms", integer(100, DAY_MS), "30000", "HTTP/2 ping after this much silence, ms"),
    setting("keepalive-timeout-ms", integer(100, DAY_MS), "10000", "A ping unanswered for this long closes, ms"),
    setting("cached-orders", integer(1, 100_000_000), "100000", "Orders kept folded in memory"),
    setting("cache-mib", integer(1, 1 << 20), "128", "Memory that they may take, MiB; none over 64 KiB is kept"),
    setting("outbox-batch-size", integer(1, 100_000), "500", "Events the outbox publishes at once"),
    setting(
        "outbox-scan-interval-ms",
        integer(10, DAY_MS),
        "2000",
        "How often the outbox looks without being woken, ms",
    ),
    setting("breaker-failures", integer(1, 1_000_000), "5", "Failures in a row that open a circuit breaker"),
    setting("breaker-successes", integer(1, 1_000), "2", "Successes in a row that close a half-open circuit breaker"),
    setting(
        "breaker-open-ms",
        integer(1, DAY_MS),
        "30000",
        "How long a circuit breaker stays open at the longest, ms; less when a health check succeeds",
    ),
    setting("recovery-interval-ms", integer(100, DAY_MS), "30000", "How often the recovery service looks, ms"),
    setting("cors-allowed-origins", Kind::List, "", "Web origins that may call from a browser, comma separated, or *"),
    setting(
        "consumer-max-attempts",
        integer(1, 1_000),
        "10",
        "Deliveries to a handler before an event is a dead letter",
    ),
];

/// The name of a setting in a configuration file: `node_id`.
#[must_use]
pub fn file_key(key: &str) -> String {
    key.replace('-', "_")
}
