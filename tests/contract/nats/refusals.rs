//! Servers, streams and logs that are not used.

use super::*;

/// Why this server is refused.
async fn refusal(options: NatsOptions) -> String {
    let store = NatsEventStore::new(Nats::start(options).await.unwrap());
    match store.until_verified().await {
        Err(ConnectError::Fatal(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_password_and_a_server_without_jetstream_are_refused_permanently_and_the_password_is_not_shown() {
    let server = NatsServer::start("authorization { user: order, password: \"p@ss:w/rd,1\" }");
    let with = |login: &str| NatsOptions::new(format!("nats://{login}@127.0.0.1:{}", server.port), fresh_prefix());
    let refused = refusal(with("order:wr0ng")).await;
    assert!(refused.to_lowercase().contains("authorization") && !refused.contains("wr0ng"), "{refused}");
    for login in ["order:p@ss:w/rd,1", "order:p%40ss:w%2Frd,1"] {
        NatsEventStore::new(Nats::start(with(login)).await.unwrap()).until_verified().await.unwrap();
    }
    let server = NatsServer::start("authorization { token: \"t0k/n\" }");
    let options = NatsOptions::new(format!("nats://t0k/n@127.0.0.1:{}", server.port), fresh_prefix());
    NatsEventStore::new(Nats::start(options).await.unwrap()).until_verified().await.unwrap();

    let server = NatsServer::start_with("");
    let refused = refusal(server.options(&fresh_prefix())).await;
    assert!(refused.contains("JetStream"), "{refused}");
    let refused = refusal(NatsOptions { replicas: 3, ..shared().options(&fresh_prefix()) }).await;
    assert!(refused.contains("replicas"), "{refused}");
}

#[tokio::test]
async fn a_stream_that_would_lose_data_is_refused_with_every_reason() {
    let server = shared();
    let raw = server.raw().await;
    let good = |prefix: &str| stream::Config {
        name: format!("{prefix}-log"),
        subjects: vec![format!("{prefix}.log.*")],
        deny_delete: true,
        deny_purge: true,
        ..stream::Config::default()
    };
    type Spoil = fn(stream::Config) -> stream::Config;
    let cases: [(Spoil, &str); 7] = [
        (|config| stream::Config { max_age: Duration::from_secs(3_600), ..config }, "maximum age"),
        (|config| stream::Config { max_messages: 5, ..config }, "maximum of messages"),
        (|config| stream::Config { max_bytes: 5_000_000, ..config }, "maximum of bytes"),
        (|config| stream::Config { max_messages_per_subject: 5, ..config }, "messages per subject"),
        (|config| stream::Config { storage: stream::StorageType::Memory, ..config }, "storage"),
        (|config| stream::Config { deny_purge: false, ..config }, "deny_purge"),
        (|config| stream::Config { deny_delete: false, ..config }, "deny_delete"),
    ];
    for (spoil, reason) in cases {
        let prefix = fresh_prefix();
        raw.create_stream(spoil(good(&prefix))).await.unwrap();
        let refused = refusal(server.options(&prefix)).await;
        assert!(refused.contains(reason) && refused.contains(&format!("{prefix}-log")), "{refused}");
    }
    let prefix = fresh_prefix();
    raw.create_stream(good(&prefix)).await.unwrap();
    let store = server.store_of(&prefix).await;
    store.append(commit(1, ExpectedRevision::Any, "a")).await.unwrap();
    // A stream with foreign messages is not mistaken for a log.
    let prefix = fresh_prefix();
    raw.create_stream(good(&prefix)).await.unwrap();
    raw.publish(format!("{prefix}.log.7"), "theirs".into()).await.unwrap().await.unwrap();
    let refused = refusal(server.options(&prefix)).await;
    assert!(refused.contains("first message"), "{refused}");
}

#[tokio::test]
async fn a_log_that_returns_as_another_is_not_mistaken_for_it() {
    let mut server = NatsServer::start("");
    let prefix = fresh_prefix();
    let store = server.store_of(&prefix).await;
    store.append(commit(1, ExpectedRevision::Any, "a")).await.unwrap();
    server.kill();
    std::fs::remove_dir_all(server.folder.path().join("jetstream")).unwrap();
    server.start_again();
    let deadline = Instant::now() + Duration::from_secs(60);
    let why = loop {
        let why = store.check().await.unwrap_err().to_string();
        if why.contains("gone") || Instant::now() > deadline {
            break why;
        }
        sleep(Duration::from_millis(50)).await;
    };
    assert!(why.contains("gone"), "{why}");
    let refused = store.append(commit(1, ExpectedRevision::Any, "b")).await;
    assert!(matches!(refused, Err(AppendError::Store(StoreError::Unavailable(_)))), "{refused:?}");
    let raw = server.raw().await;
    assert!(
        raw.get_stream(format!("{prefix}-log")).await.is_err(),
        "nothing is made in the place of a log that is gone"
    );
    // A node that starts now creates another log, which the first one does not touch.
    let other = server.store_of(&prefix).await;
    sleep(Duration::from_millis(200)).await;
    let why = store.check().await.unwrap_err().to_string();
    assert!(why.contains("another log"), "{why}");
    assert!(store.append(commit(1, ExpectedRevision::Any, "b")).await.is_err());
    assert_eq!(other.head().await, Ok(Position(0)));
}
