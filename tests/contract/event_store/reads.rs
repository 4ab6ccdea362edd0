use std::time::Duration;

use ordersystem::ports::event_store::{LogPoint, MAX_READ_BYTES, MAX_READ_EVENTS, ReadBound};

use super::*;
use Direction::{Backward, Forward};

#[test]
fn acknowledged_commits_can_be_read_at_once() {
    race_on_each(BACKENDS, |store| async move {
        for round in 1..=600 {
            let appended = store.append(commit(round % 5, ExpectedRevision::Any, &["x"])).await.unwrap();
            assert_eq!(store.head().await.unwrap(), appended.position);
            let newest = store.read_log(Position(u64::MAX), Backward, 1).await.unwrap();
            assert_eq!((newest[0].stream, newest[0].position), (appended.stream, appended.position));
            let of_stream = store.read_stream(appended.stream, u64::MAX, Backward, 1).await.unwrap();
            assert_eq!(of_stream, newest);
        }
    });
}

#[test]
fn an_unknown_stream_and_an_empty_log_read_as_nothing() {
    race_on_each(BACKENDS, |store| async move {
        assert_eq!(store.head().await, Ok(Position(0)));
        for direction in [Forward, Backward] {
            for from in [0, 1, u64::MAX] {
                assert_eq!(store.read_log(Position(from), direction, 10).await, Ok(vec![]));
                assert_eq!(store.read_stream(StreamId(1), from, direction, 10).await, Ok(vec![]));
            }
        }
        append_each(&store, 1, &["a"]).await;
        assert_eq!(store.read_stream(StreamId(2), 1, Forward, 10).await, Ok(vec![]));
    });
}

#[test]
fn a_stream_reads_both_ways_from_any_revision() {
    race_on_each(BACKENDS, |store| async move {
        for text in ["a", "b", "c", "d", "e", "f"] {
            append_each(&store, 1, &[text]).await;
            append_each(&store, 2, &["noise"]).await;
        }
        let cases: [(u64, Direction, usize, &[u64]); 14] = [
            (1, Forward, 10, &[1, 2, 3, 4, 5, 6]),
            (0, Forward, 2, &[1, 2]),
            (3, Forward, 2, &[3, 4]),
            (6, Forward, 10, &[6]),
            (7, Forward, 10, &[]),
            (u64::MAX, Forward, 10, &[]),
            (1, Forward, 0, &[]),
            (u64::MAX, Backward, 3, &[6, 5, 4]),
            (7, Backward, 1, &[6]),
            (6, Backward, 10, &[6, 5, 4, 3, 2, 1]),
            (3, Backward, 2, &[3, 2]),
            (1, Backward, 10, &[1]),
            (0, Backward, 10, &[]),
            (6, Backward, 0, &[]),
        ];
        for (from, direction, max_events, expected) in cases {
            let events = store.read_stream(StreamId(1), from, direction, max_events).await.unwrap();
            assert_eq!(revisions(&events), expected, "{direction:?} from {from}, {max_events} events");
            assert!(events.iter().all(|event| event.stream == StreamId(1) && event.payload != "noise"));
        }
    });
}

#[test]
fn the_log_reads_both_ways_from_any_position() {
    race_on_each(BACKENDS, |store| async move {
        append_each(&store, 1, &["a", "b"]).await;
        store.append(commit(2, ExpectedRevision::Any, &["c", "d"])).await.unwrap();
        append_each(&store, 1, &["e"]).await;
        let all = whole_log(&store, 10).await;
        let place = |index: usize| all[index].position;

        let cases: [(Position, Direction, usize, &[&str]); 12] = [
            (Position(0), Forward, 10, &["a", "b", "c", "d", "e"]),
            (Position(0), Forward, 2, &["a", "b"]),
            (place(1), Forward, 2, &["c", "d"]),
            (place(2), Forward, 10, &["d", "e"]),
            (place(4), Forward, 10, &[]),
            (Position(u64::MAX), Forward, 10, &[]),
            (Position(0), Forward, 0, &[]),
            (Position(u64::MAX), Backward, 2, &["e", "d"]),
            (place(4), Backward, 10, &["d", "c", "b", "a"]),
            (place(3), Backward, 1, &["c"]),
            (place(0), Backward, 10, &[]),
            (Position(0), Backward, 10, &[]),
        ];
        for (from, direction, max_events, expected) in cases {
            let events = store.read_log(from, direction, max_events).await.unwrap();
            assert_eq!(texts(&events), expected, "{direction:?} from {from}, {max_events} events");
        }
    });
}

#[test]
fn positions_grow_in_commit_order() {
    race_on_each(BACKENDS, |store| async move {
        let mut acknowledged = Vec::new();
        for round in 0..50 {
            let appended = store.append(commit(round % 3, ExpectedRevision::Any, &["x", "y"])).await.unwrap();
            acknowledged.push(appended.position);
        }
        assert!(acknowledged.is_sorted_by(|left, right| left < right));
        let log = whole_log(&store, 7).await;
        assert!(log.is_sorted_by(|left, right| left.position < right.position));
        let last_of_commits: Vec<_> = log.chunks(2).map(|commit| commit[1].position).collect();
        assert_eq!(last_of_commits, acknowledged);
    });
}

#[test]
fn a_read_stops_at_the_maximum_number_of_events() {
    race_on_each(BACKENDS, |store| async move {
        let texts: Vec<_> = (0..100).map(|index| index.to_string()).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        for _ in 0..=MAX_READ_EVENTS / 100 {
            store.append(commit(1, ExpectedRevision::Any, &texts)).await.unwrap();
        }
        let total = (MAX_READ_EVENTS / 100 + 1) * 100;
        assert!(total > MAX_READ_EVENTS);
        for direction in [Forward, Backward] {
            let (from, start) = if direction == Forward { (0, 1) } else { (u64::MAX, total as u64) };
            for events in [
                store.read_log(Position(from), direction, usize::MAX).await.unwrap(),
                store.read_stream(StreamId(1), from, direction, usize::MAX).await.unwrap(),
            ] {
                assert_eq!((events.len(), events[0].revision), (MAX_READ_EVENTS, start), "{direction:?}");
            }
        }
        assert_eq!(whole_log(&store, usize::MAX).await.len(), total);
    });
}

#[test]
fn a_read_stops_at_the_maximum_number_of_bytes() {
    race_on_each(BACKENDS, |store| async move {
        let size = 512 * 1024;
        let large = Bytes::from(vec![7; size]);
        let most = MAX_READ_BYTES / size;
        for _ in 0..most + 4 {
            let events = vec![large.clone()];
            let one = Commit {
                id: CommitId::random(),
                stream: StreamId(1),
                expected: ExpectedRevision::Any,
                request: None,
                events,
            };
            store.append(one).await.unwrap();
        }
        for direction in [Forward, Backward] {
            let from = if direction == Forward { 0 } else { u64::MAX };
            assert_eq!(store.read_log(Position(from), direction, 1_000).await.unwrap().len(), most, "{direction:?}");
            assert_eq!(
                store.read_stream(StreamId(1), from, direction, 1_000).await.unwrap().len(),
                most,
                "{direction:?}"
            );
        }
        assert_eq!(whole_log(&store, 1_000).await.len(), most + 4);
    });
}

/// Sizes that stop reads after one event, after several, and at the end of the log.
#[test]
fn a_read_after_a_point_stops_after_the_event_that_brings_it_to_the_given_bytes() {
    race_on_each(BACKENDS, |store| async move {
        let sizes = [300_000, 10, 10, 300_000, 100_000, 100_000, 100_000, 10].repeat(5);
        for size in &sizes {
            let events = vec![Bytes::from(vec![7; *size])];
            let (id, expected) = (CommitId::random(), ExpectedRevision::Any);
            store.append(Commit { id, stream: StreamId(1), expected, request: None, events }).await.unwrap();
        }
        for with_fingerprint in [true, false] {
            let (mut point, mut read) = (LogPoint::START, Vec::new());
            while read.len() < sizes.len() {
                let events = store.read_after(point, ReadBound::new(100, 256 * 1024)).await.unwrap();
                let bytes: Vec<_> = events.iter().map(|event| event.payload.len()).collect();
                let before_last: usize = bytes.iter().rev().skip(1).sum();
                assert!(before_last < 256 * 1024, "more than it takes: {bytes:?}");
                let is_whole = read.len() + bytes.len() == sizes.len();
                assert!(is_whole || bytes.iter().sum::<usize>() >= 256 * 1024, "less than there is: {bytes:?}");
                let last = events.last().expect("at least one event");
                point = if with_fingerprint { LogPoint::after(last) } else { last.position.into() };
                read.extend(bytes);
            }
            assert_eq!(read, sizes);
            assert_eq!(store.read_after(point, ReadBound::new(100, 256 * 1024)).await.unwrap(), vec![]);
        }
        let two = store.read_after(LogPoint::START, ReadBound::events(2)).await.unwrap();
        assert_eq!(two.len(), 2);
    });
}

#[test]
fn an_append_wakes_waiting_followers() {
    race_on_each(BACKENDS, |store| async move {
        append_each(&store, 1, &["before"]).await;
        let mut wake = store.wake();
        // Not read until after the append: waking does not depend on which comes first.
        append_each(&store, 1, &["after"]).await;
        tokio::time::timeout(Duration::from_secs(60), wake.changed()).await.expect("woken in time").unwrap();

        let mut follower = LogFollower::new(Arc::clone(&store), Position(0));
        assert_eq!(texts(&follower.poll_batch(10).await.unwrap()), ["before", "after"]);
        assert_eq!(follower.poll_batch(10).await.unwrap(), vec![]);
        assert_eq!(follower.position(), store.head().await.unwrap());
        let writer = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            append_each(&store, 1, &["later"]).await;
        });
        let later =
            tokio::time::timeout(Duration::from_secs(60), next_batch(&mut follower)).await.expect("woken in time");
        assert_eq!(texts(&later), ["later"]);
        writer.await.unwrap();
    });
}

/// The next events; waits for them if there are none.
pub async fn next_batch(follower: &mut LogFollower) -> Vec<StoredEvent> {
    loop {
        let batch = follower.poll_batch(64).await.unwrap();
        if !batch.is_empty() {
            return batch;
        }
        follower.wait().await;
    }
}

#[test]
fn the_distance_of_two_positions_counts_the_events_between() {
    race_on_each(BACKENDS, |store| async move {
        let first = store.append(commit(1, ExpectedRevision::Any, &["x"])).await.unwrap().position;
        let mut last = first;
        for _ in 0..25 {
            last = store.append(commit(1, ExpectedRevision::Any, &["x"])).await.unwrap().position;
        }
        assert_eq!((store.distance(first, last), store.distance(last, last), store.distance(last, first)), (25, 0, 0));
    });
}
