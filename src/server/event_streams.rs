//! The open streams of a node, and their data that waits to be read by clients.

use super::sending::Sending;
use crate::application::{
    AppError,
    byte_budget::{ByteBudget, HeldBytes},
    event_streams::{EventStreamPermit, StreamBounds},
    turns::Turns,
};

/// The bytes read from the log, or produced by commands, that wait to be sent, for all streams of a node.
const READ_BYTES: usize = 24 * 1024 * 1024;
/// The streams of a node that read at the same time while they catch up: fewer than the embedded store can read at once.
const CATCHING_UP: usize = 3;
/// The replies of many orders or events that a node makes at the same time, and those of one connection: each takes several times its size of memory
/// until it is complete.
const LARGE_REPLIES: usize = 4;
const LARGE_REPLIES_OF_CONNECTION: usize = 2;
/// The events that are scanned for one page, whether they match its filter or not: one that matches nothing would read the whole log.
pub const MAX_SCANNED_FOR_PAGE: usize = 100_000;
/// The divisor of the budget that gives the share of one connection.
const CONNECTION_SHARE: usize = 4;

/// The bounds of event streams: of a whole node, or of one connection within it. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct EventStreams {
    permits: ByteBudget,
    permits_of_connection: usize,
    read: ByteBudget,
    sending: Sending,
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
            sending: Sending::of_node(),
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
            sending: self.sending.of_connection(),
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

    /// The bounds of the bytes being sent to clients.
    #[must_use]
    pub const fn sending(&self) -> &Sending {
        &self.sending
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
