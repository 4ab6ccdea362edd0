//! File descriptors: each connection takes one, and what the node itself opens must not lack them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept for stores, brokers, logs and whatever else the node opens.
pub const RESERVED: u64 = 256;

/// Raises the soft limit of open files as far as the system allows; what it is then, `None` if there is no limit.
pub fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // As it was.
        Err(_) => limit.current,
    }
}

/// How many of `wanted` connections a node may serve that may open `files` at a time.
#[must_use]
pub fn connections_within(files: Option<u64>, wanted: usize) -> usize {
    let Some(files) = files else { return wanted };
    // Of few there is at least one half for clients.
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
