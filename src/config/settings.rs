//! The table of settings: those of the node as a whole, of its modules and of the backends.

use std::sync::LazyLock;

use crate::{
    backends::{self, REGISTRY},
    server,
    settings::{DAY_MS, Group, Kind, Setting, integer},
    telemetry,
};

/// Every setting, by the sections of `--help` and docs/configuration.md, in their order.
static TABLE: LazyLock<Vec<Group>> = LazyLock::new(|| {
    let of_backends = REGISTRY.iter().filter(|backend| !backend.settings.is_empty());
    let of_backends = of_backends.map(|backend| Group { heading: backend.title, settings: backend.settings });
    let mut table = vec![Group { heading: "Storage and transport", settings: STORAGE_AND_TRANSPORT }];
    table.extend(of_backends);
    table.extend(OF_THE_NODE);
    table
});

const OF_THE_NODE: [Group; 7] = [
    Group { heading: "Node and cluster", settings: NODE_AND_CLUSTER },
    Group { heading: "Network and TLS", settings: server::settings::NETWORK_AND_TLS },
    Group { heading: "Access", settings: server::settings::ACCESS },
    Group { heading: "Logging", settings: telemetry::settings::LOGGING },
    Group { heading: "Traces", settings: telemetry::settings::TRACES },
    Group { heading: "Limits", settings: server::settings::LIMITS },
    Group { heading: "Tuning", settings: TUNING },
];

/// Every setting, by the sections of `--help` and docs/configuration.md, in their order.
#[must_use]
pub fn groups() -> &'static [Group] {
    &TABLE
}

/// Every setting, in the order of [`groups`].
pub fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    groups().iter().flat_map(|group| group.settings)
}

/// The setting of this name.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.key == key)
}

const STORAGE_AND_TRANSPORT: &[Setting] = &[
    Setting::new("persistence", Kind::Choice(backends::PERSISTENCES), "inmemory", "Event store").common(),
    Setting::new("transport", Kind::Choice(backends::TRANSPORTS), "inmemory", "Message bus").common(),
    Setting::optional("data-dir", Kind::Folder, "Folder for the data of this node").common(),
    Setting::new(
        "require-durable",
        Kind::Flag,
        "false",
        "Refuse to start unless acknowledged commands survive a power loss",
    ),
    Setting::new(
        "event-format",
        Kind::Choice(&["protobuf", "json"]),
        "protobuf",
        "Encoding of the events that are published to a broker",
    ),
];

const NODE_AND_CLUSTER: &[Setting] = &[
    Setting::new(
        "cluster",
        Kind::Flag,
        "false",
        "Serve one set of orders with other nodes, on redis or nats persistence",
    )
    .common(),
    Setting::new("node-id", Kind::Text, "auto", "Name of this node: 1 to 64 of A-Z a-z 0-9 . _ -, or auto"),
    Setting::new(
        "worker-id",
        integer(0, 31),
        "0",
        "Worker part of issued ids, unique to this node; default: a free one",
    )
    .or_appsettings("DistributedId.WorkerId"),
    Setting::new("datacenter-id", integer(0, 31), "0", "Datacenter part of issued ids")
        .or_appsettings("DistributedId.DataCenterId"),
];

const TUNING: &[Setting] = &[
    Setting::new("cached-orders", integer(1, 100_000_000), "100000", "Maximum number of orders cached in memory"),
    Setting::new(
        "cache-mib",
        integer(1, 1 << 20),
        "128",
        "Maximum memory of cached orders, MiB; orders over 64 KiB are not cached",
    ),
    Setting::new(
        "outbox-batch-size",
        integer(1, 100_000),
        "500",
        "Number of events that the outbox publishes in one batch",
    ),
    Setting::new(
        "outbox-scan-interval-ms",
        integer(10, DAY_MS),
        "2000",
        "Interval at which the outbox polls the log, ms",
    ),
    Setting::new(
        "consumer-max-attempts",
        integer(1, 1_000),
        "10",
        "Deliveries to a handler before an event becomes a dead letter",
    ),
    Setting::new("breaker-failures", integer(1, 1_000_000), "5", "Consecutive failures that open a circuit breaker"),
    Setting::new(
        "breaker-successes",
        integer(1, 1_000),
        "2",
        "Consecutive successes that close a half-open circuit breaker",
    ),
    Setting::new(
        "breaker-open-ms",
        integer(1, DAY_MS),
        "30000",
        "Maximum time that a circuit breaker stays open, ms; shorter when a health check succeeds",
    ),
    Setting::new("recovery-interval-ms", integer(100, DAY_MS), "30000", "Interval of the recovery service, ms"),
];
