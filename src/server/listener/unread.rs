//! Bodies of HTTP/1 requests that are refused before they are read.
//!
//! Over HTTP/1 the next request follows the body of the previous one. A small body that was dropped unread is drained before the response is sent;
//! after any other one the response announces the end of the connection. The library would end it without a word, and the client would send its next
//! request into a closing connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{BoxError, body::Body};
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use parking_lot::Mutex;

/// The largest body that is drained, and for how long: most bodies arrive with their headers.
const MAX_DRAINED_BYTES: usize = 16 * 1024;
const DRAIN_WITHIN: Duration = Duration::from_millis(100);

/// The body of the current request of a connection, if it has been dropped unread.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Slot>);

#[derive(Debug, Default)]
struct Slot {
    /// The number of the last request with a body.
    request: usize,
    /// Whether its response has begun: a body that is dropped later is of no interest.
    is_answered: bool,
    body: Option<UnreadBody>,
}

impl Unread {
    /// Records that the response of the current request begins. Returns the body of the request if it has been dropped unread.
    pub fn answered(&self) -> Option<UnreadBody> {
        let mut slot = self.0.lock();
        slot.is_answered = true;
        slot.body.take()
    }
}

/// The rest of a body that nobody reads.
#[derive(Debug)]
pub(super) struct UnreadBody {
    inner: Body,
    /// A client that sends `Expect` need not send the body, unless it is read.
    is_expected: bool,
}

impl UnreadBody {
    /// Reads the body to its end, if it is small; returns whether no part of it is left on the connection.
    pub async fn drain(mut self) -> bool {
        let is_small = self.inner.size_hint().lower() <= MAX_DRAINED_BYTES as u64;
        if !is_small || self.is_expected {
            return false;
        }
        let read = async {
            let mut left = MAX_DRAINED_BYTES;
            while let Some(frame) = self.inner.frame().await {
                let Ok(frame) = frame else { return false };
                match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
                    Some(less) => left = less,
                    None => return false,
                }
            }
            true
        };
        tokio::time::timeout(DRAIN_WITHIN, read).await.unwrap_or(false)
    }
}

/// The body of an HTTP/1 request. It is returned to its connection if it is dropped before its end.
pub(super) struct ReturnedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    /// `None` only while it is dropped.
    inner: Option<B>,
    is_expected: bool,
    request: usize,
    connection: Arc<Unread>,
}

impl<B> ReturnedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    /// The body `inner` of the next request on `connection`, which has these `headers`.
    pub fn of(inner: B, headers: &HeaderMap, connection: &Arc<Unread>) -> Body {
        if inner.is_end_stream() {
            return Body::new(inner);
        }
        let mut slot = connection.0.lock();
        *slot = Slot { request: slot.request + 1, is_answered: false, body: None };
        let is_expected = headers.contains_key(header::EXPECT);
        Body::new(Self { inner: Some(inner), is_expected, request: slot.request, connection: Arc::clone(connection) })
    }
}

impl<B> HttpBody for ReturnedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.inner.as_mut().map_or(Poll::Ready(None), |inner| Pin::new(inner).poll_frame(task))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl<B> Drop for ReturnedBody<B>
where
    B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
{
    fn drop(&mut self) {
        let mut slot = self.connection.0.lock();
        if slot.request == self.request && !slot.is_answered {
            let inner = self.inner.take().filter(|inner| !inner.is_end_stream());
            slot.body = inner.map(|inner| UnreadBody { inner: Body::new(inner), is_expected: self.is_expected });
        }
    }
}
