//! File descriptors: each connection needs one, and the node's own files must not run out.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors reserved for stores, brokers, logs and other files of the node.
pub const RESERVED: u64 = 256;

/// Raises the soft limit of open files as far as the system permits; returns the new limit, `None` without a limit.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // The limit stays unchanged.
        Err(_) => limit.current,
    }
}

/// The number of connections, up to `wanted`, that a node may serve when it may open `files` files.
#[must_use]
pub fn connections_within(files: Option<u64>, wanted: usize) -> usize {
    let Some(files) = files else { return wanted };
    // Of few descriptors, at least half are for clients.
    let left = files.saturating_sub(RESERVED.min(files / 2)).max(1);
    wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_node_itself() {
        assert_eq!(connections_within(None, 10_000), 10_000);
        assert_eq!(connections_within(Some(1_048_576), 10_000), 10_000);
        assert_eq!(connections_within(Some(1_024), 10_000), 768);
        assert_eq!(connections_within(Some(1_024), 500), 500);
        assert_eq!(connections_within(Some(256), 10_000), 128);
    }
}
