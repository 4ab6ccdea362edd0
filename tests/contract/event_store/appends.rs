use super::*;
use ordersystem::ports::event_store::StoreError;

#[test]
fn the_first_commit_of_a_stream_begins_at_revision_one() {
    race_on_each(BACKENDS, |store| async move {
        let appended = store.append(commit(7, ExpectedRevision::NoStream, &["a", "b"])).await.unwrap();
        let head = store.head().await.unwrap();
        assert!(head > Position(0));
        let expected =
            Appended { stream: StreamId(7), first_revision: 1, last_revision: 2, position: head, replayed: false };
        assert_eq!(appended, expected);
    });
}

#[test]
fn revisions_have_no_gaps() {
    race_on_each(BACKENDS, |store| async move {
        let mut last = 0;
        for count in [1, 3, 1, 2] {
            let appended = store.append(commit(1, ExpectedRevision::Exactly(last), &["x"; 3][..count])).await.unwrap();
            assert_eq!(appended.first_revision, last + 1);
            last = appended.last_revision;
        }
        assert_eq!(revisions(&whole_stream(&store, 1).await), [1, 2, 3, 4, 5, 6, 7]);
    });
}

#[test]
fn an_append_after_an_event_at_a_known_position_appends() {
    race_on_each(BACKENDS, |store| async move {
        let mut last = store.append(commit(1, ExpectedRevision::NoStream, &["x", "x"])).await.unwrap();
        for count in [1, 3, 1] {
            let after = ExpectedRevision::After { revision: last.last_revision, position: last.position };
            last = store.append(commit(1, after, &["x"; 3][..count])).await.unwrap();
            let stale = store.append(commit(1, after, &["y"])).await;
            assert_eq!(stale, Err(AppendError::Conflict { actual: last.last_revision }));
        }
        assert_eq!(revisions(&whole_stream(&store, 1).await), [1, 2, 3, 4, 5, 6, 7]);
    });
}

/// A server that has taken over without the last events may have other events with the same revisions by now.
#[tokio::test]
async fn redis_appends_nothing_after_an_event_with_the_same_revision_at_another_position() {
    let store: Store = Arc::new(RedisEventStore::new(redis_server::shared().connect().await));
    append_each(&store, 2, &["another order"]).await;
    append_each(&store, 1, &["created", "cancelled"]).await;
    let lost = ExpectedRevision::After { revision: 2, position: Position(2) };
    let refused = store.append(commit(1, lost, &["shipped, since it was paid"])).await;
    assert_eq!(refused, Err(AppendError::Conflict { actual: 2 }));
    let found = ExpectedRevision::After { revision: 2, position: Position(3) };
    assert_eq!(store.append(commit(1, found, &["x"])).await.unwrap().last_revision, 3);
}

#[test]
fn an_expectation_that_holds_appends() {
    race_on_each(BACKENDS, |store| async move {
        use ExpectedRevision::{Any, Exactly, Exists, NoStream};
        for (stream, expected, last) in
            [(1, NoStream, 1), (1, Exists, 2), (1, Any, 3), (1, Exactly(3), 4), (2, Any, 1), (3, Exactly(0), 1)]
        {
            let appended = store.append(commit(stream, expected, &["x"])).await.unwrap();
            assert_eq!((appended.first_revision, appended.last_revision), (last, last), "{expected:?}");
        }
    });
}

#[test]
fn an_expectation_that_fails_names_the_actual_revision_and_writes_nothing() {
    race_on_each(BACKENDS, |store| async move {
        use ExpectedRevision::{Exactly, Exists, NoStream};
        append_each(&store, 1, &["a", "b"]).await;
        let head = store.head().await.unwrap();
        for (stream, expected, actual) in [
            (1, NoStream, 2),
            (1, Exactly(0), 2),
            (1, Exactly(1), 2),
            (1, Exactly(3), 2),
            (1, Exactly(u64::MAX), 2),
            (2, Exists, 0),
            (2, Exactly(1), 0),
        ] {
            let refused = store.append(commit(stream, expected, &["x", "y"])).await;
            assert_eq!(refused, Err(AppendError::Conflict { actual }), "{expected:?} on stream {stream}");
        }
        assert_eq!(store.head().await.unwrap(), head);
        assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b"]);
        assert!(whole_stream(&store, 2).await.is_empty());
    });
}

#[test]
fn the_events_of_a_commit_are_adjacent_in_the_log() {
    race_on_each(BACKENDS, |store| async move {
        append_each(&store, 1, &["a"]).await;
        let appended = store.append(commit(2, ExpectedRevision::Any, &["b", "c", "d"])).await.unwrap();
        append_each(&store, 1, &["e"]).await;

        let log = whole_log(&store, 2).await;
        assert_eq!(texts(&log), ["a", "b", "c", "d", "e"]);
        assert_eq!(revisions(&log), [1, 1, 2, 3, 2]);
        assert_eq!(log[3].position, appended.position);
        assert!(log.is_sorted_by(|left, right| left.position < right.position));
    });
}

#[test]
fn payloads_are_read_back_byte_for_byte() {
    race_on_each(BACKENDS, |store| async move {
        // Enough events of all sizes to detect errors in bulk processing too.
        let payload = |index: usize| Bytes::from_iter((0..index % 700).map(|byte| (byte * 31 + index) as u8));
        for first in (0..1_200).step_by(3) {
            let events = (first..first + 3).map(payload).collect();
            let stream = StreamId(first as u64 % 17);
            let all = Commit { id: CommitId::random(), stream, expected: ExpectedRevision::Any, request: None, events };
            store.append(all).await.unwrap();
        }
        let log = whole_log(&store, 100).await;
        assert_eq!(log.len(), 1_200);
        for (index, event) in log.iter().enumerate() {
            assert_eq!(event.payload, payload(index), "event {index}");
            assert_eq!(event.stream, StreamId((index as u64 / 3 * 3) % 17));
        }
        for stream in 0..17 {
            let of_stream: Vec<_> = log.iter().filter(|event| event.stream == StreamId(stream)).cloned().collect();
            assert_eq!(whole_stream(&store, stream).await, of_stream);
        }
    });
}

#[test]
fn a_commit_without_events_is_refused_and_leaves_nothing() {
    race_on_each(BACKENDS, |store| async move {
        let key = request(RequestScope::Stream, "empty", 1);
        let empty = with_request(commit(1, ExpectedRevision::Any, &[]), &key);
        let refused = store.append(empty).await;
        assert!(matches!(refused, Err(AppendError::Store(StoreError::Corrupt(_)))), "{refused:?}");
        assert_eq!(store.head().await.unwrap(), Position(0));
        assert_eq!(store.find_request(StreamId(1), &key).await, Ok(None));
    });
}

#[test]
fn streams_do_not_touch_each_other() {
    race_on_each(BACKENDS, |store| async move {
        // Numbers that agree in their low bits, in their high bits, and at both ends.
        let streams = [0, 1, 2, 1 << 12, 1 << 22, 1 << 62, (1 << 62) + 1, (1 << 63) - 1];
        for round in 0..3 {
            for stream in streams {
                let text = format!("{stream} {round}");
                store.append(commit(stream, ExpectedRevision::Exactly(round), &[&text])).await.unwrap();
            }
        }
        for stream in streams {
            let expected: Vec<_> = (0..3).map(|round| format!("{stream} {round}")).collect();
            assert_eq!(texts(&whole_stream(&store, stream).await), expected);
        }
    });
}

#[test]
fn a_store_reports_that_it_is_healthy_and_which_log_it_is() {
    race_on_each(BACKENDS, |store| async move {
        store.check().await.unwrap();
        assert_ne!(store.log_id().unwrap().0, 0);
        assert_eq!(store.log_id(), store.log_id());
        let key = store.token_key().expect("a store that is written has a key");
        assert_eq!(store.token_key(), Some(key));
        assert_ne!(key.bytes(), &[0; 32]);
    });
}
