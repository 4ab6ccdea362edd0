//! HTTP/1.1 connections whose end is announced.
//!
//! A kept connection that is closed during the next request leaves its client in doubt: it sees a reset or an end, and cannot know whether the
//! request took effect. So a connection that is to end sends `Connection: close` in its next response, and an idle one is closed only when there is
//! no unread input.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http::{HeaderName, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::{
    HEADER_READ_TIMEOUT,
    activity::{Activity, OpenRequest},
    first_bytes::{LINGER, LINGER_BYTES},
};
use crate::server::observed::{Observed, Observer};

/// The state of one connection.
#[derive(Debug)]
pub(super) struct Course {
    activity: Arc<Activity>,
    /// Responses announce the end of the connection.
    is_announced: AtomicBool,
    /// The connection ends as soon as it is idle.
    ends_when_idle: AtomicBool,
    /// Requests whose headers have arrived and whose response is not completely handed over.
    open: AtomicUsize,
    /// Bytes have arrived that belong to no request yet.
    head_begun: AtomicBool,
    /// The client is currently not reading.
    is_writing: AtomicBool,
}

impl Course {
    /// The state of the connection of `activity`.
    pub const fn of(activity: Arc<Activity>) -> Self {
        Self {
            activity,
            is_announced: AtomicBool::new(false),
            ends_when_idle: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            head_begun: AtomicBool::new(false),
            is_writing: AtomicBool::new(false),
        }
    }

    /// Every response from now on announces the end of the connection, which ends after it.
    pub fn announce(&self) {
        self.is_announced.store(true, Ordering::Release);
    }

    /// Ends the connection as soon as it is idle. It must be polled once more.
    pub fn end_when_idle(&self) {
        self.ends_when_idle.store(true, Ordering::Release);
    }

    fn may_end(&self) -> bool {
        self.ends_when_idle.load(Ordering::Acquire)
            && self.open.load(Ordering::Acquire) == 0
            && !self.head_begun.load(Ordering::Acquire)
            && !self.is_writing.load(Ordering::Acquire)
    }
}

/// A request being answered, until the end of its response.
pub(super) struct Open {
    course: Arc<Course>,
    _activity: OpenRequest,
}

impl Open {
    fn begin(course: &Arc<Course>) -> Self {
        course.open.fetch_add(1, Ordering::AcqRel);
        course.head_begun.store(false, Ordering::Release);
        Self { course: Arc::clone(course), _activity: OpenRequest::begin(&course.activity) }
    }
}

impl<D> Observer<D> for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        // Bytes received since then belong to its body.
        self.course.head_begun.store(false, Ordering::Release);
        self.course.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A service whose responses announce whether and for how long the connection is kept.
#[derive(Clone, Debug)]
pub(super) struct Announcing<S> {
    pub inner: S,
    pub course: Arc<Course>,
    /// Cancelled when all connections of the server are about to end: also checked here, since a refusal may be ready before the connection is
    /// notified.
    pub announced: CancellationToken,
}

impl<S, B> Service<Request<Incoming>> for Announcing<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    type Response = Response<Observed<B, Open>>;
    type Error = Infallible;
    type Future = Announced<S::Future, B>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let open = Some(Open::begin(&self.course));
        let reply = Some(self.inner.call(request));
        Announced { announced: self.announced.clone(), reply, open, answered: None }
    }
}

/// A response that waits until the body of its request has been drained; the result is whether it has been.
type Answered<B> = (Response<B>, Option<BoxFuture<'static, bool>>);

pin_project! {
    /// A pending response, which announces whether and for how long the connection is kept.
    pub(super) struct Announced<F, B> {
        // `None` once it is answered.
        #[pin]
        reply: Option<F>,
        answered: Option<Answered<B>>,
        open: Option<Open>,
        announced: CancellationToken,
    }
}

impl<F: Future<Output = Result<Response<B>, Infallible>>, B> Future for Announced<F, B> {
    type Output = Result<Response<Observed<B, Open>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(reply) = this.reply.as_mut().as_pin_mut() {
            let response = ready!(reply.poll(task))?;
            // Dropped with the body of the request, if that is still unread.
            this.reply.set(None);
            let unread = this.open.as_ref().and_then(|open| open.course.activity.unread.answered());
            let unread = unread.filter(|_| !response.headers().contains_key(header::CONNECTION));
            *this.answered = Some((response, unread.map(|body| body.drain().boxed())));
        }
        let is_left = match this.answered {
            Some((_, Some(drained))) => !ready!(drained.as_mut().poll(task)),
            _ => false,
        };
        let Some((mut response, _)) = this.answered.take() else { return Poll::Pending };
        let open = this.open.take();
        let is_announced = open.as_ref().is_some_and(|open| open.course.is_announced.load(Ordering::Acquire));
        let headers = response.headers_mut();
        if is_left || is_announced || this.announced.is_cancelled() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        } else if !headers.contains_key(header::CONNECTION) {
            // Clients that honour it do not send the next request into a closing connection.
            headers.insert(HeaderName::from_static("keep-alive"), keep_alive());
        }
        Poll::Ready(Ok(response.map(|body| Observed::new(body, open))))
    }
}

/// How long an idle connection is kept: the time limit for the headers of its next request.
fn keep_alive() -> HeaderValue {
    const { assert!(HEADER_READ_TIMEOUT.as_secs() == 10) };
    HeaderValue::from_static("timeout=10")
}

pin_project! {
    /// The bytes of one connection, which update its state.
    pub(super) struct Watched<I> {
        #[pin]
        io: I,
        course: Arc<Course>,
        linger: Option<(Pin<Box<Sleep>>, u64)>,
    }
}

impl<I> Watched<I> {
    pub const fn new(io: I, course: Arc<Course>) -> Self {
        Self { io, course, linger: None }
    }
}

impl<I: AsyncRead> AsyncRead for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        match this.io.poll_read(task, buf) {
            // No input would be lost: report an end of input, as if the client had closed the connection.
            Poll::Pending if this.course.may_end() => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                this.course.head_begun.store(true, Ordering::Release);
                Poll::Ready(Ok(()))
            }
            polled => polled,
        }
    }
}

impl<I: AsyncRead + AsyncWrite> AsyncWrite for Watched<I> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write(task, bytes);
        this.course.is_writing.store(polled.is_pending(), Ordering::Release);
        polled
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.io.poll_write_vectored(task, slices);
        this.course.is_writing.store(polled.is_pending(), Ordering::Release);
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(task)
    }

    /// Ends the writing side, and then the connection, once the client has ended its side or a time limit expires.
    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.linger.is_none() {
            ready!(this.io.as_mut().poll_shutdown(task))?;
        }
        let (until, left) = this.linger.get_or_insert_with(|| (Box::pin(sleep(LINGER)), LINGER_BYTES));
        let mut scratch = [std::mem::MaybeUninit::uninit(); 4 * 1024];
        while until.as_mut().poll(task).is_pending() {
            let mut buf = ReadBuf::uninit(&mut scratch);
            match this.io.as_mut().poll_read(task, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && buf.filled().len() as u64 <= *left => {
                    *left -= buf.filled().len() as u64;
                }
                // The client has ended it somehow, or sends without end.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
