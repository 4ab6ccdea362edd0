//! Replies of one message. Large ones count against the budget of replies that are being sent, like those of streams; so do small ones, where many of
//! them wait on one connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use axum::body::Body;
use bytes::Bytes;
use http::Extensions;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;

use super::{
    paced::{Ending, PacedBody},
    sending::SentBytes,
};
use crate::application::AppError;

/// The reservation of a handler for its reply, made before the reply was encoded; kept in the extensions of the response.
#[derive(Clone, Debug)]
pub struct Reserved(Arc<Mutex<Option<SentBytes>>>);

impl Reserved {
    /// Passes `held` on with the response that has these `extensions`.
    pub fn hand_over(held: SentBytes, extensions: &mut Extensions) {
        extensions.insert(Self(Arc::new(Mutex::new(Some(held)))));
    }

    /// The reservation in `extensions`, or else `unused`.
    pub fn taken_from(extensions: &mut Extensions, unused: SentBytes) -> SentBytes {
        extensions.remove::<Self>().and_then(|reserved| reserved.0.lock().take()).unwrap_or(unused)
    }
}

/// The size from which a reply always counts.
pub const LARGE_BYTES: u64 = 16 * 1024;

/// The error in place of a large reply that has no room, or is not read. A command has taken effect by then, which the error must not deny.
#[must_use]
pub fn instead_of_reply(is_command: bool) -> AppError {
    if is_command {
        AppError::OutcomeUnknown("its reply had no room or was not read".to_owned())
    } else {
        AppError::Overloaded
    }
}

/// The body of a unary call of gRPC, whose size is known only once it is encoded.
#[derive(Debug)]
pub enum UnaryBody<B> {
    /// No large message yet.
    Small {
        /// `None` while the variant changes to `Large`.
        inner: Option<B>,
        /// The reservation for a large message, and whether the call is a command.
        reserve: Option<(SentBytes, bool)>,
    },
    /// A large message, or a small one that counts.
    Large(PacedBody),
}

impl<B> UnaryBody<B> {
    /// Passes `inner` on; a large message is reserved in `held` until it is written. Without room, the call ends with an error, see
    /// [`instead_of_reply`].
    pub const fn new(inner: B, held: SentBytes, is_command: bool) -> Self {
        Self::Small { inner: Some(inner), reserve: Some((held, is_command)) }
    }
}

impl<B> UnaryBody<B>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    /// Makes the message of `inner` already now, and reserves it in `held`, whatever its size: before its head is sent, it can still be replaced.
    ///
    /// # Errors
    /// The error that replaces the reply if there is no room.
    pub fn counted(
        mut inner: B,
        mut held: SentBytes,
        is_command: bool,
        task: &mut Context<'_>,
    ) -> Result<Self, AppError> {
        let first = match Pin::new(&mut inner).poll_frame(task) {
            // No reply of one message waits for anything.
            Poll::Pending => return Ok(Self::new(inner, held, is_command)),
            Poll::Ready(first) => first,
        };
        let instead = instead_of_reply(is_command);
        let first = first.map(|frame| frame.map(|frame| frame.map_data(compact)));
        let bytes = first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()).map_or(0, Bytes::len);
        if !held.set(bytes) {
            return Err(instead);
        }
        let body = Body::new(Begun { first, rest: Body::new(inner) });
        Ok(Self::Large(PacedBody::whole(body, held, Ending::Trailers, instead)))
    }
}

impl<B> HttpBody for UnaryBody<B>
where
    B: HttpBody<Data = Bytes, Error = axum::Error> + Unpin + Send + 'static,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let (inner, reserve) = match &mut *self {
            Self::Small { inner, reserve } => (inner, reserve),
            Self::Large(body) => return Pin::new(body).poll_frame(task),
        };
        let Some(body) = inner else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(task));
        let is_large = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(|data| data.len() as u64 > LARGE_BYTES);
        match (frame, reserve.take(), inner) {
            (Some(Ok(first)), Some((held, is_command)), inner) if is_large(&first) => {
                let rest = inner.take().map_or_else(Body::empty, Body::new);
                let body = Body::new(Begun { first: Some(Ok(first)), rest });
                *self = Self::Large(PacedBody::whole(body, held, Ending::Trailers, instead_of_reply(is_command)));
                self.poll_frame(task)
            }
            (frame, unused, _) => {
                *reserve = unused;
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Small { inner, .. } => inner.as_ref().is_none_or(HttpBody::is_end_stream),
            Self::Large(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Small { inner, .. } => inner.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint),
            Self::Large(body) => body.size_hint(),
        }
    }
}

/// `data` without the room of its buffer, which is larger than most small messages.
fn compact(data: Bytes) -> Bytes {
    if data.len() as u64 > LARGE_BYTES { data } else { Bytes::copy_from_slice(&data) }
}

/// A body whose first frame has been read already.
#[derive(Debug)]
struct Begun {
    first: Option<Result<Frame<Bytes>, axum::Error>>,
    rest: Body,
}

impl HttpBody for Begun {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(task),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use tonic::{Code, Status};

    use super::*;
    use crate::{application::byte_budget::ByteBudget, server::sending::Sending};

    fn reply(bytes: usize, sending: &Sending) -> UnaryBody<Body> {
        UnaryBody::new(Body::from(vec![7; bytes]), sending.reservation(), false)
    }

    #[tokio::test]
    async fn a_large_reply_counts_until_it_is_written_and_a_small_one_does_not() {
        let (sent, whole) = (ByteBudget::new(100_000), ByteBudget::new(50_000));
        let sending = Sending::new(sent.clone(), ByteBudget::new(0), whole.clone());
        let mut small = reply(16_000, &sending);
        small.frame().await.expect("not over").expect("no error");
        assert_eq!(sent.held(), 0);
        let mut large = reply(90_000, &sending);
        let mut bytes = large.frame().await.expect("not over").expect("no error").into_data().expect("data").len();
        assert_eq!(sent.held(), 90_000);
        let mut second = reply(40_000, &sending);
        let waiting = second.frame().await.expect("not over").expect("no error");
        assert_eq!(whole.held(), 40_000, "whole, from the reserve");
        let mut third = reply(40_000, &sending);
        let frame = third.frame().await.expect("not over").expect("no error");
        let status = Status::from_header_map(frame.trailers_ref().expect("no part of the message")).expect("a status");
        assert_eq!(status.code(), Code::ResourceExhausted);
        while let Some(frame) = large.frame().await {
            bytes += frame.expect("no error").into_data().expect("data").len();
        }
        assert_eq!(bytes, 90_000);
        assert!(second.frame().await.is_none(), "a whole reply has no end of its own");
        drop((large, second, third, waiting));
        assert_eq!((sent.held(), whole.held()), (0, 0));
    }

    #[tokio::test]
    async fn a_small_reply_that_counts_is_made_at_once_and_replaced_without_room() {
        let sent = ByteBudget::new(1_000);
        let sending = Sending::new(sent.clone(), ByteBudget::new(0), ByteBudget::new(0));
        let counted = |bytes: usize| {
            let body = Body::from(vec![7; bytes]);
            UnaryBody::counted(body, sending.reservation(), true, &mut Context::from_waker(std::task::Waker::noop()))
        };
        let mut first = counted(900).expect("room");
        assert_eq!(sent.held(), 900);
        assert!(matches!(counted(900), Err(AppError::OutcomeUnknown(_))));
        let data = first.frame().await.expect("not over").expect("no error").into_data().expect("data");
        assert!(first.frame().await.is_none());
        drop(first);
        assert_eq!((data.len(), sent.held()), (900, 900), "it is not written yet");
        drop(data);
        assert_eq!(sent.held(), 0);
    }

    #[test]
    fn a_command_whose_reply_has_no_room_is_not_reported_as_refused() {
        assert!(matches!(instead_of_reply(true), AppError::OutcomeUnknown(_)));
        assert_eq!(instead_of_reply(false), AppError::Overloaded);
    }
}
