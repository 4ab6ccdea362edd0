//! This node's membership among the nodes of its log, and its view of the others.

use std::sync::Arc;

use super::{StartError, services::NodeDeps};
use crate::{
    cluster::{ClusterReader, ClusterReaderDeps, LeasedMark, Membership, MembershipDeps},
    id_generator::FolderMarks,
    ports::{event_store::EventStore, lease_store::LeaseStore},
    processors::{handlers, outbox, projections::ProjectionProgress},
};

/// The membership, which leases a name and a worker number. `handlers` are the names of the single-owner handlers.
pub(super) fn membership(ground: &NodeDeps<'_>, mark: LeasedMark, handlers: &[String]) -> Arc<Membership> {
    let NodeDeps { config, node, address, backends, ids, clock, .. } = *ground;
    let role = |leases: &Arc<dyn LeaseStore>, name: String| (Arc::clone(leases), name);
    let handled = handlers.iter().map(|name| role(&backends.bus_leases, handlers::lease_name(name)));
    let membership = Membership::new(MembershipDeps {
        leases: Arc::clone(&backends.leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        ids: Arc::clone(ids),
        mark,
        // The marks of ids that this node issued without a lease, on another log or by an earlier version.
        left_marks: config.node.data_dir.as_deref().map(|dir| FolderMarks::new(dir, config.node.identity)),
        clock: Arc::clone(clock),
        name: node.to_owned(),
        address: address.to_string(),
        preferred: config.node.identity,
        is_pinned: config.node.has_chosen_worker,
        roles: std::iter::once(role(&backends.leases, outbox::NAME.to_owned())).chain(handled).collect(),
    });
    Arc::new(membership.quiet_while(backends.store_away()))
}

/// Acquires the leases, or leaves that to the background while the store is unreachable.
pub(super) async fn join(membership: &Membership, store: &dyn EventStore) -> Result<(), StartError> {
    if store.unreachable().is_some() || store.log_id().is_none() {
        return Ok(());
    }
    let joined = membership.join().await;
    joined.map_err(|error| format!("cannot join the nodes of this log: {error}").into())
}

/// The view of the cluster, or of the node alone; `handlers` are the names of the single-owner handlers.
pub(super) fn reader(ground: &NodeDeps<'_>, progress: ProjectionProgress, handlers: &[String]) -> ClusterReader {
    let NodeDeps { node, address, backends, ids, owners, .. } = *ground;
    ClusterReader::new(ClusterReaderDeps {
        store: Arc::clone(&backends.store),
        leases: Arc::clone(&backends.leases),
        bus_leases: Arc::clone(&backends.bus_leases),
        checkpoints: Arc::clone(&backends.checkpoints),
        name: node.to_owned(),
        address: address.to_string(),
        ids: Arc::clone(ids),
        progress,
        owners: Arc::clone(owners),
        roles: (vec![outbox::NAME.to_owned()], handlers.iter().map(|name| handlers::lease_name(name)).collect()),
        is_shared: backends.is_shared,
    })
}
