use std::{collections::HashMap, time::Duration};

use tokio::{sync::Barrier, task::JoinSet};

use super::{reads::next_batch, *};

/// Reached only if something hangs; shorter than the limit of the whole test, to report what hangs.
const HANGS_AFTER: Duration = Duration::from_secs(180);

/// Runs `tasks` concurrently, started together, and returns their results.
async fn race<T, F>(tasks: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(tasks));
    let mut set = JoinSet::new();
    for index in 0..tasks {
        let (start, task) = (Arc::clone(&start), task(index));
        set.spawn(async move {
            start.wait().await;
            task.await
        });
    }
    tokio::time::timeout(HANGS_AFTER, set.join_all()).await.expect("no task hangs")
}

/// Rounds of a race: enough for the racers to meet even on two busy cores. They go through the rounds without waiting for each other: a
/// racer that falls behind repeats what others have done, which is faster than doing it, so that they stay close together.
const ROUNDS: u64 = 1_000;
/// For stores in which each write goes to several servers.
const REPLICATED_ROUNDS: u64 = 100;

/// The number of rounds of a race: fewer for stores with replicas, which need confirmations.
async fn rounds(store: &Store) -> u64 {
    if store.confirmed().await.unwrap() == Position(0) { ROUNDS } else { REPLICATED_ROUNDS }
}

#[test]
fn of_racing_appends_with_one_expectation_exactly_one_wins() {
    race_on_each(BACKENDS, |store| async move {
        let rounds = rounds(&store).await;
        let answers = race(4, |_| {
            let store = Arc::clone(&store);
            async move {
                let mut answers = Vec::new();
                for round in 0..rounds {
                    let expected =
                        if round == 0 { ExpectedRevision::NoStream } else { ExpectedRevision::Exactly(round) };
                    answers.push(store.append(commit(1, expected, &["x"])).await);
                }
                answers
            }
        })
        .await;
        for round in 0..rounds {
            let answers: Vec<_> = answers.iter().map(|answers| &answers[round as usize]).collect();
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
            let right = |answer: &&Result<Appended, AppendError>| match answer {
                Ok(appended) => appended.first_revision == round + 1,
                Err(error) => matches!(error, AppendError::Conflict { actual } if *actual > round),
            };
            assert!(answers.iter().all(right), "{answers:?}");
        }
        assert_eq!(revisions(&whole_stream(&store, 1).await), (1..=rounds).collect::<Vec<_>>());
        assert_eq!(whole_log(&store, 100).await.len() as u64, rounds);
    });
}

#[test]
fn racing_attempts_of_one_request_make_one_commit() {
    race_on_each(BACKENDS, |store| async move {
        race_requests(&store, RequestScope::Stream, |_, _| 1).await;
    });
}

#[test]
fn racing_attempts_of_one_request_in_the_log_make_one_stream() {
    race_on_each(BACKENDS, |store| async move {
        race_requests(&store, RequestScope::Log, |round, racer| round * 4 + racer).await;
    });
}

/// Lets racers send the same requests, each on the stream that `stream` returns for a round and a racer.
async fn race_requests(store: &Store, scope: RequestScope, stream: fn(u64, u64) -> u64) {
    let rounds = rounds(store).await;
    let answers = race(4, |racer| {
        let store = Arc::clone(store);
        async move {
            let mut answers = Vec::new();
            for round in 0..rounds {
                let key = request(scope, &format!("request-{round}"), 1);
                let tried = commit(stream(round, racer as u64), ExpectedRevision::Any, &["x", "y"]);
                answers.push(store.append(with_request(tried, &key)).await.unwrap());
            }
            answers
        }
    })
    .await;
    for round in 0..rounds as usize {
        assert_one_commit(&answers.iter().map(|answers| answers[round]).collect::<Vec<_>>());
    }
    assert_eq!(whole_log(store, 1_000).await.len() as u64, rounds * 2);
}

fn assert_one_commit(answers: &[Appended]) {
    assert_eq!(answers.iter().filter(|answer| !answer.replayed).count(), 1, "{answers:?}");
    let place = |answer: &Appended| (answer.stream, answer.first_revision, answer.last_revision, answer.position);
    assert!(answers.iter().all(|answer| place(answer) == place(&answers[0])), "{answers:?}");
}

#[test]
fn racing_writers_of_one_stream_leave_no_gaps() {
    race_on_each(BACKENDS, |store| async move {
        let answers = race(8, |writer| {
            let store = Arc::clone(&store);
            async move {
                let mut answers = Vec::new();
                for round in 0..50 {
                    let text = format!("{writer} {round}");
                    answers
                        .push((text.clone(), store.append(commit(1, ExpectedRevision::Any, &[&text])).await.unwrap()));
                }
                answers
            }
        })
        .await;
        let stream = whole_stream(&store, 1).await;
        assert_eq!(revisions(&stream), (1..=400).collect::<Vec<_>>());
        assert!(stream.is_sorted_by(|left, right| left.position < right.position));
        for (text, appended) in answers.into_iter().flatten() {
            let event = &stream[appended.first_revision as usize - 1];
            assert_eq!((event.payload.as_ref(), event.position), (text.as_bytes(), appended.position));
        }
    });
}

#[test]
fn racing_commits_are_never_seen_in_part() {
    race_on_each(BACKENDS, |store| async move {
        const WRITERS: usize = 4;
        const COMMITS: usize = 200;
        // Long, to catch a store that shows the events of a commit one by one.
        let mut commit_events = vec!["more"; 29];
        commit_events.push("last");
        race(WRITERS + 1, |index| {
            let (store, events) = (Arc::clone(&store), commit_events.clone());
            async move {
                if index == 0 {
                    return see_only_whole_commits(&store, (WRITERS * COMMITS * events.len()) as u64).await;
                }
                for _ in 0..COMMITS {
                    store.append(commit(1, ExpectedRevision::Any, &events)).await.unwrap();
                }
            }
        })
        .await;
        let log = whole_log(&store, 1_000).await;
        assert!(log.chunks(30).all(|commit| texts(commit) == commit_events));
    });
}

/// Reads the newest event until it has revision `until`: that event is visible for the shortest time, and reading it waits for no lock of a
/// stream.
async fn see_only_whole_commits(store: &Store, until: Revision) {
    let mut last_revision = 0;
    while last_revision < until {
        if let [newest] = &store.read_log(Position(u64::MAX), Direction::Backward, 1).await.unwrap()[..] {
            assert_eq!(newest.payload, "last", "a commit in part");
            last_revision = newest.revision;
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_follower_neither_skips_nor_repeats_while_writers_race() {
    race_on_each(BACKENDS, |store| async move {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        const WRITERS: usize = 6;
        const COMMITS: usize = 200;
        let followers: Vec<_> = (0..3)
            .map(|_| tokio::spawn(follow_until(LogFollower::new(Arc::clone(&store), Position(0)), WRITERS * COMMITS)))
            .collect();
        race(WRITERS, |writer| {
            let store = Arc::clone(&store);
            let mut random = fastrand::Rng::with_seed(seed.wrapping_add(writer as u64));
            async move {
                for _ in 0..COMMITS {
                    let events = &["x", "y", "last"][random.usize(0..3)..];
                    store.append(commit(random.u64(0..20), ExpectedRevision::Any, events)).await.unwrap();
                    if random.u8(0..10) == 0 {
                        tokio::time::sleep(Duration::from_micros(random.u64(0..300))).await;
                    }
                }
            }
        })
        .await;
        let log = whole_log(&store, 100).await;
        let mut last_revisions: HashMap<StreamId, Revision> = HashMap::new();
        for event in &log {
            let last = last_revisions.insert(event.stream, event.revision).unwrap_or_default();
            assert_eq!(event.revision, last + 1, "seed {seed}: stream {}", event.stream);
        }
        for follower in followers {
            let seen = tokio::time::timeout(HANGS_AFTER, follower).await.expect("the follower ends").unwrap();
            assert_eq!(seen, log, "seed {seed}");
        }
    });
}

/// Follows until the last events of `commits` commits have been seen.
async fn follow_until(mut follower: LogFollower, commits: usize) -> Vec<StoredEvent> {
    let mut seen: Vec<StoredEvent> = Vec::new();
    while seen.iter().filter(|event| event.payload == "last").count() < commits {
        seen.extend(next_batch(&mut follower).await);
    }
    seen
}

#[test]
fn a_follower_that_waits_is_always_woken() {
    race_on_each(BACKENDS, |store| async move {
        // A follower that is created during an append sees it or is woken by it; nothing else would wake it.
        for round in 1..=300 {
            let append = tokio::spawn({
                let store = Arc::clone(&store);
                async move { store.append(commit(1, ExpectedRevision::Any, &["x"])).await.unwrap() }
            });
            let mut follower = LogFollower::new(Arc::clone(&store), Position(0));
            let seen = async {
                let mut seen = 0;
                while seen < round {
                    seen += next_batch(&mut follower).await.len();
                }
            };
            tokio::time::timeout(HANGS_AFTER, seen).await.expect("woken in time");
            append.await.unwrap();
        }
    });
}
