//! The bits of an id. They are stored forever: nothing here may change.

/// 2024-01-01T00:00:00Z, the zero of the 41 bits, in Unix milliseconds.
pub const EPOCH_UNIX_MS: u64 = 1_704_067_200_000;
pub(super) const EPOCH_UNIX_MICROS: i64 = EPOCH_UNIX_MS as i64 * 1_000;

pub(super) const SEQUENCE_BITS: u32 = 12;
pub(super) const SEQUENCES: u64 = 1 << SEQUENCE_BITS;
pub(super) const SEQUENCE_MASK: u64 = SEQUENCES - 1;
const NODE_FIELD_BITS: u32 = 5;
const NODE_FIELD_MAX: u8 = (1 << NODE_FIELD_BITS) - 1;
const WORKER_SHIFT: u32 = SEQUENCE_BITS;
const DATACENTER_SHIFT: u32 = WORKER_SHIFT + NODE_FIELD_BITS;
const MS_SHIFT: u32 = DATACENTER_SHIFT + NODE_FIELD_BITS;
/// The last millisecond of the 41 bits.
pub(super) const MAX_MS: u64 = (1 << 41) - 1;

/// The node that issues the ids; two nodes with the same identity would repeat each other's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeIdentity {
    datacenter_id: u8,
    worker_id: u8,
}

impl NodeIdentity {
    /// The identity of a worker in a datacenter.
    ///
    /// # Errors
    /// If either is above 31.
    pub fn new(datacenter_id: u8, worker_id: u8) -> Result<Self, InvalidNodeIdentity> {
        for (field, value) in [("datacenter id", datacenter_id), ("worker id", worker_id)] {
            if value > NODE_FIELD_MAX {
                return Err(InvalidNodeIdentity { field, value });
            }
        }
        Ok(Self { datacenter_id, worker_id })
    }

    /// 0 to 31.
    #[must_use]
    pub fn datacenter_id(self) -> u8 {
        self.datacenter_id
    }

    /// 0 to 31.
    #[must_use]
    pub fn worker_id(self) -> u8 {
        self.worker_id
    }

    /// Both in one number, 0 to 1023.
    #[must_use]
    pub fn number(self) -> u16 {
        u16::from(self.datacenter_id) << NODE_FIELD_BITS | u16::from(self.worker_id)
    }

    /// The node of a number; only the lower ten bits count.
    pub(super) fn from_number(number: u16) -> Self {
        let field = |bits: u16| (bits & u16::from(NODE_FIELD_MAX)) as u8;
        Self { datacenter_id: field(number >> NODE_FIELD_BITS), worker_id: field(number) }
    }

    pub(super) fn id_of(self, ms: u64, sequence: u64) -> u64 {
        ms << MS_SHIFT
            | u64::from(self.datacenter_id) << DATACENTER_SHIFT
            | u64::from(self.worker_id) << WORKER_SHIFT
            | sequence
    }
}

/// A datacenter or worker id above 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {value} is not from 0 to {max}", max = NODE_FIELD_MAX)]
pub struct InvalidNodeIdentity {
    field: &'static str,
    value: u8,
}

/// The parts of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdParts {
    /// When it was issued, in Unix milliseconds; it may be slightly ahead of the clock at that moment.
    pub timestamp_ms_unix: u64,
    /// 0 to 31.
    pub datacenter_id: u8,
    /// 0 to 31.
    pub worker_id: u8,
    /// 0 to 4095.
    pub sequence: u16,
}

/// A number that is not a valid id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an id: ids are from 1 to {max}", max = i64::MAX)]
pub struct InvalidId(pub u64);

/// Splits an id into its parts. It cannot know whether the id was ever issued.
///
/// # Errors
/// [`InvalidId`] for 0 and for numbers of more than 63 bits.
pub fn parse(id: u64) -> Result<IdParts, InvalidId> {
    if id == 0 || id > i64::MAX.unsigned_abs() {
        return Err(InvalidId(id));
    }
    // The masks keep both node fields within 5 bits and the sequence within 12: nothing is truncated.
    let node_field = |shift: u32| (id >> shift) as u8 & NODE_FIELD_MAX;
    Ok(IdParts {
        timestamp_ms_unix: EPOCH_UNIX_MS + (id >> MS_SHIFT),
        datacenter_id: node_field(DATACENTER_SHIFT),
        worker_id: node_field(WORKER_SHIFT),
        sequence: (id & SEQUENCE_MASK) as u16,
    })
}
