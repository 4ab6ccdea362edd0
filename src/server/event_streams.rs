//! The streams of events that a node has open, and what waits in them for clients to read it.

use crate::application::{
    AppError,
    byte_budget::{ByteBudget, HeldBytes},
};

/// The bytes that have been read from the log, or made by commands, and wait to be sent, of all streams of a node.
const READ_BYTES: usize = 40 * 1024 * 1024;
/// The bytes that are being sent. Apart from the others, which may take long: what has been begun goes on.
const SENT_BYTES: usize = 24 * 1024 * 1024;
/// The bytes of the last messages of streams that end because there is no room among those: so that a client that reads gets on with each try.
const LAST_BYTES: usize = 16 * 1024 * 1024;
/// The share of one connection in both.
const CONNECTION_SHARE: usize = 4;

/// The bounds of streams of events: on a whole node, or on one connection out of those. Cheap to clone; clones share them.
#[derive(Clone, Debug)]
pub struct EventStreams {
    places: ByteBudget,
    places_of_connection: usize,
    read: ByteBudget,
    sent: ByteBudget,
    last: ByteBudget,
}

/// A place among the open streams of events; given back when dropped.
#[derive(Debug)]
pub struct EventStreamPermit {
    _place: HeldBytes,
}

impl EventStreams {
    /// Those of a node: at most `max` streams at a time, and `max_of_connection` on one connection.
    #[must_use]
    pub fn new(max: usize, max_of_connection: usize) -> Self {
        Self {
            places: ByteBudget::new(max),
            places_of_connection: max_of_connection,
            read: ByteBudget::new(READ_BYTES),
            sent: ByteBudget::new(SENT_BYTES),
            last: ByteBudget::new(LAST_BYTES),
        }
    }

    /// The share of one connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        Self {
            places: self.places.share(self.places_of_connection),
            places_of_connection: self.places_of_connection,
            read: self.read.share(READ_BYTES / CONNECTION_SHARE),
            sent: self.sent.share(SENT_BYTES / CONNECTION_SHARE),
            last: self.last.share(LAST_BYTES / CONNECTION_SHARE),
        }
    }

    /// Takes a place for one more stream.
    ///
    /// # Errors
    /// [`AppError::TooManyStreams`] where there is none.
    pub fn enter(&self) -> Result<EventStreamPermit, AppError> {
        let mut place = HeldBytes::none(self.places.clone());
        if place.grow(1) { Ok(EventStreamPermit { _place: place }) } else { Err(AppError::TooManyStreams) }
    }

    /// None yet of the bytes that may wait to be sent.
    #[must_use]
    pub fn read_bytes(&self) -> HeldBytes {
        HeldBytes::none(self.read.clone())
    }

    /// A share of those bytes, for one call.
    #[must_use]
    pub fn share_of_read_bytes(&self, max: usize) -> ByteBudget {
        self.read.share(max)
    }

    /// None yet of the bytes that may be on their way to clients.
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

/// Whether there is room for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// There is.
    Yes,
    /// Once more, and the reply ends after it.
    ForTheLast,
    /// Not even that.
    None,
}

impl SentBytes {
    /// At most `max` bytes, and at most `max_of_last` bytes of last messages.
    #[must_use]
    pub fn new(max: &ByteBudget, max_of_last: &ByteBudget) -> Self {
        Self { sent: HeldBytes::none(max.clone()), last: HeldBytes::none(max_of_last.clone()) }
    }

    /// Without a bound, for what no listener has given one.
    #[must_use]
    pub fn unbounded() -> Self {
        Self::new(&ByteBudget::unbounded(), &ByteBudget::unbounded())
    }

    /// Holds `bytes` instead of what it held.
    #[must_use]
    pub fn set(&mut self, bytes: usize) -> Room {
        if self.sent.set(bytes) {
            return Room::Yes;
        }
        if self.last.set(bytes) { Room::ForTheLast } else { Room::None }
    }

    /// Holds nothing any more.
    pub fn clear(&mut self) {
        let _less = self.sent.set(0) && self.last.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_its_share_of_places_and_the_node_has_no_more_than_all() {
        let node = EventStreams::new(5, 3);
        let (first, second) = (node.of_connection(), node.of_connection());
        let mut places: Vec<_> = (0..3).map(|_| first.enter().expect("a place")).collect();
        assert_eq!(first.enter().map(drop), Err(AppError::TooManyStreams));
        places.extend((0..2).map(|_| second.enter().expect("a place")));
        assert_eq!(second.enter().map(drop), Err(AppError::TooManyStreams));
        places.truncate(2);
        first.enter().expect("a place is free again");
    }
}
