//! Streams that are not read keep no turn that the calls of others wait for.

use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use ordersystem::proto::catga::{
    ids::v1::{GenerateIdsRequest, StreamIdsRequest, id_service_client::IdServiceClient},
    orders::v1::{StreamEventsRequest, StreamStart},
};
use prost::Message;

use super::{
    memory::{get_large_order, large_order},
    support::{GET_ORDER, Memory, RawConnection, STREAM_EVENTS, STREAM_IDS, calls_and_does_not_read, framed},
};
use crate::support::{PATIENCE, Process, new_order};

type Unread = (Vec<RawConnection>, Vec<RecvStream>);

/// Opens streams of which the client accepts nothing but the heads of the responses.
async fn open_unread(process: &Process, path: &str, is_gzip: bool, request: &impl Message) -> Unread {
    let message = framed(0, &request.encode_to_vec());
    let (mut connections, mut called) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut connection = RawConnection::without_windows(process).await;
        let (response, mut body) = connection.begin(path, is_gzip, message.clone()).await;
        body.send_data(Bytes::new(), true).expect("sent");
        called.push(response);
        connections.push(connection);
    }
    let mut unread = Vec::new();
    for response in called {
        let response = tokio::time::timeout(PATIENCE, response).await.expect("in time").expect("an answer");
        assert!(!response.headers().contains_key("grpc-status"), "refused: {response:?}");
        unread.push(response.into_body());
    }
    // What each has begun by now, it can only end by itself.
    tokio::time::sleep(Duration::from_millis(300)).await;
    (connections, unread)
}

#[tokio::test]
async fn streams_of_ids_that_are_not_read_do_not_delay_the_ids_of_others() {
    let process = Process::start(&[]).await;
    // Messages that tonic gathers: it asks for a further one before it hands them over.
    let endless = StreamIdsRequest { count: 0, batch_size: 1_000 };
    let _unread = open_unread(&process, STREAM_IDS, false, &endless).await;
    let mut ids = IdServiceClient::new(process.channel().await);
    for _ in 0..10 {
        let ids = ids.generate_ids(GenerateIdsRequest { count: 1_000 });
        // Far less than the time limits that would end what stands still.
        tokio::time::timeout(PATIENCE / 4, ids).await.expect("in time").expect("issued");
    }
}

#[tokio::test]
async fn streams_of_events_that_are_not_read_do_not_delay_those_of_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().to_str().expect("text");
    let process = Process::start(&["--persistence", "embedded", "--data-dir", path]).await;
    let mut commands = process.commands().await;
    // Small events, behind twice the size of the in-memory tail of the log: streams read them from the disk, in turns.
    for items in std::iter::repeat_n(1, 200).chain(std::iter::repeat_n(1_000, 80)) {
        commands.create_order(large_order(items)).await.expect("placed");
    }
    let earliest = StreamEventsRequest { start: StreamStart::Earliest.into(), ..Default::default() };
    // A call that declares a compression goes another way.
    for is_gzip in [false, true] {
        let _unread = open_unread(&process, STREAM_EVENTS, is_gzip, &earliest).await;
        let read = async {
            let mut events = process.history().await.stream_events(earliest.clone()).await.expect("opens").into_inner();
            let mut read = 0;
            while events.message().await.expect("no error").is_some() {
                read += 1;
            }
            read
        };
        let read = tokio::time::timeout(PATIENCE / 4, read).await.expect("in time");
        assert!(read >= 280, "{read} events");
    }
}

#[tokio::test]
async fn replies_that_are_not_read_do_not_end_the_streams_of_others() {
    let process = Process::start(&[]).await;
    let get = get_large_order(&process, 250).await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        let mut connection = RawConnection::without_windows(&process).await;
        unread.extend(connection.unread(GET_ORDER, &get, 60).await);
    }
    for customer in 0..50 {
        process.commands().await.create_order(new_order(&format!("c-{customer}"))).await.expect("placed");
    }
    // The first event is too large for what each connection may always send: the stream ends after it, and is resumed.
    let mut request = StreamEventsRequest { start: StreamStart::Earliest.into(), ..Default::default() };
    let mut read = Vec::new();
    while read.iter().sum::<usize>() < 51 {
        let mut events = process.history().await.stream_events(request.clone()).await.expect("opens").into_inner();
        let mut count = 0;
        while let Ok(Some(event)) = tokio::time::timeout(PATIENCE, events.message()).await.expect("in time") {
            request = StreamEventsRequest { start: StreamStart::After.into(), cursor: event.cursor, ..request };
            count += 1;
        }
        assert!(count > 0, "no progress after {read:?}");
        read.push(count);
    }
}

#[tokio::test]
async fn many_small_messages_that_are_not_read_cost_no_more_than_large_ones() {
    let process = Process::start(&[]).await;
    let memory = Memory::of(&process);
    let before = memory.now_mib();
    memory.mark();
    let request = framed(0, &StreamIdsRequest { count: 1_000_000_000, batch_size: 1 }.encode_to_vec());
    let mut unread = Vec::new();
    for _ in 0..4 {
        unread.push(calls_and_does_not_read(&process, STREAM_IDS, &request, 50).await);
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    process.places_an_order().await;
    let grown = memory.peak_mib().saturating_sub(before);
    assert!(grown < 100, "{grown} MiB");
}
