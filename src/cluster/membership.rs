//! A node's membership among the nodes of a log: joined, renewed, rejoined after a loss, given up.

use std::{fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
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
    id_generator::{FolderMarks, IdGenerator, MAX_BORROW_MS, MAX_CLOCK_LEAD_MS, NodeIdentity},
    ports::{
        checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
        clock::Clock,
        event_store::Position,
        lease_store::{Lease, LeaseError, LeaseStore, WORK_TTL},
    },
    telemetry::outage::{Away, Line, Outage},
};

/// How often a member renews its leases and saves its position.
const KEEP_EVERY: Duration = Duration::from_secs(1);
/// The pause before a node that is not a member tries to join.
const JOIN_AGAIN: Duration = Duration::from_millis(500);
/// How often a node whose ids wait for its clock tries to find another worker number.
const LOOK_FOR_ANOTHER: Duration = Duration::from_secs(10);
/// How long taking one lease from an ended process may take; otherwise it expires.
const FREE_TIMEOUT: Duration = Duration::from_secs(2);

/// The dependencies of a membership.
#[derive(Clone, Debug)]
pub struct MembershipDeps {
    /// The store of leases for names and worker numbers, which is with the log.
    pub leases: Arc<dyn LeaseStore>,
    /// The store of marks and positions.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The generator that issues the ids of the worker number.
    pub ids: Arc<IdGenerator>,
    /// The mark of those ids.
    pub mark: LeasedMark,
    /// The marks that a node without a lease has left in this node's folder, if it has one.
    pub left_marks: Option<FolderMarks>,
    /// The clock that the mark refers to.
    pub clock: Arc<dyn Clock>,
    /// The name of the node.
    pub name: String,
    /// The node's address for others, `host:port`.
    pub address: String,
    /// The datacenter of the node, and the worker number that is tried first.
    pub preferred: NodeIdentity,
    /// Whether no other worker number may be used.
    pub is_pinned: bool,
    /// The leases of single-owner work, held under the names of nodes.
    pub roles: Vec<(Arc<dyn LeaseStore>, String)>,
}

/// Why a node is not a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// Another live node has the name. It may be an earlier process of this one, until its lease ends.
    NameTaken {
        /// The address of the other node.
        address: String,
    },
    /// Another live node has the worker number assigned to this one.
    NumberTaken {
        /// The number.
        identity: NodeIdentity,
        /// The name of the other node.
        name: String,
        /// The address of the other node.
        address: String,
    },
    /// All worker numbers of the datacenter are taken.
    Full,
    /// The store is unreachable: retrying helps.
    Unavailable(String),
}

/// A membership among the nodes of a log.
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
    /// The node's identity, or the reason why it has none.
    ///
    /// # Errors
    /// [`JoinError`].
    pub fn get(&self) -> Result<NodeIdentity, JoinError> {
        self.0.lock().clone()
    }

    fn set(&self, status: Result<NodeIdentity, JoinError>) {
        *self.0.lock() = status;
    }
}

/// Makes a node a member of those that use a log.
#[derive(Debug)]
pub struct Membership {
    parts: MembershipDeps,
    /// Distinguishes this process from another with the same name.
    instance: String,
    process: Option<Process>,
    status: Arc<MembershipStatus>,
    member: Mutex<Option<Member>>,
    looked_for_another: Mutex<Option<Instant>>,
    away: Away,
}

impl Membership {
    /// A node that is not a member yet.
    #[must_use]
    pub fn new(parts: MembershipDeps) -> Self {
        let not_yet = JoinError::Unavailable("not joined yet".to_owned());
        Self {
            parts,
            instance: format!("{:016x}", fastrand::u64(..)),
            process: Process::this(),
            status: Arc::new(MembershipStatus(Mutex::new(Err(not_yet)))),
            member: Mutex::new(None),
            looked_for_another: Mutex::default(),
            away: Away::default(),
        }
    }

    /// Does not log a failure to join while the broker of the leases is `away`.
    #[must_use]
    pub fn quiet_while(self, away: Away) -> Self {
        Self { away, ..self }
    }

    /// The status of the membership, shared with health checks.
    #[must_use]
    pub fn status(&self) -> Arc<MembershipStatus> {
        Arc::clone(&self.status)
    }

    /// Becomes a member. Waits for a name or number that is taken for as long as the lease of a killed process may last; does not wait for an
    /// unreachable store: [`Membership::keep`] retries.
    ///
    /// # Errors
    /// [`JoinError::NameTaken`], [`JoinError::NumberTaken`] and [`JoinError::Full`], if waiting has not resolved them.
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

    /// Stays a member until `stop`, and rejoins after it has lost its membership. `position` returns how far the node has followed the log.
    pub async fn keep(self: Arc<Self>, position: impl Fn() -> Position, stop: CancellationToken) {
        let outage = Outage::while_not(self.away.clone());
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
                            Err(Some(Line { unsaid })) => {
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

    /// Gives the membership up, so that the next node need not wait. Must be called when no more ids are issued.
    pub async fn leave(&self) {
        let sealed_at_ms = self.parts.mark.sealed_at_ms();
        self.parts.mark.set_claim(None);
        if let Some(member) = self.member() {
            // Leases that cannot be released expire.
            let worker_lease = match sealed_at_ms {
                Some(unix_ms) => self.lower_mark(&member, unix_ms).await.unwrap_or(member.worker_lease),
                None => member.worker_lease,
            };
            let _ = self.parts.leases.release(&worker_lease).await;
            let _ = self.parts.leases.release(&member.name_lease).await;
        }
        self.set_member(None);
    }

    /// Lowers the mark to the ids really issued, under a new token, so that the next start need not begin ahead of its clock.
    async fn lower_mark(&self, member: &Member, unix_ms: u64) -> Option<Lease> {
        let (former, checkpoint) = (&member.worker_lease, mark_checkpoint(member.identity));
        let lease = self.parts.leases.acquire(&former.name, &self.parts.name, WORK_TTL).await.ok()??;
        let mark = self.parts.checkpoints.load(&checkpoint).await;
        // A later owner of the number has saved a mark before it issued any id. A future owner gets a higher token.
        if matches!(mark, Ok(Some(mark)) if mark.fencing_token == former.fencing_token) {
            let lowered = Checkpoint::at(Position(unix_ms).into(), lease.fencing_token);
            let _ = self.parts.checkpoints.save(&checkpoint, lowered).await;
        }
        Some(lease)
    }

    fn member(&self) -> Option<Member> {
        self.member.lock().clone()
    }

    fn set_member(&self, member: Option<Member>) {
        *self.member.lock() = member;
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
                // A node that does not start must not block the name for the one that will.
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
        if self.free_if_ended(name, None).await?
            && let Some(name_lease) = leases.acquire(&lease, &holder, WORK_TTL).await.map_err(unavailable)?
        {
            return Ok(name_lease);
        }
        let owner = leases.holder(&lease).await.map_err(unavailable)?;
        Err(JoinError::NameTaken { address: owner.map(|owner| address_of(&owner.holder)).unwrap_or_default() })
    }

    /// This process's value for its name's lease: its instance, its process, and its address.
    fn holder(&self) -> String {
        let process = self.process.map_or_else(String::new, |process| format!(".{process}"));
        format!("{}{process}@{}", self.instance, self.parts.address)
    }

    /// The first worker number that is free and not ahead of the clock, beginning with the preferred one; with `or_ahead`, if there is none, the free
    /// one that is the least ahead.
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

    /// The lease of a worker number, if it is available.
    async fn take(&self, identity: NodeIdentity) -> Result<Option<Lease>, JoinError> {
        let (lease, leases) = (worker_lease(identity), &self.parts.leases);
        let taken = leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable)?;
        if taken.is_some() {
            return Ok(taken);
        }
        let Some(owner) = leases.holder(&lease).await.map_err(unavailable)? else { return Ok(None) };
        if self.free_if_ended(&owner.holder, Some(&lease)).await? {
            return leases.acquire(&lease, &self.parts.name, WORK_TTL).await.map_err(unavailable);
        }
        Ok(None)
    }

    /// If the process that has `name` has certainly ended, releases its leases: its work, its worker number and its name.
    ///
    /// # Errors
    /// [`JoinError::Unavailable`]: a store without a quorum may return leases and refuse to change them.
    async fn free_if_ended(&self, name: &str, worker: Option<&str>) -> Result<bool, JoinError> {
        let lease = name_lease(name);
        let Some(owner) = self.parts.leases.holder(&lease).await.map_err(unavailable)? else { return Ok(false) };
        let left = owner.holder.split_once('@').and_then(|(left, _)| left.split_once('.')).map(|(_, process)| process);
        let left = left.and_then(Process::parse);
        let has_ended = match (left, self.process) {
            (Some(left), Some(this)) => left.has_ended(this, process::look),
            _ => false,
        };
        if !has_ended {
            return Ok(false);
        }
        // The owner of the name has the rest: a restarted process with that name is kept out until this is done.
        let acquired = timeout(FREE_TIMEOUT, self.parts.leases.acquire(&lease, &owner.holder, WORK_TTL)).await;
        let silent = |_| JoinError::Unavailable("the lease store does not answer".to_owned());
        let Some(named) = acquired.map_err(silent)?.map_err(unavailable)? else { return Ok(false) };
        for (store, role) in &self.parts.roles {
            free(&**store, role, name).await;
        }
        if let Some(worker) = worker {
            free(&*self.parts.leases, worker, name).await;
        }
        let _ = self.parts.leases.release(&named).await;
        tracing::info!(node = name, "a process of this host that has ended has left leases: they are free now");
        Ok(true)
    }

    /// How far ids that may have been issued under a worker number are ahead of the clock, in milliseconds.
    async fn is_ahead_by_ms(&self, identity: NodeIdentity) -> Result<u64, JoinError> {
        Ok(self.mark_of(identity).await?.unwrap_or(0).saturating_sub(self.now_unix_ms()))
    }

    fn has_damaged_mark(&self, identity: NodeIdentity) -> bool {
        self.parts.left_marks.as_ref().is_some_and(|left| left.load_of(identity).is_err())
    }

    /// The Unix millisecond up to which ids of a worker number may have been issued.
    async fn mark_of(&self, identity: NodeIdentity) -> Result<Option<u64>, JoinError> {
        let stored = self.parts.checkpoints.load(&mark_checkpoint(identity)).await.map_err(mark_unavailable)?;
        let left = self.parts.left_marks.as_ref().map_or(Ok(None), |left| left.load_of(identity));
        let left = left.map_err(|error| JoinError::Unavailable(error.to_string()))?;
        Ok(stored.map(|mark| mark.position.0).max(left))
    }

    fn now_unix_ms(&self) -> u64 {
        u64::try_from(self.parts.clock.now_micros() / 1_000).unwrap_or(0)
    }

    /// Lets ids be issued under a worker number, after all that a previous owner may have issued.
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

    /// A clock that was ahead for a moment blocks the worker number, not the node: another number issues ids at once.
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
        let mut looked = self.looked_for_another.lock();
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
            // While the leases are in force nothing is lost by waiting.
            Err(LeaseError::Unavailable(_)) if Instant::now() < member.worker_lease.expires_at => {}
            Err(error) => self.lose(&member, &error.to_string(), JoinError::Unavailable(error.to_string())),
        }
    }

    fn lose(&self, member: &Member, why: &str, status: JoinError) {
        let worker = member.identity.worker_id();
        let node = &self.parts.name;
        match self.away.why() {
            None => tracing::warn!(why, node, worker, "the name and the worker number of the node are lost"),
            Some(_) => tracing::info!(why, node, worker, "the name and the worker number of the node are lost"),
        }
        self.parts.mark.set_claim(None);
        self.set_member(None);
        self.status.set(Err(status));
    }

    async fn save_position(&self, member: &Member, position: Position) {
        let fencing_token = member.worker_lease.fencing_token;
        // Informational: a failure now is corrected a second later.
        let _ = self
            .parts
            .checkpoints
            .save(&position_checkpoint(member.identity), Checkpoint::at(position.into(), fencing_token))
            .await;
    }
}

/// Takes a lease from an ended holder, and releases it. If that fails, the lease expires.
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
mod tests;
