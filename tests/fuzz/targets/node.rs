//! A whole node in the process of the fuzzer, in memory, and connections to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ordersystem::{node::{App, Backends, NodeBuilder}, ports::clock::SystemClock, config::{Config, FlagValues}};
use tokio::{net::TcpStream, runtime::Runtime};
use tokio_util::sync::CancellationToken;

/// The time limit of one reply; a follower never ends by itself.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// The maximum number of bytes of a reply that are read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// A node, with its own runtime.
pub struct Node {
    runtime: Runtime,
    address: SocketAddr,
    http1: Option<conn::http1::SendRequest<Full<Bytes>>>,
    http2: Option<conn::http2::SendRequest<Full<Bytes>>>,
}

/// The part of a reply that was read.
pub struct Answer {
    pub status: u16,
    pub grpc_status: Option<String>,
    pub body: Vec<u8>,
}

impl Node {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = runtime.block_on(async {
            let flags = FlagValues { config_file: None, values: vec![("port", "0".into()), ("log-level", "off".into())] };
            let config = Config::load(&flags, []).expect("valid settings");
            let setup = NodeBuilder::new(Backends::memory()).with_clock(Arc::new(SystemClock));
            let app = App::start_from(&config, setup).await.expect("it starts");
            let address = app.address();
            tokio::spawn(app.run(CancellationToken::new()));
            address
        });
        Self { runtime, address, http1: None, http2: None }
    }

    /// Sends a request over HTTP/1.1; `None` if the input cannot form one.
    pub fn send_http1(&mut self, request: Request<Full<Bytes>>) -> Option<Answer> {
        let (address, kept) = (self.address, &mut self.http1);
        self.runtime.block_on(async move {
            if kept.as_ref().is_none_or(conn::http1::SendRequest::is_closed) {
                let stream = TcpStream::connect(address).await.expect("connects");
                let (sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
                tokio::spawn(connection);
                *kept = Some(sender);
            }
            let sender = kept.as_mut().expect("just made");
            sender.ready().await.ok()?;
            let reply = within(sender.send_request(request)).await.ok()?;
            let answer = read(reply).await;
            // A reply that is not read to its end blocks the next one.
            *kept = None;
            Some(answer)
        })
    }

    /// Calls a gRPC method with a raw body.
    pub fn call(&mut self, path: &str, encoding: Option<&str>, body: Vec<u8>) -> Option<Answer> {
        let mut request = Request::post(format!("http://localhost{path}")).header("te", "trailers");
        request = request.header("content-type", "application/grpc").header("grpc-timeout", "200m");
        if let Some(encoding) = encoding {
            request = request.header("grpc-encoding", encoding);
        }
        let request = request.body(Full::new(Bytes::from(body))).ok()?;
        let (address, kept) = (self.address, &mut self.http2);
        self.runtime.block_on(async move {
            if kept.as_ref().is_none_or(conn::http2::SendRequest::is_closed) {
                let stream = TcpStream::connect(address).await.expect("connects");
                let handshake = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
                let (sender, connection) = handshake.await.expect("HTTP/2");
                tokio::spawn(connection);
                *kept = Some(sender);
            }
            let sender = kept.as_mut().expect("just made");
            sender.ready().await.ok()?;
            let reply = within(sender.send_request(request)).await.ok()?;
            Some(read(reply).await)
        })
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(ANSWER_WITHIN, work).await.expect("an answer in time")
}

async fn read(reply: Response<Incoming>) -> Answer {
    let (parts, mut body) = reply.into_parts();
    let text = |headers: &http::HeaderMap| headers.get("grpc-status").map(|value| value.to_str().expect("text").to_owned());
    let mut answer = Answer { status: parts.status.as_u16(), grpc_status: text(&parts.headers), body: Vec::new() };
    while answer.body.len() < MAX_ANSWER_BYTES
        && let Some(Ok(frame)) = within(body.frame()).await
    {
        match frame.into_data() {
            Ok(data) => answer.body.extend_from_slice(&data),
            Err(frame) => answer.grpc_status = frame.into_trailers().ok().as_ref().and_then(text),
        }
    }
    answer
}
