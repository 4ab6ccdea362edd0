//! The one connection to NATS, shared by all components of a node.
//!
//! The client library makes it, and reconnects when it is lost: a node may start before its NATS. A call made meanwhile fails after
//! [`NatsOptions::request_timeout`] or waits in the client's bounded queue; nothing is retried here, since only the caller knows whether a retry is
//! safe.
//!
//! The library's own events are not logged by default (they name neither address nor cause); `contact` logs each change of state once, and a
//! lasting failure every half minute.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_nats::{Client, connection::State, jetstream};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

pub use super::options::{NatsAccess, NatsOptions};
use super::{
    address::{address, addresses, bracketed, with_access},
    contact::{Contact, attempts, is_denial},
    monitor::{Contacts, Monitors, Replica, Synced},
    permissions::Forbidden,
    stranger,
};
pub use crate::backends::connect_error::ConnectError;
use crate::ports::server_name::ServerName;

/// A NATS server, connected or not. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    jetstream: jetstream::Context,
    options: Arc<NatsOptions>,
    /// The hosts of the address.
    hosts: Arc<[String]>,
    /// The same with their ports.
    addresses: Arc<[String]>,
    monitors: Arc<Monitors>,
    /// The state of the connection.
    contact: Arc<Contact>,
    /// The names of the streams that this node has found or created.
    seen_streams: Arc<Mutex<HashSet<String>>>,
}

impl Nats {
    /// Begins to connect; must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the address is invalid; the message does not contain its password.
    pub async fn start(options: NatsOptions) -> Result<Self, String> {
        let (servers, login) = addresses(&options.url)?;
        let hosts = servers.iter().map(|server| bracketed(server.host())).collect();
        let addresses: Arc<[String]> = servers.iter().map(address).collect();
        let server = ServerName::new("NATS", addresses.join(","));
        let contact = Arc::new(Contact::new(&options.prefix, server));
        let (told, seen) = (Arc::clone(&contact), Arc::clone(&contact));
        let connect = with_access(login.into_options(), &options.access)?
            .name("ordersystem")
            .event_callback(move |event| {
                let told = Arc::clone(&told);
                async move { told.note(&event) }
            })
            // Does not choose a server: the library passes the result of the last attempt at each server to this callback.
            .reconnect_to_server_callback(move |servers, _| {
                let seen = Arc::clone(&seen);
                async move {
                    attempts(&seen, &servers);
                    None
                }
            })
            .retry_on_initial_connect()
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            // After two pings without a reply the connection is dropped.
            .ping_interval(Duration::from_secs(1));
        let client =
            connect.connect(servers).await.map_err(|error| format!("the address of NATS: {}", error.kind()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.request_timeout);
        let (options, monitors, seen_streams) = (Arc::new(options), Arc::default(), Arc::default());
        Ok(Self { client, jetstream, options, hosts, addresses, monitors, contact, seen_streams })
    }

    /// Waits until connected, at most for the connect timeout.
    ///
    /// # Errors
    /// [`ConnectError`] gives the reason, and whether waiting helps.
    pub async fn connected(&self) -> Result<(), ConnectError> {
        self.connected_or(|| false).await
    }

    /// Waits for the result of the first try to connect to every server, at most for the connect timeout.
    ///
    /// # Errors
    /// As [`Nats::connected`].
    pub async fn first_try(&self) -> Result<(), ConnectError> {
        self.connected_or(|| self.contact.with(|talk| talk.all_failed)).await
    }

    /// Waits until connected, or `is_over`; at most for the connect timeout, counted from when the last connection was lost.
    async fn connected_or(&self, is_over: impl Fn() -> bool) -> Result<(), ConnectError> {
        while !self.is_connected() {
            match self.failure() {
                Some(why) if is_denial(&why) => return Err(ConnectError::Fatal(why)),
                why if is_over() || self.down_for() >= self.options.connect_timeout => {
                    return Err(match self.strangers().await {
                        Some(why) => ConnectError::Fatal(why),
                        None => ConnectError::Retryable(why.unwrap_or_else(|| self.named("no answer yet"))),
                    });
                }
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
        Ok(())
    }

    /// The other programs that answer at all addresses, if NATS has never answered at any of them: waiting does not change that.
    async fn strangers(&self) -> Option<String> {
        if self.connections() > 0 {
            return None;
        }
        let looks = self.addresses.iter().map(async |address| (address, stranger::who_is_at(address).await));
        let found = futures_util::future::join_all(looks).await;
        let all_are = found.iter().all(|(_, words)| stranger::is_stranger(words));
        let shown = found.iter().map(|(address, words)| format!("{address}: {words}")).collect::<Vec<_>>().join("; ");
        all_are.then_some(shown)
    }

    /// Why NATS is known to be unreachable: there is no connection.
    pub(super) fn unreachable(&self) -> Option<String> {
        if self.is_connected() {
            return None;
        }
        let why = self.contact.with(|talk| talk.attempts.clone().or_else(|| talk.failure.clone()));
        Some(format!("NATS is unreachable: {}", why.unwrap_or_else(|| self.named("not connected yet"))))
    }

    /// `why` with the address of NATS, if it does not have it.
    pub(super) fn named(&self, why: impl Into<String>) -> String {
        self.contact.server.named(why.into())
    }

    /// NATS, for messages.
    pub(super) fn server(&self) -> &ServerName {
        &self.contact.server
    }

    /// Whether waiting for a reply is futile: requests are not sent, and will not be soon. Always false if another server may take over.
    pub(super) fn is_away(&self) -> bool {
        self.hosts.len() == 1 && self.options.replicas == 1 && self.down_for() >= self.options.connect_timeout
    }

    /// For how long there has been no connection.
    fn down_for(&self) -> Duration {
        if self.is_connected() { Duration::ZERO } else { self.contact.with(|talk| talk.down_since.elapsed()) }
    }

    /// Why the last try to connect failed; `None` while connected.
    pub(super) fn failure(&self) -> Option<String> {
        self.contact.failure()
    }

    /// Records that JetStream replies.
    pub(super) fn has_jetstream(&self) {
        self.contact.with(|talk| talk.lacks_jetstream_since = None);
    }

    /// Records that the server reports no JetStream for this account; returns for how long it has reported nothing else.
    pub(super) fn lacks_jetstream(&self) -> Duration {
        self.contact.with(|talk| talk.lacks_jetstream_since.get_or_insert_with(Instant::now).elapsed())
    }

    /// The operations that the server denies this user.
    pub(super) fn forbidden(&self) -> &Forbidden {
        &self.contact.forbidden
    }

    /// Records that there is a stream of this name.
    pub(super) fn saw_stream(&self, name: &str) {
        self.seen_streams.lock().insert(name.to_owned());
    }

    /// Whether there has been a stream of this name.
    pub(super) fn has_seen_stream(&self, name: &str) -> bool {
        self.seen_streams.lock().contains(name)
    }

    /// Whether the servers that keep these streams sync the messages that they acknowledge; without a cluster, whether the connected server does.
    pub(super) async fn synced(&self, streams: &[&[Replica]]) -> Synced {
        let contacts = Contacts {
            monitors: &self.options.monitors,
            hosts: &self.hosts,
            asserted: self.options.synced,
            connections: self.connections(),
            server: self.client.server_info(),
        };
        self.monitors.synced(contacts, streams).await
    }

    /// How often a connection has been made: if this number changes, the server may be another one.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(Ordering::Relaxed)
    }

    /// Whether there is a connection now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// The options.
    #[must_use]
    pub fn options(&self) -> &NatsOptions {
        &self.options
    }

    /// The client, for operations that JetStream's own calls do not cover.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream on this connection.
    #[must_use]
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The name `{prefix}-<name>` of a stream or bucket, which must not contain dots.
    #[must_use]
    pub fn stream_name(&self, name: &str) -> String {
        format!("{}-{name}", self.options.prefix)
    }

    /// The subject `{prefix}.<name>`.
    #[must_use]
    pub fn subject(&self, name: &str) -> String {
        format!("{}.{name}", self.options.prefix)
    }
}
