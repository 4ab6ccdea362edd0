//! The one connection that a node shares among all that it keeps in NATS.
//!
//! The client library makes it, and makes it anew when it is lost: a node may start before its NATS. A call made meanwhile fails after
//! [`NatsOptions::request_timeout`] or waits in the client's bounded queue; nothing is repeated here, since only the caller knows what may be.

use std::{fmt, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, connection::State, jetstream};
use tokio::time::{Instant, sleep};

/// Where NATS is and how long to wait for it.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://[user:password@]host[:port]`, `tls://…`, or `host:port`.
    pub url: String,
    /// What the names of streams and buckets, and all subjects, begin with: 1 to 64 characters of `A-Z a-z 0-9 _ -`.
    pub prefix: String,
    /// On how many servers of a cluster each stream is kept: 1, 3 or 5.
    pub replicas: usize,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long NATS may take for an answer.
    pub request_timeout: Duration,
}

impl NatsOptions {
    /// The options for `url` with names that begin with `prefix` and times fit for a server in the same data center.
    #[must_use]
    pub fn new(url: impl Into<String>, prefix: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            prefix: prefix.into(),
            replicas: 1,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(2),
        }
    }
}

impl fmt::Debug for NatsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password.
        f.debug_struct("NatsOptions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// A NATS server, connected to or not. Cloning shares the connection.
#[derive(Clone, Debug)]
pub struct Nats {
    client: Client,
    jetstream: jetstream::Context,
    options: Arc<NatsOptions>,
}

impl Nats {
    /// Begins to connect; to be called within a tokio runtime.
    ///
    /// # Errors
    /// For an address that is not one, without its password.
    pub async fn start(options: NatsOptions) -> Result<Self, String> {
        let connect = ConnectOptions::new()
            .name("ordersystem")
            .retry_on_initial_connect()
            .connection_timeout(options.connect_timeout)
            .request_timeout(Some(options.request_timeout))
            // Two pings without an answer and the connection is given up.
            .ping_interval(Duration::from_secs(1));
        let client = connect
            .connect(options.url.as_str())
            .await
            .map_err(|error| format!("the address of NATS: {}", error.kind()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(options.request_timeout);
        Ok(Self { client, jetstream, options: Arc::new(options) })
    }

    /// Whether it is connected within the time that a connection may take.
    pub async fn first_connection(&self) -> bool {
        let deadline = Instant::now() + self.options.connect_timeout;
        while !self.is_connected() {
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
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

    /// The client: for what JetStream's own calls do not cover.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// JetStream on this connection.
    #[must_use]
    pub const fn jetstream(&self) -> &jetstream::Context {
        &self.jetstream
    }

    /// The name `{prefix}-<name>` of a stream or bucket, which must not hold dots.
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
