//! Replies to slow readers: data is handed over in pieces, counts against a budget while it waits, and a client that reads nothing for too long loses
//! the rest.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::{Instant, sleep_until};

use super::{
    error::{ApiError, trailers},
    sending::{Room, SentBytes},
};
use crate::application::AppError;

/// The time limits for clients to read replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long a client may read nothing of a stream before the stream ends, or nothing of a connection before it is closed.
    pub taken_within: Duration,
    /// How long it may also leave the end unread before the stream is reset and its unread data dropped.
    pub reset_after: Duration,
}

impl Pace {
    /// One minute, and five.
    pub const DEFAULT: Self = Self { taken_within: Duration::from_secs(60), reset_after: Duration::from_secs(300) };
}

/// The number of bytes handed over at a time: reading them counts as progress.
const PIECE_BYTES: usize = 64 * 1024;

tokio::task_local! {
    /// The HTTP/2 stream of this task.
    static STREAM: Arc<Stream>;
}

/// One HTTP/2 stream, whose reply may wait for its client.
#[derive(Debug, Default)]
struct Stream(Mutex<Weak<Mutex<Reply>>>);

impl Stream {
    fn has_reply(&self) -> bool {
        lock(&self.0).strong_count() > 0
    }
}

/// Drives an HTTP/2 stream, and ends it when its client does not read.
///
/// Most streams carry a small reply, which is not paced: they need no timer.
pub async fn drive(work: impl Future<Output = ()>, pace: Pace) {
    let stream = Arc::new(Stream::default());
    let mut work = pin!(STREAM.scope(Arc::clone(&stream), work));
    let is_over = std::future::poll_fn(|task| match work.as_mut().poll(task) {
        Poll::Ready(()) => Poll::Ready(true),
        // A reply registers itself while the work is polled.
        Poll::Pending if stream.has_reply() => Poll::Ready(false),
        Poll::Pending => Poll::Pending,
    });
    if is_over.await {
        return;
    }
    tokio::select! {
        biased;
        () = work => {}
        () = is_stuck(&stream, pace) => {}
    }
}

/// Waits until the client has read nothing of `stream` for so long that it is to be reset, and ends its reply before.
async fn is_stuck(stream: &Stream, pace: Pace) {
    let Pace { taken_within, reset_after } = pace;
    loop {
        let reply = lock(&stream.0).upgrade();
        let waits_since = reply.as_ref().and_then(|reply| lock(reply).waits_since);
        drop(reply);
        let now = Instant::now();
        let next = match waits_since {
            Some(since) if now >= since + reset_after => return,
            Some(since) if now >= since + taken_within => {
                if let Some(reply) = lock(&stream.0).upgrade() {
                    lock(&reply).end_unread(since);
                }
                since + reset_after
            }
            Some(since) => since + taken_within,
            None => now + taken_within,
        };
        sleep_until(next).await;
    }
}

/// How an unread reply ends.
#[derive(Clone, Debug)]
pub enum Ending {
    /// With the gRPC status in its trailers.
    Trailers,
    /// With these last bytes.
    Bytes(Bytes),
}

/// The body of a reply that counts against a budget until it is written to the socket.
#[derive(Debug)]
pub struct PacedBody(Arc<Mutex<Reply>>);

#[derive(Debug)]
struct Reply {
    /// `None` once it has ended, or was ended early.
    inner: Option<Body>,
    /// Data produced and not handed over yet, with its reservation.
    rest: Bytes,
    /// The reservation of a reply that has not begun; empty if none was made.
    held: SentBytes,
    /// For a single message rather than a stream of them: the error that replaces it.
    instead: Option<AppError>,
    /// The size of a reply that is known from its start, without the part that has been handed over.
    size: Option<u64>,
    ending: Ending,
    /// Set while the ending has not been sent yet.
    is_ended_by: Option<AppError>,
    /// Since when handed-over data has been waiting to be read.
    waits_since: Option<Instant>,
}

impl PacedBody {
    /// Paces `inner`, whose messages are reserved within the bounds of `held`.
    #[must_use]
    pub fn new(inner: Body, held: SentBytes, ending: Ending) -> Self {
        Self::of(inner, held, ending, None)
    }

    /// Paces a reply that is one message. Without room, and if the client does not read, it ends with the error `instead`.
    #[must_use]
    pub fn whole(inner: Body, held: SentBytes, ending: Ending, instead: AppError) -> Self {
        Self::of(inner, held, ending, Some(instead))
    }

    fn of(inner: Body, held: SentBytes, ending: Ending, instead: Option<AppError>) -> Self {
        // The wait starts before the first read.
        let waits_since = Some(Instant::now());
        let size = instead.as_ref().and_then(|_| inner.size_hint().exact());
        let inner = Some(inner);
        let reply = Reply { inner, rest: Bytes::new(), held, instead, size, ending, is_ended_by: None, waits_since };
        let reply = Arc::new(Mutex::new(reply));
        // Over HTTP/1 there is no such stream: the whole connection ends if its client does not read.
        let _ = STREAM.try_with(|stream| *lock(&stream.0) = Arc::downgrade(&reply));
        Self(reply)
    }
}

impl Reply {
    /// Ends the reply if nothing has been read since `since`. A partly sent message is still completed, if the client ever reads it.
    fn end_unread(&mut self, since: Instant) {
        if self.waits_since == Some(since) {
            self.end(self.instead.clone().unwrap_or(AppError::ReadersBehind));
        }
    }

    fn end(&mut self, why: AppError) {
        if self.inner.take().is_some() {
            self.is_ended_by = Some(why);
            self.held.clear();
        }
    }

    /// Takes over `data`, a whole message, to be handed over; it counts until it is written. One without room is dropped, and the client requests it
    /// again when it resumes.
    fn take_over(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let further = self.held.another();
        let mut held = std::mem::replace(&mut self.held, further);
        let (room, otherwise) = match self.instead.clone() {
            Some(instead) if held.set(data.len()) => (Room::Yes, instead),
            Some(instead) => (Room::None, instead),
            None => (held.set_message(data.len()), AppError::ReadersBehind),
        };
        if room != Room::None {
            self.rest = held.attached_to(data);
        }
        if room != Room::Yes {
            self.end(otherwise);
        }
    }

    fn next(&mut self, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waits_since = None;
        loop {
            if !self.rest.is_empty() {
                let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
                self.size = self.size.map(|size| size.saturating_sub(piece.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let Some(inner) = &mut self.inner else { return Poll::Ready(self.last_frame()) };
            let frame = match Pin::new(inner).poll_frame(task) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => frame,
                Poll::Ready(other) => {
                    self.inner = None;
                    return Poll::Ready(other);
                }
            };
            match frame.into_data() {
                Ok(data) => self.take_over(data),
                Err(other) => return Poll::Ready(Some(Ok(other))),
            }
        }
    }

    fn last_frame(&mut self) -> Option<Result<Frame<Bytes>, axum::Error>> {
        let why = self.is_ended_by.take()?;
        Some(Ok(match &self.ending {
            Ending::Trailers => Frame::trailers(trailers(&ApiError::from(why).to_status())),
            Ending::Bytes(bytes) => Frame::data(bytes.clone()),
        }))
    }
}

impl HttpBody for PacedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut reply = lock(&self.0);
        let next = reply.next(task);
        if matches!(&next, Poll::Ready(Some(Ok(frame))) if frame.is_data()) {
            reply.waits_since = Some(Instant::now());
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        let reply = lock(&self.0);
        let is_over = reply.inner.as_ref().is_none_or(HttpBody::is_end_stream) && reply.is_ended_by.is_none();
        is_over && reply.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt as _, StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tokio::sync::{mpsc, oneshot};
    use tonic::{Code, Status};

    use super::*;
    use crate::{application::byte_budget::ByteBudget, server::sending::Sending};

    const SECOND: Duration = Duration::from_secs(1);

    fn endless(piece: usize, held: &ByteBudget) -> PacedBody {
        let pieces = stream::repeat_with(move || Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; piece])));
        let sending = Sending::new(held.clone(), ByteBudget::unbounded(), ByteBudget::unbounded());
        PacedBody::new(Body::from_stream(pieces), sending.reservation(), Ending::Trailers)
    }

    async fn status(body: &mut PacedBody) -> Status {
        loop {
            let frame = body.frame().await.expect("not over").expect("no error");
            if let Ok(trailers) = frame.into_trailers() {
                return Status::from_header_map(&trailers).expect("a status");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unread_reply_ends_after_a_minute_and_reports_it_when_it_is_read_again() {
        let budget = ByteBudget::new(1 << 20);
        let (taken, mut pieces) = mpsc::channel::<()>(1);
        let (ends, ended) = oneshot::channel();
        let held = budget.clone();
        let stream = tokio::spawn(drive(
            async move {
                let mut body = endless(100_000, &held);
                // A flow-control window for one piece at a time.
                while pieces.recv().await.is_some() {
                    if body.frame().await.expect("not over").expect("no error").is_trailers() {
                        panic!("ended while it is taken");
                    }
                }
                let _ = ends.send(status(&mut body).await);
                std::future::pending().await
            },
            Pace::DEFAULT,
        ));
        // In the middle of a message at last.
        for _ in 0..9 {
            taken.send(()).await.expect("read");
            tokio::time::sleep(SECOND * 59).await;
        }
        assert!(budget.held() > 0);
        tokio::time::sleep(SECOND * 2).await;
        drop(taken);
        let status = ended.await.expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(budget.held(), 0);
        stream.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_end_is_not_read_either_is_reset() {
        let budget = ByteBudget::new(1 << 20);
        let held = budget.clone();
        let begun = Instant::now();
        drive(
            async move {
                let mut body = endless(1_000, &held);
                let _ = body.frame().now_or_never();
                std::future::pending::<()>().await;
            },
            Pace::DEFAULT,
        )
        .await;
        assert!((300..302).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_with_nothing_to_send_may_wait_forever() {
        let (says, said) = oneshot::channel();
        let (heard, hears) = oneshot::channel();
        let stream = tokio::spawn(drive(
            async move {
                let word = async { Ok::<_, std::convert::Infallible>(said.await.expect("said")) };
                let body = Body::from_stream(stream::once(word).boxed());
                let sending = Sending::new(ByteBudget::new(1_000), ByteBudget::new(1_000), ByteBudget::new(0));
                let mut body = PacedBody::new(body, sending.reservation(), Ending::Trailers);
                let _ = heard.send(body.frame().await.expect("not over").expect("no error").into_data().expect("data"));
            },
            Pace::DEFAULT,
        ));
        tokio::time::sleep(SECOND * 10_000).await;
        says.send(Bytes::from_static(b"word")).expect("waited for");
        assert_eq!(hears.await.expect("heard"), "word");
        stream.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_message_without_room_even_as_the_last_one_is_dropped_entirely() {
        let (sent, last) = (ByteBudget::new(1_000), ByteBudget::new(5_000));
        let sending = Sending::new(sent.clone(), last.clone(), ByteBudget::new(0));
        let reply = |bytes: usize| {
            let pieces = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(vec![0; bytes]))]);
            PacedBody::new(Body::from_stream(pieces), sending.reservation(), Ending::Trailers)
        };
        let mut first = reply(4_000);
        let frame = first.frame().await.expect("not over").expect("no error");
        let waiting = frame.into_data().expect("data");
        assert_eq!((waiting.len(), last.held()), (4_000, 4_512), "as the last one");
        let mut second = reply(4_000);
        assert_eq!(status(&mut second).await.code(), Code::ResourceExhausted, "at once, without a part of the message");
        assert_eq!(status(&mut first).await.code(), Code::ResourceExhausted);
        assert_eq!((sent.held(), last.held()), (0, 4_512), "it is not written yet");
        drop(waiting);
        assert_eq!((sent.held(), last.held()), (0, 0));
        let mut third = reply(4_000);
        assert!(third.frame().await.expect("not over").expect("no error").is_data(), "there is room again");
    }

    #[tokio::test]
    async fn data_without_room_ends_the_reply_after_the_message() {
        let budget = ByteBudget::new(1 << 20);
        let mut body = endless(2 << 20, &budget);
        let mut bytes = 0;
        loop {
            let frame = body.frame().await.expect("not over").expect("no error");
            match frame.into_data() {
                Ok(data) => {
                    assert!(data.len() <= PIECE_BYTES);
                    bytes += data.len();
                }
                Err(trailers) => {
                    assert!(trailers.is_trailers());
                    break;
                }
            }
        }
        assert_eq!(bytes, 2 << 20);
        assert!(body.frame().await.is_none());
    }
}
