//! The ports of the node: their addresses, connection limits and access rules.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::StartError;
use crate::{
    application::byte_budget::ByteBudget,
    config::Config,
    server::{
        ApiState,
        browsers::{BrowserGate, Hosts},
        dispatch::DoorOptions,
        listener::{self, REQUEST_BYTES, ServerOptions, descriptors},
        operators::Operators,
        paced::Pace,
    },
};

/// Warns if all orders are accessible to every client that can reach the node.
pub fn warn_if_open(config: &Config) {
    let server = &config.server;
    let identifies = server.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if !server.bind.is_loopback() && !identifies {
        tracing::warn!(
            bind = %server.bind,
            "whoever reaches this node may read and change all orders: nobody has to identify himself; see --tls-client-ca"
        );
    }
    if server.anyone_operates {
        tracing::warn!("whoever reaches this node is taken for an operator (--operators anyone)");
    }
}

pub fn door_options(config: &Config) -> DoorOptions {
    let server = &config.server;
    let hosts = Hosts::of(&server.allowed_hosts, server.bind);
    DoorOptions {
        gate: BrowserGate::new(hosts, server.cors_allowed_origins.clone()),
        cors_allowed_origins: server.cors_allowed_origins.clone(),
        operators: if server.anyone_operates { Operators::Anyone } else { Operators::Local },
        is_tls: server.tls.is_some(),
        has_reflection: server.has_reflection,
        has_swagger: server.has_swagger,
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
    }
}
