//! Whole commits, as needed to copy a log.

use super::*;

/// Every commit of the log, read in pages of `max_events`.
async fn all_commits(store: &Store, max_events: usize) -> Vec<RecordedCommit> {
    let mut all = Vec::new();
    let mut from = Position(0);
    loop {
        let commits = store.read_commits(from, max_events).await.unwrap();
        let Some(last) = commits.last() else { return all };
        from = last.position();
        all.extend(commits);
    }
}

/// The parts that must be the same in another log: all except positions.
fn content(commits: &[RecordedCommit]) -> Vec<RecordedCommit> {
    let mut commits = commits.to_vec();
    for commit in &mut commits {
        let stream = commit.events[0].stream;
        assert!(commit.events.iter().all(|event| event.stream == stream));
        commit.events.iter_mut().for_each(|event| event.position = Position(0));
    }
    commits
}

/// Commits of one to five events on twenty streams, most with a request id of either scope.
fn random_commits(random: &mut fastrand::Rng, count: usize) -> Vec<Commit> {
    let mut revisions = std::collections::HashMap::<u64, u64>::new();
    let one = |index: usize| {
        let stream = random.u64(1..=20);
        let payloads: Vec<_> = (0..random.usize(1..=5)).map(|event| format!("{index}-{event}")).collect();
        let revision = revisions.entry(stream).or_default();
        let expected = match *revision {
            0 => ExpectedRevision::NoStream,
            revision => ExpectedRevision::Exactly(revision),
        };
        *revision += payloads.len() as u64;
        let payloads: Vec<_> = payloads.iter().map(String::as_str).collect();
        let fingerprint = random.u128(..);
        let request = match random.u8(0..3) {
            0 => None,
            1 => Some(request(RequestScope::Log, &format!("log {index}"), fingerprint)),
            _ => Some(request(RequestScope::Stream, &format!("stream-{index}"), fingerprint)),
        };
        Commit { request, ..commit(stream, expected, &payloads) }
    };
    (0..count).map(one).collect()
}

#[test]
fn commits_are_read_whole_with_their_request_keys_whatever_the_page() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    race_on_each(BACKENDS, |store| async move {
        let commits = random_commits(&mut fastrand::Rng::with_seed(seed), 300);
        let mut ends = Vec::new();
        for commit in &commits {
            ends.push(store.append(commit.clone()).await.unwrap().position);
        }
        let all = all_commits(&store, usize::MAX).await;
        let events: Vec<_> = all.iter().flat_map(|commit| commit.events.clone()).collect();
        assert_eq!(events, whole_log(&store, 100).await);
        assert_eq!(all.iter().map(RecordedCommit::position).collect::<Vec<_>>(), ends);
        for (found, made) in all.iter().zip(&commits) {
            assert_eq!(found.request, made.request);
            let (found, again) = (found.to_commit(), made);
            assert_eq!((found.stream, found.expected, &found.events), (again.stream, again.expected, &again.events));
        }
        for max_events in [1, 2, 7, 64] {
            assert_eq!(all_commits(&store, max_events).await, all, "pages of {max_events}");
        }
        assert_eq!(store.read_commits(Position(0), 0).await, Ok(vec![]));
        assert_eq!(store.read_commits(Position(u64::MAX), 10).await, Ok(vec![]));
    });
}

#[test]
fn a_page_of_commits_has_its_bound_and_at_least_one_commit() {
    race_on_each(BACKENDS, |store| async move {
        assert_eq!(store.read_commits(Position(0), 10).await, Ok(vec![]));
        for (stream, payloads) in [(1, &["a", "b", "c"][..]), (2, &["d"]), (1, &["e", "f"]), (3, &["g"])] {
            store.append(commit(stream, ExpectedRevision::Any, payloads)).await.unwrap();
        }
        let sizes = |commits: Vec<RecordedCommit>| commits.iter().map(|commit| commit.events.len()).collect::<Vec<_>>();
        for (max_events, expected) in [(1, &[3][..]), (3, &[3]), (4, &[3, 1]), (5, &[3, 1]), (6, &[3, 1, 2])] {
            assert_eq!(sizes(store.read_commits(Position(0), max_events).await.unwrap()), expected, "{max_events}");
        }
        // From a position within a commit, only the following commits are returned.
        let events = whole_log(&store, 10).await;
        for (from, expected) in
            [(0, &[1, 2, 1][..]), (1, &[1, 2, 1]), (2, &[1, 2, 1]), (3, &[2, 1]), (4, &[1]), (5, &[1])]
        {
            let commits = store.read_commits(events[from].position, 10).await.unwrap();
            assert_eq!(sizes(commits), expected, "from event {from}");
        }
    });
}

#[test]
fn a_page_of_commits_is_bounded_in_bytes() {
    race_on_each(BACKENDS, |store| async move {
        let large = "x".repeat(700_000);
        for stream in 1..=15 {
            store.append(commit(stream, ExpectedRevision::NoStream, &[&large])).await.unwrap();
        }
        let page = store.read_commits(Position(0), usize::MAX).await.unwrap();
        assert_eq!(page.len(), 12, "the one that reaches 8 MiB is the last");
        assert_eq!(all_commits(&store, usize::MAX).await.len(), 15);
    });
}

#[test]
fn a_log_moved_to_any_backend_reads_the_same_and_remembers_the_same_requests() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    for from in BACKENDS {
        race_on_each(BACKENDS, |to| async move {
            println!("  from {}", from.name);
            let source = (from.open)().await;
            let commits = random_commits(&mut fastrand::Rng::with_seed(seed), 200);
            source.append_all(commits.clone()).await.unwrap();
            let recorded = all_commits(&source, usize::MAX).await;
            assert_eq!(recorded.len(), 200);
            for page in recorded.chunks(77) {
                to.append_all(page.iter().map(RecordedCommit::to_commit).collect()).await.unwrap();
            }
            let moved = all_commits(&to, usize::MAX).await;
            assert_eq!(content(&moved), content(&recorded));
            for recorded in &moved {
                let Some(key) = &recorded.request else { continue };
                let first = recorded.events[0].clone();
                let retry = Commit { expected: ExpectedRevision::Any, ..recorded.to_commit() };
                let answer = to.append(retry.clone()).await.unwrap();
                assert_eq!(
                    (answer.stream, answer.first_revision, answer.replayed),
                    (first.stream, first.revision, true)
                );
                assert_eq!((answer.position, to.head().await.unwrap()), (recorded.position(), moved[199].position()));
                let other = RequestKey { fingerprint: key.fingerprint ^ 1, ..key.clone() };
                assert_eq!(to.append(with_request(retry, &other)).await, Err(AppendError::RequestIdReused));
            }
            // And it continues like any other log.
            let next = to.append(commit(1, ExpectedRevision::Exists, &["next"])).await.unwrap();
            assert!(next.position > moved[199].position());
        });
    }
}

#[test]
fn many_commits_are_appended_in_their_order_up_to_the_first_that_cannot_be() {
    race_on_each(BACKENDS, |store| async move {
        let known = request(RequestScope::Log, "known", 1);
        let known_in_stream = request(RequestScope::Stream, "known", 2);
        store.append(with_request(commit(900, ExpectedRevision::NoStream, &["first"]), &known)).await.unwrap();
        store
            .append(with_request(commit(900, ExpectedRevision::Exactly(1), &["second"]), &known_in_stream))
            .await
            .unwrap();
        let wrong = [
            (commit(900, ExpectedRevision::NoStream, &["x"]), AppendError::Conflict { actual: 2 }),
            (commit(901, ExpectedRevision::Exactly(1), &["x"]), AppendError::Conflict { actual: 0 }),
            (with_request(commit(902, ExpectedRevision::NoStream, &["x"]), &known), AppendError::RequestIdReused),
            (
                with_request(commit(900, ExpectedRevision::Exactly(2), &["x"]), &known_in_stream),
                AppendError::RequestIdReused,
            ),
        ];
        let mut streams = 1_000..;
        let mut fresh = |count: usize| -> Vec<Commit> {
            let new = |stream: u64| {
                let key = request(RequestScope::Log, &format!("request-{stream}"), stream.into());
                with_request(commit(stream, ExpectedRevision::NoStream, &["a", "b"]), &key)
            };
            streams.by_ref().take(count).map(new).collect()
        };
        for (wrong, error) in wrong {
            let before = whole_log(&store, 4_096).await.len();
            // More than any backend has in flight at once.
            let (mut commits, rest) = (fresh(350), fresh(150));
            commits.push(wrong);
            commits.extend(rest);
            let given: Vec<(StreamId, Bytes)> = commits
                .iter()
                .flat_map(|commit| commit.events.iter().map(|event| (commit.stream, event.clone())))
                .collect();
            assert_eq!(store.append_all(commits).await, Err(error.clone()));
            let found: Vec<_> = whole_log(&store, 4_096).await[before..]
                .iter()
                .map(|event| (event.stream, event.payload.clone()))
                .collect();
            assert!(found.len() <= 700 && given.starts_with(&found), "{error}: {} events", found.len());
            // The commits that were not appended have left no request ids behind that would conflict.
            let missing: Vec<_> =
                given[found.len()..].iter().map(|(stream, _)| *stream).filter(|stream| stream.0 >= 1_000).collect();
            if let Some(stream) = missing.first() {
                let key = request(RequestScope::Log, &format!("request-{stream}"), stream.0.into());
                assert_eq!(store.find_request(*stream, &key).await, Ok(None));
                let again = with_request(commit(stream.0, ExpectedRevision::NoStream, &["a", "b"]), &key);
                store.append_all(vec![again]).await.unwrap();
            }
        }
        let long = fresh(700);
        store.append_all(long.clone()).await.unwrap();
        let newest = store.read_log(Position(u64::MAX), Direction::Backward, 1_400).await.unwrap();
        let newest: Vec<_> = newest.iter().rev().map(|event| event.stream).collect();
        assert_eq!(newest, long.iter().flat_map(|commit| [commit.stream; 2]).collect::<Vec<_>>());
        let empty = Commit { events: Vec::new(), ..commit(1, ExpectedRevision::NoStream, &[]) };
        let refused = store.append_all(vec![commit(5, ExpectedRevision::NoStream, &["x"]), empty]).await;
        assert!(matches!(refused, Err(AppendError::Store(_))), "{refused:?}");
        assert!(whole_stream(&store, 5).await.len() <= 1);
    });
}
