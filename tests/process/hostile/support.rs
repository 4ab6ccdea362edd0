//! Raw HTTP/2, and the memory of a process.

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::Request;
use tokio::net::TcpStream;

use crate::support::Process;

pub const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
pub const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
pub const STREAM_EVENTS: &str = "/catga.orders.v1.OrderHistoryService/StreamEvents";

/// A connection that speaks HTTP/2 and nothing above it.
pub struct RawConnection(SendRequest<Bytes>);

impl RawConnection {
    pub async fn to(process: &Process) -> Self {
        let stream = TcpStream::connect(process.grpc_address).await.expect("connects");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(client)
    }

    /// Starts a call and sends `bytes` of its body, as far as the server accepts them; the caller ends it.
    pub async fn begin(&mut self, path: &str, gzip: bool, bytes: Bytes) -> (ResponseFuture, h2::SendStream<Bytes>) {
        self.0 = self.0.clone().ready().await.expect("a stream");
        let mut request = Request::post(format!("http://localhost{path}")).header("content-type", "application/grpc");
        if gzip {
            request = request.header("grpc-encoding", "gzip");
        }
        let request = request.header("te", "trailers").body(()).expect("a request");
        let (response, mut body) = self.0.send_request(request, false).expect("sent");
        body.send_data(bytes, false).expect("sent");
        (response, body)
    }
}

/// A framed message.
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    [&[flag][..], &u32::try_from(message.len()).expect("short").to_be_bytes(), message].concat().into()
}

/// The frame header of a message that announces `length` bytes.
pub fn announcement(length: u32) -> Bytes {
    [&[0][..], &length.to_be_bytes()].concat().into()
}

/// The current memory of a process, and its peak since the last [`Memory::mark`].
pub struct Memory {
    id: u32,
}

impl Memory {
    pub fn of(process: &Process) -> Self {
        Self { id: process.child.id().expect("running") }
    }

    /// Resets the peak.
    pub fn mark(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.id), "5").expect("written");
    }

    pub fn peak_mib(&self) -> u64 {
        self.mib("VmHWM:")
    }

    pub fn now_mib(&self) -> u64 {
        self.mib("VmRSS:")
    }

    fn mib(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id)).expect("running");
        let line = status.lines().find(|line| line.starts_with(field)).expect("the field");
        line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
    }
}
