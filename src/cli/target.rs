//! The arguments of a command for a running node: where the node is, and how to trust it.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::{
    error::CliError,
    node_client::{ClientTls, Target, Trust},
    settings::{OfTarget, SettingFlags},
};
use crate::config::{Config, TOKEN_FILE_VARIABLE, Variable};

/// The maximum `--timeout-ms`: one hour.
pub(super) const MAX_TIMEOUT_MS: u64 = 3_600_000;

#[derive(Args)]
#[command(next_help_heading = "Node to call")]
pub(super) struct TargetArgs {
    /// Address of the node [default: the configured port, on this machine]
    ///
    /// Without --address the node is the one of this configuration: --config FILE and the flags and environment variables of `ordersystem serve`
    /// say where it listens.
    #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    address: Option<String>,
    /// With TLS: PEM file with the authority that signed the node's certificate [default: the configured certificate itself]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    ca: Option<PathBuf>,
    /// With TLS: name that the node's certificate must have [default: the host of the address]
    #[arg(long, value_name = "NAME", requires = "ca")]
    server_name: Option<String>,
    /// With TLS: PEM file with the client certificate to present
    #[arg(long, value_name = "FILE", requires = "key", value_hint = ValueHint::FilePath)]
    cert: Option<PathBuf>,
    /// With TLS: PEM file with the private key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert", value_hint = ValueHint::FilePath)]
    key: Option<PathBuf>,
    /// File with the API key or token to present, where callers are identified [env: ORDERSYSTEM_TOKEN_FILE]
    ///
    /// The only line of the file is sent as `authorization: Bearer`. The environment variable ORDERSYSTEM_TOKEN_FILE names such a file as well.
    /// A file that other users may read is used with a warning.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    settings: SettingFlags<OfTarget>,
}

impl TargetArgs {
    /// The node at `--address`, else the one of this configuration.
    ///
    /// # Errors
    /// An invalid address, a configuration that is invalid or listens on any free port, a client certificate without TLS.
    pub(super) fn target(self, env: Vec<Variable>) -> Result<Target, CliError> {
        let from_env = || env.iter().find(|(name, _)| name == TOKEN_FILE_VARIABLE).map(|(_, value)| value.into());
        let token_file = self.token_file.or_else(from_env);
        let signed_by = self.ca.map(Trust::SignedBy);
        let (address, trust) = match self.address {
            Some(address) => (checked(address)?, signed_by),
            None => {
                let config = Config::load(&self.settings.values, env)?;
                let own = config.server.tls.as_ref().map(|tls| Trust::Exactly(tls.cert.clone()));
                (address_of(&config)?, signed_by.or(own))
            }
        };
        let identity = self.cert.zip(self.key);
        if trust.is_none() && identity.is_some() {
            return Err(CliError::Usage("--cert is for TLS: name the trusted authority with --ca".to_owned()));
        }
        let server_name = self.server_name;
        let tls = trust.map(|trust| ClientTls { trust, server_name, identity });
        Ok(Target { address, tls, token_file })
    }
}

fn checked(address: String) -> Result<String, CliError> {
    let is_valid = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains(['/', '@']) && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if is_valid {
        Ok(address)
    } else if address.starts_with("https://") {
        Err(CliError::Usage(format!(
            "--address: '{}' is not host:port; where the node uses TLS, name the trusted authority with --ca FILE",
            address.escape_debug()
        )))
    } else {
        Err(CliError::Usage(format!("--address: '{}' is not host:port", address.escape_debug())))
    }
}

/// The gRPC address of the service of this configuration, as seen from the same machine.
fn address_of(config: &Config) -> Result<String, CliError> {
    let mut address = config.server.grpc_address().unwrap_or_else(|| config.server.address());
    if address.port() == 0 {
        return Err(CliError::Usage("--address is required: the configured port is 0, any free port".to_owned()));
    }
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(address.to_string())
}
