//! The nodes that use one log, whether or not they are configured to know of each other (`--cluster`).
//!
//! No guarantee about orders depends on this module: the log arbitrates all appends, from any node. This module ensures that nodes differ where they
//! must, and makes them visible to each other. Every node whose log can be shared uses it, since a node cannot tell whether other nodes use the log:
//!
//! - **Names.** A node owns the lease `node-<its name>`: two nodes with the same name would take work from each other.
//! - **Worker numbers.** A node owns the lease `worker-<datacenter>-<worker>`, and with it a part of all ids. A mark in the checkpoint store bounds
//!   the ids of that part that may have been issued; it is saved ahead of use and fenced by the lease, and the next owner starts past it. So no id is
//!   issued twice, even by a node that was paused past its lease and resumes in the belief that it holds it. A number whose mark is ahead of the
//!   clock, because some clock was ahead once, is skipped.
//! - **Positions.** A node saves how far it has followed the log under `position-<datacenter>-<worker>`.
//!
//! A process that was killed leaves its leases behind. A node that can verify that the process is gone (see `process`) takes them at once; all others
//! wait until they expire.
//!
//! Work that one node at a time may do (the outbox, subscriptions) has its own leases; the owner of such a lease does the work.

mod id_mark;
mod membership;
mod process;
mod view;

pub use id_mark::LeasedMark;
pub use membership::{JoinError, Member, Membership, MembershipDeps, MembershipStatus};
pub use view::{ClusterNode, ClusterReader, ClusterReaderDeps, ClusterView};

use data_encoding::BASE32_NOPAD;

use crate::id_generator::NodeIdentity;

/// The maximum number of nodes of a cluster: the number of worker numbers of a datacenter.
pub const MAX_NODES: u8 = 32;

/// The lease of a node's name. A lease name is limited to fewer kinds of characters than a node name.
fn name_lease(name: &str) -> String {
    format!("node-{}", BASE32_NOPAD.encode(name.as_bytes()))
}

fn worker_lease(identity: NodeIdentity) -> String {
    format!("worker-{}-{}", identity.datacenter_id(), identity.worker_id())
}

/// The checkpoint that holds, instead of a position, the Unix millisecond up to which ids may have been issued.
fn mark_checkpoint(identity: NodeIdentity) -> String {
    format!("ids-{}-{}", identity.datacenter_id(), identity.worker_id())
}

fn position_checkpoint(identity: NodeIdentity) -> String {
    format!("position-{}-{}", identity.datacenter_id(), identity.worker_id())
}
