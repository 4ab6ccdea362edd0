//! Whose turn it is to read the log: streams that catch up read for as long as the log is, and must not delay other calls.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The streams of a node that read at the same time while they catch up: fewer than the embedded store can read at once. A read takes up to
/// [`MAX_READ_BYTES`](crate::ports::event_store::MAX_READ_BYTES) of memory before it is cut to a batch.
const OF_NODE: usize = 3;

/// The turns of the streams of one connection. Cheap to clone; clones share them.
///
/// A connection waits for one turn of the node at a time, so that many streams on one connection do not delay the streams of others.
#[derive(Clone, Debug)]
pub struct ReadTurns {
    of_node: Arc<Semaphore>,
    of_connection: Arc<Semaphore>,
}

/// A turn to read one batch; the next one's begins when it is dropped.
#[derive(Debug)]
pub(super) struct ReadTurn {
    _permits: [OwnedSemaphorePermit; 2],
}

impl ReadTurns {
    /// The turns of a node, all of which are those of one connection until they are divided.
    #[must_use]
    pub fn of_node() -> Self {
        Self { of_node: Arc::new(Semaphore::new(OF_NODE)), of_connection: Arc::new(Semaphore::new(1)) }
    }

    /// The turns of a further connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        Self { of_node: Arc::clone(&self.of_node), of_connection: Arc::new(Semaphore::new(1)) }
    }

    /// Waits for a turn, in the order of arrival.
    pub(super) async fn wait(&self) -> Option<ReadTurn> {
        // They are never closed.
        let of_connection = Arc::clone(&self.of_connection).acquire_owned().await.ok()?;
        let of_node = Arc::clone(&self.of_node).acquire_owned().await.ok()?;
        Some(ReadTurn { _permits: [of_node, of_connection] })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_connection_with_many_streams_does_not_delay_the_stream_of_another() {
        let node = ReadTurns::of_node();
        let (greedy, other) = (node.of_connection(), node.of_connection());
        let begun = greedy.wait().await.expect("a turn");
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(greedy.wait())).collect();
        assert!(waiting.iter_mut().all(|stream| stream.now_or_never().is_none()));
        let of_other = other.wait().now_or_never().flatten().expect("a turn at once");
        let third = node.of_connection().wait().now_or_never().flatten().expect("a turn at once");
        assert!(node.of_connection().wait().now_or_never().is_none(), "the node has three");
        drop((begun, of_other, third));
        assert!(waiting[0].as_mut().now_or_never().flatten().is_some(), "in the order of arrival");
    }
}
