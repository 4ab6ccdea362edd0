//! The durability of an acknowledged commit: the failures that it survives.

/// The durability of an acknowledged commit, as detected from the backend: the failures that it survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Not known yet: the store has not been reached since the start, so nothing has been acknowledged.
    Unknown,
    /// Nothing: commits are lost when the process ends.
    None,
    /// The end of the service process.
    Process,
    /// A power loss of the storing machine.
    Machine,
    /// The loss of a minority of the storing machines.
    Quorum,
}

impl Durability {
    /// The name in logs, health reports and the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::None => "none",
            Self::Process => "process",
            Self::Machine => "machine",
            Self::Quorum => "quorum",
        }
    }

    /// The number in metrics, which grows with the durability; -1 while it is unknown.
    #[must_use]
    pub const fn level(self) -> f64 {
        match self {
            Self::Unknown => -1.0,
            Self::None => 0.0,
            Self::Process => 1.0,
            Self::Machine => 2.0,
            Self::Quorum => 3.0,
        }
    }
}
