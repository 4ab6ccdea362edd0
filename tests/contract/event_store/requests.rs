use super::*;

#[test]
fn a_repeated_request_gets_the_first_answer_even_after_later_events() {
    race_on_each(BACKENDS, |store| async move {
        append_each(&store, 1, &["a"]).await;
        let key = request(RequestScope::Stream, "pay-1", 10);
        let pay = || with_request(commit(1, ExpectedRevision::Exactly(1), &["b", "c"]), &key);
        let first = store.append(pay()).await.unwrap();
        assert!(!first.replayed);
        append_each(&store, 1, &["d"]).await;
        append_each(&store, 2, &["e"]).await;

        // The expectation of the retry no longer holds; the request id is checked before it.
        for _ in 0..2 {
            assert_eq!(store.append(pay()).await, Ok(Appended { replayed: true, ..first }));
        }
        assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b", "c", "d", "e"]);
    });
}

#[test]
fn a_repeated_request_in_the_log_gets_the_first_stream() {
    race_on_each(BACKENDS, |store| async move {
        let key = request(RequestScope::Log, "create-1", 10);
        let create = |stream| with_request(commit(stream, ExpectedRevision::NoStream, &["a", "b"]), &key);
        let first = store.append(create(1)).await.unwrap();
        append_each(&store, 1, &["c"]).await;

        assert_eq!(store.append(create(2)).await, Ok(Appended { replayed: true, ..first }));
        assert_eq!(store.append(create(1)).await, Ok(Appended { replayed: true, ..first }));
        assert_eq!(first.stream, StreamId(1));
        assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b", "c"]);
        assert!(whole_stream(&store, 2).await.is_empty());
    });
}

#[test]
fn the_same_request_id_with_another_payload_is_refused() {
    race_on_each(BACKENDS, |store| async move {
        for (scope, stream) in [(RequestScope::Stream, 1), (RequestScope::Log, 2)] {
            // Fingerprints that differ only in their upper half are different as well.
            let key = request(scope, "id", 5);
            let other = request(scope, "id", 5 | 1 << 100);
            store.append(with_request(commit(stream, ExpectedRevision::Any, &["a"]), &key)).await.unwrap();
            let head = store.head().await.unwrap();

            let reused = store.append(with_request(commit(stream, ExpectedRevision::Any, &["b"]), &other)).await;
            assert_eq!(reused, Err(AppendError::RequestIdReused), "{scope:?}");
            assert_eq!(store.find_request(StreamId(stream), &other).await, Err(AppendError::RequestIdReused));
            assert_eq!(store.head().await.unwrap(), head);
        }
    });
}

#[test]
fn a_request_id_of_a_refused_commit_is_still_free() {
    race_on_each(BACKENDS, |store| async move {
        for (scope, stream) in [(RequestScope::Stream, 1), (RequestScope::Log, 2)] {
            let key = request(scope, "id", 5);
            let refused = store.append(with_request(commit(stream, ExpectedRevision::Exists, &["a"]), &key)).await;
            assert_eq!(refused, Err(AppendError::Conflict { actual: 0 }));
            assert_eq!(store.find_request(StreamId(stream), &key).await, Ok(None));

            let other_payload = request(scope, "id", 6);
            let second = with_request(commit(stream, ExpectedRevision::NoStream, &["b"]), &other_payload);
            assert!(!store.append(second).await.unwrap().replayed);
            assert_eq!(texts(&whole_stream(&store, stream).await), ["b"]);
        }
    });
}

#[test]
fn scopes_and_streams_keep_their_request_ids_apart() {
    race_on_each(BACKENDS, |store| async move {
        let in_stream = request(RequestScope::Stream, "id", 1);
        let in_log = request(RequestScope::Log, "id", 2);
        for (stream, key) in [(1, &in_stream), (2, &in_stream), (1, &in_log)] {
            let appended =
                store.append(with_request(commit(stream, ExpectedRevision::Any, &["x"]), key)).await.unwrap();
            assert!(!appended.replayed, "{key:?} on stream {stream}");
        }
        assert_eq!(store.head().await.unwrap(), whole_log(&store, 10).await[2].position);
        // Many ids on one stream are all remembered, and none on another one.
        for id in 0..20 {
            let key = request(RequestScope::Stream, &format!("id-{id}"), id);
            assert!(
                !store.append(with_request(commit(3, ExpectedRevision::Any, &["x"]), &key)).await.unwrap().replayed
            );
        }
        for id in 0..20 {
            let key = request(RequestScope::Stream, &format!("id-{id}"), id);
            let again = store.append(with_request(commit(3, ExpectedRevision::Any, &["x"]), &key)).await.unwrap();
            assert_eq!((again.first_revision, again.replayed), (id as u64 + 1, true));
        }
    });
}

#[test]
fn a_request_can_be_looked_up() {
    race_on_each(BACKENDS, |store| async move {
        let in_stream = request(RequestScope::Stream, "a", 1);
        let in_log = request(RequestScope::Log, "b", 2);
        let first = store.append(with_request(commit(1, ExpectedRevision::Any, &["x"]), &in_stream)).await.unwrap();
        let second = store.append(with_request(commit(2, ExpectedRevision::Any, &["y", "z"]), &in_log)).await.unwrap();
        append_each(&store, 1, &["later"]).await;
        append_each(&store, 2, &["later"]).await;

        let found = |appended| Ok(Some(Appended { replayed: true, ..appended }));
        assert_eq!(store.find_request(StreamId(1), &in_stream).await, found(first));
        assert_eq!(store.find_request(StreamId(2), &in_stream).await, Ok(None));
        // In the scope of the log the stream does not matter: the result names the first one.
        for stream in [2, 1, 99] {
            assert_eq!(store.find_request(StreamId(stream), &in_log).await, found(second));
        }
        let unknown = request(RequestScope::Log, "a", 1);
        assert_eq!(store.find_request(StreamId(1), &unknown).await, Ok(None));
    });
}
