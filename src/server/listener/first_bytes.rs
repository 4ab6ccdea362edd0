//! The first bytes of a connection, and its end where they are refused.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Semaphore,
};

use crate::telemetry::outage::{Line, Outage};

/// The poll interval for a client that has sent only the beginning of HTTP/2.
const PREFACE_POLL: Duration = Duration::from_millis(20);
/// The record type that begins every TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;
/// How long a connection closed for writing is still read: closing a socket with unread bytes resets the connection, and the client loses unread
/// data.
pub const LINGER: Duration = Duration::from_secs(1);
/// The maximum number of bytes read then.
pub const LINGER_BYTES: u64 = 1024 * 1024;
/// The maximum number of clients with a failed handshake that are awaited concurrently.
static LINGERING: Semaphore = Semaphore::const_new(256);
/// The bytes that begin every HTTP/2 connection.
pub const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a client's first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1, or anything else.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// A TLS handshake on a plaintext port.
    Tls,
}

/// Waits until the client has sent enough to detect its protocol; later code has no time limit for that. A silent connection would hold its permit
/// forever.
///
/// # Errors
/// If the client ends the connection before that, or the connection breaks.
pub async fn speaks(stream: &TcpStream) -> io::Result<Protocol> {
    let mut head = [0; HTTP2_PREFACE.len()];
    loop {
        let length = stream.peek(&mut head).await?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if head[0] == TLS_HANDSHAKE {
            return Ok(Protocol::Tls);
        }
        if !HTTP2_PREFACE.starts_with(&head[..length]) {
            return Ok(Protocol::Http1);
        }
        if length == head.len() {
            return Ok(Protocol::Http2);
        }
        tokio::time::sleep(PREFACE_POLL).await;
    }
}

/// Logs why a client is refused, at a limited rate: clients may retry as often as they like.
pub fn log_refused(outage: &Outage, client: &TcpStream, why: &str) {
    if let Some(Line { unsaid }) = outage.failed(why) {
        let client = client.peer_addr().map(|address| address.to_string()).ok();
        tracing::info!(client, unsaid, "refused a client: {why}");
    }
}

/// Ends a connection on which an alert was sent: pending input is read first, since the connection would otherwise be reset, and the client would not
/// see why it was refused.
pub async fn linger(mut stream: TcpStream) {
    // Bounded, so that useless clients do not hold connection permits for long.
    let Ok(_permit) = LINGERING.try_acquire() else { return };
    let rest = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // The outcome does not matter.
    let _ = tokio::time::timeout(LINGER, rest).await;
}
