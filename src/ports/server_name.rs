//! The name of a broker in messages for people.

use std::{fmt, sync::Arc};

/// A broker: what it is, and its address without a password. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(Arc<Parts>);

#[derive(Debug, PartialEq, Eq)]
struct Parts {
    kind: &'static str,
    address: String,
    /// How the hosts of the address begin in messages.
    hosts: Vec<String>,
}

/// `why` with the name of the server, if there is one.
#[must_use]
pub fn named(server: Option<&ServerName>, why: impl Into<String>) -> String {
    let why = why.into();
    match server {
        Some(server) => server.named(why),
        None => why,
    }
}

impl ServerName {
    /// A server of this kind ("NATS") at `address`, which contains no password: one host or several, with or without a scheme.
    #[must_use]
    pub fn new(kind: &'static str, address: impl Into<String>) -> Self {
        let address = address.into();
        let hosts = address.split(',').map(host).filter(|host| !host.is_empty());
        // Messages have the default port as well.
        let with_port = |host: &str| if has_port(host) { host.to_owned() } else { format!("{host}:") };
        let hosts = hosts.map(with_port).collect();
        Self(Arc::new(Parts { kind, address, hosts }))
    }

    /// `why` with the name of the server, which is added unless it is there.
    #[must_use]
    pub fn named(&self, why: String) -> String {
        let Parts { kind, hosts, .. } = &*self.0;
        if why.contains(&format!("{kind} at ")) || hosts.iter().any(|host| why.contains(host)) {
            return why;
        }
        format!("{self}: {why}")
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.0.address
    }
}

/// The host of a URL, with its port if it has one.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or_default()
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':').is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { kind, address, .. } = &*self.0;
        write!(f, "{kind} at {address}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_server_once() {
        let named = |address: &str, why: &str| ServerName::new("NATS", address).named(why.to_owned());
        assert_eq!(named("one:4222,two:4223", "no answer in time"), "NATS at one:4222,two:4223: no answer in time");
        for (address, why) in [
            ("one:4222,two:4223", "two:4223: connection refused"),
            ("nats://me@one:4222/", "the connection to one:4222 was lost"),
            ("nats://me@one:4222,nats://two:4223", "the connection to two:4223 was lost"),
            ("redis+sentinel://one:26379,two:26380/orders", "the Sentinel at two:26380: connection refused"),
            ("tls://[::1]:4222", "[::1]:4222: connection refused"),
            ("nats://one", "one:4222: connection refused"),
            ("nats://service", "NATS at 10.0.0.7:4222 is full"),
        ] {
            assert_eq!(named(address, why), why);
        }
        assert_eq!(named("nats://one", "the stream of one order"), "NATS at nats://one: the stream of one order");
    }
}
