//! The bounds of callers, as in the identity file.

use std::{collections::BTreeMap, num::NonZeroU32};

use serde::Deserialize;

use super::roles::Role;

/// The limits of callers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitEntries {
    /// `[limits.role.NAME]`: the bounds of each caller with the role.
    #[serde(default)]
    pub role: BTreeMap<Role, Bounds>,
    /// `[limits.name.NAME]`: the bounds of the caller with the name, instead of those of its roles.
    #[serde(default)]
    pub name: BTreeMap<String, Bounds>,
}

/// The bounds of a caller; a field that is left out is unbounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// Calls per second, in the long run. Each command of an ExecuteCommands counts as a call.
    pub rate: Option<NonZeroU32>,
    /// Calls at once after a pause; the calls of one second if left out.
    pub burst: Option<NonZeroU32>,
    /// Commands in progress at a time.
    pub commands_in_flight: Option<NonZeroU32>,
    /// Open streams.
    pub streams: Option<NonZeroU32>,
}
