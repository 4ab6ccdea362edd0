//! Validation across settings.

use super::ConfigError;
use super::typed::{Config, Persistence, Transport};
use super::values::{Values, is_flag};

pub(super) fn check(config: &Config, values: &Values) -> Result<(), ConfigError> {
    cluster(config, values)?;
    data_dir(config, values)?;
    unused_broker(config, values)?;
    ports(config, values)
}

fn cluster(config: &Config, values: &Values) -> Result<(), ConfigError> {
    match config.persistence {
        Persistence::InMemory | Persistence::Embedded if config.cluster => {
            let store = config.persistence.name();
            let what = format!("nodes share no storage with persistence '{store}': each would have orders of its own");
            Err(values.error("cluster", what))
        }
        _ => Ok(()),
    }
}

/// Durable data must go to a folder that the operator chose, never to one that the program chose.
fn data_dir(config: &Config, values: &Values) -> Result<(), ConfigError> {
    if config.persistence == Persistence::Embedded && config.node.data_dir.is_none() {
        let what =
            "'embedded' keeps everything in a folder: say which with --data-dir DIR; it is made if it is not there";
        return Err(values.error("persistence", what));
    }
    Ok(())
}

/// On the command line an unused address is a mistake. In a file or the environment it is not: the samples' `appsettings.json` always names both
/// servers.
fn unused_broker(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let redis = config.transport == Transport::Redis || config.persistence == Persistence::Redis || config.redis_cache;
    let nats = config.transport == Transport::Nats || config.persistence == Persistence::Nats;
    let broker = config.transport != Transport::InMemory;
    for (key, name, used) in [
        ("redis", "Redis", redis),
        ("redis-prefix", "Redis", redis),
        ("redis-password-file", "Redis", redis),
        ("nats", "NATS", nats),
        ("nats-prefix", "NATS", nats),
        ("nats-replicas", "NATS", nats),
        ("nats-password-file", "NATS", nats),
        ("nats-token-file", "NATS", nats),
        ("nats-credentials", "NATS", nats),
        ("nats-nkey", "NATS", nats),
        ("nats-ca", "NATS", nats),
        ("nats-cert", "NATS", nats),
        ("nats-key", "NATS", nats),
        ("nats-monitor", "NATS", nats),
        ("nats-synced", "NATS", nats),
        ("event-format", "a broker", broker),
    ] {
        if !used && is_flag(values.source(key)) {
            return Err(values.error(key, format_args!("--{key} is set but nothing uses {name}")));
        }
    }
    Ok(())
}

fn ports(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let port = config.server.port;
    if port != 0 && config.server.grpc_port == Some(port) {
        let what = format!("{port} is also the port for HTTP, which serves gRPC without it; leave grpc-port out");
        return Err(values.error("grpc-port", what));
    }
    if let Some(admin) = config.server.admin_port
        && admin != 0
        && (admin == port || config.server.grpc_port == Some(admin))
    {
        return Err(values.error("admin-port", format!("{admin} is also a port for everyone")));
    }
    Ok(())
}
