//! gRPC below generated clients: messages as bytes, and a connection that leaves deadlines to the server.

use bytes::{Buf, BufMut, Bytes};
use futures_util::{StreamExt, future::BoxFuture, stream};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

use super::TestServer;

/// Passes messages through as raw bytes, valid or not.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// An HTTP/2 connection for generated clients that leaves deadlines to the server; tonic's own channel would end a call itself.
#[derive(Clone)]
pub struct PlainConnection {
    sender: SendRequest<tonic::body::Body>,
    /// The authority of its requests.
    authority: &'static str,
}

impl PlainConnection {
    pub async fn to(server: &TestServer) -> Self {
        Self::to_as(server, "localhost").await
    }

    pub async fn to_as(server: &TestServer, authority: &'static str) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connects");
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        Self { sender, authority }
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for PlainConnection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, hyper::Error>>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        let mut uri = request.uri().clone().into_parts();
        (uri.scheme, uri.authority) =
            (Some(http::uri::Scheme::HTTP), Some(self.authority.parse().expect("an authority")));
        *request.uri_mut() = http::Uri::from_parts(uri).expect("a URI");
        Box::pin(self.sender.send_request(request))
    }
}

/// A request with this `timeout` for the server, in the format of the `grpc-timeout` header: "100m".
pub fn within<T>(timeout: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("grpc-timeout", timeout.parse().expect("a value"));
    request
}

/// Calls `path` ("/package.Service/Method") with `messages` unchanged; reads at most `max_replies`.
pub async fn raw_call(
    channel: &Channel,
    path: &str,
    messages: Vec<Bytes>,
    max_replies: usize,
) -> Result<Vec<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = path.parse().expect("a path");
    let mut replies = client.streaming(tonic::Request::new(stream::iter(messages)), path, RawCodec).await?.into_inner();
    let mut taken = Vec::new();
    while taken.len() < max_replies
        && let Some(reply) = replies.next().await
    {
        taken.push(reply?);
    }
    Ok(taken)
}
