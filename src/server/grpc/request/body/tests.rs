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
async fn messages_are_complete_however_they_were_split() {
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
async fn received_bytes_are_reserved_and_released() {
    let mut call = Call::of(EXECUTE, true);
    call.send(&framed(0, &order(500))[..700]);
    assert!(call.message().now_or_never().is_none(), "no complete message yet");
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
async fn a_message_beyond_the_budget_is_refused_as_retryable() {
    let mut call = Call::of(CREATE, false);
    let mut others = HeldBytes::none(call.budget.clone());
    assert!(others.grow(8 * 1024 * 1024 - 100));
    call.send(&framed(0, &order(500))[..200]);
    let refusal = call.refusal().await;
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.metadata().contains_key("grpc-retry-pushback-ms"));
}

#[tokio::test(start_paused = true)]
async fn a_unary_request_must_be_complete_within_half_a_minute() {
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
        assert!(quiet.is_err(), "there is no time limit between messages");
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
async fn a_compressed_message_is_bounded_by_its_uncompressed_size() {
    let mut call = Call::of(CREATE, true);
    call.send(&framed(1, &gzip(&vec![0; 2 * 1024 * 1024])));
    let refusal = call.refusal().await;
    assert_eq!(refusal.code(), Code::ResourceExhausted);
    assert!(refusal.message().contains("send it uncompressed"), "{}", refusal.message());
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
async fn a_unary_request_has_exactly_one_complete_message() {
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
