//! The bytes of replies that are being sent: they count against a budget until they are written to the socket of their client.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;

use crate::application::byte_budget::ByteBudget;

/// The bytes being sent by a node. The budget is apart from that of the bytes that wait to be sent, so that messages that have begun continue even
/// while the other one stays full.
const SENT_BYTES: usize = 20 * 1024 * 1024;
/// The bytes of the last messages of streams that end because the send budget is full, and those of replies of one message that find it full: a client
/// that reads makes progress with each attempt. They are apart, so that replies that are not read do not stop streams.
const LAST_BYTES: usize = 8 * 1024 * 1024;
/// The bytes that each connection may always send, whatever others hold: any event but the largest ones.
const OWN_BYTES: usize = 64 * 1024;
/// What a message of a stream costs besides its bytes while it waits to be written: many small ones must not cost more than a large one.
const MESSAGE_COST: usize = 512;
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
    /// As `last`, for replies of one message.
    whole: ByteBudget,
    own: ByteBudget,
    /// The places of small replies that wait without being counted by their bytes.
    uncounted: ByteBudget,
    /// Whether the socket accepts no bytes at the moment.
    is_blocked: AtomicBool,
}

impl Sending {
    /// The bounds of a node.
    #[must_use]
    pub fn of_node() -> Self {
        Self::new(ByteBudget::new(SENT_BYTES), ByteBudget::new(LAST_BYTES), ByteBudget::new(LAST_BYTES))
    }

    /// The share of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        let Bounds { sent, last, whole, .. } = &*self.0;
        let share_of_last = |budget: &ByteBudget| budget.share(LAST_BYTES / CONNECTION_SHARE_OF_LAST);
        let sent = sent.share(SENT_BYTES / CONNECTION_SHARE);
        Self::of_budgets(sent, share_of_last(last), share_of_last(whole), OWN_BYTES)
    }

    /// At most the bytes of `sent`, those of `last` more for last messages, and those of `whole` more for replies of one message.
    #[must_use]
    pub fn new(sent: ByteBudget, last: ByteBudget, whole: ByteBudget) -> Self {
        Self::of_budgets(sent, last, whole, 0)
    }

    fn of_budgets(sent: ByteBudget, last: ByteBudget, whole: ByteBudget, own: usize) -> Self {
        let (own, uncounted) = (ByteBudget::new(own), ByteBudget::new(UNCOUNTED_REPLIES));
        Self(Arc::new(Bounds { sent, last, whole, own, uncounted, is_blocked: AtomicBool::new(false) }))
    }

    /// No bounds, where no listener has set any.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(ByteBudget::unbounded(), ByteBudget::unbounded(), ByteBudget::unbounded())
    }

    /// An empty reservation.
    #[must_use]
    pub fn reservation(&self) -> SentBytes {
        SentBytes { bounds: self.clone(), sent: 0, last: 0, whole: 0, own: 0, uncounted: 0 }
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
    whole: usize,
    own: usize,
    uncounted: usize,
}

/// Whether the budget has room for a message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is room.
    Yes,
    /// There is room only for a last message, after which the stream ends.
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

    /// Replaces the reservation by that of a reply of one message, of `bytes`; returns whether there was room.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> bool {
        let Bounds { sent, whole, uncounted, .. } = &*self.bounds.0;
        let _less = uncounted.replace(&mut self.uncounted, 0);
        if sent.replace(&mut self.sent, bytes) {
            return whole.replace(&mut self.whole, 0);
        }
        whole.replace(&mut self.whole, bytes) && sent.replace(&mut self.sent, 0)
    }

    /// Reserves a message of a stream, of `bytes`. To be called once.
    #[must_use]
    pub fn set_message(&mut self, bytes: usize) -> Room {
        let Bounds { sent, last, own, .. } = &*self.bounds.0;
        let bytes = bytes + MESSAGE_COST;
        if sent.replace(&mut self.sent, bytes) || own.replace(&mut self.own, bytes) {
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
        let Bounds { uncounted, is_blocked, .. } = &*self.bounds.0;
        let is_reserved = self.uncounted + self.sent + self.whole > 0;
        is_reserved || !is_blocked.load(Ordering::Relaxed) && uncounted.replace(&mut self.uncounted, 1)
    }

    /// `data`, with this reservation: it is released when the last part of the data is dropped, which the connection does once it is written.
    #[must_use]
    pub fn attached_to(self, data: Bytes) -> Bytes {
        Bytes::from_owner(Counted { data, _held: self })
    }

    /// Releases the reservation.
    pub fn clear(&mut self) {
        let Bounds { sent, last, whole, own, uncounted, .. } = &*self.bounds.0;
        for (budget, held) in [
            (sent, &mut self.sent),
            (last, &mut self.last),
            (whole, &mut self.whole),
            (own, &mut self.own),
            (uncounted, &mut self.uncounted),
        ] {
            let _less = budget.replace(held, 0);
        }
    }
}

impl Drop for SentBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Data with its reservation.
struct Counted {
    data: Bytes,
    _held: SentBytes,
}

impl AsRef<[u8]> for Counted {
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
        assert!(waiting[0].set(100));
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
        let mut held = Sending::new(budget.clone(), ByteBudget::new(0), ByteBudget::new(0)).reservation();
        assert!(held.set(900));
        let mut data = held.attached_to(Bytes::from(vec![7; 900]));
        let first = data.split_to(100);
        drop(data);
        assert_eq!((first.as_ref(), budget.held()), (&[7; 100][..], 900));
        drop(first);
        assert_eq!(budget.held(), 0);
    }

    #[test]
    fn replies_that_are_not_read_leave_room_for_streams_of_others() {
        let node = Sending::of_node();
        let unread: Vec<_> = (0..100)
            .filter_map(|_| {
                let mut held = node.of_connection().reservation();
                held.set(1 << 20).then_some(held)
            })
            .collect();
        assert_eq!(unread.len(), 28);
        let connection = node.of_connection();
        let (mut last, mut event) = (connection.reservation(), connection.reservation());
        assert_eq!((event.set_message(40_000), last.set_message(1_000_000)), (Room::Yes, Room::ForTheLast));
        // Not even streams that are not read stop the events of others.
        let streams: Vec<_> = (0..100)
            .map(|_| {
                let mut held = node.of_connection().reservation();
                (held.set_message(1_000_000), held)
            })
            .collect();
        assert!(streams.iter().any(|(room, _)| *room == Room::None));
        assert_eq!(node.of_connection().reservation().set_message(40_000), Room::Yes);
        assert_ne!(connection.reservation().set_message(40_000), Room::Yes, "its client has not read the one before");
        drop(event);
        assert_eq!(connection.reservation().set_message(40_000), Room::Yes);
    }

    #[test]
    fn a_message_costs_more_than_its_bytes() {
        let mut held = Vec::new();
        let connection = Sending::of_node().of_connection();
        loop {
            let mut next = connection.reservation();
            if next.set_message(10) != Room::Yes {
                break;
            }
            held.push(next);
        }
        assert!((10_000..11_000).contains(&held.len()), "{}", held.len());
    }
}
