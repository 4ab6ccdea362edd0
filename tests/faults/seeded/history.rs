//! The record of a run for the checker: every call with its time and its reply, the final log, the events that followers were sent, and the
//! messages on the bus.

use std::fmt;

/// Microseconds since the run began.
pub type Micros = u64;

/// An order's id.
pub type OrderId = u64;

/// The status of an order, and the command that leads to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Pending,
    Paid,
    Shipped,
    Delivered,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Pending, Self::Paid, Self::Shipped, Self::Delivered, Self::Cancelled];

    /// Whether a command that leads to `self` is allowed in this status; `None`: the order does not exist.
    pub fn may_follow(self, before: Option<Self>) -> bool {
        match self {
            Self::Pending => before.is_none(),
            Self::Paid => before == Some(Self::Pending),
            Self::Shipped => before == Some(Self::Paid),
            Self::Delivered => before == Some(Self::Shipped),
            Self::Cancelled => matches!(before, Some(Self::Pending | Self::Paid)),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub order: OrderId,
    pub revision: u64,
    /// The status that it leads to.
    pub to: Status,
    /// The call that caused it: each call uses a different name as the actor.
    pub call: String,
    /// The request id; empty if the call had none.
    pub request: String,
    pub customer: String,
}

/// An order at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub revision: u64,
    pub status: Status,
}

/// The request of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command that leads to `to`. The id of a new order is not known in advance.
    Command { to: Status, order: Option<OrderId>, request: Option<String>, expected: Option<u64> },
    /// These orders, one or several, from one node.
    OrderRepository { ids: Vec<OrderId>, freshness: Freshness },
    /// All orders of a customer, with STRONG.
    List { customer: String },
    /// The totals, with STRONG.
    Totals,
}

/// The requested freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Strong,
    /// With the token of a command that left this order at that revision.
    AtLeast(OrderId, u64),
}

impl Freshness {
    /// The order of the token.
    pub const fn order(self) -> Option<OrderId> {
        match self {
            Self::Strong => None,
            Self::AtLeast(order, _) => Some(order),
        }
    }
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command took effect, now or at an earlier attempt.
    Done { order: OrderId, row: Row },
    /// Not allowed by the rules or the expected revision, at this revision (0: the order does not exist).
    Refused { reason: String, row: Option<Row>, revision: u64 },
    /// Refused with a reason that says that nothing was written.
    NotDone { reason: String },
    /// Unknown: the connection broke, or the deadline passed.
    Unknown { reason: String },
    /// A reply that nothing explains, such as `DATA_CORRUPT`.
    Wrong { reason: String, message: String },
    /// The requested orders, in the order of the request.
    OrderRepository(Vec<Option<Row>>),
    /// The orders of a customer.
    List(Vec<(OrderId, Row)>),
    /// The number of orders by status, as [`Status::ALL`], and in total; and their worth in dollars.
    Totals { by_status: [u64; 5], all: u64, dollars: u64 },
}

/// A call and its reply.
#[derive(Clone, Debug)]
pub struct Call {
    /// No other call has this name. It is the actor of a command.
    pub name: String,
    pub node: usize,
    pub sent_at: Micros,
    pub answered_at: Micros,
    pub asked: Asked,
    pub answer: Answer,
}

/// The events that a follower was sent, over all its resumptions, until it was told that its cursor is of another log: then it starts over.
#[derive(Clone, Debug)]
pub struct Followed {
    pub what: Follows,
    /// The order, the revision and the call of each event.
    pub events: Vec<(OrderId, u64, String)>,
    /// The time at which it was told; `None`: never.
    pub told_at: Option<Micros>,
}

/// The filter of a follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Follows {
    Everything,
    Status(Status),
    Customer(String),
    Order(OrderId),
}

impl Follows {
    pub fn wants(&self, event: &Event) -> bool {
        match self {
            Self::Everything => true,
            Self::Status(to) => event.to == *to,
            Self::Customer(customer) => event.customer == *customer,
            Self::Order(order) => event.order == *order,
        }
    }
}

/// A time in which an acknowledged write may be lost, as documented: from a fail-over of Sentinel until its nodes and servers agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub from: Micros,
    pub until: Micros,
}

/// The complete record of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub calls: Vec<Call>,
    pub log: Vec<Event>,
    pub followed: Vec<Followed>,
    /// The order and the revision of each message on the bus, including duplicates.
    pub bus: Vec<(OrderId, u64)>,
    /// Empty unless acknowledged writes may be lost.
    pub windows: Vec<Window>,
}
