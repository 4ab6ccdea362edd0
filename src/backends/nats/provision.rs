//! Streams: made where they are not there yet, and never changed where they are.

use async_nats::jetstream::{
    ErrorCode,
    context::CreateStreamErrorKind,
    stream::{Config, DiscardPolicy, RetentionPolicy},
};

use super::connection::Nats;

/// Waits for the connection, as long as one may take.
///
/// # Errors
/// If there is none: nothing was sent.
pub(super) async fn connected(nats: &Nats) -> Result<(), String> {
    nats.connected().await.map_err(|error| error.why().to_owned())
}

/// Sees to it that there is a stream that keeps what `wanted` keeps. One that an operator has made larger, or keeps on more servers, stays
/// as it is.
///
/// # Errors
/// Says why there is none, or why the one that is there cannot be used.
pub(super) async fn make_stream(nats: &Nats, wanted: Config) -> Result<(), String> {
    connected(nats).await?;
    let name = wanted.name.clone();
    match nats.jetstream().create_stream(wanted.clone()).await {
        Ok(_) => return Ok(()),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NAME_EXIST => {}
            _ => return Err(format!("the stream {name} cannot be made: {error}")),
        },
    }
    let found = nats.jetstream().get_stream(&name).await.map_err(|error| format!("the stream {name}: {error}"))?;
    match unfit(&found.cached_info().config, &wanted) {
        Some(why) => Err(format!("the stream {name} {why}")),
        None => Ok(()),
    }
}

/// Why a stream that is there would lose what it is to keep.
fn unfit(found: &Config, wanted: &Config) -> Option<&'static str> {
    if !wanted.subjects.iter().all(|subject| found.subjects.contains(subject)) {
        Some("does not take the subjects that it is to take")
    } else if found.retention != RetentionPolicy::Limits || found.discard != DiscardPolicy::New {
        Some("must have retention 'limits' and discard 'new': otherwise it drops what is still needed")
    } else if !found.max_age.is_zero() {
        Some("must not have a max age: it would forget what is still needed")
    } else if found.max_messages_per_subject.max(0) != wanted.max_messages_per_subject.max(0) {
        Some("has another number of messages a subject than it must have")
    } else {
        None
    }
}
