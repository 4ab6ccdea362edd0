//! Streams: created if they do not exist, and never changed if they do.
//!
//! A server of a cluster that takes no part in the creation of a stream learns of it a moment later. Until then it replies that there is no such
//! stream, and passes on no message to it: [`until_known`] waits for that.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, Info, RetentionPolicy},
};

use async_nats::{HeaderMap, header};
use tokio::time::{Instant, sleep, timeout};

use super::{
    api::{CallError, code, in_words, passes},
    connection::{ConnectError, Nats},
    server::too_few_replicas,
};
use crate::ports::backoff::Backoff;

/// How many tries of a repeatable request have a short timeout.
const SHORT_TRIES: usize = 3;
/// That timeout.
const SHORT_TRY: Duration = Duration::from_millis(700);

/// The pause before a stream that was deleted is created again. A server removes the folder of a stream a moment after its name: a folder that has
/// been created again by then goes as well, and the new stream stores nothing until the server is restarted (seen with nats-server 2.9).
const FOLDER_GONE_AFTER: Duration = Duration::from_secs(1);

/// How often a new stream is looked for: for about a second.
const MAX_LOOKUPS: u32 = 8;
/// The pauses in between.
const LOOKUP_PAUSES: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(250));
/// The name of no stream: a publish on condition that it stores the message is always refused.
const NO_STREAM: &str = "-";

/// Distinguishes the incarnations of a stream of one name: its creation time, by the server's clock, in microseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Made(pub u64);

impl Made {
    pub(super) fn of(info: &Info) -> Self {
        Self(u64::try_from(info.created.unix_timestamp_nanos() / 1_000).unwrap_or_default())
    }
}

/// Waits for the connection, at most for the connect timeout.
///
/// # Errors
/// If there is no connection: nothing was sent.
pub(super) async fn connected(nats: &Nats) -> Result<(), String> {
    nats.connected().await.map_err(|error| error.why().to_owned())
}

/// Ensures that a stream with at least the settings `wanted` exists, and that the connected server knows it. A stream that an operator has enlarged,
/// or keeps on more servers, stays unchanged.
///
/// # Errors
/// The reason why there is no such stream, or why the existing one cannot be used, and whether waiting helps.
pub(super) async fn make_stream(nats: &Nats, wanted: Config) -> Result<Info, ConnectError> {
    nats.connected().await?;
    let name = wanted.name.clone();
    let asked_at = Instant::now();
    let unanswered = |what: String| match nats.forbidden().publish_below("$JS.API.STREAM.", asked_at) {
        Some(why) => ConnectError::Fatal(why),
        None => ConnectError::Retryable(nats.forbidden().subscription().unwrap_or(what)),
    };
    for _ in 0..2 {
        let found = match ask_again(|| nats.jetstream().get_stream(&name)).await {
            Ok(found) => Some(found),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => None,
                _ => return Err(unanswered(format!("the stream {name}: {}", in_words(&error)))),
            },
        };
        if let Some(found) = found {
            nats.saw_stream(&name);
            return match unfit(&found.cached_info().config, &wanted) {
                Some(why) => Err(ConnectError::Fatal(format!("the stream {name} {why}"))),
                None => known(nats, found.cached_info(), false).await,
            };
        }
        if nats.has_seen_stream(&name) {
            sleep(FOLDER_GONE_AFTER).await;
        }
        match ask_again(|| nats.jetstream().create_stream(wanted.clone())).await {
            Ok(made) => {
                nats.saw_stream(&name);
                return known(nats, made.cached_info(), true).await;
            }
            Err(error) => match error.kind() {
                // Another node was first, with other settings: the stream that it created is checked.
                CreateStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                CreateStreamErrorKind::JetStream(why)
                    if why.error_code().0 == code::SUBJECTS_OVERLAP && is_made_elsewhere(nats, &name).await => {}
                CreateStreamErrorKind::JetStream(why) if !passes(why.code() as u64, why.error_code().0) => {
                    return Err(ConnectError::Fatal(format!("cannot create the stream {name}: {why}")));
                }
                _ => return Err(unanswered(format!("cannot create the stream {name}: {}", in_words(&error)))),
            },
        }
    }
    Err(ConnectError::Retryable(format!("the stream {name} disappears as soon as it is created")))
}

/// Waits until the connected server knows the stream `name` with the subject `subject`: passes messages on to it and, if it `is_new`, shows it.
///
/// # Errors
/// [`ConnectError::Retryable`] if it does not within about a second, as while the stream has no leader.
pub(super) async fn until_known(nats: &Nats, name: &str, subject: &str, is_new: bool) -> Result<(), ConnectError> {
    for attempt in 1..=MAX_LOOKUPS {
        if accepts_messages(nats, subject).await && (!is_new || is_shown(nats, name).await) {
            return Ok(());
        }
        sleep(LOOKUP_PAUSES.after(attempt)).await;
    }
    Err(ConnectError::Retryable(format!("the stream {name} is not known to the server yet, or has no leader")))
}

/// Waits until the stream of `found` is known, if it is in a cluster: one that is not new here may have been created by another node just now.
async fn known(nats: &Nats, found: &Info, is_new: bool) -> Result<Info, ConnectError> {
    if found.cluster.is_some()
        && let Some(subject) = found.config.subjects.first()
    {
        until_known(nats, &found.config.name, &subject.replace(['*', '>'], "probe"), is_new).await?;
    }
    Ok(found.clone())
}

/// After a refusal because the subjects are taken: whether the stream itself has them, since another node is creating it at this moment. The server
/// registers the subjects of a new stream before its name.
pub(super) async fn is_made_elsewhere(nats: &Nats, name: &str) -> bool {
    for attempt in 1..=MAX_LOOKUPS {
        if is_shown(nats, name).await {
            return true;
        }
        sleep(LOOKUP_PAUSES.after(attempt)).await;
    }
    false
}

/// Whether the server does not deny that the stream exists. If it fails to answer, the next use of the stream reports that.
async fn is_shown(nats: &Nats, name: &str) -> bool {
    let Err(error) = ask_again(|| nats.jetstream().get_stream(name)).await else { return true };
    !matches!(error.kind(), GetStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

/// Whether the server passes messages on to the stream of `subject`. Nothing is stored: the message names another stream, which the leader checks first.
async fn accepts_messages(nats: &Nats, subject: &str) -> bool {
    let mut headers = HeaderMap::new();
    headers.insert(header::NATS_EXPECTED_STREAM, NO_STREAM);
    let answer = timeout(SHORT_TRY, nats.publish(subject.to_owned(), headers, "probe".into())).await;
    !matches!(answer, Ok(Err(CallError::NotSent(_))))
}

/// Sends a request that may be repeated any number of times. A request about a stream whose leader is just being elected is lost without a reply, so
/// the first tries have a short timeout.
///
/// # Errors
/// Those of `ask`.
pub(super) async fn ask_again<T, F: Future<Output = T>>(ask: impl Fn() -> F) -> T {
    for _ in 0..SHORT_TRIES {
        if let Ok(answer) = timeout(SHORT_TRY, ask()).await {
            return answer;
        }
    }
    ask().await
}

/// The reason why an existing stream would lose messages that it must keep.
fn unfit(found: &Config, wanted: &Config) -> Option<String> {
    let why = if !wanted.subjects.iter().all(|subject| found.subjects.contains(subject)) {
        "does not have the subjects that it must have"
    } else if found.retention != RetentionPolicy::Limits || found.discard != DiscardPolicy::New {
        "must have retention 'limits' and discard 'new': otherwise it drops messages that are still needed"
    } else if !found.max_age.is_zero() {
        "must not have a max age: it would drop messages that are still needed"
    } else if found.max_messages_per_subject.max(0) != wanted.max_messages_per_subject.max(0) {
        "has another maximum of messages per subject than it must have"
    } else {
        return too_few_replicas(&wanted.name, found.num_replicas as u64, wanted.num_replicas);
    };
    Some(why.to_owned())
}
