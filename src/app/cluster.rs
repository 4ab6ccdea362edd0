//! This node's place among the nodes of its log, and its view of the others.

use std::sync::Arc;

use super::{StartError, parts::Ground};
use crate::{
    cluster::{ClusterReader, ClusterReaderParts, LeasedMark, Membership, MembershipParts},
    id_generator::FolderMarks,
    lease::LeaseStore,
    outbox,
    projections::ProjectionProgress,
    subscriptions,
};

/// Takes a name and a worker number by lease, or waits for them in the background while the store is out of reach. `handlers` are the names of
/// those that one node runs at a time.
pub(super) async fn join(
    ground: &Ground<'_>,
    mark: LeasedMark,
    handlers: &[String],
) -> Result<Arc<Membership>, StartError> {
    let Ground { config, node, address, backends, ids, clock, .. } = *ground;
    let role = |leases: &Arc<dyn LeaseStore>, name: String| (Arc::clone(leases), name);
    let handled = handlers.iter().map(|name| role(&backends.bus_leases, subscriptions::lease_name(name)));
    let membership = Membership::new(MembershipParts {
        leases: Arc::clone(&backends.leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        ids: Arc::clone(ids),
        mark,
        // What this node has issued as one that takes no lease, on another log or by an earlier version.
        left_marks: config.node.data_dir.as_deref().map(|dir| FolderMarks::new(dir, config.node.identity)),
        clock: Arc::clone(clock),
        name: node.to_owned(),
        address: address.to_string(),
        preferred: config.node.identity,
        is_pinned: config.node.has_chosen_worker,
        roles: std::iter::once(role(&backends.leases, outbox::NAME.to_owned())).chain(handled).collect(),
    });
    if backends.store.log_id().is_none() {
        // Nobody waits for a store that is away: the membership is kept, and thereby joined, when it comes.
        return Ok(Arc::new(membership));
    }
    membership.join().await.map_err(|error| format!("no place among the nodes of this log: {error}"))?;
    Ok(Arc::new(membership))
}

/// Shows the cluster, or the node alone; `handlers` are the names of those that one node runs at a time.
pub(super) fn reader(ground: &Ground<'_>, progress: ProjectionProgress, handlers: &[String]) -> ClusterReader {
    let Ground { node, address, backends, ids, .. } = *ground;
    ClusterReader::new(ClusterReaderParts {
        store: Arc::clone(&backends.store),
        leases: Arc::clone(&backends.leases),
        bus_leases: Arc::clone(&backends.bus_leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        name: node.to_owned(),
        address: address.to_string(),
        ids: Arc::clone(ids),
        progress,
        roles: (vec![outbox::NAME.to_owned()], handlers.iter().map(|name| subscriptions::lease_name(name)).collect()),
        is_shared: backends.is_shared,
    })
}
