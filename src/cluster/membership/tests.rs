use std::collections::HashSet;

use super::*;
use crate::{
    backends::memory::{checkpoint_store::MemoryCheckpointStore, lease::MemoryLeaseStore},
    cluster::name_lease,
    id_generator::{EPOCH_UNIX_MS, Reservation},
    ports::clock::ManualClock,
};

const START_MICROS: i64 = (EPOCH_UNIX_MS as i64 + 1_000_000_000) * 1_000;

struct Node {
    membership: Membership,
    ids: Arc<IdGenerator>,
    clock: Arc<ManualClock>,
}

fn node(name: &str, leases: &Arc<MemoryLeaseStore>, checkpoints: &Arc<MemoryCheckpointStore>, behind_ms: i64) -> Node {
    node_as(name, leases, checkpoints, behind_ms, |_| {})
}

fn node_as(
    name: &str,
    leases: &Arc<MemoryLeaseStore>,
    checkpoints: &Arc<MemoryCheckpointStore>,
    behind_ms: i64,
    change: impl FnOnce(&mut MembershipDeps),
) -> Node {
    let clock = Arc::new(ManualClock::new(START_MICROS - behind_ms * 1_000));
    let (leases, checkpoints) =
        (Arc::clone(leases) as Arc<dyn LeaseStore>, Arc::clone(checkpoints) as Arc<dyn CheckpointStore>);
    let mark = LeasedMark::new(Arc::clone(&checkpoints));
    let preferred = NodeIdentity::new(1, 7).unwrap();
    let ids = Arc::new(IdGenerator::without_worker_id(preferred, clock.clone(), Box::new(mark.clone())));
    let (name, address) = (name.to_owned(), "127.0.0.1:1".to_owned());
    let mut parts = MembershipDeps {
        leases,
        checkpoints,
        ids: ids.clone(),
        mark,
        left_marks: None,
        clock: clock.clone(),
        name,
        address,
        preferred,
        is_pinned: false,
        roles: Vec::new(),
    };
    change(&mut parts);
    Node { membership: Membership::new(parts), ids, clock }
}

/// Some ids of each millisecond in which the node issues any, while its clock advances by `ms`.
fn issue(node: &Node, ms: u64) -> Vec<u64> {
    let mut issued = Vec::new();
    for _ in 0..ms {
        node.clock.advance_ms(1);
        if let Ok(Reservation::Ids(run)) = node.ids.reserve(8) {
            issued.extend(run.ids());
        }
    }
    issued
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_owner_of_a_worker_number_repeats_no_id_of_a_former_owner_unaware_of_its_loss() {
    let (leases, checkpoints) = (Arc::new(MemoryLeaseStore::new()), Arc::new(MemoryCheckpointStore::new()));
    let (one, other) = (node("one", &leases, &checkpoints, 0), node("other", &leases, &checkpoints, 500));
    assert!(one.ids.next().is_err(), "not a member, no ids");
    one.membership.join().await.unwrap();
    let mut issued = issue(&one, 100);
    // The lease ends without its owner noticing. The other one's clock is behind.
    let lost = one.membership.member().unwrap();
    leases.release(&lost.worker_lease).await.unwrap();
    other.membership.join().await.unwrap();
    assert_eq!((one.ids.node(), other.ids.node()), (lost.identity, lost.identity));
    issued.extend(issue(&other, 2_000));
    issued.extend(issue(&one, 5_000));
    assert!(issued.len() > 10_000, "both have issued ids");
    let distinct: HashSet<u64> = issued.iter().copied().collect();
    assert_eq!(distinct.len(), issued.len(), "an id was issued twice");
    let ids = one.ids.clone();
    let refused = tokio::task::spawn_blocking(move || ids.advance_mark()).await.unwrap();
    assert!(refused.is_err(), "the previous owner can no longer move the mark");
    assert!(issue(&one, 10).is_empty(), "and issues no more");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_gets_its_own_worker_number_and_releases_it_at_the_end() {
    let (leases, checkpoints) = (Arc::new(MemoryLeaseStore::new()), Arc::new(MemoryCheckpointStore::new()));
    let nodes: Vec<_> = (0..MAX_NODES).map(|n| node(&format!("n{n}"), &leases, &checkpoints, 0)).collect();
    let mut workers = HashSet::new();
    for node in &nodes {
        node.membership.join().await.unwrap();
        assert!(workers.insert(node.membership.status().get().unwrap()));
    }
    let late = node("late", &leases, &checkpoints, 0);
    assert_eq!(late.membership.try_join().await, Err(JoinError::Full));
    nodes[3].membership.leave().await;
    late.membership.join().await.unwrap();
}

fn stores() -> (Arc<MemoryLeaseStore>, Arc<MemoryCheckpointStore>) {
    (Arc::new(MemoryLeaseStore::new()), Arc::new(MemoryCheckpointStore::new()))
}

fn worker_of(node: &Node) -> u8 {
    node.membership.status().get().unwrap().worker_id()
}

const DAY_MS: i64 = 86_400_000;

/// Saves a mark of a worker number that is ahead of the clock at the start.
async fn mark_ahead(checkpoints: &MemoryCheckpointStore, worker: u8, by_ms: i64) {
    let unix_ms = u64::try_from(START_MICROS / 1_000 + by_ms).unwrap();
    let identity = NodeIdentity::new(1, worker).unwrap();
    let mark = Checkpoint::at(Position(unix_ms).into(), 0);
    checkpoints.save(&mark_checkpoint(identity), mark).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_number_whose_mark_is_ahead_of_the_clock_is_skipped() {
    let (leases, checkpoints) = stores();
    mark_ahead(&checkpoints, 7, DAY_MS).await;
    mark_ahead(&checkpoints, 8, 60_000).await;
    // Within the allowed lead of ids over the clock.
    mark_ahead(&checkpoints, 9, 4_000).await;
    let one = node("one", &leases, &checkpoints, 0);
    one.membership.join().await.unwrap();
    assert_eq!(worker_of(&one), 9);
    assert!(issue(&one, 10).len() > 1);
    // The skipped numbers are not held.
    assert_eq!(leases.holder("worker-1-7").await, Ok(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn if_all_numbers_are_ahead_the_node_takes_the_least_and_its_ids_wait() {
    let (leases, checkpoints) = stores();
    for worker in 0..MAX_NODES {
        mark_ahead(&checkpoints, worker, DAY_MS * (1 + i64::from(worker))).await;
    }
    let one = node("one", &leases, &checkpoints, 0);
    one.membership.join().await.unwrap();
    assert_eq!(worker_of(&one), 0);
    let waiting = one.ids.next().unwrap_err();
    assert_eq!(waiting.to_string(), "new ids wait 23 h 59 m: the clock is behind ids that may have been issued");
    // The mark stays unchanged, however often the node starts.
    one.membership.leave().await;
    let again = node("again", &leases, &checkpoints, 0);
    again.membership.join().await.unwrap();
    assert_eq!(again.ids.next(), Err(waiting));
    again.clock.advance_ms(DAY_MS);
    let ids = again.ids.clone();
    tokio::task::spawn_blocking(move || ids.advance_mark().unwrap()).await.unwrap();
    assert!(again.ids.next().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_clock_was_ahead_for_a_moment_takes_another_number_and_repeats_no_id() {
    let (leases, checkpoints) = stores();
    let (one, pinned) = (
        node("one", &leases, &checkpoints, 0),
        node_as("pinned", &leases, &checkpoints, 0, |parts| {
            parts.preferred = NodeIdentity::new(1, 3).unwrap();
            parts.is_pinned = true;
        }),
    );
    let mut issued = Vec::new();
    for node in [&one, &pinned] {
        node.membership.join().await.unwrap();
        node.clock.advance_ms(DAY_MS);
        let ids = node.ids.clone();
        tokio::task::spawn_blocking(move || ids.advance_mark().unwrap()).await.unwrap();
        issued.extend(issue(node, 5));
        node.clock.advance_ms(-DAY_MS);
        assert!(node.ids.next().is_err());
        node.membership.leave_a_number_that_is_ahead().await;
    }
    assert_eq!((worker_of(&one), one.ids.node().worker_id()), (8, 8));
    issued.extend(issue(&one, 5));
    let distinct: HashSet<u64> = issued.iter().copied().collect();
    assert_eq!((distinct.len(), issued.len()), (issued.len(), 15 * 8));
    assert_eq!(leases.holder("worker-1-7").await, Ok(None), "the number is given up");
    assert_eq!(worker_of(&pinned), 3, "it was given this number and no other");
    assert!(pinned.ids.next().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_number_is_never_replaced_and_numbers_belong_to_a_datacenter() {
    let (leases, checkpoints) = stores();
    let pinned_to = |name: &str, datacenter| {
        node_as(name, &leases, &checkpoints, 0, |parts| {
            parts.preferred = NodeIdentity::new(datacenter, 7).unwrap();
            parts.is_pinned = true;
        })
    };
    let (one, same, elsewhere) = (pinned_to("one", 1), pinned_to("same", 1), pinned_to("elsewhere", 2));
    one.membership.join().await.unwrap();
    let refused = same.membership.try_join().await.unwrap_err();
    let identity = NodeIdentity::new(1, 7).unwrap();
    let address = "127.0.0.1:1".to_owned();
    assert_eq!(refused, JoinError::NumberTaken { identity, name: "one".to_owned(), address });
    for part in ["one", "127.0.0.1:1", "--worker-id 7", "datacenter 1"] {
        assert!(refused.to_string().contains(part), "{refused}");
    }
    assert_eq!(leases.holder(&name_lease("same")).await, Ok(None), "a refused node does not keep the name");
    elsewhere.membership.join().await.unwrap();
    assert_eq!(worker_of(&elsewhere), 7);
    let issued: HashSet<u64> = [&one, &elsewhere].into_iter().flat_map(|node| issue(node, 5)).collect();
    assert_eq!(issued.len(), 2 * 5 * 8, "no id twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_of_a_folder_counts_where_it_is_further_than_the_stored_one() {
    let (leases, checkpoints) = stores();
    let folder = tempfile::tempdir().unwrap();
    let unix_ms = u64::try_from(START_MICROS / 1_000 + 4_000).unwrap();
    let identity = NodeIdentity::new(1, 7).unwrap();
    let left = FolderMarks::new(folder.path(), identity);
    crate::id_generator::HighWaterMark::store(&left, unix_ms).unwrap();
    let one = node_as("one", &leases, &checkpoints, 0, |parts| parts.left_marks = Some(left));
    one.membership.join().await.unwrap();
    let first = crate::id_generator::parse(issue(&one, 10)[0]).unwrap();
    assert_eq!(first.worker_id, 7);
    assert!(first.timestamp_ms_unix >= unix_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_leave_lowers_the_mark_so_that_the_next_start_need_not_wait() {
    let (leases, checkpoints) = stores();
    let mut issued = Vec::new();
    // Faster than the clock can catch up with marks ahead of it.
    for _ in 0..10 {
        let one = node("one", &leases, &checkpoints, START_MICROS / 1_000 - now_of(&issued));
        one.membership.join().await.unwrap();
        assert_eq!(worker_of(&one), 7);
        issued.extend(issue(&one, 10));
        let ids = one.ids.clone();
        tokio::task::spawn_blocking(move || ids.close().unwrap()).await.unwrap();
        one.membership.leave().await;
    }
    let distinct: HashSet<u64> = issued.iter().copied().collect();
    assert_eq!((distinct.len(), issued.len()), (issued.len(), 10 * 10 * 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaving_node_does_not_lower_the_mark_of_a_later_owner() {
    let (leases, checkpoints) = stores();
    let (one, other) = (node("one", &leases, &checkpoints, 0), node("other", &leases, &checkpoints, 0));
    one.membership.join().await.unwrap();
    let mut issued = issue(&one, 10);
    leases.release(&one.membership.member().unwrap().worker_lease).await.unwrap();
    other.clock.advance_ms(2_000);
    other.membership.join().await.unwrap();
    issued.extend(issue(&other, 500));
    leases.release(&other.membership.member().unwrap().worker_lease).await.unwrap();
    let ids = one.ids.clone();
    tokio::task::spawn_blocking(move || ids.close().unwrap()).await.unwrap();
    one.membership.leave().await;
    let next = node("next", &leases, &checkpoints, 0);
    next.membership.join().await.unwrap();
    assert_eq!([&one, &other, &next].map(|node| node.ids.node().worker_id()), [7, 7, 7]);
    issued.extend(issue(&next, 5_000));
    let distinct: HashSet<u64> = issued.iter().copied().collect();
    assert_eq!(distinct.len(), issued.len(), "an id was issued twice");
}

/// The Unix millisecond of the last id.
fn now_of(issued: &[u64]) -> i64 {
    let last = issued.last().map(|id| crate::id_generator::parse(*id).unwrap().timestamp_ms_unix);
    last.map_or(START_MICROS / 1_000, |unix_ms| i64::try_from(unix_ms).unwrap())
}

/// The leases left by an ended process: its name, its work and its worker number.
async fn leave_behind(leases: &MemoryLeaseStore, name: &str, process: &str) {
    let holder = format!("0123456789abcdef.{process}@127.0.0.1:9");
    for (lease, holder) in [(name_lease(name), holder.as_str()), ("worker-1-7".into(), name), ("outbox".into(), name)] {
        leases.acquire(&lease, holder, WORK_TTL).await.unwrap().unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn leases_of_an_ended_process_of_this_host_are_taken_at_once_and_others_are_not() {
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let this = Process::this().unwrap().to_string();
    let (view, rest) = this.split_once('.').unwrap();
    let started = rest.split_once('.').unwrap().1;
    let ended = format!("{view}.{}.{started}", gone.id());
    let elsewhere = format!("{:016x}.{}.{started}", 7, gone.id());
    for (left, is_freed) in [(ended, true), (elsewhere, false), (this, false), ("x".to_owned(), false)] {
        for (name, worker_after) in [("one", 7), ("another", 7)] {
            let (leases, checkpoints) = stores();
            leave_behind(&leases, "one", &left).await;
            let roles = vec![(leases.clone() as Arc<dyn LeaseStore>, "outbox".to_owned())];
            let node = node_as(name, &leases, &checkpoints, 0, |parts| parts.roles = roles);
            let joined = node.membership.try_join().await;
            match (is_freed, name) {
                (true, _) => {
                    assert_eq!(joined, Ok(()), "{left}");
                    assert_eq!(worker_of(&node), worker_after);
                    assert_eq!(leases.holder("outbox").await, Ok(None), "the work is free for any node");
                }
                (false, "one") => {
                    assert_eq!(joined, Err(JoinError::NameTaken { address: "127.0.0.1:9".to_owned() }), "{left}");
                }
                (false, _) => {
                    assert_eq!((joined, worker_of(&node)), (Ok(()), 8), "{left}");
                    assert!(leases.holder("outbox").await.unwrap().is_some(), "{left}");
                }
            }
        }
    }
}

/// A store of checkpoints in which a save, once `holds`, does not end until it is released.
#[derive(Debug)]
struct HeldStore {
    inner: MemoryCheckpointStore,
    holds: std::sync::atomic::AtomicBool,
    held: tokio::sync::Semaphore,
    released: tokio::sync::Semaphore,
}

#[async_trait::async_trait]
impl CheckpointStore for HeldStore {
    async fn load(&self, name: &str) -> Result<Option<Checkpoint>, CheckpointError> {
        self.inner.load(name).await
    }

    async fn save(&self, name: &str, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        if self.holds.swap(false, std::sync::atomic::Ordering::AcqRel) {
            self.held.add_permits(1);
            self.released.acquire().await.unwrap().forget();
        }
        self.inner.save(name, checkpoint).await
    }
}

#[test]
fn a_node_that_rejoins_while_its_mark_is_on_its_way_to_a_silent_store_still_answers() {
    // One thread serves all calls of the node: if it blocked on the store, it would wait for itself.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (answers, answered) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let leases = Arc::new(MemoryLeaseStore::new());
        let held = Arc::new(HeldStore {
            inner: MemoryCheckpointStore::new(),
            holds: false.into(),
            held: tokio::sync::Semaphore::new(0),
            released: tokio::sync::Semaphore::new(0),
        });
        let one = node_as("one", &leases, &Arc::new(MemoryCheckpointStore::new()), 0, |parts| {
            parts.checkpoints = held.clone();
            parts.mark = LeasedMark::new(held.clone());
            let (preferred, clock, mark) = (parts.preferred, parts.clock.clone(), Box::new(parts.mark.clone()));
            parts.ids = Arc::new(IdGenerator::without_worker_id(preferred, clock, mark));
        });
        one.membership.join().await.unwrap();
        let ids = one.membership.parts.ids.clone();
        one.clock.advance_ms(2_000);
        held.holds.store(true, std::sync::atomic::Ordering::Release);
        let keeper = tokio::task::spawn_blocking(move || ids.advance_mark());
        held.held.acquire().await.unwrap().forget();
        // It loses its leases, as after an outage, and joins again.
        let lost = one.membership.member().unwrap();
        one.membership.lose(&lost, "released", JoinError::Full);
        leases.release(&lost.worker_lease).await.unwrap();
        leases.release(&lost.name_lease).await.unwrap();
        let one = Arc::new(one);
        let joining = tokio::spawn({
            let one = one.clone();
            async move { one.membership.try_join().await }
        });
        while leases.holder("worker-1-7").await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        answers.send("while the store is silent").unwrap();
        held.released.add_permits(1);
        let _ = keeper.await.unwrap();
        joining.await.unwrap().unwrap();
        assert!(one.membership.parts.ids.next().is_ok());
        answers.send("and has joined").unwrap();
    });
    let within = Duration::from_secs(30);
    let heard: Vec<_> = (0..2).map_while(|_| answered.recv_timeout(within).ok()).collect();
    runtime.shutdown_background();
    assert_eq!(heard, ["while the store is silent", "and has joined"]);
}
