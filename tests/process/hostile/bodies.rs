//! Request bodies that are large, incomplete, or small only on the wire.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::support::{CREATE, Memory, RawConnection, STREAM_EVENTS, announcement, framed};
use crate::support::{PATIENCE, Process};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("written");
    encoder.finish().expect("finished")
}

/// The `grpc-status` of the reply to a request that is sent completely.
async fn status_of(connection: &mut RawConnection, path: &str, is_gzip: bool, message: Bytes) -> String {
    let (response, mut body) = connection.begin(path, is_gzip, message).await;
    // Fails if it has been refused already.
    let _ = body.send_data(Bytes::new(), true);
    let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
    response.headers().get("grpc-status").expect("a refusal").to_str().expect("text").to_owned()
}

#[tokio::test]
async fn a_length_that_is_only_announced_reserves_nothing() {
    let process = Process::start(&[]).await;
    process.places_an_order().await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let (mut open, mut connections) = (Vec::new(), Vec::new());
    // One less than a connection may have open, on as many connections as needed.
    for _ in 0..8 {
        let mut connection = RawConnection::to(&process).await;
        for _ in 0..127 {
            open.push(connection.begin(CREATE, false, announcement(1_000_000)).await);
        }
        connections.push(connection);
    }
    // All of them have arrived once a later request is answered, on each connection.
    for connection in &mut connections {
        assert_eq!(status_of(connection, STREAM_EVENTS, false, framed(0, &[0xff])).await, "3");
    }
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 50, "{grown} MiB for {} announcements", open.len());
}

#[tokio::test]
async fn messages_that_are_never_finished_share_a_bounded_budget() {
    let process = Process::start(&[]).await;
    process.places_an_order().await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let mut refused = 0;
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut connection = RawConnection::to(&process).await;
        for _ in 0..16 {
            let message = [&announcement(1_000_001)[..], &[0; 1_000_000]].concat();
            let (response, body) = connection.begin(CREATE, false, message.into()).await;
            open.push(tokio::spawn(async move {
                let response = response.await;
                drop(body);
                response
            }));
        }
    }
    // 128 MB have been started, half of which the budget accepts; the others are refused.
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        refused = open.iter().filter(|call| call.is_finished()).count();
        if refused >= 48 {
            break;
        }
    }
    assert!(refused >= 48, "{refused} refused");
    process.places_an_order().await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 200, "{grown} MiB");
    for call in open {
        if call.is_finished() {
            let response = call.await.expect("no panic").expect("an answer");
            assert_eq!(response.headers()["grpc-status"], "8");
        } else {
            call.abort();
        }
    }
}

#[tokio::test]
async fn small_compressed_messages_stay_small_in_memory() {
    let process = Process::start(&[]).await;
    process.places_an_order().await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let mut connection = RawConnection::to(&process).await;
    // Two million empty items; as many as the largest message holds; unknown event types.
    let items = |count: usize| [0x2a, 0].repeat(count);
    let kinds = [&[0x2a, 0x80, 0xf1, 0x04][..], &[0x7f].repeat(80_000)].concat();
    for _ in 0..5 {
        for (path, message) in [(CREATE, items(2_000_000)), (CREATE, items(800_000)), (STREAM_EVENTS, kinds.clone())] {
            for is_gzip in [false, true] {
                let message = if is_gzip { framed(1, &gzip(&message)) } else { framed(0, &message) };
                let status = status_of(&mut connection, path, is_gzip, message).await;
                assert!(["3", "8"].contains(&&*status), "{path}: {status}");
            }
        }
    }
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 64, "{grown} MiB");
}
