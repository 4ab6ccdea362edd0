//! The leaders of single-owner work, as this node has seen them.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    domain::timestamp::Timestamp,
    ports::clock::{Clock, SystemClock},
};

/// The maximum number of takeovers that are kept; older ones are forgotten.
pub const MAX_TAKEOVERS: usize = 100;

/// A change of the leader of a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// When this node noticed it.
    pub at: Timestamp,
    /// The role: the name of its lease.
    pub role: String,
    /// The leader before.
    pub from: String,
    /// The leader since.
    pub to: String,
}

/// The leaders of all roles, and their changes since this node started.
#[derive(Debug)]
pub struct Owners {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    leaders: HashMap<String, String>,
    /// The latest last.
    takeovers: VecDeque<Takeover>,
}

impl Default for Owners {
    /// By the clock of the operating system.
    fn default() -> Self {
        Self::new(Arc::new(SystemClock))
    }
}

impl Owners {
    /// No leader has been seen yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Mutex::default() }
    }

    /// Records that `leader` leads `role`. The first time, that is not a takeover: it may have led for a long time.
    pub fn saw(&self, role: &str, leader: &str) {
        let mut seen = self.seen.lock();
        if seen.leaders.get(role).is_some_and(|known| known == leader) {
            return;
        }
        let Some(from) = seen.leaders.insert(role.to_owned(), leader.to_owned()) else { return };
        if seen.takeovers.len() >= MAX_TAKEOVERS {
            seen.takeovers.pop_front();
        }
        let at = Timestamp::from_micros(self.clock.now_micros());
        seen.takeovers.push_back(Takeover { at, role: role.to_owned(), from, to: leader.to_owned() });
    }

    /// The takeovers, the latest first.
    #[must_use]
    pub fn takeovers(&self) -> Vec<Takeover> {
        self.seen.lock().takeovers.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::clock::ManualClock;

    fn shown(owners: &Owners) -> Vec<String> {
        let text = |takeover: Takeover| {
            let Takeover { at, role, from, to } = takeover;
            format!("{} {role}: {from} -> {to}", at.as_micros())
        };
        owners.takeovers().into_iter().map(text).collect()
    }

    #[test]
    fn a_takeover_is_a_change_that_this_node_has_seen_and_the_latest_is_first() {
        let clock = Arc::new(ManualClock::new(1));
        let owners = Owners::new(Arc::clone(&clock) as Arc<dyn Clock>);
        owners.saw("outbox", "node1");
        owners.saw("outbox", "node1");
        assert_eq!(owners.takeovers(), [], "it may have been so for long");
        clock.set_micros(2);
        owners.saw("outbox", "node2");
        owners.saw("subscription-a", "node2");
        clock.set_micros(3);
        // The lease was lost, and acquired again.
        owners.saw("outbox", "node2");
        owners.saw("outbox", "node3");
        assert_eq!(shown(&owners), ["3 outbox: node2 -> node3", "2 outbox: node1 -> node2"]);
    }

    #[test]
    fn only_the_latest_takeovers_are_kept() {
        let owners = Owners::new(Arc::new(ManualClock::new(1)));
        for number in 0..=MAX_TAKEOVERS + 1 {
            owners.saw("outbox", &format!("node{number}"));
        }
        let found = owners.takeovers();
        assert_eq!(found.len(), MAX_TAKEOVERS);
        assert_eq!((&*found[0].to, &*found[MAX_TAKEOVERS - 1].to), ("node101", "node2"));
    }
}
