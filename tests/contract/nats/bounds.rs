//! The bounds of a server and of a stream.

use super::*;

#[tokio::test]
async fn a_full_server_is_reported_and_nothing_is_left_behind() {
    let mut server = NatsServer::start_with("jetstream { store_dir: FOLDER, max_file_store: 1MB }");
    let store = server.store().await;
    let large = "x".repeat(100_000);
    let mut kept = 0;
    let full = loop {
        match store.append(commit(1, ExpectedRevision::Any, &large)).await {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
        assert!(kept < 20, "it has to be full some time");
    };
    assert!(matches!(full, AppendError::Full(_)), "{full}");
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains("accepts no more"), "{why}");
    let refused = store.append(create(2, "create-1", &large)).await;
    assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
    assert_eq!(stream_texts(&store, 1).await.len(), kept, "what it has can be read");
    server.kill();
    server.start_again_with("jetstream { store_dir: FOLDER, max_file_store: 1GB }");
    let deadline = Instant::now() + Duration::from_secs(60);
    let appended = loop {
        match store.append(create(2, "create-1", "small")).await {
            Err(AppendError::Store(StoreError::Unavailable(_))) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            appended => break appended.unwrap(),
        }
    };
    assert!(!appended.replayed, "the request of a refused commit is free");
    store.check().await.unwrap();
}

#[tokio::test]
async fn a_stream_at_its_own_bounds_is_a_full_store_and_nothing_of_a_command_is_unknown() {
    for server in [NatsServer::start(""), NatsServer::start_current("")] {
        let (prefix, raw) = (fresh_prefix(), server.raw().await);
        let bounded = |max_bytes| stream::Config {
            name: format!("{prefix}-log"),
            subjects: vec![format!("{prefix}.log.*")],
            max_bytes,
            discard: stream::DiscardPolicy::New,
            deny_delete: true,
            deny_purge: true,
            ..stream::Config::default()
        };
        raw.create_stream(bounded(1_000_000)).await.unwrap();
        let store = server.store_of(&prefix).await;
        let large = "x".repeat(100_000);
        let mut kept = 0;
        let full = loop {
            match store.append(commit(1, ExpectedRevision::Any, &large)).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 20, "it has to be full some time");
        };
        assert!(matches!(full, AppendError::Full(_)), "{full}");
        let head = store.head().await.unwrap();
        // Its request id has been reserved, in a stream that has room; that does not count as execution of the command.
        let refused = store.append(create(2, "create-1", &large)).await;
        assert!(matches!(refused, Err(AppendError::Full(_))), "{refused:?}");
        let why = store.check().await.unwrap_err().to_string();
        assert!(why.contains("accepts no more"), "{why}");
        assert_eq!((store.head().await.unwrap(), stream_texts(&store, 1).await.len()), (head, kept));
        raw.update_stream(bounded(10_000_000)).await.unwrap();
        store.append(create(2, "create-1", &large)).await.unwrap();
        assert_eq!(stream_texts(&store, 2).await.len(), 1, "the command is done once");
    }
}

#[tokio::test]
async fn a_commit_that_nats_does_not_accept_is_refused_with_the_reason() {
    let server = shared();
    let store = server.store().await;
    let max_bytes = store.max_commit_bytes().expect("the server has said it");
    assert!((1_000_000..1_048_576).contains(&max_bytes), "{max_bytes}");
    for size in [max_bytes + 1, 2_000_000] {
        let text = "x".repeat(size);
        for large in [commit(7, ExpectedRevision::Any, &text), create(7, "large", &text)] {
            for refused in [
                store.append(large.clone()).await.err(),
                store.append_all(vec![Commit { expected: ExpectedRevision::NoStream, ..large }]).await.err(),
            ] {
                let Some(AppendError::TooLarge { stream, bytes, max_bytes: told, .. }) = refused else {
                    panic!("{refused:?}")
                };
                assert_eq!((stream, bytes, told), (StreamId(7), size, max_bytes));
            }
        }
    }
    let text = "x".repeat(max_bytes);
    let id: String = "i".repeat(128);
    store.append(create(7, &id, &text)).await.expect("what is just as large is taken, with the longest request id");
    let before = store.head().await.unwrap();
    let many = Commit { events: vec![Bytes::from_static(b"x"); 257], ..commit(1, ExpectedRevision::Any, "x") };
    let refused = store.append(many).await;
    let Err(AppendError::Store(StoreError::Corrupt(why))) = refused else { panic!("{refused:?}") };
    assert!(why.contains("257") && why.contains("256"), "{why}");
    assert_eq!(store.head().await, Ok(before));
    let most = Commit { events: vec![Bytes::from_static(b"x"); 256], ..commit(1, ExpectedRevision::Any, "x") };
    let appended = store.append(most).await.unwrap();
    let read = store.read_log(before, Direction::Forward, 1_000).await.unwrap();
    assert_eq!((read.len(), read[255].position), (256, appended.position));
}
