//! A node's place in the cluster: taken, kept, taken again when it was lost, given up.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{LeasedMark, MAX_NODES, id_mark::Claim, mark_checkpoint, name_lease, position_checkpoint, worker_lease};
use crate::{
    checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
    clock::Clock,
    event_store::Position,
    id_generator::{IdGenerator, MAX_BORROW_MS, NodeIdentity},
    lease::{Lease, LeaseError, LeaseStore, WORK_TTL},
    outage::Outage,
};

/// How often a member renews its leases and says how far it is.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The pause before a node that is no member tries to become one.
const JOIN_AGAIN: Duration = Duration::from_millis(500);

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
    /// The time that the mark is reckoned in.
    pub clock: Arc<dyn Clock>,
    /// The name of the node.
    pub name: String,
    /// Where it can be reached, `host:port`: shown to others.
    pub address: String,
    /// The datacenter of the cluster, and the worker number that is tried first.
    pub preferred: NodeIdentity,
}

/// Why a node is not a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Another live node has the name. It may be what is left of this one, until its lease ends.
    NameTaken {
        /// Where the other one can be reached.
        address: String,
    },
    /// All worker numbers of the datacenter are taken.
    Full,
    /// Out of reach: trying again helps.
    Unavailable(String),
}

/// A place in the cluster.
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

/// Makes a node a member of the cluster.
#[derive(Debug)]
pub struct Membership {
    parts: MembershipParts,
    /// Tells this process from another that goes by the same name.
    instance: String,
    status: Arc<MembershipStatus>,
    member: Mutex<Option<Member>>,
}

impl Membership {
    /// A node that is no member yet.
    #[must_use]
    pub fn new(parts: MembershipParts) -> Self {
        let not_yet = JoinError::Unavailable("not joined yet".to_owned());
        Self {
            parts,
            instance: format!("{:016x}", fastrand::u64(..)),
            status: Arc::new(MembershipStatus(Mutex::new(Err(not_yet)))),
            member: Mutex::new(None),
        }
    }

    /// Where to see whether it is a member.
    #[must_use]
    pub fn status(&self) -> Arc<MembershipStatus> {
        Arc::clone(&self.status)
    }

    /// Becomes a member. A name that is taken is waited for as long as the lease of a process that was killed may last; a store that is out
    /// of reach is not waited for: [`Membership::keep`] goes on trying.
    ///
    /// # Errors
    /// [`JoinError::NameTaken`] and [`JoinError::Full`], which waiting has not mended.
    pub async fn join(&self) -> Result<(), JoinError> {
        let give_up_at = Instant::now() + WORK_TTL + Duration::from_secs(4);
        loop {
            match self.try_join().await {
                Ok(()) | Err(JoinError::Unavailable(_)) => return Ok(()),
                Err(error) if Instant::now() >= give_up_at => return Err(error),
                Err(error) => tracing::warn!(%error, "waiting for a place in the cluster"),
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
                    Some(member) => self.renew(member, position()).await,
                    None => {
                        let joined = self.try_join().await.map_err(|error| error.to_string());
                        match joined.as_ref().map_err(|error| outage.failed(error)) {
                            Ok(()) => drop(outage.works()),
                            Err(None) => {}
                            Err(Some(unsaid)) => {
                                tracing::warn!(error = joined.err(), unsaid, "not a member of the cluster")
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
        self.parts.mark.set_claim(None);
        if let Some(member) = self.member() {
            // If it fails they expire.
            let _ = self.parts.leases.release(&member.worker_lease).await;
            let _ = self.parts.leases.release(&member.name_lease).await;
        }
        self.set_member(None);
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
                tracing::info!(node = self.parts.name, datacenter, worker, "a member of the cluster");
                self.status.set(Ok(member.identity));
                self.set_member(Some(member.clone()));
            }
            Err(error) => self.status.set(Err(error.clone())),
        }
        joined.map(|_| ())
    }

    async fn take_place(&self) -> Result<Member, JoinError> {
        let lease = name_lease(&self.parts.name);
        let holder = format!("{}@{}", self.instance, self.parts.address);
        let Some(name_lease) = self.parts.leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)? else {
            let owner = self.parts.leases.holder(&lease).await.map_err(unavailable)?;
            let address = owner.and_then(|owner| owner.holder.split_once('@').map(|(_, address)| address.to_owned()));
            return Err(JoinError::NameTaken { address: address.unwrap_or_default() });
        };
        let (identity, worker_lease) = self.take_worker_number().await?;
        self.issue_as(identity, worker_lease.fencing_token).await?;
        Ok(Member { identity, name_lease, worker_lease })
    }

    /// The first worker number that is free, beginning with the preferred one.
    async fn take_worker_number(&self) -> Result<(NodeIdentity, Lease), JoinError> {
        let preferred = self.parts.preferred;
        for offset in 0..MAX_NODES {
            let worker = (preferred.worker_id() + offset) % MAX_NODES;
            let identity = NodeIdentity::new(preferred.datacenter_id(), worker).map_err(|_| JoinError::Full)?;
            let lease = self.parts.leases.acquire(&worker_lease(identity), &self.parts.name, WORK_TTL).await;
            if let Some(lease) = lease.map_err(unavailable)? {
                return Ok((identity, lease));
            }
        }
        Err(JoinError::Full)
    }

    /// Lets ids be issued under a worker number, past all that a former owner may have issued.
    async fn issue_as(&self, identity: NodeIdentity, fencing_token: u64) -> Result<(), JoinError> {
        let checkpoint = mark_checkpoint(identity);
        let mark = self.parts.checkpoints.load(&checkpoint).await.map_err(mark_unavailable)?;
        let now_ms = u64::try_from(self.parts.clock.now_micros() / 1_000).unwrap_or(0);
        let past_borrowed = now_ms + MAX_BORROW_MS + 1;
        let from_ms = mark.map_or(past_borrowed, |mark| mark.position.0.max(past_borrowed));
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
            Err(error) => {
                tracing::warn!(%error, node = self.parts.name, "the place in the cluster is lost");
                self.parts.mark.set_claim(None);
                self.set_member(None);
                self.status.set(Err(JoinError::Unavailable(error.to_string())));
            }
        }
    }

    async fn save_position(&self, member: &Member, position: Position) {
        let fencing_token = member.worker_lease.fencing_token;
        // News for people: what fails now is right a second later.
        let _ = self
            .parts
            .checkpoints
            .save(&position_checkpoint(member.identity), Checkpoint { position, fencing_token })
            .await;
    }
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
            Self::Full => write!(f, "all {MAX_NODES} worker numbers of the datacenter are taken"),
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
        let clock = Arc::new(ManualClock::new(START_MICROS - behind_ms * 1_000));
        let (leases, checkpoints) =
            (Arc::clone(leases) as Arc<dyn LeaseStore>, Arc::clone(checkpoints) as Arc<dyn CheckpointStore>);
        let mark = LeasedMark::new(Arc::clone(&checkpoints));
        let preferred = NodeIdentity::new(1, 7).unwrap();
        let ids = Arc::new(IdGenerator::unclaimed(preferred, clock.clone(), Box::new(mark.clone())));
        let (name, address) = (name.to_owned(), "127.0.0.1:1".to_owned());
        let parts = MembershipParts {
            leases,
            checkpoints,
            ids: ids.clone(),
            mark,
            clock: clock.clone(),
            name,
            address,
            preferred,
        };
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
}
