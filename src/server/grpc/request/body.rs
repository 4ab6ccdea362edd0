//! Messages are held back until they are complete: announced lengths are not trusted, and an unfinished message costs only its received bytes, for a
//! bounded time, out of a bounded budget.

use std::{
    io::{Read as _, Take},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use flate2::read::GzDecoder;
use http_body::{Body as HttpBody, Frame, SizeHint};
use metrics::Counter;
use parking_lot::Mutex;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::Status;

use super::{
    elements,
    methods::{List, Method},
};
use crate::{
    application::{
        admission::weigh,
        byte_budget::{ByteBudget, HeldBytes},
        requests::Field,
    },
    server::{
        admission::{Shed, overloaded},
        error::{ApiError, Reason},
    },
};

/// The flag and the length that precede each message.
const HEADER_BYTES: usize = 5;
/// The time limit for a message, and for a whole request with a single message.
const WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// The maximum ratio of decompression …
const MAX_RATIO: usize = 50;
/// … and the size up to which any ratio is accepted.
const ALWAYS_DECOMPRESSED_BYTES: usize = 64 * 1024;

/// The budget bytes that a call holds: those of its last message, until the next one arrives or the call is answered.
#[derive(Clone, Debug)]
pub struct RequestBytes(Arc<Mutex<HeldBytes>>);

impl RequestBytes {
    /// An empty reservation of `budget`.
    #[must_use]
    pub fn none(budget: ByteBudget) -> Self {
        Self(Arc::new(Mutex::new(HeldBytes::none(budget))))
    }

    /// Replaces the reservation by `bytes`.
    fn set(&self, bytes: usize) -> Result<(), Status> {
        if self.0.lock().set(bytes) {
            return Ok(());
        }
        Err(ApiError::too_many_request_bytes().to_status())
    }
}

pin_project! {
    /// The body of a request, which yields whole messages, decompressed if they were compressed with gzip.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        method: Method,
        is_gzip: bool,
        bytes: RequestBytes,
        // The received part of the next messages.
        unread: BytesMut,
        messages: usize,
        // Counts the messages of a method that streams.
        received: Counter,
        has_ended: bool,
        time_limit: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> RequestBody<B> {
    /// Wraps `inner`, the body of a request to `method`, whose messages are compressed with gzip if `is_gzip`.
    pub fn new(inner: B, method: Method, is_gzip: bool, bytes: RequestBytes) -> Self {
        let (unread, received) = (BytesMut::new(), Counter::noop());
        Self { inner, method, is_gzip, bytes, unread, messages: 0, received, has_ended: false, time_limit: None }
    }

    /// Counts each message with `received`.
    pub fn counted(self, received: Counter) -> Self {
        Self { received, ..self }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let Some(message) = self.as_mut().next_message()? {
                return Poll::Ready(Some(Ok(Frame::data(message))));
            }
            let mut this = self.as_mut().project();
            if *this.has_ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(frame) = this.inner.as_mut().poll_frame(task) else {
                ready!(self.as_mut().poll_time_limit(task));
                return Poll::Ready(Some(Err(too_slow().into())));
            };
            match frame {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        if let Some(message) = self.as_mut().take_in(data)? {
                            return Poll::Ready(Some(Ok(Frame::data(message))));
                        }
                    }
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                Some(Err(error)) => {
                    let error: Self::Error = error.into();
                    let is_shed = Shed::is_in(&*error);
                    return Poll::Ready(Some(Err(if is_shed { overloaded().to_status().into() } else { error })));
                }
                None => {
                    *this.has_ended = true;
                    if !this.unread.is_empty() {
                        return Poll::Ready(Some(Err(malformed("ends in the middle of a message").into())));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.unread.is_empty() && (self.has_ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<B> RequestBody<B> {
    /// Adds `data`; returns it if it is exactly one message: most are, and need no copy.
    fn take_in(self: Pin<&mut Self>, data: Bytes) -> Result<Option<Bytes>, Status> {
        if self.unread.is_empty()
            && let Some((0, length)) = header(&data)
            && data.len() == HEADER_BYTES + length
        {
            let this = self.project();
            begin(this.method, this.messages, length)?;
            this.received.increment(1);
            finish(this.method, &data[HEADER_BYTES..])?;
            this.bytes.set(data.len())?;
            return Ok(Some(data));
        }
        let this = self.project();
        this.bytes.set(this.unread.len() + data.len())?;
        this.unread.extend_from_slice(&data);
        Ok(None)
    }

    /// The next complete message.
    fn next_message(self: Pin<&mut Self>) -> Result<Option<Bytes>, Status> {
        let this = self.project();
        let Some((flag, length)) = header(this.unread) else { return Ok(None) };
        if length > this.method.max_bytes {
            return Err(too_large(this.method.max_bytes));
        }
        if this.unread.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        begin(this.method, this.messages, length)?;
        this.received.increment(1);
        let message = this.unread.split_to(HEADER_BYTES + length).freeze();
        let rest = this.unread.len();
        let message = match flag {
            1 if *this.is_gzip => {
                let hold = |bytes| this.bytes.set(rest + message.len() + bytes);
                decompressed(&message[HEADER_BYTES..], this.method.max_bytes, hold)?
            }
            // Another flag, or a compression that was not negotiated: the decoder refuses it.
            _ => message,
        };
        finish(this.method, &message[HEADER_BYTES..])?;
        this.bytes.set(rest + message.len())?;
        // The time limit of the next message starts with its first byte.
        if this.method.takes_many {
            *this.time_limit = None;
        }
        Ok(Some(message))
    }

    /// Ready when the client has exceeded the time limit for sending.
    fn poll_time_limit(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.method.takes_many && this.unread.is_empty() {
            return Poll::Pending;
        }
        this.time_limit.get_or_insert_with(|| Box::pin(sleep(WHOLE_WITHIN))).as_mut().poll(task)
    }
}

/// The flag of the next message and its length.
fn header(bytes: &[u8]) -> Option<(u8, usize)> {
    let (mut header, _) = bytes.split_at_checked(HEADER_BYTES)?;
    Some((header.get_u8(), header.get_u32() as usize))
}

/// Counts a message and checks its `length`.
fn begin(method: &Method, messages: &mut usize, length: usize) -> Result<(), Status> {
    *messages += 1;
    if *messages > 1 && !method.takes_many {
        return Err(malformed("has more than the one message that this method takes"));
    }
    if length > method.max_bytes { Err(too_large(method.max_bytes)) } else { Ok(()) }
}

/// Checks a message that is about to be decoded, and counts its call by its size.
fn finish(method: &Method, message: &[u8]) -> Result<(), Status> {
    for list in method.lists {
        // An element has at least two bytes, a number one.
        if message.len() > list.max
            && elements::count(message, list.path, list.is_packed, list.too_many()) == list.too_many()
        {
            return Err(too_many(list));
        }
    }
    weigh(message.len());
    Ok(())
}

/// Decompresses the message in `compressed`, with its own header. `hold` reserves the decompressed bytes.
fn decompressed(
    compressed: &[u8],
    max_bytes: usize,
    hold: impl Fn(usize) -> Result<(), Status>,
) -> Result<Bytes, Status> {
    let max_ratio_bytes = (compressed.len() * MAX_RATIO).max(ALWAYS_DECOMPRESSED_BYTES);
    let limit = max_bytes.min(max_ratio_bytes);
    let mut message = BytesMut::with_capacity(HEADER_BYTES + compressed.len() * 2);
    message.put_bytes(0, HEADER_BYTES);
    let mut decoder: Take<GzDecoder<&[u8]>> = GzDecoder::new(compressed).take(limit as u64 + 1);
    let mut chunk = [0; 8 * 1024];
    loop {
        let read = decoder.read(&mut chunk).map_err(|_| malformed("is not valid gzip data"))?;
        if read == 0 {
            break;
        }
        if message.len() - HEADER_BYTES + read > limit {
            return Err(if limit == max_bytes { too_large(max_bytes) } else { too_dense(limit) });
        }
        hold(message.len() + read)?;
        message.extend_from_slice(&chunk[..read]);
    }
    let length = (message.len() - HEADER_BYTES) as u32;
    (&mut message[1..HEADER_BYTES]).put_u32(length);
    Ok(message.freeze())
}

fn too_large(max_bytes: usize) -> Status {
    ApiError::too_large(max_bytes).to_status()
}

fn too_dense(max_bytes: usize) -> Status {
    let message = format!(
        "the request would be larger than {max_bytes} bytes, more than {MAX_RATIO} times its compressed size: send it uncompressed"
    );
    ApiError::new(Reason::MessageTooLarge, message).with("max_message_bytes", max_bytes).to_status()
}

fn too_slow() -> Status {
    let message = format!("the request was not sent within {} s", WHOLE_WITHIN.as_secs());
    ApiError::new(Reason::RequestTimeout, message).to_status()
}

fn too_many(list: &List) -> Status {
    ApiError::invalid(list.field, format_args!("must have at most {} entries", list.max)).to_status()
}

fn malformed(description: &str) -> Status {
    ApiError::invalid(Field::Request, description).to_status()
}

#[cfg(test)]
mod tests;
