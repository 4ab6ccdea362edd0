//! A node's membership among the nodes of a log: joined, renewed, rejoined after a loss, given up.

mod claims;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{LeasedMark, MAX_NODES, id_mark::Claim, mark_checkpoint, position_checkpoint, process::Process};
use crate::{
    id_generator::{FolderMarks, IdGenerator, MAX_BORROW_MS, NodeIdentity},
    ports::{
        checkpoint_store::{Checkpoint, CheckpointError, CheckpointStore},
        clock::Clock,
        event_store::Position,
        lease_store::{Lease, LeaseError, LeaseStore, WORK_TTL},
    },
    telemetry::outage::{Away, Line, Outage},
};

/// How often a member renews its leases and saves its position.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before a node that is not a member tries to join.
const JOIN_RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How often a node whose ids wait for its clock tries to find another worker number.
const NUMBER_RETRY_INTERVAL: Duration = Duration::from_secs(10);

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
    /// The marks left in this node's folder, if it has one, by a node without a lease.
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
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinError {
    /// Another live node has the name. It may be an earlier process of this one, until its lease ends.
    #[error("another node at {address} has the same --node-id")]
    NameTaken {
        /// The address of the other node.
        address: String,
    },
    /// Another live node has the worker number assigned to this one.
    #[error(
        "node {name} at {address} has --worker-id {} of datacenter {}: choose another one, or omit it to take a free one",
        .identity.worker_id(),
        .identity.datacenter_id()
    )]
    NumberTaken {
        /// The number.
        identity: NodeIdentity,
        /// The name of the other node.
        name: String,
        /// The address of the other node.
        address: String,
    },
    /// All worker numbers of the datacenter are taken.
    #[error("all {max} worker numbers of the --datacenter-id are taken", max = MAX_NODES)]
    Full,
    /// The store is unreachable: retrying helps.
    #[error("{0}")]
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

/// Makes a node a member of the nodes that use a log.
#[derive(Debug)]
pub struct Membership {
    parts: MembershipDeps,
    /// Distinguishes this process from another with the same name.
    instance: String,
    process: Option<Process>,
    status: Arc<MembershipStatus>,
    member: Mutex<Option<Member>>,
    looked_for_another: Mutex<Option<Instant>>,
    damaged_marks: Outage,
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
            damaged_marks: Outage::new(),
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
    /// unreachable store: [`Membership::run`] retries.
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
                        tracing::warn!(%error, "waiting to join the nodes of the log");
                    }
                    said = Some(error);
                }
            }
            sleep(JOIN_RETRY_INTERVAL).await;
        }
    }

    /// Stays a member until `stop`, and rejoins after it has lost its membership. `position` returns how far the node has followed the log.
    pub async fn run(self: Arc<Self>, position: impl Fn() -> Position, stop: CancellationToken) {
        let outage = Outage::while_not(self.away.clone()).whatever_the_cause();
        let keep = async {
            loop {
                let member = self.member();
                sleep(if member.is_some() { RENEW_INTERVAL } else { JOIN_RETRY_INTERVAL }).await;
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
                                tracing::warn!(error, unsaid, "the node has no worker number and cannot issue ids");
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
        let closed_at_ms = self.parts.mark.closed_at_ms();
        self.parts.mark.set_claim(None);
        if let Some(member) = self.member() {
            // Leases that cannot be released expire.
            let worker_lease = match closed_at_ms {
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
        let joined = self.claim().await;
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

    fn now_unix_ms(&self) -> u64 {
        u64::try_from(self.parts.clock.now_micros() / 1_000).unwrap_or(0)
    }

    /// Allows ids to be issued under a worker number, after all those that a previous owner may have issued.
    async fn issue_as(&self, identity: NodeIdentity, fencing_token: u64) -> Result<(), JoinError> {
        let mark = self.mark_of(identity).await?;
        let past_borrowed = self.now_unix_ms() + MAX_BORROW_MS + 1;
        let from_ms = mark.map_or(past_borrowed, |mark| mark.max(past_borrowed));
        let claim = Claim { checkpoint: mark_checkpoint(identity), fencing_token };
        let (ids, leased_mark) = (Arc::clone(&self.parts.ids), self.parts.mark.clone());
        // A store that does not answer may be saving the mark. A thread of the runtime that waited for it could not receive the answer.
        let advanced = tokio::task::spawn_blocking(move || {
            // Without a claim until the generator has left the previous number: a mark of that number must not be stored as one of this number.
            leased_mark.set_claim(None);
            ids.rebase(identity, from_ms);
            leased_mark.set_claim(Some(claim));
            ids.advance_mark()
        })
        .await;
        match advanced {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(JoinError::Unavailable(error.to_string())),
            Err(panicked) => Err(JoinError::Unavailable(panicked.to_string())),
        }
    }

    /// A clock that was ahead for a moment blocks the worker number, not the node: another number issues ids at once.
    async fn leave_a_number_that_is_ahead(&self) {
        let Some(member) = self.member() else { return };
        if self.parts.is_pinned || self.parts.ids.is_ahead_by_ms().is_none() || !self.may_try_another() {
            return;
        }
        let Ok((identity, worker_lease)) = self.take_worker_number(false).await else { return };
        match self.issue_as(identity, worker_lease.fencing_token).await {
            Ok(()) => {
                let (from, to) = (member.identity.worker_id(), identity.worker_id());
                tracing::warn!(from, to, "the clock was ahead; the node has taken another worker number");
                let _ = self.parts.leases.release(&member.worker_lease).await;
                self.status.set(Ok(identity));
                self.set_member(Some(Member { identity, worker_lease, ..member }));
            }
            Err(error) => self.lose(&member, &error.to_string(), JoinError::Unavailable(error.to_string())),
        }
    }

    fn may_try_another(&self) -> bool {
        let mut looked = self.looked_for_another.lock();
        let may = looked.is_none_or(|at| at.elapsed() >= NUMBER_RETRY_INTERVAL);
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
            None => tracing::warn!(why, node, worker, "the node has lost its name and worker number"),
            Some(_) => tracing::info!(why, node, worker, "the node has lost its name and worker number"),
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

fn unavailable(error: LeaseError) -> JoinError {
    JoinError::Unavailable(error.to_string())
}

fn mark_unavailable(error: CheckpointError) -> JoinError {
    JoinError::Unavailable(error.to_string())
}
