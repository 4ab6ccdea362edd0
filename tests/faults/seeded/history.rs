//! What a run leaves behind for the checker: every call with its time and its answer, the log as it is in the end, what followers were
//! sent, and what the bus has.

use std::fmt;

/// Microseconds since the run began.
pub type Micros = u64;

/// An order's id.
pub type OrderId = u64;

/// Where an order stands, and the command that leads there.
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

    /// Whether a command that leads to `self` is allowed in this status; `None`: there is no order.
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
    /// The call that it comes from: each call gives another name as the actor.
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

/// What a call asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A command that leads to `to`. The order of a new one is not known before.
    Command { to: Status, order: Option<OrderId>, request: Option<String>, expected: Option<u64> },
    /// These orders, one or several, from one node.
    OrderRepository { ids: Vec<OrderId>, freshness: Freshness },
    /// All orders of a customer, with STRONG.
    List { customer: String },
    /// The totals, with STRONG.
    Totals,
}

/// How fresh an answer has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    Strong,
    /// Given the token of a command that left this order at that revision.
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

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command took effect, now or at an earlier try.
    Done { order: OrderId, row: Row },
    /// The rules, or the expected revision, do not allow it, at this revision (0: there is no order).
    Refused { reason: String, row: Option<Row>, revision: u64 },
    /// For a reason that says that nothing was written.
    NotDone { reason: String },
    /// Nobody knows: the connection broke, the deadline passed.
    Unknown { reason: String },
    /// An answer that nothing explains, such as `DATA_CORRUPT`.
    Wrong { reason: String, message: String },
    /// The orders asked for, in the order of the question.
    OrderRepository(Vec<Option<Row>>),
    /// The orders of a customer.
    List(Vec<(OrderId, Row)>),
    /// The number of orders by status, as [`Status::ALL`], and of all; the dollars that they are worth.
    Totals { by_status: [u64; 5], all: u64, dollars: u64 },
}

/// A call and its answer.
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

/// What a follower was sent, over all its resumptions, until it was told that its cursor is of another log: then it starts again.
#[derive(Clone, Debug)]
pub struct Followed {
    pub what: Follows,
    /// The order, the revision and the call of each event.
    pub events: Vec<(OrderId, u64, String)>,
    /// When it was told; `None`: never.
    pub told_at: Option<Micros>,
}

/// Which events a follower wants.
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

/// All of a run.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub calls: Vec<Call>,
    pub log: Vec<Event>,
    pub followed: Vec<Followed>,
    /// The order and the revision of each message on the bus, duplicates and all.
    pub bus: Vec<(OrderId, u64)>,
    /// Empty wherever no acknowledged write may be lost.
    pub windows: Vec<Window>,
}
