//! The ports of the node: their addresses, connection limits and access rules.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::StartError;
use crate::{
    application::byte_budget::ByteBudget,
    config::Config,
    identity::Authenticator,
    server::{
        ApiState,
        browsers::{BrowserGate, Hosts},
        listener::{self, ConnectionMeters, REQUEST_BYTES, ServerOptions, descriptors},
        meters::CallMeters,
        operators::Operators,
        paced::Pace,
        stack::StackOptions,
    },
    telemetry::traces::Traces,
};

/// Warns about dangerous access: every client that reaches the node may use all orders, or keys are sent in plain text.
pub fn warn_if_open(config: &Config) {
    let server = &config.server;
    if let Some(warning) = security_warning(config) {
        tracing::warn!(bind = %server.bind, "{warning}");
    }
    if server.identities.is_some() {
        if !server.bind.is_loopback() && server.tls.is_none() {
            tracing::warn!(bind = %server.bind, "keys and tokens are sent in the clear: see --tls-cert, unless TLS ends before this node");
        }
    } else if server.anyone_operates {
        tracing::warn!("every client that can reach this node is treated as an operator (--operators anyone)");
    }
}

/// A warning about dangerous access to the node, for its log, GetServerInfo and the dashboard; `None` if access is not dangerous.
pub fn security_warning(config: &Config) -> Option<&'static str> {
    let server = &config.server;
    let needs_certificate = server.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let is_open = !server.bind.is_loopback() && server.identities.is_none() && !needs_certificate;
    is_open.then_some(
        "callers are not identified: every client that can reach this node can read and change all orders; see --identities and --require-auth",
    )
}

/// Reads the identity file, if callers are identified.
pub fn authenticator(config: &Config) -> Result<Option<Authenticator>, StartError> {
    let server = &config.server;
    let Some(path) = &server.identities else { return Ok(None) };
    let asks_for_certificates = server.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    let authenticator = Authenticator::open(path, asks_for_certificates);
    Ok(Some(authenticator.map_err(|why| StartError::from(format!("--identities: {why}")))?))
}

pub fn stack_options(config: &Config, authenticator: Option<Authenticator>, traces: Traces) -> StackOptions {
    let server = &config.server;
    let hosts = Hosts::of(&server.allowed_hosts, server.bind);
    StackOptions {
        gate: BrowserGate::new(hosts, server.cors_allowed_origins.clone()),
        cors_allowed_origins: server.cors_allowed_origins.clone(),
        authenticator,
        operators: if server.anyone_operates { Operators::Anyone } else { Operators::Local },
        is_tls: server.tls.is_some(),
        has_reflection: server.has_reflection,
        has_swagger: server.has_swagger,
        traces,
    }
}

/// The ports of the node.
pub struct Listeners {
    pub main: TcpListener,
    pub grpc: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

/// Their addresses.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub main: SocketAddr,
    pub grpc: Option<SocketAddr>,
    pub admin: Option<SocketAddr>,
}

impl Listeners {
    pub fn addresses(&self) -> std::io::Result<Addresses> {
        Ok(Addresses {
            main: self.main.local_addr()?,
            grpc: self.grpc.as_ref().map(TcpListener::local_addr).transpose()?,
            admin: self.admin.as_ref().map(TcpListener::local_addr).transpose()?,
        })
    }
}

pub fn bind(config: &Config) -> Result<Listeners, StartError> {
    let bind = |address: SocketAddr| {
        listener::bind(address).map_err(|error| StartError::from(format!("cannot listen on {address}: {error}")))
    };
    let server = &config.server;
    Ok(Listeners {
        main: bind(server.address())?,
        grpc: server.grpc_address().map(bind).transpose()?,
        admin: server.admin_address().map(bind).transpose()?,
    })
}

/// The maximum number of connections: as configured, or as limited by the system's file descriptors.
pub fn max_connections(config: &Config) -> usize {
    let wanted = config.server.max_connections;
    let files = descriptors::raise_limit();
    let served = descriptors::connections_within(files, wanted);
    if served < wanted {
        tracing::warn!(
            wanted,
            served,
            open_files = files,
            "the limit of open files (ulimit -n) allows fewer connections than --max-connections"
        );
    }
    served
}

pub fn server_options(config: &Config, state: &ApiState, pace: Pace) -> ServerOptions {
    let server = &config.server;
    let age = server.max_connection_age_ms;
    ServerOptions {
        max_connections: state.info.max_connections,
        max_concurrent_streams: server.max_concurrent_streams,
        keepalive_interval: Duration::from_millis(server.keepalive_interval_ms),
        keepalive_timeout: Duration::from_millis(server.keepalive_timeout_ms),
        max_connection_age: (age > 0).then(|| Duration::from_millis(age)),
        max_connection_age_grace: Duration::from_millis(server.max_connection_age_grace_ms),
        request_bytes: ByteBudget::new(REQUEST_BYTES),
        event_streams: state.event_streams.clone(),
        admission: Arc::clone(&state.admission),
        pace,
        meters: CallMeters::new(&state.metrics),
        connections: ConnectionMeters::none(),
    }
}
