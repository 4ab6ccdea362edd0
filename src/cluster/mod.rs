//! The nodes that use one log, whether or not they were told of each other (`--cluster`).
//!
//! Nothing that a node promises of orders needs this: the log decides every append, whoever writes. What is here keeps nodes apart where they
//! must not be the same, and shows them to each other. It is for every node on a log that others can use, since nobody can tell from
//! within whether others do:
//!
//! - **Names.** A node owns the lease `node-<its name>`: two nodes of one name would take work from each other.
//! - **Worker numbers.** A node owns the lease `worker-<datacenter>-<worker>`, and with it a part of all ids. How far ids of that part may
//!   have been issued is a mark in the checkpoint store, saved ahead of use and fenced by the lease: the next owner starts past it. So no id
//!   is issued twice even by a node that was paused past its lease and wakes up believing in it.
//!   A number whose mark lies ahead of the clock, because some clock was ahead once, is passed over.
//! - **Places.** A node saves how far it has followed the log under `position-<datacenter>-<worker>`.
//!
//! A process that was killed leaves its leases behind. Who sees for itself that it is gone (see `process`) takes them at once; all others wait
//! until they expire.
//!
//! Work that one node does at a time (outbox, subscriptions) has leases of its own; whoever owns one has that role.

mod id_mark;
mod membership;
mod process;
mod view;

pub use id_mark::LeasedMark;
pub use membership::{JoinError, Member, Membership, MembershipDeps, MembershipStatus};
pub use view::{ClusterNode, ClusterReader, ClusterReaderDeps, ClusterView};

use data_encoding::BASE32_NOPAD;

use crate::id_generator::NodeIdentity;

/// The most nodes of a cluster: as many as a datacenter has worker numbers.
pub const MAX_NODES: u8 = 32;

/// The lease of a node's name. Leases take fewer characters than names of nodes.
fn name_lease(name: &str) -> String {
    format!("node-{}", BASE32_NOPAD.encode(name.as_bytes()))
}

fn worker_lease(identity: NodeIdentity) -> String {
    format!("worker-{}-{}", identity.datacenter_id(), identity.worker_id())
}

/// The checkpoint that holds, in place of a position, up to which Unix millisecond ids may have been issued.
fn mark_checkpoint(identity: NodeIdentity) -> String {
    format!("ids-{}-{}", identity.datacenter_id(), identity.worker_id())
}

fn position_checkpoint(identity: NodeIdentity) -> String {
    format!("position-{}-{}", identity.datacenter_id(), identity.worker_id())
}
