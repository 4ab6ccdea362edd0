//! Where Redis is: one address, or a service that Sentinels know the primary of.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisError, Value,
};
use tokio::time::timeout;

use super::values;

/// Where Sentinels listen if their address has no port.
const SENTINEL_PORT: u16 = 26_379;

/// What an address says.
#[derive(Clone)]
pub(super) struct Address {
    /// The server, with the user; of a service the server that was named first, which is replaced by the primary.
    server: ConnectionInfo,
    service: Option<Service>,
}

/// A primary that changes, and who knows which it is.
#[derive(Clone)]
struct Service {
    name: String,
    sentinels: Vec<ConnectionInfo>,
    /// The `config-epoch` of the newest decision that has been used, by any clone.
    used_epoch: Arc<AtomicU64>,
}

/// What Sentinels say when they are asked once.
struct Answers {
    /// How many are asked.
    asked: usize,
    /// How many have named a primary.
    named: usize,
    /// The newest decision that they know: its `config-epoch`, and the primary.
    newest: Option<(u64, ConnectionAddr)>,
    /// The newest decision that was used before.
    used_epoch: u64,
}

impl Answers {
    const fn new(asked: usize, used_epoch: u64) -> Self {
        Self { asked, named: 0, newest: None, used_epoch }
    }

    /// Adds an answer; whether no more are needed.
    fn add(&mut self, epoch: u64, address: ConnectionAddr) -> bool {
        self.named += 1;
        if self.newest.as_ref().is_none_or(|(before, _)| epoch > *before) {
            self.newest = Some((epoch, address));
        }
        // Most Sentinels hear of a change soon, but the one that decided is the first to know it: where it has been heard,
        // the others may be behind for a moment, however many they are.
        self.named * 2 > self.asked && self.newest.as_ref().is_some_and(|(epoch, _)| *epoch >= self.used_epoch)
    }

    /// The newest decision, unless a newer one has been used.
    ///
    /// # Errors
    /// Which one is known, and which one was used, for people; `None` if no Sentinel has named a primary.
    fn decision(self) -> Result<(u64, ConnectionAddr), Option<String>> {
        let (epoch, address) = self.newest.ok_or(None)?;
        if epoch < self.used_epoch {
            return Err(Some(format!(
                "the Sentinels that answer name {address} by decision {epoch} (config-epoch), but decision {} has been used: \
                 one that knows it is waited for (if the Sentinels were set up anew, restart this node)",
                self.used_epoch
            )));
        }
        Ok((epoch, address))
    }
}

/// Why no primary is known.
pub(super) struct Unknown {
    pub why: String,
    /// All who know have said that there is none.
    pub is_final: bool,
}

impl Address {
    /// Reads `[redis[s]://][user[:password]@]host[:port][/db]` or
    /// `redis[s]+sentinel://[user[:password]@]host[:port],…/service[/db]`.
    ///
    /// # Errors
    /// What is wrong with it, without a password.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unreadable = |error: RedisError| format!("the address of Redis: {error}");
        let Some((scheme, rest)) = text.split_once("+sentinel://") else {
            let server = client_url(text).into_connection_info().map_err(unreadable)?;
            return Ok(Self { server, service: None });
        };
        // Up to the last '@' all is user and password, as the configuration reads it too.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (name, db) = path.split_once('/').unwrap_or((path, ""));
        if name.is_empty() {
            return Err(
                "the address of Redis: after the Sentinels comes the name of the service: …/mymaster".to_owned()
            );
        }
        let at = if user.is_empty() { String::new() } else { format!("{user}@") };
        let mut sentinels = Vec::new();
        let mut server = None;
        for host in hosts.split(',') {
            let has_port = host.rsplit_once(':').is_some_and(|(_, port)| !port.contains(']'));
            let host = if has_port { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") };
            sentinels.push(client_url(&format!("{scheme}://{host}")).into_connection_info().map_err(unreadable)?);
            let url = client_url(&format!("{scheme}://{at}{host}/{db}"));
            server.get_or_insert(url.into_connection_info().map_err(unreadable)?);
        }
        let server = server.ok_or("the address of Redis names no Sentinel")?;
        Ok(Self { server, service: Some(Service { name: name.to_owned(), sentinels, used_epoch: Arc::default() }) })
    }

    /// As whom the server is used.
    pub(super) fn user(&self) -> &str {
        self.server.redis_settings().username().unwrap_or("default")
    }

    pub(super) fn is_tls(&self) -> bool {
        matches!(self.server.addr(), ConnectionAddr::TcpTls { .. })
    }

    /// Whether the primary may change.
    pub(super) const fn has_sentinels(&self) -> bool {
        self.service.is_some()
    }

    /// For people: where it is, without a password.
    pub(super) fn shown(&self) -> String {
        match &self.service {
            None => self.server.addr().to_string(),
            Some(Service { name, sentinels, .. }) => {
                let sentinels: Vec<_> = sentinels.iter().map(|sentinel| sentinel.addr().to_string()).collect();
                format!("the service {name} of the Sentinels {}", sentinels.join(", "))
            }
        }
    }

    /// The server to use now. Of what the Sentinels say, what was decided last counts: one that was cut off may not have heard of it.
    /// A decision older than one that was used is never taken: what is written to a deposed primary is lost.
    pub(super) async fn primary(&self, within: Duration) -> Result<ConnectionInfo, Unknown> {
        let Some(Service { name, sentinels, used_epoch }) = &self.service else { return Ok(self.server.clone()) };
        let mut asked: FuturesUnordered<_> =
            sentinels.iter().map(|sentinel| self.ask(sentinel, name, within)).collect();
        let mut answers = Answers::new(sentinels.len(), used_epoch.load(Ordering::SeqCst));
        let (mut failures, mut denials) = (Vec::new(), 0);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok((epoch, address)) => {
                    if answers.add(epoch, address) {
                        break;
                    }
                }
                Err(Unknown { why, is_final }) => {
                    denials += usize::from(is_final);
                    failures.push(why);
                }
            }
        }
        // Another clone may have used a newer one meanwhile.
        answers.used_epoch = used_epoch.load(Ordering::SeqCst);
        match answers.decision() {
            Ok((epoch, address)) => {
                used_epoch.fetch_max(epoch, Ordering::SeqCst);
                Ok(self.server.clone().set_addr(address))
            }
            Err(older) => {
                failures.extend(older);
                Err(Unknown { is_final: denials == sentinels.len(), why: failures.join("; ") })
            }
        }
    }

    /// What one Sentinel says: how new it is, and the primary.
    async fn ask(
        &self,
        sentinel: &ConnectionInfo,
        service: &str,
        within: Duration,
    ) -> Result<(u64, ConnectionAddr), Unknown> {
        let at = sentinel.addr();
        let passing = |why: String| Unknown { why: format!("the Sentinel at {at}: {why}"), is_final: false };
        let mut answer = bounded(within, masters(sentinel.clone(), service, within)).await;
        if matches!(&answer, Err(error) if matches!(error.code(), Some("NOAUTH" | "NOPERM"))) {
            // Sentinels may have no users, or those of the servers.
            let known_there = sentinel.clone().set_redis_settings(self.server.redis_settings().clone().set_db(0));
            answer = bounded(within, masters(known_there, service, within)).await;
        }
        let (about, primary) = match answer {
            Ok((about, primary)) => {
                (values::list(about).unwrap_or_default(), values::list(primary).unwrap_or_default())
            }
            Err(error) if error.to_string().contains("No such master") => {
                let why = format!("the Sentinel at {at} knows no service {service}");
                return Err(Unknown { why, is_final: true });
            }
            Err(error) => return Err(passing(in_words(&error, self.is_tls()))),
        };
        let field = |wanted: &str| {
            let pair = about.chunks_exact(2).find(|pair| values::text(&pair[0]) == Some(wanted));
            pair.and_then(|pair| values::text(&pair[1]))
        };
        let part = |index: usize| primary.get(index).and_then(values::text);
        let (Some(host), Some(port)) = (part(0), part(1).and_then(|port| port.parse::<u16>().ok())) else {
            return Err(passing("it answers without the address of the primary".to_owned()));
        };
        let epoch = field("config-epoch").and_then(|epoch| epoch.parse().ok()).unwrap_or_default();
        let address = match self.server.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Ok((epoch, address))
    }
}

/// What a Sentinel knows of the service, and its primary. The latter is asked for by itself: while the Sentinel that leads a fail-over
/// tells the replicas, the former has the new `config-epoch` with the old address already.
async fn masters(sentinel: ConnectionInfo, service: &str, within: Duration) -> Result<(Value, Value), RedisError> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(within)).set_response_timeout(Some(within));
    let connection = Client::open(sentinel)?.get_multiplexed_async_connection_with_config(&config).await?;
    let ask = |about: &'static str| {
        let mut connection = connection.clone();
        async move { redis::cmd("SENTINEL").arg(about).arg(service).query_async(&mut connection).await }
    };
    // One right after the other: what is decided between them gives an older epoch to a new address, and not the reverse.
    tokio::try_join!(ask("MASTER"), ask("GET-MASTER-ADDR-BY-NAME"))
}

async fn bounded<T>(within: Duration, work: impl Future<Output = Result<T, RedisError>>) -> Result<T, RedisError> {
    match timeout(within, work).await {
        Ok(done) => done,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

/// What kept a server from answering as Redis does, for people.
pub(super) fn in_words(error: &RedisError, is_tls: bool) -> String {
    let text = error.to_string();
    if error.kind() == redis::ErrorKind::Parse {
        return "what answers there is not Redis: it speaks another protocol".to_owned();
    }
    if error.is_connection_refusal() {
        return "connection refused: nothing listens there".to_owned();
    }
    if error.is_timeout() {
        // A server without TLS waits for the rest of what it takes for a command.
        let perhaps = if is_tls { ", as from a server that speaks no TLS (then write redis://)" } else { "" };
        return format!("no answer in time{perhaps}");
    }
    if text.contains("UnknownIssuer") {
        return format!(
            "its certificate is not signed by an authority that this machine trusts: name the file of the authority in SSL_CERT_FILE ({text})"
        );
    }
    if text.contains("InvalidContentType") {
        return "what answers there speaks no TLS: an address with redis:// does without".to_owned();
    }
    if error.is_connection_dropped() && !is_tls {
        return format!(
            "it closes the connection at once, as a server does that speaks TLS (then write rediss://): {text}"
        );
    }
    text
}

/// The address as the client library takes it: with a scheme, and with the special characters of a password encoded. What has been encoded
/// already stays as it is.
fn client_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return format!("redis://{url}") };
    // Up to the last '@' all is user and password, as the configuration reads it too.
    let Some((userinfo, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
    let encode = |text: &str| {
        let encode = |byte: u8| match byte {
            b'%' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(encode).collect::<String>()
    };
    format!("{scheme}://{}:{}@{host}", encode(user), encode(password))
}

#[cfg(test)]
mod tests {
    use super::{Address, Answers, ConnectionAddr};

    fn server(port: u16) -> ConnectionAddr {
        ConnectionAddr::Tcp("redis".to_owned(), port)
    }

    /// What is decided when three Sentinels are asked and these answer, in this order; how many of the answers that takes.
    fn decided(used_epoch: u64, said: &[(u64, u16)]) -> (Result<(u64, ConnectionAddr), Option<String>>, usize) {
        let mut answers = Answers::new(3, used_epoch);
        let taken = said.iter().position(|(epoch, port)| answers.add(*epoch, server(*port)));
        (answers.decision(), taken.map_or(said.len(), |index| index + 1))
    }

    #[test]
    fn the_newest_decision_of_most_sentinels_counts_and_none_that_is_older_than_the_one_used() {
        assert_eq!(decided(0, &[(0, 1), (0, 1), (0, 1)]), (Ok((0, server(1))), 2));
        assert_eq!(decided(1, &[(1, 1), (2, 2), (2, 2)]), (Ok((2, server(2))), 2));
        assert_eq!(decided(1, &[(2, 2), (1, 1), (1, 1)]), (Ok((2, server(2))), 2));
        // Two that have not heard of it do not lead back; the third one is heard as well.
        assert_eq!(decided(2, &[(1, 1), (1, 1), (2, 2)]), (Ok((2, server(2))), 3));
        for behind in [&[(1, 1), (1, 1)][..], &[(1, 1), (1, 1), (0, 3)], &[(1, 1)]] {
            let (older, taken) = decided(2, behind);
            let why = older.unwrap_err().unwrap();
            assert!(why.contains("redis:1 by decision 1") && why.contains("decision 2 has been used"), "{why}");
            assert_eq!(taken, behind.len());
        }
        assert_eq!(decided(0, &[]), (Err(None), 0));
    }

    #[test]
    fn an_address_names_a_server_or_a_service() {
        let one = Address::parse("rediss://me:s3cret@cache:6390/2").unwrap();
        assert_eq!((one.shown().as_str(), one.user(), one.has_sentinels()), ("cache:6390", "me", false));
        let service = Address::parse("redis+sentinel://me:a/b@c@one:26380,two,[::1]:5/orders/3").unwrap();
        assert_eq!(service.shown(), "the service orders of the Sentinels one:26380, two:26379, ::1:5");
        assert_eq!((service.user(), service.server.redis_settings().db()), ("me", 3));
        assert_eq!(service.server.redis_settings().password(), Some("a/b@c"));
        for wrong in ["redis+sentinel://one:26379", "redis+sentinel://one:x/orders", "redis://host:6379/nine"] {
            assert!(Address::parse(wrong).is_err(), "{wrong}");
        }
    }
}
