//! The open streams of a node, and their data that waits to be read by clients.

use crate::application::{
    AppError,
    byte_budget::{ByteBudget, HeldBytes},
    event_streams::{EventStreamPermit, StreamBounds},
    turns::Turns,
};

/// The bytes read from the log, or produced by commands, that wait to be sent, for all streams of a node.
const READ_BYTES: usize = 24 * 1024 * 1024;
/// The bytes being sent. A separate budget, so that messages that have begun continue even while the other one stays full.
const SENT_BYTES: usize = 20 * 1024 * 1024;
/// The bytes of the last messages of streams that end because the send budget is full: a client that reads makes progress with each attempt.
const LAST_BYTES: usize = 8 * 1024 * 1024;
/// The streams of a node that read at the same time while they catch up: fewer than the embedded store can read at once.
const CATCHING_UP: usize = 3;
/// The replies of many orders or events that a node makes at the same time, and those of one connection: each takes several times its size of memory
/// until it is complete.
const LARGE_REPLIES: usize = 4;
const LARGE_REPLIES_OF_CONNECTION: usize = 2;
/// The events that are scanned for one page, whether they match its filter or not: one that matches nothing would read the whole log.
pub const MAX_SCANNED_FOR_PAGE: usize = 100_000;
/// The divisor of each budget that gives the share of one connection.
const CONNECTION_SHARE: usize = 4;
/// The divisor for last messages: the largest message must fit into the share.
const CONNECTION_SHARE_OF_LAST: usize = 2;

/// The bounds of event streams: of a whole node, or of one connection within it. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct EventStreams {
    permits: ByteBudget,
    permits_of_connection: usize,
    read: ByteBudget,
    sent: ByteBudget,
    last: ByteBudget,
    catch_up: Turns,
    replies: Turns,
}

impl EventStreams {
    /// The bounds of a node: at most `max` concurrent streams, and `max_of_connection` on one connection.
    #[must_use]
    pub fn new(max: usize, max_of_connection: usize) -> Self {
        Self {
            permits: ByteBudget::new(max),
            permits_of_connection: max_of_connection,
            read: ByteBudget::new(READ_BYTES),
            sent: ByteBudget::new(SENT_BYTES),
            last: ByteBudget::new(LAST_BYTES),
            catch_up: Turns::new(CATCHING_UP, 1),
            replies: Turns::new(LARGE_REPLIES, LARGE_REPLIES_OF_CONNECTION),
        }
    }

    /// The share of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        Self {
            permits: self.permits.share(self.permits_of_connection),
            permits_of_connection: self.permits_of_connection,
            read: self.read.share(READ_BYTES / CONNECTION_SHARE),
            sent: self.sent.share(SENT_BYTES / CONNECTION_SHARE),
            last: self.last.share(LAST_BYTES / CONNECTION_SHARE_OF_LAST),
            catch_up: self.catch_up.of_connection(),
            replies: self.replies.of_connection(),
        }
    }

    /// Acquires a permit for one more stream.
    ///
    /// # Errors
    /// [`AppError::TooManyStreams`] without a free permit.
    pub fn acquire(&self) -> Result<EventStreamPermit, AppError> {
        let mut place = HeldBytes::none(self.permits.clone());
        if place.grow(1) { Ok(EventStreamPermit::new(place)) } else { Err(AppError::TooManyStreams) }
    }

    /// The bounds of a further stream that follows the log.
    ///
    /// # Errors
    /// [`AppError::TooManyStreams`].
    pub fn of_follower(&self) -> Result<StreamBounds, AppError> {
        Ok(StreamBounds { permit: Some(self.acquire()?), max_scanned: usize::MAX, ..self.of_page() })
    }

    /// The bounds of a stream that is read for one reply.
    #[must_use]
    pub fn of_page(&self) -> StreamBounds {
        StreamBounds {
            read: HeldBytes::none(self.read.clone()),
            turns: self.catch_up.clone(),
            permit: None,
            max_scanned: MAX_SCANNED_FOR_PAGE,
        }
    }

    /// The turns to make replies of many orders or events.
    #[must_use]
    pub fn turns_of_large_replies(&self) -> Turns {
        self.replies.clone()
    }

    /// A share of the bytes that wait to be sent, for one call.
    #[must_use]
    pub fn share_of_read_bytes(&self, max: usize) -> ByteBudget {
        self.read.share(max)
    }

    /// An empty reservation of the bytes being sent to clients.
    #[must_use]
    pub fn sent_bytes(&self) -> SentBytes {
        SentBytes { sent: HeldBytes::none(self.sent.clone()), last: HeldBytes::none(self.last.clone()) }
    }
}

/// The bytes that one reply is sending.
#[derive(Debug)]
pub struct SentBytes {
    sent: HeldBytes,
    last: HeldBytes,
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
    /// At most `max` bytes, and at most `max_of_last` bytes of last messages.
    #[must_use]
    pub fn new(max: &ByteBudget, max_of_last: &ByteBudget) -> Self {
        Self { sent: HeldBytes::none(max.clone()), last: HeldBytes::none(max_of_last.clone()) }
    }

    /// Unbounded, where no listener has set a bound.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(&ByteBudget::unbounded(), &ByteBudget::unbounded())
    }

    /// Replaces the reservation by `bytes`.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> Room {
        if self.sent.set(bytes) {
            return Room::Yes;
        }
        if self.last.set(bytes) { Room::ForTheLast } else { Room::None }
    }

    /// Reserves `bytes` in all; returns `false` and changes nothing without room for more than a last message.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        self.sent.set(bytes)
    }

    /// Releases the reservation.
    pub fn clear(&mut self) {
        let _less = self.sent.set(0) && self.last.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_a_share_of_the_permits_and_the_node_has_a_limit() {
        let node = EventStreams::new(5, 3);
        let (first, second) = (node.of_connection(), node.of_connection());
        let mut permits: Vec<_> = (0..3).map(|_| first.acquire().expect("a permit")).collect();
        assert_eq!(first.acquire().map(drop), Err(AppError::TooManyStreams));
        permits.extend((0..2).map(|_| second.acquire().expect("a permit")));
        assert_eq!(second.acquire().map(drop), Err(AppError::TooManyStreams));
        permits.truncate(2);
        first.acquire().expect("a permit is free again");
    }
}
