//! Server-sent events. Source: the HTML standard, 9.2.
//!
//! Each event has the id after which to resume, so that a browser that reconnects by itself skips nothing. The stream holds one batch of events at a
//! time and writes further bytes only when the client has read the previous ones.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Response, header};

use super::{events, problem};
use crate::{
    application::{
        AppError,
        event_streams::{EventFeed, OrderHistory, Step},
        tokens,
    },
    ports::event_store::{LogPoint, Revision, StoredEvent},
    server::{
        EventStreamPermit, Signer,
        error::ApiError,
        event_streams::SentBytes,
        paced::{Ending, PacedBody},
    },
};

/// The media type.
pub const CONTENT_TYPE: &str = "text/event-stream";
/// The interval of heartbeats on a silent stream.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The approximate number of bytes written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The source of the events.
#[derive(Debug)]
pub enum Source {
    /// The history of one order; resumed by revision.
    Order(OrderHistory),
    /// The events of all orders; resumed by cursor.
    All(EventFeed),
}

impl Source {
    /// The next step.
    ///
    /// # Errors
    /// The error of the source.
    pub async fn next(&mut self) -> Result<Step, AppError> {
        match self {
            // Cancelling the wait loses nothing: the history advances only with the events that it returns.
            Self::Order(history) => {
                tokio::time::timeout(HEARTBEAT, history.next()).await.unwrap_or(Ok(Step::Heartbeat))
            }
            Self::All(feed) => feed.next().await,
        }
    }

    /// The last revision (for one order; else 0) and the point that the stream has passed.
    #[must_use]
    pub const fn reached(&self) -> (Revision, LogPoint) {
        match self {
            Self::Order(history) => (history.revision(), history.point()),
            Self::All(feed) => (0, feed.point()),
        }
    }

    /// The id after which to resume once everything up to now has been read.
    fn id(&self, log: &Signer) -> String {
        match self {
            Self::Order(history) => history.revision().to_string(),
            Self::All(feed) => tokens::encode_cursor(log, feed.point()),
        }
    }

    fn id_of(&self, event: &StoredEvent, log: &Signer) -> String {
        match self {
            Self::Order(_) => event.revision.to_string(),
            Self::All(_) => tokens::encode_cursor(log, LogPoint::after(event)),
        }
    }
}

struct Tail {
    source: Source,
    log: Signer,
    path: String,
    batch: VecDeque<StoredEvent>,
    is_over: bool,
    _place: EventStreamPermit,
}

/// A reply that streams `source` until the client leaves or the node drains; data that the client has not read yet is reserved in `held`.
#[must_use]
pub fn reply(source: Source, log: Signer, path: String, place: EventStreamPermit, held: SentBytes) -> Response<Body> {
    let ending = last_words(AppError::ReadersBehind, &path);
    let tail = Tail { source, log, path, batch: VecDeque::new(), is_over: false, _place: place };
    let greeting = Bytes::from_static(b"retry: 1000\n: connected\n\n");
    let chunks = stream::unfold((Some(greeting), tail), |(greeting, mut tail)| async move {
        let chunk = match greeting {
            Some(greeting) => greeting,
            None => tail.chunk().await?,
        };
        Some((Ok::<_, Infallible>(chunk), (None, tail)))
    });
    let body = PacedBody::new(Body::from_stream(chunks), held, Ending::Bytes(ending));
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Otherwise nginx would buffer the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl Tail {
    async fn chunk(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        if self.batch.is_empty() {
            match self.source.next().await {
                Ok(Step::Events(events)) => self.batch = events.into(),
                Ok(Step::CaughtUp) => {
                    return Some(Bytes::from(format!(
                        "event: caughtUp\nid: {0}\ndata: {{\"id\":\"{0}\"}}\n\n",
                        self.id()
                    )));
                }
                // An id without data moves the resume position and is not shown to the page.
                Ok(Step::Heartbeat) => return Some(Bytes::from(format!(": heartbeat\nid: {}\n\n", self.id()))),
                Ok(Step::End) => return None,
                Err(error) => return Some(self.end(error)),
            }
        }
        Some(self.write_batch())
    }

    fn write_batch(&mut self) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        while out.len() < CHUNK_BYTES
            && let Some(event) = self.batch.pop_front()
        {
            let length = out.len();
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(self.source.id_of(&event, &self.log).as_bytes());
            out.extend_from_slice(b"\ndata: ");
            if let Err(error) = events::write(&event, &self.log, &mut out) {
                out.truncate(length);
                out.extend_from_slice(&self.end(error));
                break;
            }
            out.extend_from_slice(b"\n\n");
        }
        Bytes::from(out)
    }

    /// The final event with the reason; clients reconnect with `Last-Event-ID`.
    fn end(&mut self, error: AppError) -> Bytes {
        self.is_over = true;
        last_words(error, &self.path)
    }

    fn id(&self) -> String {
        self.source.id(&self.log)
    }
}

fn last_words(error: AppError, path: &str) -> Bytes {
    let name = if error == AppError::ShuttingDown { "reconnect" } else { "problem" };
    let mut out = format!("event: {name}\ndata: ").into_bytes();
    out.extend(problem::to_json(&ApiError::from(error), path));
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}
