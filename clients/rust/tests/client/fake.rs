//! A server in this process that follows the script of a test.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ordersystem_client::Channel;
use prost::Message;
use prost_types::Any;
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Sleep, sleep},
};
use tonic::{Code, Status};
use tonic_types::pb;

/// How long messages may take to arrive before the stream breaks.
const FLUSH: Duration = Duration::from_millis(100);

/// The answer to a call: messages, then an end.
#[derive(Clone, Debug)]
pub struct Answer {
    messages: Vec<Bytes>,
    end: End,
}

#[derive(Clone, Debug)]
enum End {
    Ok,
    Fail(Status),
    /// Nothing follows, and the call does not end.
    Open,
    /// The stream is reset.
    Reset,
    /// The connection is closed.
    HangUp,
}

impl Answer {
    fn with(mut self, end: End) -> Answer {
        self.end = end;
        self
    }

    pub fn fail(self, status: Status) -> Answer {
        self.with(End::Fail(status))
    }

    pub fn unavailable(self) -> Answer {
        self.fail(Status::unavailable("as scripted"))
    }

    pub fn open(self) -> Answer {
        self.with(End::Open)
    }

    pub fn reset(self) -> Answer {
        self.with(End::Reset)
    }

    pub fn hang_up(self) -> Answer {
        self.with(End::HangUp)
    }
}

/// Messages, and then OK.
pub fn messages<M: Message>(messages: &[M]) -> Answer {
    Answer { messages: messages.iter().map(framed).collect(), end: End::Ok }
}

/// One message, and then OK.
pub fn reply(message: &impl Message) -> Answer {
    Answer { messages: vec![framed(message)], end: End::Ok }
}

pub fn nothing() -> Answer {
    Answer { messages: Vec::new(), end: End::Ok }
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

/// An error with details.
pub fn failure(code: Code, details: Vec<Any>) -> Status {
    let status = pb::Status { code: code.into(), message: "as scripted".to_owned(), details };
    Status::with_details(code, "as scripted", status.encode_to_vec().into())
}

pub fn any(kind: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.rpc.{kind}"), value: message.encode_to_vec() }
}

pub fn info(reason: &str) -> Any {
    let metadata = [("order_id".to_owned(), "1".to_owned())].into();
    any("ErrorInfo", &pb::ErrorInfo { reason: reason.to_owned(), domain: "ordersystem".to_owned(), metadata })
}

pub fn retry_info(millis: i32) -> Any {
    let delay = prost_types::Duration { seconds: i64::from(millis / 1_000), nanos: millis % 1_000 * 1_000_000 };
    any("RetryInfo", &pb::RetryInfo { retry_delay: Some(delay) })
}

/// A received call.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub headers: HeaderMap,
    pub at: Instant,
    message: Bytes,
}

impl Asked {
    pub fn message<M: Message + Default>(&self) -> M {
        M::decode(&self.message[5..]).unwrap()
    }
}

/// Every call takes the next answer of the script. It ends when it is dropped.
pub struct FakeServer {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    _connections: JoinSet<()>,
}

impl FakeServer {
    pub async fn start(script: impl IntoIterator<Item = Answer>) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::default();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&asked), script));
        FakeServer { address, asked, _connections: connections }
    }

    pub fn channel(&self) -> Channel {
        ordersystem_client::connect(&self.address).unwrap()
    }

    /// The calls so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The messages of the calls so far.
    pub fn messages<M: Message + Default>(&self) -> Vec<M> {
        self.asked().iter().map(Asked::message).collect()
    }

    /// The time between the first two calls, in milliseconds.
    pub fn first_wait_ms(&self) -> u128 {
        let asked = self.asked();
        (asked[1].at - asked[0].at).as_millis()
    }
}

type Script = Arc<Mutex<VecDeque<Answer>>>;

async fn accept(listener: TcpListener, asked: Arc<Mutex<Vec<Asked>>>, script: Script) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let (asked, script) = (Arc::clone(&asked), Arc::clone(&script));
        let hang_up = Arc::new(tokio::sync::Notify::new());
        let hung_up = Arc::clone(&hang_up);
        connections.spawn(async move {
            let service =
                service_fn(move |request| answer(request, Arc::clone(&asked), Arc::clone(&script), hang_up.clone()));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::select! {
                _ = server.serve_connection(TokioIo::new(socket), service) => {}
                () = hung_up.notified() => {}
            }
        });
    }
}

async fn answer(
    request: http::Request<Incoming>,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Script,
    hang_up: Arc<tokio::sync::Notify>,
) -> Result<http::Response<Scripted>, Infallible> {
    let (parts, body) = request.into_parts();
    let message = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path().to_owned();
    asked.lock().unwrap().push(Asked { path, headers: parts.headers, at: Instant::now(), message });
    let answer = script.lock().unwrap().pop_front().expect("the script has no more answers");
    let flushed = Box::pin(sleep(FLUSH));
    let mut response =
        http::Response::new(Scripted { frames: answer.messages.into(), end: answer.end, hang_up, flushed });
    response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    if let Scripted { frames, end: End::Fail(status), .. } = response.body()
        && frames.is_empty()
    {
        // An error without messages comes in the headers, as servers send it.
        let status = status.clone();
        response.body_mut().end = End::Open;
        status.add_header(response.headers_mut()).unwrap();
    }
    Ok(response)
}

struct Scripted {
    frames: VecDeque<Bytes>,
    end: End,
    hang_up: Arc<tokio::sync::Notify>,
    /// By then the messages have arrived, and are not lost with the stream.
    flushed: Pin<Box<Sleep>>,
}

impl Body for Scripted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(frame) = self.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        let status = match &self.end {
            End::Ok => Status::ok(""),
            End::Fail(status) => status.clone(),
            End::Open => return Poll::Pending,
            End::Reset => {
                ready!(self.flushed.as_mut().poll(context));
                return Poll::Ready(Some(Err(io::Error::other("as scripted"))));
            }
            End::HangUp => {
                ready!(self.flushed.as_mut().poll(context));
                self.hang_up.notify_one();
                return Poll::Pending;
            }
        };
        self.end = End::Open;
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        false
    }
}
