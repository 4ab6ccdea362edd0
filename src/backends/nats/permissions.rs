//! The operations that the NATS user is denied, and the permissions to grant.
//!
//! NATS does not reply to a request that it denies. It reports the denied subject on the connection, separately from replies: a denied publish has
//! reached no one.

use std::{collections::VecDeque, fmt, time::Duration};

use tokio::{sync::watch, time::Instant};

/// For how long a denied publish is reported, if the permission cannot be tested without publishing.
pub(super) const FORBIDDEN_FOR: Duration = Duration::from_secs(60);
/// How many denials are remembered.
const MAX_REMEMBERED: usize = 256;
/// The subjects on which the server awaits the replies of imported services: it refuses every message of a client that requests its reply there, once
/// it has checked the permission to publish (`isReservedReply` in its `client.go`).
const RESERVED_REPLIES: &str = "_R_.";

/// The permissions of a user whose streams have the prefix PREFIX, as in docs/deploy.md. The first match is named.
const NEEDED: &[&str] = &[
    "PREFIX.>",
    "$KV.PREFIX-leases.>",
    "$KV.PREFIX-checkpoints.>",
    "$KV.PREFIX-consumers.>",
    "$JS.API.INFO",
    "$JS.API.STREAM.CREATE.*",
    "$JS.API.STREAM.INFO.*",
    "$JS.API.STREAM.MSG.GET.*",
    "$JS.API.STREAM.MSG.DELETE.*",
    "$JS.API.STREAM.PURGE.*",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.MSG.NEXT.>",
];

/// A reply subject, different each time, for which the server refuses a message that this user may publish.
pub(super) fn refused_reply() -> String {
    format!("{RESERVED_REPLIES}permission-probe.{:016x}", fastrand::u64(..))
}

/// The denials on the connection of one node.
pub(super) struct Forbidden {
    prefix: String,
    refusals: watch::Sender<VecDeque<Refusal>>,
}

/// A denial.
#[derive(Clone, Debug)]
struct Refusal {
    at: Instant,
    /// Whether a publish was denied; otherwise a subscription.
    is_publish: bool,
    subject: String,
    words: String,
}

impl fmt::Debug for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forbidden").finish_non_exhaustive()
    }
}

impl Forbidden {
    /// No denials yet, for the streams with this prefix.
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), refusals: watch::Sender::default() }
    }

    /// Records the server's report. Returns the message to log, unless it was already recorded within `lately`, or is the answer to a probe.
    pub(super) fn note(&self, said: &str, lately: Duration) -> Option<String> {
        let is_publish = said.to_ascii_lowercase().contains("for publish");
        let subject = said.split('"').nth(1).unwrap_or_default().to_owned();
        let words = self.in_words(is_publish, &subject, said);
        let is_probe = is_of_probe(&subject);
        let mut is_news = true;
        self.refusals.send_modify(|refusals| {
            is_news = !refusals.iter().any(|before| before.words == words && before.at.elapsed() < lately);
            if refusals.len() >= MAX_REMEMBERED {
                refusals.pop_front();
            }
            refusals.push_back(Refusal { at: Instant::now(), is_publish, subject, words: words.clone() });
        });
        (is_news && !is_probe).then_some(words)
    }

    /// Forgets earlier denied subscriptions: a new connection requests them again.
    pub(super) fn forget_subscriptions(&self) {
        self.refusals.send_modify(|refusals| refusals.retain(|refusal| refusal.is_publish));
    }

    /// The last denial since `then`, as text.
    pub(super) fn since(&self, then: Instant) -> Option<String> {
        self.last(|refusal| refusal.at >= then && !is_of_probe(&refusal.subject))
    }

    /// The last denial since `then` of publishes to subjects that begin with `begin`, as text.
    pub(super) fn publish_below(&self, begin: &str, then: Instant) -> Option<String> {
        self.last(|refusal| refusal.at >= then && refusal.is_publish && refusal.subject.starts_with(begin))
    }

    /// The subscription that was denied on this connection, as text: without it no reply comes.
    pub(super) fn subscription(&self) -> Option<String> {
        self.last(|refusal| !refusal.is_publish)
    }

    /// Waits until a publish to `subject` that was made after `then` is denied; returns the denial as text.
    pub(super) async fn publish_to(&self, subject: &str, then: Instant) -> String {
        let mut refusals = self.refusals.subscribe();
        loop {
            let refused = self.last(|refusal| refusal.at >= then && refusal.is_publish && refusal.subject == subject);
            if let Some(words) = refused {
                return words;
            }
            if refusals.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn last(&self, is_it: impl Fn(&Refusal) -> bool) -> Option<String> {
        self.refusals.borrow().iter().rev().find(|refusal| is_it(refusal)).map(|refusal| refusal.words.clone())
    }

    fn in_words(&self, is_publish: bool, subject: &str, said: &str) -> String {
        let said = said.trim_start_matches("nats: ");
        if subject.is_empty() {
            return format!("NATS does not permit it: {said}");
        }
        if !is_publish {
            return format!(
                "NATS does not permit this user to subscribe to {subject}: permit _INBOX.> for subscribing, see docs/deploy.md ({said})"
            );
        }
        let needed = NEEDED.iter().map(|needed| needed.replace("PREFIX", &self.prefix));
        let needed = needed.into_iter().find(|needed| matches(needed, subject)).unwrap_or_else(|| subject.to_owned());
        format!(
            "NATS does not permit this user to publish to {subject}: permit {needed} for publishing, see docs/deploy.md ({said})"
        )
    }
}

/// Whether it is the subject of [`refused_reply`].
fn is_of_probe(subject: &str) -> bool {
    subject.starts_with(RESERVED_REPLIES)
}

/// Whether `pattern`, which ends with `*` or `>` or is a whole subject, matches `subject`.
fn matches(pattern: &str, subject: &str) -> bool {
    match pattern.strip_suffix(['*', '>']) {
        Some(begin) => subject.strip_prefix(begin).is_some_and(|rest| !rest.is_empty()),
        None => pattern == subject,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_denial_names_the_permission_to_grant_and_fails_the_publish_that_it_names() {
        let forbidden = Forbidden::new("orders");
        let then = Instant::now();
        let lately = Duration::from_secs(30);
        for (subject, permit) in [
            ("orders.log.7", "permit orders.> for"),
            ("$KV.orders-leases.outbox", "permit $KV.orders-leases.> for"),
            ("$JS.API.STREAM.INFO.orders-log", "permit $JS.API.STREAM.INFO.* for"),
            ("elsewhere", "permit elsewhere for"),
        ] {
            let said = format!("nats: Permissions Violation for Publish to \"{subject}\"");
            let words = forbidden.note(&said, lately).unwrap();
            assert!(words.contains(permit) && words.contains(subject), "{words}");
            assert_eq!(forbidden.note(&said, lately), None, "it has already been logged");
            assert_eq!(forbidden.publish_to(subject, then).await, words);
        }
        assert!(forbidden.publish_below("orders.log.", then).unwrap().contains("orders.log.7"));
        assert_eq!(forbidden.publish_below("orders.request.", then), None);
        assert_eq!(forbidden.subscription(), None);
        let (probed_at, reply) = (Instant::now(), refused_reply());
        let said = format!("nats: Permissions Violation for Publish with Reply of \"{reply}\"");
        assert_eq!(forbidden.note(&said, lately), None, "the answer to a probe is not logged");
        assert!(forbidden.publish_to(&reply, probed_at).await.contains(&reply));
        assert_eq!(forbidden.since(probed_at), None, "and explains no missing reply");
        let words = forbidden.note("nats: Permissions Violation for Subscription to \"_INBOX.x.*\"", lately).unwrap();
        assert!(words.contains("permit _INBOX.> for subscribing"), "{words}");
        assert_eq!(forbidden.subscription(), Some(words));
        forbidden.forget_subscriptions();
        assert_eq!(forbidden.subscription(), None);
    }
}
