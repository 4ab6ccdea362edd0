//! A node's place among the nodes of a log: taken, kept, taken again when it was lost, given up.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    LeasedMark, MAX_NODES,
    id_mark::Claim,
    mark_checkpoint, name_lease, position_checkpoint,
    process::{self, Process},
    worker_lease,
};
use crate::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    clock::Clock,
    event_store::Position,
    id_generator::{FolderMarks, IdGenerator, MAX_BORROW_MS, MAX_CLOCK_LEAD_MS, NodeIdentity},
    lease::{Lease, LeaseError, LeaseStore, WORK_TTL},
    outage::Outage,
};

/// How often a member renews its leases and says how far it is.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The pause before a node that is no member tries to become one.
const JOIN_AGAIN: Duration = Duration::from_millis(500);
/// How often a node whose ids wait for its clock looks for another worker number.
const LOOK_FOR_ANOTHER: Duration = Duration::from_secs(10);
/// How long taking one lease from a process that has ended may take; else it expires.
const FREE_TIMEOUT: Duration = Duration::from_secs(2);

/// What a membership works with.
#[derive(Clone, Debug)]
pub struct MembershipParts {
    /// Where names and worker numbers are leased: where the log is.
    pub leases: Arc<dyn LeaseStore>,
    /// Where marks and places are kept.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// What issues the ids of the worker number.
    pub ids: Arc<IdGenerator>,
    /// The mark of those ids.
    pub mark: LeasedMark,
    /// The marks that a node without a lease has left in this node's folder, if it has one.
    pub left_marks: Option<FolderMarks>,
    /// The time that the mark is reckoned in.
    pub clock: Arc<dyn Clock>,
    /// The name of the node.
    pub name: String,
    /// Where it can be reached, `host:port`: shown to others.
    pub address: String,
    /// The datacenter of the node, and the worker number that is tried first.
    pub preferred: NodeIdentity,
    /// Whether it is that worker number or none.
    pub is_pinned: bool,
    /// The leases of work that one node does at a time, held under the names of nodes.
    pub roles: Vec<(Arc<dyn LeaseStore>, String)>,
}

/// Why a node is not a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Another live node has the name. It may be what is left of this one, until its lease ends.
    NameTaken {
        /// Where the other one can be reached.
        address: String,
    },
    /// Another live node has the worker number that this one was given.
    NumberTaken {
        /// The number.
        identity: NodeIdentity,
        /// The name of the other one.
        name: String,
        /// Where it can be reached.
        address: String,
    },
    /// All worker numbers of the datacenter are taken.
    Full,
    /// Out of reach: trying again helps.
    Unavailable(String),
}

/// A place among the nodes of a log.
#[derive(Clone, Debug)]
pub struct Member {
    /// The worker number.
    pub identity: NodeIdentity,
    name_lease: Lease,
    worker_lease: Lease,
}

/// Whether a node is a member now. Shared with health.
#[derive(Debug)]
pub struct MembershipStatus(Mutex<Result<NodeIdentity, JoinError>>);

impl MembershipStatus {
    /// The node's part of ids, or why it has none.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn get(&self) -> Result<NodeIdentity, JoinError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, status: Result<NodeIdentity, JoinError>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Makes a node a member of those that use a log.
#[derive(Debug)]
pub struct Membership {
    parts: MembershipParts,
    /// Tells this process from another that goes by the same name.
    instance: String,
    process: Option<Process>,
    status: Arc<MembershipStatus>,
    member: Mutex<Option<Member>>,
    looked_for_another: Mutex<Option<Instant>>,
}

impl Membership {
    /// A node that is no member yet.
    #[must_use]
    pub fn new(parts: MembershipParts) -> Self {
        let not_yet = JoinError::Unavailable("not joined yet".to_owned());
        Self {
            parts,
            instance: format!("{:016x}", fastrand::u64(..)),
            process: Process::this(),
            status: Arc::new(MembershipStatus(Mutex::new(Err(not_yet)))),
            member: Mutex::new(None),
            looked_for_another: Mutex::default(),
        }
    }

    /// Where to see whether it is a member.
    #[must_use]
    pub fn status(&self) -> Arc<MembershipStatus> {
        Arc::clone(&self.status)
    }

    /// Becomes a member. A name or number that is taken is waited for as long as the lease of a process that was killed may last; a store
    /// that is out of reach is not waited for: [`Membership::keep`] tries again and again.
    ///
    /// # Errors
    /// [`JoinError::NameTaken`], [`JoinError::NumberTaken`] and [`JoinError::Full`], which waiting has not mended.
    pub async fn join(&self) -> Result<(), JoinError> {
        let give_up_at = Instant::now() + WORK_TTL + Duration::from_secs(4);
        let mut said = None;
        loop {
            match self.try_join().await {
                Ok(()) | Err(JoinError::Unavailable(_)) => return Ok(()),
                Err(error) if Instant::now() >= give_up_at => return Err(error),
                Err(error) => {
                    if said.as_ref() != Some(&error) {
                        tracing::warn!(%error, "waiting for a place among the nodes of the log");
                    }
                    said = Some(error);
                }
            }
            sleep(JOIN_AGAIN).await;
        }
    }

    /// Stays a member until `stop`, and becomes one again when it has lost its place. `position` says how far the node has followed the log.
    pub async fn keep(self: Arc<Self>, position: impl Fn() -> Position, stop: CancellationToken) {
        let outage = Outage::default();
        let keep = async {
            loop {
                let member = self.member();
                sleep(if member.is_some() { KEEP_EVERY } else { JOIN_AGAIN }).await;
                match member {
                    Some(member) => {
                        self.renew(member, position()).await;
                        self.leave_a_number_that_is_ahead().await;
                    }
                    None => {
                        let joined = self.try_join().await.map_err(|error| error.to_string());
                        match joined.as_ref().map_err(|error| outage.failed(error)) {
                            Ok(()) => drop(outage.works()),
                            Err(None) => {}
                            Err(Some(unsaid)) => {
                                let error = joined.err();
                                tracing::warn!(error, unsaid, "the node has no worker number, and issues no ids");
                            }
                        }
                    }
                }
            }
        };
        stop.run_until_cancelled(keep).await;
    }

    /// Gives the place up, so that the next one need not wait. To be called when no more ids are issued.
    pub async fn leave(&self) {
        let sealed_at_ms = self.parts.mark.sealed_at_ms();
        self.parts.mark.set_claim(None);
        if let Some(member) = self.member() {
            // If it fails they expire.
            let worker_lease = match sealed_at_ms {
                Some(unix_ms) => self.lower_mark(&member, unix_ms).await.unwrap_or(member.worker_lease),
                None => member.worker_lease,
            };
            let _ = self.parts.leases.release(&worker_lease).await;
            let _ = self.parts.leases.release(&member.name_lease).await;
        }
        self.set_member(None);
    }

    /// Sets the mark back to what was really issued, under a token of its own, so that the next start need not begin ahead of its clock.
    async fn lower_mark(&self, member: &Member, unix_ms: u64) -> Option<Lease> {
        let (former, checkpoint) = (&member.worker_lease, mark_checkpoint(member.identity));
        let lease = self.parts.leases.acquire(&former.name, &self.parts.name, WORK_TTL).await.ok()??;
        let mark = self.parts.checkpoints.load(&checkpoint).await;
        // Whoever has had the number since has saved a mark before it issued anything. Whoever gets it from here on has a higher token.
        if matches!(mark, Ok(Some(mark)) if mark.fencing_token == former.fencing_token) {
            let lowered = Checkpoint::at(Position(unix_ms).into(), lease.fencing_token);
            let _ = self.parts.checkpoints.save(&checkpoint, lowered).await;
        }
        Some(lease)
    }

    fn member(&self) -> Option<Member> {
        self.member.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_member(&self, member: Option<Member>) {
        *self.member.lock().unwrap_or_else(PoisonError::into_inner) = member;
    }

    async fn try_join(&self) -> Result<(), JoinError> {
        let joined = self.take_place().await;
        match &joined {
            Ok(member) => {
                let (datacenter, worker) = (member.identity.datacenter_id(), member.identity.worker_id());
                tracing::info!(node = self.parts.name, datacenter, worker, "the node has a worker number");
                self.status.set(Ok(member.identity));
                self.set_member(Some(member.clone()));
            }
            Err(error) => self.status.set(Err(error.clone())),
        }
        joined.map(|_| ())
    }

    async fn take_place(&self) -> Result<Member, JoinError> {
        let name_lease = self.take_name().await?;
        let taken = match self.take_worker_number(true).await {
            Ok((identity, worker_lease)) => {
                self.issue_as(identity, worker_lease.fencing_token).await.map(|()| (identity, worker_lease))
            }
            Err(error) => Err(error),
        };
        match taken {
            Ok((identity, worker_lease)) => Ok(Member { identity, name_lease, worker_lease }),
            Err(error) => {
                // A node that does not start must not keep the name from the one that will.
                let _ = self.parts.leases.release(&name_lease).await;
                Err(error)
            }
        }
    }

    async fn take_name(&self) -> Result<Lease, JoinError> {
        let (name, leases) = (&self.parts.name, &self.parts.leases);
        let lease = name_lease(name);
        let holder = self.holder();
        if let Some(name_lease) = leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)? {
            return Ok(name_lease);
        }
        if self.free_if_ended(name, None).await
            && let Some(name_lease) = leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)?
        {
            return Ok(name_lease);
        }
        let owner = leases.holder(&lease).await.map_err(unavailable)?;
        Err(JoinError::NameTaken { address: owner.map(|owner| address_of(&owner.holder)).unwrap_or_default() })
    }

    /// What this process writes under its name: which it is, which process, and where it can be reached.
    fn holder(&self) -> String {
        let process = self.process.map_or_else(String::new, |process| format!(".{process}"));
        format!("{}{process}@{}", self.instance, self.parts.address)
    }

    /// The first worker number that is free and not ahead of the clock, beginning with the preferred one; with `or_ahead`, where there is
    /// none, the free one that is the least ahead.
    async fn take_worker_number(&self, or_ahead: bool) -> Result<(NodeIdentity, Lease), JoinError> {
        let mut ahead = Vec::new();
        for identity in self.candidates() {
            let by_ms = match self.is_ahead_by_ms(identity).await {
                Ok(by_ms) => by_ms,
                Err(JoinError::Unavailable(why)) if !self.parts.is_pinned && self.has_damaged_mark(identity) => {
                    tracing::error!(why, "a worker number is passed over");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if by_ms > MAX_CLOCK_LEAD_MS {
                ahead.push((by_ms, identity));
            } else if let Some(lease) = self.take(identity).await? {
                return Ok((identity, lease));
            }
        }
        if or_ahead {
            ahead.sort_unstable_by_key(|(by_ms, _)| *by_ms);
            for (by_ms, identity) in ahead {
                if let Some(lease) = self.take(identity).await? {
                    let worker = identity.worker_id();
                    tracing::warn!(
                        worker,
                        by_ms,
                        "new ids wait: every worker number that is free is ahead of the clock"
                    );
                    return Ok((identity, lease));
                }
            }
        }
        if self.parts.is_pinned { self.number_taken().await } else { Err(JoinError::Full) }
    }

    fn candidates(&self) -> impl Iterator<Item = NodeIdentity> + use<> {
        let preferred = self.parts.preferred;
        let count = if self.parts.is_pinned { 1 } else { MAX_NODES };
        (0..count).filter_map(move |offset| {
            NodeIdentity::new(preferred.datacenter_id(), (preferred.worker_id() + offset) % MAX_NODES).ok()
        })
    }

    async fn number_taken(&self) -> Result<(NodeIdentity, Lease), JoinError> {
        let (identity, leases) = (self.parts.preferred, &self.parts.leases);
        let owner = leases.holder(&worker_lease(identity)).await.map_err(unavailable)?;
        let name = owner.map(|owner| owner.holder).unwrap_or_default();
        let named = leases.holder(&name_lease(&name)).await.ok().flatten();
        let address = named.map(|named| address_of(&named.holder)).unwrap_or_default();
        Err(JoinError::NumberTaken { identity, name, address })
    }

    /// The lease of a worker number, if it is to be had.
    async fn take(&self, identity: NodeIdentity) -> Result<Option<Lease>, JoinError> {
        let (lease, leases) = (worker_lease(identity), &self.parts.leases);
        let taken = leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable)?;
        if taken.is_some() {
            return Ok(taken);
        }
        let Some(owner) = leases.holder(&lease).await.map_err(unavailable)? else { return Ok(None) };
        if self.free_if_ended(&owner.holder, Some(&lease)).await {
            return leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable);
        }
        Ok(None)
    }

    /// Where the process that has `name` has surely ended, gives up what it has left: its work, its worker number and its name.
    async fn free_if_ended(&self, name: &str, worker: Option<&str>) -> bool {
        let lease = name_lease(name);
        let Ok(Some(owner)) = self.parts.leases.holder(&lease).await else { return false };
        let left = owner.holder.split_once('@').and_then(|(left, _)| left.split_once('.')).map(|(_, process)| process);
        let left = left.and_then(Process::parse);
        let has_ended = match (left, self.process) {
            (Some(left), Some(this)) => left.has_ended(this, process::look),
            _ => false,
        };
        if !has_ended {
            return false;
        }
        // Who has the name has the rest: a process that was started again under it is kept out until this is done.
        let Ok(Ok(Some(named))) =
            timeout(FREE_TIMEOUT, self.parts.leases.acquire(&lease, &owner.holder, WORK_TTL)).await
        else {
            return false;
        };
        for (store, role) in &self.parts.roles {
            free(&**store, role, name).await;
        }
        if let Some(worker) = worker {
            free(&*self.parts.leases, worker, name).await;
        }
        let _ = self.parts.leases.release(&named).await;
        tracing::info!(node = name, "a process of this host that has ended has left leases: they are free now");
        true
    }

    /// How far what may have been issued under a worker number is ahead of the clock, in milliseconds.
    async fn is_ahead_by_ms(&self, identity: NodeIdentity) -> Result<u64, JoinError> {
        Ok(self.mark_of(identity).await?.unwrap_or(0).saturating_sub(self.now_unix_ms()))
    }

    fn has_damaged_mark(&self, identity: NodeIdentity) -> bool {
        self.parts.left_marks.as_ref().is_some_and(|left| left.load_of(identity).is_err())
    }

    /// Up to which Unix millisecond ids of a worker number may have been issued.
    async fn mark_of(&self, identity: NodeIdentity) -> Result<Option<u64>, JoinError> {
        let stored = self.parts.checkpoints.load(&mark_checkpoint(identity)).await.map_err(mark_unavailable)?;
        let left = self.parts.left_marks.as_ref().map_or(Ok(None), |left| left.load_of(identity));
        let left = left.map_err(|error| JoinError::Unavailable(error.to_string()))?;
        Ok(stored.map(|mark| mark.position.0).max(left))
    }

    fn now_unix_ms(&self) -> u64 {
        u64::try_from(self.parts.clock.now_micros() / 1_000).unwrap_or(0)
    }

    /// Lets ids be issued under a worker number, past all that a former owner may have issued.
    async fn issue_as(&self, identity: NodeIdentity, fencing_token: u64) -> Result<(), JoinError> {
        let mark = self.mark_of(identity).await?;
        let past_borrowed = self.now_unix_ms() + MAX_BORROW_MS + 1;
        let from_ms = mark.map_or(past_borrowed, |mark| mark.max(past_borrowed));
        let checkpoint = mark_checkpoint(identity);
        self.parts.mark.set_claim(Some(Claim { checkpoint, fencing_token }));
        self.parts.ids.rebase(identity, from_ms);
        let ids = Arc::clone(&self.parts.ids);
        let advanced = tokio::task::spawn_blocking(move || ids.advance_mark()).await;
        match advanced {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(JoinError::Unavailable(error.to_string())),
            Err(panicked) => Err(JoinError::Unavailable(panicked.to_string())),
        }
    }

    /// A clock that was ahead for a moment takes the worker number with it, not the node: another number issues ids at once.
    async fn leave_a_number_that_is_ahead(&self) {
        let Some(member) = self.member() else { return };
        if self.parts.is_pinned || self.parts.ids.is_ahead_by_ms().is_none() || !self.may_look_for_another() {
            return;
        }
        let Ok((identity, worker_lease)) = self.take_worker_number(false).await else { return };
        match self.issue_as(identity, worker_lease.fencing_token).await {
            Ok(()) => {
                let (from, to) = (member.identity.worker_id(), identity.worker_id());
                tracing::warn!(from, to, "the clock was ahead: the node has taken another worker number");
                let _ = self.parts.leases.release(&member.worker_lease).await;
                self.status.set(Ok(identity));
                self.set_member(Some(Member { identity, worker_lease, ..member }));
            }
            Err(error) => self.lose(&member, &error.to_string(), JoinError::Unavailable(error.to_string())),
        }
    }

    fn may_look_for_another(&self) -> bool {
        let mut looked = self.looked_for_another.lock().unwrap_or_else(PoisonError::into_inner);
        let may = looked.is_none_or(|at| at.elapsed() >= LOOK_FOR_ANOTHER);
        if may {
            *looked = Some(Instant::now());
        }
        may
    }

    async fn renew(&self, member: Member, position: Position) {
        let renewed = async {
            let name_lease = self.parts.leases.renew(&member.name_lease, WORK_TTL).await?;
            let worker_lease = self.parts.leases.renew(&member.worker_lease, WORK_TTL).await?;
            Ok(Member { name_lease, worker_lease, ..member.clone() })
        };
        match renewed.await {
            Ok(renewed) => {
                self.set_member(Some(renewed));
                self.save_position(&member, position).await;
            }
            // As long as the leases are in force nothing is lost by waiting.
            Err(LeaseError::Unavailable(_)) if Instant::now() < member.worker_lease.expires_at => {}
            Err(error) => self.lose(&member, &error.to_string(), JoinError::Unavailable(error.to_string())),
        }
    }

    fn lose(&self, member: &Member, why: &str, status: JoinError) {
        let worker = member.identity.worker_id();
        tracing::warn!(why, node = self.parts.name, worker, "the name and the worker number of the node are lost");
        self.parts.mark.set_claim(None);
        self.set_member(None);
        self.status.set(Err(status));
    }

    async fn save_position(&self, member: &Member, position: Position) {
        let fencing_token = member.worker_lease.fencing_token;
        // News for people: what fails now is right a second later.
        let _ = self
            .parts
            .checkpoints
            .save(&position_checkpoint(member.identity), Checkpoint::at(position.into(), fencing_token))
            .await;
    }
}

/// Takes a lease from a holder that is no more, and gives it up. If it fails it expires.
async fn free(store: &dyn LeaseStore, lease: &str, holder: &str) {
    let freed = async {
        if store.holder(lease).await?.is_some_and(|owner| owner.holder == holder)
            && let Some(owned) = store.acquire(lease, holder, WORK_TTL).await?
        {
            store.release(&owned).await?;
        }
        Ok::<_, LeaseError>(())
    };
    let _ = timeout(FREE_TIMEOUT, freed).await;
}

fn address_of(holder: &str) -> String {
    holder.split_once('@').map(|(_, address)| address.to_owned()).unwrap_or_default()
}

fn unavailable(error: LeaseError) -> JoinError {
    JoinError::Unavailable(error.to_string())
}

fn mark_unavailable(error: CheckpointError) -> JoinError {
    JoinError::Unavailable(error.to_string())
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NameTaken { address } => write!(f, "another node at {address} has the same --node-id"),
            Self::NumberTaken { identity, name, address } => write!(
                f,
                "node {name} at {address} has --worker-id {} of datacenter {}: choose another, or none, and the node takes one that is free",
                identity.worker_id(),
                identity.datacenter_id()
            ),
            Self::Full => write!(f, "all {MAX_NODES} worker numbers of the --datacenter-id are taken"),
            Self::Unavailable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for JoinError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::{
        backends::memory::{checkpoint_store::MemoryCheckpointStore, lease::MemoryLeaseStore},
        clock::ManualClock,
        id_generator::{EPOCH_UNIX_MS, Reservation},
    };

    const START_MICROS: i64 = (EPOCH_UNIX_MS as i64 + 1_000_000_000) * 1_000;

    struct Node {
        membership: Membership,
        ids: Arc<IdGenerator>,
        clock: Arc<ManualClock>,
    }

    fn node(
        name: &str,
        leases: &Arc<MemoryLeaseStore>,
        checkpoints: &Arc<MemoryCheckpointStore>,
        behind_ms: i64,
    ) -> Node {
        node_as(name, leases, checkpoints, behind_ms, |_| {})
    }

    fn node_as(
        name: &str,
        leases: &Arc<MemoryLeaseStore>,
        checkpoints: &Arc<MemoryCheckpointStore>,
        behind_ms: i64,
        change: impl FnOnce(&mut MembershipParts),
    ) -> Node {
        let clock = Arc::new(ManualClock::new(START_MICROS - behind_ms * 1_000));
        let (leases, checkpoints) =
            (Arc::clone(leases) as Arc<dyn LeaseStore>, Arc::clone(checkpoints) as Arc<dyn CheckpointStore>);
        let mark = LeasedMark::new(Arc::clone(&checkpoints));
        let preferred = NodeIdentity::new(1, 7).unwrap();
        let ids = Arc::new(IdGenerator::unclaimed(preferred, clock.clone(), Box::new(mark.clone())));
        let (name, address) = (name.to_owned(), "127.0.0.1:1".to_owned());
        let mut parts = MembershipParts {
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

    /// Some ids of each millisecond that the node issues any in, while its clock goes on for `ms`.
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
    async fn who_takes_a_worker_number_over_repeats_no_id_of_a_former_owner_that_still_believes_in_it() {
        let (leases, checkpoints) = (Arc::new(MemoryLeaseStore::new()), Arc::new(MemoryCheckpointStore::new()));
        let (one, other) = (node("one", &leases, &checkpoints, 0), node("other", &leases, &checkpoints, 500));
        assert!(one.ids.next().is_err(), "not a member, no ids");
        one.membership.join().await.unwrap();
        let mut issued = issue(&one, 100);
        // The lease ends; its owner does not know. The other one's clock is behind.
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
        assert!(refused.is_err(), "the former owner cannot move the mark any more");
        assert!(issue(&one, 10).is_empty(), "and issues no more");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_node_gets_a_worker_number_of_its_own_and_gives_it_up_in_the_end() {
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

    /// Saves a mark of a worker number that lies ahead of the clock at the start.
    async fn mark_ahead(checkpoints: &MemoryCheckpointStore, worker: u8, by_ms: i64) {
        let unix_ms = u64::try_from(START_MICROS / 1_000 + by_ms).unwrap();
        let identity = NodeIdentity::new(1, worker).unwrap();
        let mark = Checkpoint::at(Position(unix_ms).into(), 0);
        checkpoints.save(&mark_checkpoint(identity), mark).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_worker_number_whose_mark_lies_ahead_of_the_clock_is_passed_over() {
        let (leases, checkpoints) = stores();
        mark_ahead(&checkpoints, 7, DAY_MS).await;
        mark_ahead(&checkpoints, 8, 60_000).await;
        // Within what ids may be ahead of the clock.
        mark_ahead(&checkpoints, 9, 4_000).await;
        let one = node("one", &leases, &checkpoints, 0);
        one.membership.join().await.unwrap();
        assert_eq!(worker_of(&one), 9);
        assert!(issue(&one, 10).len() > 1);
        // What was passed over is kept for nobody.
        assert_eq!(leases.holder("worker-1-7").await, Ok(None));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn where_all_numbers_are_ahead_the_node_takes_the_one_that_is_the_least_and_its_ids_wait() {
        let (leases, checkpoints) = stores();
        for worker in 0..MAX_NODES {
            mark_ahead(&checkpoints, worker, DAY_MS * (1 + i64::from(worker))).await;
        }
        let one = node("one", &leases, &checkpoints, 0);
        one.membership.join().await.unwrap();
        assert_eq!(worker_of(&one), 0);
        let waiting = one.ids.next().unwrap_err();
        assert_eq!(waiting.to_string(), "new ids wait 23 h 59 m: the clock is behind ids that may have been issued");
        // The mark stays where it is, however often the node starts.
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
    async fn a_number_that_was_chosen_is_that_one_or_none_and_is_each_datacenters_own() {
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
        assert_eq!(leases.holder(&name_lease("same")).await, Ok(None), "who is refused keeps no name from others");
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
    async fn a_node_that_has_left_in_order_leaves_a_mark_that_keeps_nobody_waiting() {
        let (leases, checkpoints) = stores();
        let mut issued = Vec::new();
        // Faster than the clock can make good for marks that lie ahead of it.
        for _ in 0..10 {
            let one = node("one", &leases, &checkpoints, START_MICROS / 1_000 - now_of(&issued));
            one.membership.join().await.unwrap();
            assert_eq!(worker_of(&one), 7);
            issued.extend(issue(&one, 10));
            let ids = one.ids.clone();
            tokio::task::spawn_blocking(move || ids.seal().unwrap()).await.unwrap();
            one.membership.leave().await;
        }
        let distinct: HashSet<u64> = issued.iter().copied().collect();
        assert_eq!((distinct.len(), issued.len()), (issued.len(), 10 * 10 * 8));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_node_that_leaves_without_knowing_that_another_has_had_its_number_leaves_the_mark_alone() {
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
        tokio::task::spawn_blocking(move || ids.seal().unwrap()).await.unwrap();
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

    /// What a process that is no more has left: its name, its work and its worker number.
    async fn leave_behind(leases: &MemoryLeaseStore, name: &str, process: &str) {
        let holder = format!("0123456789abcdef.{process}@127.0.0.1:9");
        for (lease, holder) in
            [(name_lease(name), holder.as_str()), ("worker-1-7".into(), name), ("outbox".into(), name)]
        {
            leases.acquire(&lease, holder, WORK_TTL).await.unwrap().unwrap();
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test(flavor = "multi_thread")]
    async fn what_a_process_of_this_host_has_left_is_taken_at_once_and_what_another_has_is_not() {
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
}
