//! The frames of gRPC: the messages of a request, and a reply of one message.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyDataStream, BodyExt as _};
use prost::Message;
use tonic::Status;
use tower::BoxError;

use super::{header_names::STATUS, request::RequestBody};
use crate::codec::wire::{FRAME_HEADER_BYTES, MessageWriter};

/// The room for a typical reply. A longer one grows its buffer.
const REPLY_BYTES: usize = 512;
const OK: HeaderValue = HeaderValue::from_static("0");

/// Decodes a message.
///
/// # Errors
/// If `message` is not an encoded `M`.
pub fn decoded<M: Message + Default>(message: &[u8]) -> Result<M, Status> {
    // The text is that of tonic's own error: `errors::refine` recognises both by it, and replaces them.
    M::decode(message).map_err(|error| Status::internal(format!("failed to decode Protobuf message: {error}")))
}

/// The only message of a request, with the header of its frame.
///
/// # Errors
/// If the request ends without a message, or its body fails.
pub async fn only_message<B>(body: RequestBody<B>) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let (mut body, mut message) = (pin!(body), None);
    while let Some(frame) = body.frame().await {
        // Trailers are ignored. There is no second message: the body refuses one.
        if let Ok(data) = frame.map_err(Status::from_error)?.into_data() {
            message = Some(data);
        }
        if message.is_some() && body.is_end_stream() {
            break;
        }
    }
    message.ok_or_else(|| Status::internal("Missing request message."))
}

/// The messages of a request.
pub fn messages<B, M>(body: RequestBody<B>) -> impl Stream<Item = Result<M, Status>> + Send
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    M: Message + Default,
{
    BodyDataStream::new(Box::pin(body)).map(|message| decoded(unframed(&message.map_err(Status::from_error)?)?))
}

/// The message without its header.
///
/// # Errors
/// If it is compressed, although the request has not declared it.
pub fn unframed(message: &[u8]) -> Result<&[u8], Status> {
    match message.split_at_checked(FRAME_HEADER_BYTES) {
        Some(([0, ..], message)) => Ok(message),
        // It is compressed, or in an unknown form, and has not declared it.
        _ => Err(Status::internal("a compressed message without an encoding")),
    }
}

/// The trailers of a call that has succeeded.
#[must_use]
pub fn ended_ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, OK);
    trailers
}

/// The body of a successful reply to a unary call: one message and the trailers.
#[derive(Debug)]
pub struct UnaryReply {
    /// `None` once it has been handed over.
    message: Option<Bytes>,
    has_ended: bool,
}

impl UnaryReply {
    /// The message that `write` writes.
    pub fn written(write: impl FnOnce(&mut MessageWriter)) -> Self {
        let mut wire = MessageWriter::with_capacity(REPLY_BYTES);
        wire.framed(write);
        Self { message: Some(wire.into_bytes().into()), has_ended: false }
    }

    /// The message.
    ///
    /// # Errors
    /// If the reply is not such a message.
    pub fn decode<M: Message + Default>(&self) -> Result<M, Status> {
        decoded(self.message.as_deref().and_then(|framed| framed.get(FRAME_HEADER_BYTES..)).unwrap_or_default())
    }
}

impl HttpBody for UnaryReply {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(Ok(Frame::trailers(ended_ok()))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    fn size_hint(&self) -> SizeHint {
        // Not exact: an exact size would become a content length, which replies with trailers do not have.
        SizeHint::default()
    }
}
