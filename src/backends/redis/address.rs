//! Redis's address: one server, or a service whose primary is known to Sentinels.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::Mutex;
use redis::{Client, ConnectionInfo, IntoConnectionInfo as _, TlsCertificates};

use super::{
    in_words::is_tls,
    sentinel::{Decision, Sentinel, Unknown},
};

/// The Sentinel port if an address names none.
const SENTINEL_PORT: u16 = 26_379;

/// A parsed address.
#[derive(Clone)]
pub(super) struct Address {
    /// The server, with the user; for a service the server that was named first, which is replaced by the primary.
    server: ConnectionInfo,
    service: Option<Service>,
}

/// A primary that changes, and the Sentinels that know it.
#[derive(Clone)]
struct Service {
    name: String,
    sentinels: Vec<Sentinel>,
    /// The `config-epoch` of the newest decision that has been used, by any clone.
    used_epoch: Arc<AtomicU64>,
    /// Why the Sentinels cannot choose another primary, as of the last question.
    too_few: Arc<Mutex<Option<String>>>,
}

/// The server to use, and the decision that names it if there are Sentinels.
pub(super) struct Primary {
    pub server: ConnectionInfo,
    pub decision: Option<Decision>,
}

/// The Sentinels' answers to one question.
struct Answers {
    /// How many are asked.
    asked: usize,
    said: Vec<Decision>,
    /// The newest decision that was used before.
    used_epoch: u64,
}

impl Answers {
    const fn new(asked: usize, used_epoch: u64) -> Self {
        Self { asked, said: Vec::new(), used_epoch }
    }

    /// Adds an answer; returns whether no more are needed.
    fn add(&mut self, decision: Decision) -> bool {
        self.said.push(decision);
        self.agreed().is_some()
    }

    /// Whether a majority of all Sentinels asked gives this decision.
    fn most_say(&self, decision: &Decision) -> bool {
        self.said.iter().filter(|said| *said == decision).count() * 2 > self.asked
    }

    /// The newest decision among the answers.
    fn newest(&self) -> Option<&Decision> {
        self.said.iter().max_by_key(|said| said.epoch)
    }

    /// The newest decision, if a majority of all Sentinels asked know it and no newer one has been used. A decision that fewer know is waited for:
    /// other nodes may still be given the previous one, and confirm their reads by it.
    fn agreed(&self) -> Option<&Decision> {
        let newest = self.newest()?.epoch;
        let of_most = self.said.iter().find(|said| said.epoch == newest && self.most_say(said));
        of_most.filter(|said| said.epoch >= self.used_epoch)
    }

    /// Whether so few Sentinels have answered that they cannot choose another primary; `failures` says why the others have not.
    fn too_few(&self, failures: &[String]) -> Option<String> {
        let (answered, asked) = (self.said.len(), self.asked);
        (answered * 2 <= asked).then(|| {
            let why = failures.join("; ");
            format!("no fail-over can happen: {answered} of {asked} Sentinels reachable ({why})")
        })
    }

    /// The decision that the majority agrees on.
    ///
    /// # Errors
    /// The human-readable state instead; `None` if no Sentinel has named a primary.
    fn decision(&self) -> Result<Decision, Option<String>> {
        if let Some(agreed) = self.agreed() {
            return Ok(agreed.clone());
        }
        let Decision { epoch, address } = self.newest().ok_or(None)?;
        if *epoch < self.used_epoch {
            return Err(Some(format!(
                "the Sentinels that answer name {address} in config-epoch {epoch}, but epoch {} has been used: waiting for those that know \
                 it (if the Sentinels were set up from scratch, restart this node)",
                self.used_epoch
            )));
        }
        let naming = self.said.iter().filter(|said| said.epoch == *epoch && said.address == *address).count();
        Err(Some(format!(
            "{naming} of {} Sentinels name {address} in config-epoch {epoch}: it is used once more than half of them do",
            self.asked
        )))
    }
}

/// Why a primary is not confirmed.
pub(super) struct Doubt {
    pub why: String,
    /// A Sentinel names another primary by a decision that is as new or newer.
    pub is_replaced: bool,
}

impl Address {
    /// Servers and Sentinels must have a certificate that the authorities in the PEM text `ca` have signed, if there is one; else those of the system.
    ///
    /// Reads `[redis[s]://][user[:password]@]host[:port][/db]` or
    /// `redis[s]+sentinel://[user[:password]@]host[:port],…/service[/db]`.
    ///
    /// # Errors
    /// A description of the error, without a password.
    pub(super) fn parse(text: &str, ca: Option<&[u8]>) -> Result<Self, String> {
        let read = |url: &str| {
            let server =
                client_url(url).into_connection_info().map_err(|error| format!("the address of Redis: {error}"))?;
            trusting(server, ca)
        };
        let Some((scheme, rest)) = text.split_once("+sentinel://") else {
            return Ok(Self { server: read(text)?, service: None });
        };
        // Everything up to the last '@' is user and password, as in the configuration's parser.
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
            sentinels.push(Sentinel::new(read(&format!("{scheme}://{host}"))?));
            server.get_or_insert(read(&format!("{scheme}://{at}{host}/{db}"))?);
        }
        let server = server.ok_or("the address of Redis names no Sentinel")?;
        let (name, used_epoch, too_few) = (name.to_owned(), Arc::default(), Arc::default());
        Ok(Self { server, service: Some(Service { name, sentinels, used_epoch, too_few }) })
    }

    /// The number of the database.
    pub(super) fn database(&self) -> i64 {
        self.server.redis_settings().db()
    }

    /// The user name on the server.
    pub(super) fn user(&self) -> &str {
        self.server.redis_settings().username().unwrap_or("default")
    }

    pub(super) fn is_tls(&self) -> bool {
        is_tls(&self.server)
    }

    /// Whether the primary may change.
    pub(super) const fn has_sentinels(&self) -> bool {
        self.service.is_some()
    }

    /// Why no other server can become the primary, although there are Sentinels: half of them or more did not answer when they were last asked.
    pub(super) fn too_few_sentinels(&self) -> Option<String> {
        self.service.as_ref().and_then(|service| service.too_few.lock().clone())
    }

    /// Whether another server may take over.
    pub(super) fn may_fail_over(&self) -> bool {
        self.has_sentinels() && self.too_few_sentinels().is_none()
    }

    /// The human-readable address, without a password.
    pub(super) fn shown(&self) -> String {
        match &self.service {
            None => self.server.addr().to_string(),
            Some(Service { name, sentinels, .. }) => {
                let sentinels: Vec<_> = sentinels.iter().map(Sentinel::shown).collect();
                format!("the service {name} of the Sentinels {}", sentinels.join(", "))
            }
        }
    }

    /// The server to use now: the Sentinels' latest decision, once a majority knows it. A Sentinel that was cut off may not know it, and writes to a
    /// deposed primary are lost: a decision older than one already used is never taken.
    pub(super) async fn primary(&self, within: Duration) -> Result<Primary, Unknown> {
        let Some(Service { name, sentinels, used_epoch, too_few }) = &self.service else {
            return Ok(Primary { server: self.server.clone(), decision: None });
        };
        let mut asked: FuturesUnordered<_> =
            sentinels.iter().map(|sentinel| sentinel.ask(name, &self.server, within)).collect();
        let mut answers = Answers::new(sentinels.len(), used_epoch.load(Ordering::SeqCst));
        let (mut failures, mut denials) = (Vec::new(), 0);
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(decision) => {
                    if answers.add(decision) {
                        break;
                    }
                }
                Err(Unknown { why, is_final }) => {
                    denials += usize::from(is_final);
                    failures.push(why);
                }
            }
        }
        *too_few.lock() = answers.too_few(&failures);
        // Another clone may have used a newer one in the meantime.
        answers.used_epoch = used_epoch.load(Ordering::SeqCst);
        match answers.decision() {
            Ok(decision) => {
                used_epoch.fetch_max(decision.epoch, Ordering::SeqCst);
                let server = self.server.clone().set_addr(decision.address.clone());
                Ok(Primary { server, decision: Some(decision) })
            }
            Err(otherwise) => {
                failures.extend(otherwise);
                Err(Unknown { is_final: denials == sentinels.len(), why: failures.join("; ") })
            }
        }
    }

    /// Checks that `decision` still holds: that a majority of Sentinels names it, and that none that answers knows a newer one. Since each node uses
    /// a decision only when a majority names it, no other node used a newer one before this question: two majorities share a Sentinel, and no
    /// Sentinel goes back.
    ///
    /// # Errors
    /// [`Doubt`].
    pub(super) async fn confirm(&self, decision: &Decision, within: Duration) -> Result<(), Doubt> {
        let Some(Service { name, sentinels, .. }) = &self.service else { return Ok(()) };
        let mut asked: FuturesUnordered<_> =
            sentinels.iter().map(|sentinel| sentinel.ask(name, &self.server, within)).collect();
        let mut answers = Answers::new(sentinels.len(), decision.epoch);
        let mut failures = Vec::new();
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(said) if said.epoch > decision.epoch || (said.epoch == decision.epoch && said != *decision) => {
                    let why = format!("a Sentinel names {} and not {}", said.address, decision.address);
                    return Err(Doubt { why, is_replaced: true });
                }
                Ok(said) => {
                    answers.add(said);
                    if answers.most_say(decision) {
                        return Ok(());
                    }
                }
                Err(Unknown { why, .. }) => failures.push(why),
            }
        }
        let named = answers.said.iter().filter(|said| *said == decision).count();
        let what = format!("{named} of {} Sentinels name the primary {}", sentinels.len(), decision.address);
        failures.insert(0, what);
        Err(Doubt { why: failures.join("; "), is_replaced: false })
    }
}

/// The server with the authorities in the PEM text `ca` in place of those of the system.
fn trusting(server: ConnectionInfo, ca: Option<&[u8]>) -> Result<ConnectionInfo, String> {
    let Some(ca) = ca else { return Ok(server) };
    if !is_tls(&server) {
        return Err("redis-ca: the address does not use TLS: write rediss://".to_owned());
    }
    let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca.to_vec()) };
    let client = Client::build_with_tls(server, certificates).map_err(|error| format!("redis-ca: {error}"))?;
    Ok(client.get_connection_info().clone())
}

/// The address in the form that the client library takes: with a scheme, and with the special characters of a password encoded. Characters that are
/// already encoded stay unchanged.
fn client_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return format!("redis://{url}") };
    // Everything up to the last '@' is user and password, as in the configuration's parser.
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
    use redis::ConnectionAddr;

    use super::{Address, Answers, Decision};

    fn decision(epoch: u64, port: u16) -> Decision {
        Decision { epoch, address: ConnectionAddr::Tcp("redis".to_owned(), port) }
    }

    /// The decision when three Sentinels are asked and these answer, in this order; and how many of the answers it takes.
    fn decided(used_epoch: u64, said: &[(u64, u16)]) -> (Result<Decision, Option<String>>, usize) {
        let mut answers = Answers::new(3, used_epoch);
        let taken = said.iter().position(|(epoch, port)| answers.add(decision(*epoch, *port)));
        (answers.decision(), taken.map_or(said.len(), |index| index + 1))
    }

    #[test]
    fn only_the_newest_decision_named_by_a_majority_of_sentinels_is_used() {
        assert_eq!(decided(0, &[(0, 1), (0, 1), (0, 1)]), (Ok(decision(0, 1)), 2));
        assert_eq!(decided(1, &[(1, 1), (2, 2), (2, 2)]), (Ok(decision(2, 2)), 3));
        assert_eq!(decided(2, &[(1, 1), (2, 2), (2, 2)]), (Ok(decision(2, 2)), 3));
        // The Sentinel that decided knows it first: the others are waited for, even if two of three do not answer.
        for early in [&[(2, 2), (1, 1), (1, 1)][..], &[(2, 2), (1, 1)], &[(2, 2)], &[(1, 2), (1, 1)]] {
            let (early, _) = decided(1, early);
            let why = early.unwrap_err().unwrap();
            assert!(why.contains("1 of 3 Sentinels name redis:"), "{why}");
        }
        // Two Sentinels that do not know it do not cause a step back.
        for behind in [&[(1, 1), (1, 1)][..], &[(1, 1), (1, 1), (0, 3)], &[(1, 1)]] {
            let (older, taken) = decided(2, behind);
            let why = older.unwrap_err().unwrap();
            assert!(why.contains("redis:1 in config-epoch 1") && why.contains("epoch 2 has been used"), "{why}");
            assert_eq!(taken, behind.len());
        }
        assert_eq!(decided(0, &[]), (Err(None), 0));
    }

    #[test]
    fn an_address_names_a_server_or_a_service() {
        let one = Address::parse("rediss://me:s3cret@cache:6390/2", None).unwrap();
        assert_eq!((one.shown().as_str(), one.user(), one.has_sentinels()), ("cache:6390", "me", false));
        let service = Address::parse("redis+sentinel://me:a/b@c@one:26380,two,[::1]:5/orders/3", None).unwrap();
        assert_eq!(service.shown(), "the service orders of the Sentinels one:26380, two:26379, ::1:5");
        assert_eq!((service.user(), service.server.redis_settings().db()), ("me", 3));
        assert_eq!(service.server.redis_settings().password(), Some("a/b@c"));
        for wrong in ["redis+sentinel://one:26379", "redis+sentinel://one:x/orders", "redis://host:6379/nine"] {
            assert!(Address::parse(wrong, None).is_err(), "{wrong}");
        }
    }
}
