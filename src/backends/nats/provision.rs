//! Streams: created if they do not exist, and never changed if they do.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    context::{CreateStreamErrorKind, GetStreamErrorKind},
    stream::{Config, DiscardPolicy, Info, RetentionPolicy},
};

use tokio::time::{Instant, timeout};

use super::{
    api::passes,
    connection::{ConnectError, Nats},
    server::too_few_replicas,
};

/// How many tries of a repeatable request have a short timeout.
const SHORT_TRIES: usize = 3;
/// That timeout.
const SHORT_TRY: Duration = Duration::from_millis(700);

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
/// If there is none: nothing was sent.
pub(super) async fn connected(nats: &Nats) -> Result<(), String> {
    nats.connected().await.map_err(|error| error.why().to_owned())
}

/// Ensures that a stream with at least the settings `wanted` exists. A stream that an operator has enlarged, or keeps on more servers, stays
/// unchanged.
///
/// # Errors
/// The reason why there is none, or why the existing one cannot be used, and whether waiting helps.
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
            return match unfit(&found.cached_info().config, &wanted) {
                Some(why) => Err(ConnectError::Fatal(format!("the stream {name} {why}"))),
                None => Ok(found.cached_info().clone()),
            };
        }
        match ask_again(|| nats.jetstream().create_stream(wanted.clone())).await {
            Ok(made) => return Ok(made.cached_info().clone()),
            Err(error) => match error.kind() {
                // Another node was first, with other settings: the stream that it created is checked.
                CreateStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
                CreateStreamErrorKind::JetStream(why) if !passes(why.code() as u64, why.error_code().0) => {
                    return Err(ConnectError::Fatal(format!("the stream {name} cannot be made: {why}")));
                }
                _ => return Err(unanswered(format!("the stream {name} cannot be made: {}", in_words(&error)))),
            },
        }
    }
    Err(ConnectError::Retryable(format!("the stream {name} is gone as soon as it is made")))
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

/// An error of the client library with its cause.
fn in_words(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) if !error.to_string().contains(&source.to_string()) => format!("{error}: {}", in_words(source)),
        _ => error.to_string(),
    }
}

/// The reason why an existing stream would lose messages that it must keep.
fn unfit(found: &Config, wanted: &Config) -> Option<String> {
    let why = if !wanted.subjects.iter().all(|subject| found.subjects.contains(subject)) {
        "does not take the subjects that it is to take"
    } else if found.retention != RetentionPolicy::Limits || found.discard != DiscardPolicy::New {
        "must have retention 'limits' and discard 'new': otherwise it drops what is still needed"
    } else if !found.max_age.is_zero() {
        "must not have a max age: it would forget what is still needed"
    } else if found.max_messages_per_subject.max(0) != wanted.max_messages_per_subject.max(0) {
        "has another number of messages a subject than it must have"
    } else {
        return too_few_replicas(&wanted.name, found.num_replicas as u64, wanted.num_replicas);
    };
    Some(why.to_owned())
}
