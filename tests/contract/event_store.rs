//! What every event store guarantees. A backend joins with one line at the end of this file.

mod appends;
mod follower;
mod races;
mod reads;
mod requests;

use std::sync::Arc;

use bytes::Bytes;
use ordersystem::{
    backends::memory::event_store::MemoryEventStore,
    event_store::{
        AppendError, Appended, Commit, CommitId, Direction, EventStore, ExpectedRevision, LogFollower, Position,
        RequestKey, RequestScope, Revision, StoredEvent, StreamId,
    },
};

type Store = Arc<dyn EventStore>;

/// Makes one test of each case and gives it a store of its own: fresh, empty and able to be written.
macro_rules! contract {
    ($backend:ident, $new_store:expr, { $($module:ident: $($case:ident)+;)+ }) => {
        mod $backend {
            use super::*;
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $case() {
                    $module::$case($new_store.await).await;
                }
            )+)+
        }
    };
}

/// All cases, for one backend: its name, and a future of a new store.
macro_rules! every_case {
    ($backend:ident, $new_store:expr) => {
        contract!($backend, $new_store, {
            appends:
                the_first_commit_of_a_stream_begins_at_revision_one
                revisions_have_no_gaps
                an_expectation_that_holds_appends
                an_expectation_that_fails_names_the_actual_revision_and_writes_nothing
                the_events_of_a_commit_stand_together_in_the_log
                payloads_come_back_byte_for_byte
                a_commit_without_events_is_refused_and_leaves_nothing
                streams_do_not_touch_each_other
                a_store_says_that_it_is_well_and_which_log_it_is;
            requests:
                a_repeated_request_gets_the_first_answer_even_after_later_events
                a_repeated_request_in_the_log_gets_the_first_stream
                the_same_request_id_with_another_payload_is_refused
                a_request_id_of_a_refused_commit_is_still_free
                scopes_and_streams_keep_their_request_ids_apart
                a_request_can_be_looked_up;
            reads:
                what_is_acknowledged_can_be_read_at_once
                an_unknown_stream_and_an_empty_log_read_as_nothing
                a_stream_reads_both_ways_from_any_revision
                the_log_reads_both_ways_from_any_position
                positions_grow_in_commit_order
                a_read_stops_at_the_most_events
                a_read_stops_at_the_most_bytes
                an_append_wakes_who_waits;
            races:
                of_racing_appends_with_one_expectation_exactly_one_wins
                racing_tries_of_one_request_make_one_commit
                racing_tries_of_one_request_in_the_log_make_one_stream
                racing_writers_of_one_stream_leave_no_gaps
                racing_commits_are_never_seen_in_part
                a_follower_neither_skips_nor_repeats_while_writers_race
                a_follower_that_waits_is_always_woken;
        });
    };
}

/// A commit of `payloads` to `stream`.
fn commit(stream: u64, expected: ExpectedRevision, payloads: &[&str]) -> Commit {
    let events = payloads.iter().map(|payload| Bytes::copy_from_slice(payload.as_bytes())).collect();
    Commit { id: CommitId::random(), stream: StreamId(stream), expected, request: None, events }
}

fn with_request(commit: Commit, request: &RequestKey) -> Commit {
    Commit { request: Some(request.clone()), ..commit }
}

fn request(scope: RequestScope, id: &str, fingerprint: u128) -> RequestKey {
    RequestKey { scope, id: id.into(), fingerprint }
}

/// Appends one event a payload, each in a commit of its own.
async fn append_each(store: &Store, stream: u64, payloads: &[&str]) {
    for payload in payloads {
        store.append(commit(stream, ExpectedRevision::Any, &[payload])).await.unwrap();
    }
}

/// The whole log, read forward in batches of `batch`.
async fn whole_log(store: &Store, batch: usize) -> Vec<StoredEvent> {
    let mut all = Vec::new();
    let mut from = Position(0);
    loop {
        let events = store.read_log(from, Direction::Forward, batch).await.unwrap();
        let Some(last) = events.last() else { return all };
        from = last.position;
        all.extend(events);
    }
}

async fn whole_stream(store: &Store, stream: u64) -> Vec<StoredEvent> {
    store.read_stream(StreamId(stream), 1, Direction::Forward, usize::MAX).await.unwrap()
}

fn revisions(events: &[StoredEvent]) -> Vec<Revision> {
    events.iter().map(|event| event.revision).collect()
}

fn texts(events: &[StoredEvent]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.payload).unwrap()).collect()
}

every_case!(memory, async { Arc::new(MemoryEventStore::default()) as Store });

#[tokio::test]
async fn a_full_memory_store_refuses_appends_says_so_and_still_reads() {
    let store: Store = Arc::new(MemoryEventStore::new(3));
    append_each(&store, 1, &["a", "b"]).await;
    let too_much = store.append(commit(2, ExpectedRevision::Any, &["c", "d"])).await;
    assert!(matches!(too_much, Err(AppendError::Full(_))), "{too_much:?}");
    assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b"]);
    store.check().await.unwrap();

    append_each(&store, 2, &["c"]).await;
    assert!(store.check().await.is_err());
    assert!(matches!(store.append(commit(1, ExpectedRevision::Any, &["e"])).await, Err(AppendError::Full(_))));
    assert_eq!(texts(&whole_log(&store, 10).await), ["a", "b", "c"]);
}
