//! Validation across settings.

use super::typed::Config;
use crate::settings::{ConfigError, Values};

pub(super) fn check(config: &Config, values: &Values) -> Result<(), ConfigError> {
    cluster(config, values)?;
    data_dir(config, values)?;
    unused_broker(config, values)?;
    ports(config, values)
}

fn cluster(config: &Config, values: &Values) -> Result<(), ConfigError> {
    if config.cluster && !config.persistence.is_shared {
        let store = config.persistence.name;
        let what = format!("nodes cannot share persistence '{store}': each would have its own orders");
        return Err(values.error("cluster", what));
    }
    Ok(())
}

/// Durable data must go to a folder that the operator chose, never to one that the program chose.
fn data_dir(config: &Config, values: &Values) -> Result<(), ConfigError> {
    if config.persistence.needs_data_dir && config.node.data_dir.is_none() {
        let what = format!(
            "'{}' stores its data in a folder: set --data-dir DIR; it is created if it does not exist",
            config.persistence.name
        );
        return Err(values.error("persistence", what));
    }
    Ok(())
}

/// On the command line an unused address is a mistake. In a file or the environment it is not: the samples' `appsettings.json` always names both
/// servers.
fn unused_broker(config: &Config, values: &Values) -> Result<(), ConfigError> {
    let unused = |key: &str, name: &str| values.error(key, format_args!("--{key} is set but nothing uses {name}"));
    for configured in &config.backends {
        let descriptor = configured.descriptor;
        let is_used = [config.transport, config.persistence].contains(&descriptor) || configured.backend.is_cache();
        let given = descriptor.settings.iter().find(|setting| values.source(setting.key).is_flag());
        if let Some(setting) = given.filter(|_| !is_used) {
            return Err(unused(setting.key, descriptor.title));
        }
    }
    if values.source("event-format").is_flag() && !config.transport.is_shared {
        return Err(unused("event-format", "a broker"));
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
        return Err(values.error("admin-port", format!("{admin} is also a public port")));
    }
    Ok(())
}
