//! Raw HTTP/2, and the memory of a process.

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Request, Response};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::support::{PATIENCE, Process};

pub const CREATE: &str = "/catga.orders.v1.OrderCommandService/CreateOrder";
pub const EXECUTE: &str = "/catga.orders.v1.OrderCommandService/ExecuteCommands";
pub const GET_ORDER: &str = "/catga.orders.v1.OrderQueryService/GetOrder";
pub const STREAM_IDS: &str = "/catga.ids.v1.IdService/StreamIds";
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

    /// A client whose windows of flow control are closed: heads of responses arrive, and none of their data.
    pub async fn without_windows(process: &Process) -> Self {
        let stream = TcpStream::connect(process.grpc_address).await.expect("connects");
        let handshake = h2::client::Builder::new().initial_window_size(0).handshake(stream);
        let (client, connection) = handshake.await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(client)
    }

    /// Makes `count` calls at the same time; returns their responses, of whose bodies nothing is read.
    pub async fn unread(&mut self, path: &str, message: &Bytes, count: usize) -> Vec<Response<RecvStream>> {
        let mut called = Vec::new();
        for _ in 0..count {
            let (response, mut body) = self.begin(path, false, message.clone()).await;
            body.send_data(Bytes::new(), true).expect("sent");
            called.push(response);
        }
        let mut unread = Vec::new();
        for response in called {
            unread.push(tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer"));
        }
        unread
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

/// Makes `calls` calls of `path` over a connection whose windows of flow control are as large as they can be, and reads nothing at all.
pub async fn calls_and_does_not_read(process: &Process, path: &str, message: &[u8], calls: u32) -> TcpStream {
    const MAX_WINDOW: u32 = (1 << 31) - 1;
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    let mut connection = socket.connect(process.grpc_address).await.expect("connects");
    let initial_window = [&4_u16.to_be_bytes()[..], &MAX_WINDOW.to_be_bytes()].concat();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &initial_window));
    bytes.extend(frame(8, 0, 0, &(MAX_WINDOW - 65_535).to_be_bytes()));
    // HPACK: POST and http by their index; the other fields by the index of their names, or literally.
    let mut head = vec![0x83, 0x86];
    let fields =
        [(&[0x04][..], path), (&[0x01], "localhost"), (&[0x0f, 0x10], "application/grpc"), (b"\0\x02te", "trailers")];
    for (name, value) in fields {
        head.extend_from_slice(name);
        head.push(u8::try_from(value.len()).expect("short"));
        head.extend_from_slice(value.as_bytes());
    }
    for call in 0..calls {
        bytes.extend(frame(1, 0x4, 2 * call + 1, &head));
        bytes.extend(frame(0, 0x1, 2 * call + 1, message));
    }
    connection.write_all(&bytes).await.expect("sent");
    connection
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
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
