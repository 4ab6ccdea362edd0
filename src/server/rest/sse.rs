//! Server-sent events. Source: the HTML standard, 9.2.
//!
//! Each event has the id after which to resume, so that a browser that reconnects by itself skips nothing. The stream holds one batch of events at a
//! time and writes further bytes only when the client has read the previous ones.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture, stream};
use http::{HeaderValue, Response, header};

use super::{events, problem};
use crate::{
    application::{
        AppError,
        event_streams::{EventStream, Item},
        tokens::{self, Signer},
    },
    ports::event_store::{LogPoint, StoredEvent},
    server::{
        access::Standing,
        call::EVENT_STREAM,
        error::{ApiError, Reason},
        paced::{Ending, PacedBody},
        sending::SentBytes,
    },
};

/// The interval of heartbeats on a silent stream.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// The approximate number of bytes written at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// The kind of the ids of a stream's events, after which a client resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Revisions, in the history of one order.
    Revisions,
    /// Cursors.
    Cursors,
}

struct Tail {
    events: EventStream,
    ids: Ids,
    signer: Signer,
    path: String,
    /// Resolves to the error of a caller that may no longer follow.
    lost: BoxFuture<'static, ApiError>,
    is_over: bool,
}

/// The client of a stream.
pub struct Reader {
    /// The path of its request.
    pub path: String,
    /// Its caller, where callers are identified.
    pub standing: Option<Arc<Standing>>,
    /// The reservation of data that it has not read yet.
    pub held: SentBytes,
}

/// A reply that streams `events` until the client leaves or may no longer follow, or the node drains.
#[must_use]
pub fn reply(events: EventStream, ids: Ids, signer: Signer, reader: Reader) -> Response<Body> {
    let Reader { path, standing, held } = reader;
    let ending = final_event(&AppError::ReadersBehind.into(), &path);
    let lost = Standing::lost_by(standing).boxed();
    let tail = Tail { events, ids, signer, path, lost, is_over: false };
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
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM));
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
        let next = tokio::select! {
            // Checked first: there may always be a next event.
            biased;
            error = &mut self.lost => return Some(self.end(&error)),
            next = self.events.next() => next?,
        };
        match next {
            Ok(Item::Event(event)) => Some(self.write_from(event)),
            Ok(Item::CaughtUp) => {
                Some(Bytes::from(format!("event: caughtUp\nid: {0}\ndata: {{\"id\":\"{0}\"}}\n\n", self.id())))
            }
            // An id without data moves the resume position and is not shown to the page.
            Ok(Item::Heartbeat) => Some(Bytes::from(format!(": heartbeat\nid: {}\n\n", self.id()))),
            Err(error) => Some(self.end(&error.into())),
        }
    }

    /// Writes `first` and the events that have been read with it, up to the size of a chunk.
    fn write_from(&mut self, first: StoredEvent) -> Bytes {
        let mut out = Vec::with_capacity(1024);
        let mut next = Some(first);
        while let Some(event) = next.take() {
            let length = out.len();
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(self.id_of(&event).as_bytes());
            out.extend_from_slice(b"\ndata: ");
            if let Err(error) = events::write(&event, &self.signer, &mut out) {
                out.truncate(length);
                out.extend_from_slice(&self.end(&error.into()));
                break;
            }
            out.extend_from_slice(b"\n\n");
            if out.len() < CHUNK_BYTES {
                next = self.events.next_ready();
            }
        }
        Bytes::from(out)
    }

    fn id_of(&self, event: &StoredEvent) -> String {
        match self.ids {
            Ids::Revisions => event.revision.to_string(),
            Ids::Cursors => tokens::encode_cursor(&self.signer, LogPoint::after(event)),
        }
    }

    /// The final event with the reason; clients reconnect with `Last-Event-ID`.
    fn end(&mut self, error: &ApiError) -> Bytes {
        self.is_over = true;
        final_event(error, &self.path)
    }

    /// The id after which to resume once everything up to now has been read.
    fn id(&self) -> String {
        match self.ids {
            Ids::Revisions => self.events.revision().to_string(),
            Ids::Cursors => tokens::encode_cursor(&self.signer, self.events.point()),
        }
    }
}

fn final_event(error: &ApiError, path: &str) -> Bytes {
    let name = if error.reason == Reason::ShuttingDown { "reconnect" } else { "problem" };
    let mut out = format!("event: {name}\ndata: ").into_bytes();
    out.extend(problem::to_json(error, path));
    out.extend_from_slice(b"\n\n");
    Bytes::from(out)
}
