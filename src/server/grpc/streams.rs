//! Streams of replies, with many messages in one frame of the body.
//!
//! The message of an event has a few fields around the bytes of the log. tonic would encode and poll each message separately; here a batch of the log
//! is written into one buffer.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::{
    StreamExt as _,
    stream::{self, Stream},
};
use http_body::{Body as HttpBody, Frame};
use prost::Message;
use tonic::Status;

use super::{
    convert::revision_to_proto,
    frames::{decoded, ended_ok},
};
use crate::{
    application::{
        event_streams::{EventStream, Item},
        tokens::{self, Signer},
    },
    codec::wire::{FRAME_HEADER_BYTES, MessageWriter},
    ports::event_store::{LogPoint, StoredEvent},
    server::error::{ApiError, trailers},
};

/// A frame ends with the message that brings it to this many bytes.
const FRAME_BYTES: usize = 32 * 1024;
/// The room for a frame, which also holds the last message of most frames.
const ROOM_BYTES: usize = FRAME_BYTES + 4 * 1024;

/// A stream of messages.
pub type Replies<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// The kind of stream: the messages of both have the same fields, apart from heartbeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// One order.
    Order,
    /// All orders.
    All,
}

/// The body with `frames`, which ends with a status in its trailers.
pub fn body(frames: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Body {
    Body::new(Frames { frames: Box::pin(frames), has_ended: false })
}

/// The messages of `frames`, for a generated service.
pub fn messages<M>(frames: impl Stream<Item = Result<Bytes, Status>> + Send + 'static) -> Replies<M>
where
    M: Message + Default + 'static,
{
    let messages = |frame| match frame {
        Ok(frame) => split(frame).map(|message| decoded(&message)).collect(),
        Err(status) => vec![Err(status)],
    };
    Box::pin(OneByOne::new(frames).flat_map(move |frame| stream::iter(messages(frame))))
}

/// A stream that does not begin an item while the one before it may still wait to be sent.
///
/// tonic asks for a further item before it hands over what it has, and asks again only when that is sent. If the client left no room for it, work that
/// had begun would stand still, with a turn that calls of other clients wait for.
#[derive(Debug)]
pub struct OneByOne<S> {
    items: Pin<Box<S>>,
    has_handed_one_over: bool,
}

impl<S> OneByOne<S> {
    /// The items of `items`.
    #[must_use]
    pub fn new(items: S) -> Self {
        Self { items: Box::pin(items), has_handed_one_over: false }
    }
}

impl<S: Stream> Stream for OneByOne<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<S::Item>> {
        // It hands over what it has when there is nothing more yet.
        if std::mem::take(&mut self.has_handed_one_over) {
            task.waker().wake_by_ref();
            return Poll::Pending;
        }
        let item = std::task::ready!(self.items.as_mut().poll_next(task));
        self.has_handed_one_over = item.is_some();
        Poll::Ready(item)
    }
}

/// The messages of a frame.
fn split(mut frame: Bytes) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let (header, _) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
        let length = u32::from_be_bytes(*header.last_chunk()?) as usize;
        let message = frame.split_to(FRAME_HEADER_BYTES + length);
        Some(message.slice(FRAME_HEADER_BYTES..))
    })
}

/// The frames of `events`, with cursors signed by `signer`, until its end or an error.
pub fn of_events(
    kind: StreamKind,
    events: EventStream,
    signer: Signer,
) -> impl Stream<Item = Result<Bytes, Status>> + Send {
    stream::unfold((events, signer), move |(mut events, signer)| async move {
        let frame = match events.next().await? {
            Ok(Item::Event(first)) => {
                let mut wire = MessageWriter::with_capacity(ROOM_BYTES);
                write_event(&mut wire, &signer, &first);
                while wire.len() < FRAME_BYTES
                    && let Some(event) = events.next_ready()
                {
                    write_event(&mut wire, &signer, &event);
                }
                Ok(wire)
            }
            Ok(Item::CaughtUp) => Ok(note(&signer, events.point(), |wire| {
                let revision = if kind == StreamKind::Order { events.revision() } else { 0 };
                wire.message(3, |wire| wire.number(1, revision_to_proto(revision)));
            })),
            // In the history of an order, a heartbeat is a message with nothing but its cursor.
            Ok(Item::Heartbeat) if kind == StreamKind::Order => Ok(note(&signer, events.point(), |_| {})),
            Ok(Item::Heartbeat) => Ok(note(&signer, events.point(), |wire| wire.message(4, |_| {}))),
            Err(error) => Err(ApiError::from(error).to_status()),
        };
        Some((frame.map(|wire| wire.into_bytes().into()), (events, signer)))
    })
}

fn write_event(wire: &mut MessageWriter, signer: &Signer, event: &StoredEvent) {
    wire.framed(|wire| {
        wire.text(1, tokens::encode_cursor(signer, LogPoint::after(event)));
        wire.encoded(2, &event.payload);
    });
}

fn note(signer: &Signer, point: LogPoint, write: impl FnOnce(&mut MessageWriter)) -> MessageWriter {
    let mut wire = MessageWriter::with_capacity(128);
    wire.framed(|wire| {
        wire.text(1, tokens::encode_cursor(signer, point));
        write(wire);
    });
    wire
}

struct Frames<S> {
    frames: Pin<Box<S>>,
    has_ended: bool,
}

impl<S: Stream<Item = Result<Bytes, Status>>> HttpBody for Frames<S> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let frame = match std::task::ready!(self.frames.as_mut().poll_next(task)) {
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(Frame::data(frame)))),
            Some(Err(status)) => trailers(&status),
            None => ended_ok(),
        };
        self.has_ended = true;
        Poll::Ready(Some(Ok(Frame::trailers(frame))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
