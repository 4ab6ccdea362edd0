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
    /// The body of a request, which yields whole messages, decompressed if they came with gzip.
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        method: Method,
        is_gzip: bool,
        bytes: RequestBytes,
        // The received part of the next messages.
        unread: BytesMut,
        messages: usize,
        has_ended: bool,
        time_limit: Option<Pin<Box<Sleep>>>,
    }
}

impl<B> RequestBody<B> {
    /// Wraps `inner`, the body of a request to `method`, whose messages are compressed with gzip if `is_gzip`.
    pub fn new(inner: B, method: Method, is_gzip: bool, bytes: RequestBytes) -> Self {
        Self { inner, method, is_gzip, bytes, unread: BytesMut::new(), messages: 0, has_ended: false, time_limit: None }
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

/// Checks a message that is about to be decoded.
fn finish(method: &Method, message: &[u8]) -> Result<(), Status> {
    for list in method.lists {
        // An element has at least two bytes, a number one.
        if message.len() > list.max
            && elements::count(message, list.path, list.is_packed, list.too_many()) == list.too_many()
        {
            return Err(too_many(list));
        }
    }
    Ok(())
}

/// Decompresses the message in `compressed`, with a header of its own. `hold` reserves the decompressed bytes.
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
        let read = decoder.read(&mut chunk).map_err(|_| malformed("is not what gzip makes"))?;
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
        "the request would be larger than {max_bytes} bytes, which is over {MAX_RATIO} times what was sent: send it without compression"
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
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use futures_util::FutureExt as _;
    use http_body_util::BodyExt as _;
    use prost::Message as _;
    use tokio::{sync::mpsc, time::Instant};
    use tonic::Code;

    use super::*;
    use crate::proto::catga::orders::v1::{CreateOrderRequest, NewOrderItem};

    const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
    const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
    const STREAM_EVENTS: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";

    /// The bytes of a client, as sent.
    struct Wire(mpsc::UnboundedReceiver<Bytes>);

    impl HttpBody for Wire {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            task: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, std::convert::Infallible>>> {
            self.0.poll_recv(task).map(|data| data.map(|data| Ok(Frame::data(data))))
        }
    }

    struct Call {
        /// `None` once the client has sent everything.
        client: Option<mpsc::UnboundedSender<Bytes>>,
        body: Pin<Box<RequestBody<Wire>>>,
        budget: ByteBudget,
    }

    impl Call {
        fn of(path: &str, is_gzip: bool) -> Self {
            let (client, wire) = mpsc::unbounded_channel();
            let budget = ByteBudget::new(8 * 1024 * 1024);
            let method = Method::at(path, 4 * 1024 * 1024);
            let body = RequestBody::new(Wire(wire), method, is_gzip, RequestBytes::none(budget.clone()));
            Self { client: Some(client), body: Box::pin(body), budget }
        }

        fn send(&self, bytes: &[u8]) {
            self.client.as_ref().expect("not ended").send(Bytes::copy_from_slice(bytes)).expect("read");
        }

        fn end(&mut self) {
            self.client = None;
        }

        async fn message(&mut self) -> Option<Result<Bytes, Status>> {
            let frame = self.body.frame().await?;
            Some(match frame {
                Ok(frame) => Ok(frame.into_data().expect("data")),
                Err(error) => Err(*error.downcast().expect("a status")),
            })
        }

        async fn refusal(&mut self) -> Status {
            self.message().await.expect("not the end").expect_err("a refusal")
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &(message.len() as u32).to_be_bytes(), message].concat()
    }

    fn gzip(message: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(message).expect("written");
        encoder.finish().expect("finished")
    }

    fn order(items: usize) -> Vec<u8> {
        CreateOrderRequest { items: vec![NewOrderItem::default(); items], ..Default::default() }.encode_to_vec()
    }

    #[tokio::test]
    async fn messages_come_whole_however_they_were_cut() {
        let messages = [framed(0, b""), framed(0, b"one"), framed(1, &gzip(b"two")), framed(0, &order(40))];
        let wanted = [framed(0, b""), framed(0, b"one"), framed(0, b"two"), framed(0, &order(40))];
        for size in 1..200 {
            let mut call = Call::of(EXECUTE, true);
            for piece in messages.concat().chunks(size) {
                call.send(piece);
            }
            call.end();
            for wanted in &wanted {
                assert_eq!(call.message().await.expect("a message").expect("well-formed"), wanted, "{size}");
            }
            assert!(call.message().await.is_none());
        }
    }

    #[tokio::test]
    async fn what_is_held_is_what_came_and_is_given_back() {
        let mut call = Call::of(EXECUTE, true);
        call.send(&framed(0, &order(500))[..700]);
        assert!(call.message().now_or_never().is_none(), "nothing whole has come");
        assert_eq!(call.budget.held(), 700);
        call.send(&framed(0, &order(500))[700..]);
        call.message().await.expect("a message").expect("well-formed");
        assert_eq!(call.budget.held(), 5 + 1_000);
        call.send(&framed(0, b"next"));
        call.message().await.expect("a message").expect("well-formed");
        assert_eq!(call.budget.held(), 9);
        let budget = call.budget.clone();
        drop(call);
        assert_eq!(budget.held(), 0);
    }

    #[tokio::test]
    async fn a_message_that_the_budget_has_no_room_for_is_refused_to_be_tried_again() {
        let mut call = Call::of(CREATE, false);
        let mut others = HeldBytes::none(call.budget.clone());
        assert!(others.grow(8 * 1024 * 1024 - 100));
        call.send(&framed(0, &order(500))[..200]);
        let refusal = call.refusal().await;
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.metadata().contains_key("grpc-retry-pushback-ms"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_unary_request_has_half_a_minute_to_come_whole() {
        for sent in [&b""[..], &[0], &framed(0, b"four")[..8], &framed(0, b"four")] {
            let mut call = Call::of(CREATE, false);
            let begun = Instant::now();
            call.send(sent);
            let refusal = match call.message().await.expect("not the end") {
                // A message, but then not the end of the request.
                Ok(_) => call.refusal().await,
                Err(refusal) => refusal,
            };
            assert_eq!(refusal.code(), Code::DeadlineExceeded);
            assert_eq!(begun.elapsed().as_secs(), 30, "{sent:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_of_a_stream_has_half_a_minute_from_its_first_byte() {
        let mut call = Call::of(EXECUTE, false);
        for _ in 0..3 {
            let quiet = tokio::time::timeout(Duration::from_secs(3_600), call.message()).await;
            assert!(quiet.is_err(), "between messages there is all the time");
            call.send(&framed(0, b"four")[..8]);
            let unfinished = tokio::time::timeout(Duration::from_secs(29), call.message()).await;
            assert!(unfinished.is_err());
            call.send(b"r");
            call.message().await.expect("a message").expect("well-formed");
        }
        call.send(&[0]);
        let begun = Instant::now();
        assert_eq!(call.refusal().await.code(), Code::DeadlineExceeded);
        assert_eq!(begun.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn an_announced_length_over_the_method_s_limit_is_refused_at_once() {
        for (path, max_bytes) in [(CREATE, 1_600 * 1024), (STREAM_EVENTS, 64 * 1024_u32)] {
            let mut call = Call::of(path, false);
            call.send(&[&[0][..], &(max_bytes + 1).to_be_bytes()].concat());
            let refusal = call.refusal().await;
            assert_eq!(refusal.code(), Code::ResourceExhausted);
            assert!(refusal.message().contains(&max_bytes.to_string()), "{}", refusal.message());
        }
    }

    #[tokio::test]
    async fn a_compressed_message_is_bounded_by_what_it_becomes() {
        let mut call = Call::of(CREATE, true);
        call.send(&framed(1, &gzip(&vec![0; 2 * 1024 * 1024])));
        let refusal = call.refusal().await;
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert!(refusal.message().contains("without compression"), "{}", refusal.message());
        let mut call = Call::of(CREATE, true);
        let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..16)).take(1_700 * 1024).collect();
        call.send(&framed(1, &gzip(&random)));
        assert!(call.refusal().await.message().contains("larger than 1638400 bytes"));
        let mut call = Call::of(CREATE, true);
        call.send(&framed(1, b"no gzip"));
        assert_eq!(call.refusal().await.code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn far_too_many_elements_are_refused_undecoded_compressed_or_not() {
        for is_gzip in [false, true] {
            for (items, is_refused) in [(1_001, false), (4_000, false), (4_001, true), (20_000, true)] {
                let mut call = Call::of(CREATE, is_gzip);
                let message = if is_gzip { framed(1, &gzip(&order(items))) } else { framed(0, &order(items)) };
                call.send(&message);
                match call.message().await.expect("not the end") {
                    Ok(_) => assert!(!is_refused, "{items}"),
                    Err(refusal) => {
                        assert!(is_refused, "{items}");
                        assert_eq!(refusal.message(), "items must have at most 1000 entries");
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn a_unary_request_has_one_message_and_no_half_of_one() {
        let mut call = Call::of(CREATE, false);
        call.send(&[framed(0, b"one"), framed(0, b"two")].concat());
        call.message().await.expect("a message").expect("well-formed");
        assert_eq!(call.refusal().await.code(), Code::InvalidArgument);
        let mut call = Call::of(CREATE, false);
        call.send(&framed(0, b"one")[..6]);
        call.end();
        assert_eq!(call.refusal().await.code(), Code::InvalidArgument);
        assert!(call.message().await.is_none());
    }
}
