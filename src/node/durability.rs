//! The check of the store's durability against `--require-durable`.

use crate::ports::event_store::{Durability, EventStore};

/// The required durability, `--require-durable`.
#[derive(Clone, Debug)]
pub struct DurabilityRequirement {
    /// The durability of an acknowledged commit.
    pub required: Durability,
    /// The event store, as in `--persistence`.
    pub persistence: &'static str,
    /// The address of the event store, without a password; `None` if it is not a server.
    pub server: Option<String>,
}

impl DurabilityRequirement {
    /// Whether the detected durability of `store` is sufficient, or is not known yet.
    ///
    /// # Errors
    /// [`NotDurable`] if it is known and insufficient.
    pub fn holds(&self, store: &dyn EventStore) -> Result<(), NotDurable> {
        let found = store.durability();
        if found == Durability::Unknown || found >= self.required {
            return Ok(());
        }
        Err(NotDurable {
            persistence: self.persistence,
            server: self.server.clone(),
            found,
            required: self.required,
            detail: store.durability_detail(),
        })
    }
}

/// The durability of the store is below the requirement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotDurable {
    persistence: &'static str,
    server: Option<String>,
    found: Durability,
    required: Durability,
    /// The detected or asserted settings of the store.
    detail: Option<String>,
}

impl NotDurable {
    /// The remedy for the operator.
    fn remedy(&self) -> &'static str {
        match self.persistence {
            "redis" => {
                "set appendonly yes, appendfsync always, no-appendfsync-on-rewrite no and maxmemory-policy noeviction, in its configuration \
                 and with CONFIG SET, and use no Sentinels (docs/deploy.md, Redis)"
            }
            "nats" => {
                "set sync_interval: always in the jetstream block of each server, and name their monitoring ports (--nats-monitor) or \
                 assert it (--nats-synced) (docs/deploy.md, NATS)"
            }
            "embedded" => "name a folder on a disk with --data-dir",
            _ => "take --persistence embedded with --data-dir DIR, or redis, or nats",
        }
    }
}

impl std::fmt::Display for NotDurable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (found, required) = (self.found.name(), self.required.name());
        write!(f, "--require-durable: the durability of persistence {} is {found}", self.persistence)?;
        write!(f, ", {required} is required")?;
        if let Some(server) = &self.server {
            write!(f, "; at {server}")?;
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        write!(f, "; {}", self.remedy())
    }
}

impl std::error::Error for NotDurable {}
