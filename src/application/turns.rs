//! Turns for work that takes much memory or time at once: a few calls of a node do it at the same time, and the others wait in the order of arrival.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of the calls of one connection. Cheap to clone; clones share them.
///
/// A connection waits for a few turns of the node at a time, so that many calls on one connection do not delay those of others.
#[derive(Clone, Debug)]
pub struct Turns {
    of_node: Arc<Semaphore>,
    of_connection: Arc<Semaphore>,
    /// How many a connection has at the same time.
    share: usize,
}

/// A turn; the next one begins when it is dropped.
#[derive(Debug)]
pub struct Turn {
    _permits: [OwnedSemaphorePermit; 2],
}

impl Turns {
    /// The turns of a node that gives `of_node` at the same time, `share` of them to each connection. They are those of one connection until they are
    /// divided.
    #[must_use]
    pub fn new(of_node: usize, share: usize) -> Self {
        let semaphore = |turns| Arc::new(Semaphore::new(turns));
        Self { of_node: semaphore(of_node), of_connection: semaphore(share), share }
    }

    /// The turns of a further connection.
    #[must_use]
    pub fn of_connection(&self) -> Self {
        Self { of_connection: Arc::new(Semaphore::new(self.share)), ..self.clone() }
    }

    /// Waits for a turn, in the order of arrival. `None` never comes: turns are not withdrawn.
    pub async fn wait(&self) -> Option<Turn> {
        let of_connection = Arc::clone(&self.of_connection).acquire_owned().await.ok()?;
        let of_node = Arc::clone(&self.of_node).acquire_owned().await.ok()?;
        Some(Turn { _permits: [of_node, of_connection] })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn one_connection_with_many_calls_does_not_delay_the_call_of_another() {
        let node = Turns::new(3, 1);
        let (greedy, other) = (node.of_connection(), node.of_connection());
        let begun = greedy.wait().await.expect("a turn");
        let mut waiting: Vec<_> = (0..100).map(|_| Box::pin(greedy.wait())).collect();
        assert!(waiting.iter_mut().all(|call| call.now_or_never().is_none()));
        let of_other = other.wait().now_or_never().flatten().expect("a turn at once");
        let third = node.of_connection().wait().now_or_never().flatten().expect("a turn at once");
        assert!(node.of_connection().wait().now_or_never().is_none(), "the node has three");
        drop((begun, of_other, third));
        assert!(waiting[0].as_mut().now_or_never().flatten().is_some(), "in the order of arrival");
    }
}
