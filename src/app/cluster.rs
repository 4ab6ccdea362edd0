//! This node's place in the cluster, and its view of the others.

use std::sync::Arc;

use super::{StartError, parts::Ground};
use crate::{
    cluster::{ClusterReader, ClusterReaderParts, LeasedMark, Membership, MembershipParts},
    outbox,
    projections::ProjectionProgress,
    subscriptions,
};

/// Takes a place in the cluster, or waits for one in the background while the store is out of reach.
pub(super) async fn join(ground: &Ground<'_>, mark: LeasedMark) -> Result<Arc<Membership>, StartError> {
    let Ground { config, node, address, backends, ids, clock, .. } = *ground;
    let membership = Membership::new(MembershipParts {
        leases: Arc::clone(&backends.leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        ids: Arc::clone(ids),
        mark,
        clock: Arc::clone(clock),
        name: node.to_owned(),
        address: address.to_string(),
        preferred: config.node.identity,
    });
    membership.join().await.map_err(|error| format!("no place in the cluster: {error}"))?;
    Ok(Arc::new(membership))
}

/// Shows the cluster, or the node alone; `handlers` are the names of those that one node runs at a time.
pub(super) fn reader(ground: &Ground<'_>, progress: ProjectionProgress, handlers: &[String]) -> ClusterReader {
    let Ground { config, node, address, backends, ids, .. } = *ground;
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
        is_cluster: config.cluster,
    })
}
