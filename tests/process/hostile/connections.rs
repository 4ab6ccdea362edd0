//! Connections that send nothing, never end, or send pointless frames.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use super::support::RawConnection;
use crate::{
    support::{PATIENCE, Process, new_order},
    tls::Authority,
};

/// The preface of every HTTP/2 client, with empty settings.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection over TLS on which `protocol` is negotiated.
async fn secure(process: &Process, authority: &Authority, protocol: &[u8]) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).expect("a certificate")).expect("an authority");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(process.address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("a handshake")
}

/// Waits until the other side has closed the connection.
async fn closed(mut stream: impl tokio::io::AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("it is closed");
}

#[tokio::test]
async fn a_connection_that_never_sends_a_request_is_closed_in_plaintext_and_over_tls() {
    let authority = Authority::with_files();
    let over_tls = authority.serve(&[]).await;
    let plain = Process::start(&[]).await;
    let mut waiting = Vec::new();
    for said in [&b""[..], &PREFACE[..20], b"GET / HT"] {
        let mut stream = TcpStream::connect(plain.address).await.expect("connects");
        stream.write_all(said).await.expect("sent");
        waiting.push(tokio::spawn(closed(stream)));
        for protocol in [&b"h2"[..], b"http/1.1"] {
            let mut stream = secure(&over_tls, &authority, protocol).await;
            stream.write_all(said).await.expect("sent");
            stream.flush().await.expect("sent");
            waiting.push(tokio::spawn(closed(stream)));
        }
    }
    for connection in waiting {
        connection.await.expect("closed");
    }
}

#[tokio::test]
async fn the_protocol_agreed_in_the_handshake_is_the_one_used() {
    let authority = Authority::with_files();
    let process = authority.serve(&[]).await;
    let mut stream = secure(&process, &authority, b"h2").await;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(!answer.starts_with(b"HTTP/1.1"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn idle_connections_make_room_for_an_active_client() {
    let process = Process::start(&["--max-connections", "20"]).await;
    let mut idle = Vec::new();
    for _ in 0..20 {
        // Answers pings for as long as it is open.
        idle.push(RawConnection::to(&process).await);
    }
    tokio::time::timeout(PATIENCE, process.places_an_order()).await.expect("it gets in");
}

#[tokio::test]
async fn a_call_in_progress_keeps_its_connection_when_permits_run_out() {
    let process = Process::start(&["--max-connections", "3"]).await;
    let mut history = process.history().await;
    let follow = ordersystem::proto::catga::orders::v1::StreamEventsRequest { follow: true, ..Default::default() };
    let mut events = history.stream_events(follow).await.expect("opens").into_inner();
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.push(RawConnection::to(&process).await);
    }
    process.places_an_order().await;
    let event = tokio::time::timeout(PATIENCE, async {
        loop {
            let item = events.message().await.expect("continues").expect("does not end");
            if matches!(item.item, Some(ordersystem::proto::catga::orders::v1::stream_events_response::Item::Event(_)))
            {
                break;
            }
        }
    });
    event.await.expect("the event comes");
}

#[tokio::test]
async fn more_idle_connections_than_file_descriptors_stop_no_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let process = Process::start_with_files(256, &["--persistence", "embedded", "--data-dir", path]).await;
    assert!(process.before.contains("allows fewer connections"), "{}", process.before);
    let mut commands = process.commands().await;
    commands.create_order(new_order("customer-1")).await.expect("answered");
    let mut idle = Vec::new();
    for _ in 0..300 {
        let mut stream = TcpStream::connect(process.address).await.expect("connects");
        stream.write_all(PREFACE).await.expect("sent");
        idle.push(stream);
    }
    // The mark of the ids moves every second: several times during this.
    for _ in 0..40 {
        commands.create_order(new_order("customer-1")).await.expect("answered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(commands.create_order(new_order("customer-1")).await.expect("answered").into_inner().revision, 1);
}

#[tokio::test]
async fn unsolicited_frames_leave_no_line_in_the_log() {
    let mut process = Process::start(&[]).await;
    let mut stream = TcpStream::connect(process.address).await.expect("connects");
    stream.write_all(PREFACE).await.expect("sent");
    let unasked = b"\0\0\x08\x06\x01\0\0\0\0notasked".repeat(1_000);
    let (mut read, mut write) = stream.into_split();
    let reading = tokio::spawn(async move { read.read_to_end(&mut Vec::new()).await });
    for _ in 0..100 {
        if write.write_all(&unasked).await.is_err() {
            break;
        }
    }
    drop(write);
    reading.abort();
    RawConnection::to(&process).await;
    process.places_an_order().await;
    process.signal("TERM");
    let log = process.rest_of_log().await;
    assert!(log.lines().count() < 50, "{} lines, such as {:?}", log.lines().count(), log.lines().next());
    assert_eq!(process.end().await, Some(0));
}
