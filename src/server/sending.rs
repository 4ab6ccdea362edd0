//! The bytes of replies that are being sent: they count against a budget until they are written to the socket of their client.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use bytes::Bytes;

use crate::application::byte_budget::ByteBudget;

/// The bytes being sent by a node. The budget is apart from that of the bytes that wait to be sent, so that messages that have begun continue even
/// while the other one stays full.
const SENT_BYTES: usize = 20 * 1024 * 1024;
/// The bytes of the last messages of streams that end because the send budget is full: a client that reads makes progress with each attempt.
const LAST_BYTES: usize = 8 * 1024 * 1024;
/// The divisor of the budget that gives the share of one connection.
const CONNECTION_SHARE: usize = 4;
/// The divisor for last messages: the largest message must fit into the share.
const CONNECTION_SHARE_OF_LAST: usize = 2;
/// The small replies that wait on a connection without being counted. Those of a client that reads wait for microseconds.
const UNCOUNTED_REPLIES: usize = 8;

/// The bounds of the bytes being sent: of a whole node, or of one connection within it. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct Sending(Arc<Bounds>);

#[derive(Debug)]
struct Bounds {
    sent: ByteBudget,
    last: ByteBudget,
    /// The small replies that wait without being counted.
    uncounted: AtomicUsize,
    /// Whether the socket accepts no bytes at the moment.
    is_blocked: AtomicBool,
}

impl Sending {
    /// The bounds of a node.
    #[must_use]
    pub fn of_node() -> Self {
        Self::new(ByteBudget::new(SENT_BYTES), ByteBudget::new(LAST_BYTES))
    }

    /// The share of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        let Bounds { sent, last, .. } = &*self.0;
        Self::new(sent.share(SENT_BYTES / CONNECTION_SHARE), last.share(LAST_BYTES / CONNECTION_SHARE_OF_LAST))
    }

    /// At most the bytes of `sent`, and those of `last` for last messages.
    #[must_use]
    pub fn new(sent: ByteBudget, last: ByteBudget) -> Self {
        Self(Arc::new(Bounds { sent, last, uncounted: AtomicUsize::new(0), is_blocked: AtomicBool::new(false) }))
    }

    /// No bounds, where no listener has set any.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(ByteBudget::unbounded(), ByteBudget::unbounded())
    }

    /// An empty reservation.
    #[must_use]
    pub fn reservation(&self) -> SentBytes {
        SentBytes { bounds: self.clone(), sent: 0, last: 0, is_uncounted: false }
    }

    /// Records whether the socket of this connection accepts bytes.
    pub fn set_blocked(&self, is_blocked: bool) {
        self.0.is_blocked.store(is_blocked, Ordering::Relaxed);
    }
}

/// The reservation of one message, or its place among the small replies that are not counted; released when dropped.
#[derive(Debug)]
pub struct SentBytes {
    bounds: Sending,
    sent: usize,
    last: usize,
    is_uncounted: bool,
}

/// Whether the budget has room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room.
    Yes,
    /// There is room only for a last message, after which the reply ends.
    ForTheLast,
    /// There is no room, not even for a last message.
    None,
}

impl SentBytes {
    /// A further, empty reservation within the same bounds.
    #[must_use]
    pub fn another(&self) -> Self {
        self.bounds.reservation()
    }

    /// Replaces the reservation by `bytes`.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> Room {
        self.leave_uncounted();
        let Bounds { sent, last, .. } = &*self.bounds.0;
        if sent.replace(&mut self.sent, bytes) {
            let _less = last.replace(&mut self.last, 0);
            return Room::Yes;
        }
        if last.replace(&mut self.last, bytes) { Room::ForTheLast } else { Room::None }
    }

    /// Reserves `bytes` in all; returns `false` and changes nothing without room for more than a last message.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        self.bounds.0.sent.replace(&mut self.sent, bytes)
    }

    /// Whether a small reply may wait without being counted: the client reads, and few other replies wait. One that is reserved already may.
    #[must_use]
    pub fn may_wait_uncounted(&mut self) -> bool {
        if self.is_uncounted || self.sent + self.last > 0 {
            return true;
        }
        let Bounds { uncounted, is_blocked, .. } = &*self.bounds.0;
        if is_blocked.load(Ordering::Relaxed) {
            return false;
        }
        self.is_uncounted = uncounted.fetch_add(1, Ordering::Relaxed) < UNCOUNTED_REPLIES;
        if !self.is_uncounted {
            uncounted.fetch_sub(1, Ordering::Relaxed);
        }
        self.is_uncounted
    }

    /// `data`, with this reservation: it is released when the last part of the data is dropped, which the connection does once it is written.
    #[must_use]
    pub fn with(self, data: Bytes) -> Bytes {
        Bytes::from_owner(Reserved { data, _held: self })
    }

    /// Releases the reservation.
    pub fn clear(&mut self) {
        self.leave_uncounted();
        let _less = self.bounds.0.sent.replace(&mut self.sent, 0) && self.bounds.0.last.replace(&mut self.last, 0);
    }

    fn leave_uncounted(&mut self) {
        if std::mem::take(&mut self.is_uncounted) {
            self.bounds.0.uncounted.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for SentBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Data with its reservation.
struct Reserved {
    data: Bytes,
    _held: SentBytes,
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_small_replies_wait_uncounted_and_none_while_the_client_takes_no_bytes() {
        let (connection, other) = (Sending::unbounded(), Sending::unbounded());
        let mut waiting: Vec<_> = std::iter::repeat_with(|| connection.reservation()).take(UNCOUNTED_REPLIES).collect();
        assert!(waiting.iter_mut().all(SentBytes::may_wait_uncounted));
        assert!(waiting.iter_mut().all(SentBytes::may_wait_uncounted), "they are there already");
        let mut next = connection.reservation();
        assert!(!next.may_wait_uncounted());
        assert!(other.reservation().may_wait_uncounted(), "another connection");
        assert_eq!(waiting[0].set(100), Room::Yes);
        assert!(next.may_wait_uncounted(), "one of them is counted instead");
        drop((next, waiting));
        connection.set_blocked(true);
        assert!(!connection.reservation().may_wait_uncounted());
        connection.set_blocked(false);
        assert!(connection.reservation().may_wait_uncounted());
    }

    #[test]
    fn data_is_counted_until_its_last_part_is_dropped() {
        let budget = ByteBudget::new(1_000);
        let mut held = Sending::new(budget.clone(), ByteBudget::new(0)).reservation();
        assert_eq!(held.set(900), Room::Yes);
        let mut data = held.with(Bytes::from(vec![7; 900]));
        let first = data.split_to(100);
        drop(data);
        assert_eq!((first.as_ref(), budget.held()), (&[7; 100][..], 900));
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
