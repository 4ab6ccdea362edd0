//! The members of the cluster, according to the shared leases and checkpoints.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tokio::sync::Mutex;

use super::{MAX_NODES, name_lease, position_checkpoint, worker_lease};
use crate::{
    id_generator::{IdGenerator, NodeIdentity},
    ports::{
        checkpoint_store::CheckpointStore,
        event_store::{EventStore, Position},
        lease_store::LeaseStore,
    },
    processors::{
        owners::{Owners, Takeover},
        projections::ProjectionProgress,
    },
};

/// For how long a view is cached for all callers.
const MAX_AGE: Duration = Duration::from_millis(500);

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its name.
    pub name: String,
    /// Its own address, `host:port`.
    pub address: String,
    /// Its datacenter and worker number.
    pub identity: NodeIdentity,
    /// Its single-owner work: `outbox`, `subscription-<handler>`.
    pub roles: Vec<String>,
    /// How far it has followed the log; within about a second.
    pub position: Position,
    /// About how many events it is behind the log.
    pub lag: u64,
}

/// The cluster at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// Its nodes, by worker number.
    pub nodes: Vec<ClusterNode>,
    /// The end of the log.
    pub head: Position,
}

/// The dependencies of a view.
#[derive(Clone, Debug)]
pub struct ClusterReaderDeps {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The leases of names, worker numbers and the outbox.
    pub leases: Arc<dyn LeaseStore>,
    /// The leases of handlers.
    pub bus_leases: Arc<dyn LeaseStore>,
    /// The positions of nodes.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The name of this node: the only one if no other node uses the log.
    pub name: String,
    /// The address of this node.
    pub address: String,
    /// This node's ids.
    pub ids: Arc<IdGenerator>,
    /// The position of this node.
    pub progress: ProjectionProgress,
    /// The leaders of single-owner work.
    pub owners: Arc<Owners>,
    /// The names of the roles in the leases of the log and of the bus.
    pub roles: (Vec<String>, Vec<String>),
    /// Whether other nodes may use the log.
    pub is_shared: bool,
}

/// Reads the state of the cluster, at most twice a second for any number of callers.
#[derive(Debug)]
pub struct ClusterReader {
    parts: ClusterReaderDeps,
    seen: Mutex<Option<(Instant, Arc<ClusterView>)>>,
}

impl ClusterReader {
    /// A reader that has not read yet.
    #[must_use]
    pub fn new(parts: ClusterReaderDeps) -> Self {
        Self { parts, seen: Mutex::new(None) }
    }

    /// The name of this node.
    #[must_use]
    pub fn this_node(&self) -> &str {
        &self.parts.name
    }

    /// The changes of leaders that this node has seen since it started, the latest first.
    #[must_use]
    pub fn takeovers(&self) -> Vec<Takeover> {
        self.parts.owners.takeovers()
    }

    /// The cluster, as it was within the last half second.
    ///
    /// # Errors
    /// A description of the unreachable store.
    pub async fn view(&self) -> Result<Arc<ClusterView>, String> {
        let mut seen = self.seen.lock().await;
        if let Some((at, view)) = &*seen
            && at.elapsed() < MAX_AGE
        {
            return Ok(Arc::clone(view));
        }
        let view = Arc::new(self.read().await?);
        *seen = Some((Instant::now(), Arc::clone(&view)));
        Ok(view)
    }

    async fn read(&self) -> Result<ClusterView, String> {
        let parts = &self.parts;
        let head = parts.store.head().await.map_err(text)?;
        let roles = self.roles().await?;
        let mut nodes = if parts.is_shared { self.members(head).await? } else { vec![self.this(head)] };
        for node in &mut nodes {
            let own = roles.iter().filter(|(_, holder)| *holder == node.name);
            node.roles = own.map(|(role, _)| role.clone()).collect();
        }
        Ok(ClusterView { nodes, head })
    }

    /// Each role with the name of its node.
    async fn roles(&self) -> Result<Vec<(String, String)>, String> {
        let (of_log, of_bus) = &self.parts.roles;
        let of_log = of_log.iter().map(|role| (role, &self.parts.leases));
        let of_bus = of_bus.iter().map(|role| (role, &self.parts.bus_leases));
        let holders = of_log.chain(of_bus).map(|(role, leases)| async move {
            let owner = leases.holder(role).await.map_err(text)?;
            Ok::<_, String>(owner.map(|owner| (role.clone(), owner.holder)))
        });
        Ok(try_join_all(holders).await?.into_iter().flatten().collect())
    }

    async fn members(&self, head: Position) -> Result<Vec<ClusterNode>, String> {
        let datacenter = self.parts.ids.node().datacenter_id();
        let identities = (0..MAX_NODES).filter_map(|worker| NodeIdentity::new(datacenter, worker).ok());
        let members = try_join_all(identities.map(|identity| self.member(identity, head))).await?;
        Ok(members.into_iter().flatten().collect())
    }

    /// The owner of a worker number, if it has one.
    async fn member(&self, identity: NodeIdentity, head: Position) -> Result<Option<ClusterNode>, String> {
        let parts = &self.parts;
        let Some(owner) = parts.leases.holder(&worker_lease(identity)).await.map_err(text)? else { return Ok(None) };
        let name = owner.holder;
        let named = parts.leases.holder(&name_lease(&name)).await.map_err(text)?;
        let address = named.and_then(|named| named.holder.split_once('@').map(|(_, address)| address.to_owned()));
        let saved = parts.checkpoints.load(&position_checkpoint(identity)).await.map_err(text)?;
        // A previous owner's saved position does not apply to this one.
        let saved = saved.filter(|saved| saved.fencing_token == owner.fencing_token);
        let position = saved.map_or(Position(0), |saved| saved.position);
        let (address, lag) = (address.unwrap_or_default(), parts.store.distance(position, head));
        Ok(Some(ClusterNode { name, address, identity, roles: Vec::new(), position, lag }))
    }

    fn this(&self, head: Position) -> ClusterNode {
        let parts = &self.parts;
        let position = parts.progress.position();
        ClusterNode {
            name: parts.name.clone(),
            address: parts.address.clone(),
            identity: parts.ids.node(),
            roles: Vec::new(),
            position,
            lag: parts.store.distance(position, head),
        }
    }
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
