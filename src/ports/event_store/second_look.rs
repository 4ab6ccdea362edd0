//! Apparent damage is verified before it is reported.
//!
//! Most apparent damage is two reads that contradict each other: a known request whose order is missing, a dangling index entry, an end that the log
//! does not reach. If the store failed over or was restored between the two, each is right about a different log. Only a finding that one connection
//! shows twice is damage.

use std::future::Future;

use tokio::sync::watch;

use super::{AppendError, StoreError};

/// How many attempts are made when each one loses its connection.
const MAX_ATTEMPTS: usize = 16;

/// Why a read failed.
pub trait ReadError: From<StoreError> {
    /// Whether the error reports damaged data.
    fn is_damage(&self) -> bool;
    /// Whether the error says nothing about the stored data.
    fn is_unavailable(&self) -> bool;
}

impl ReadError for StoreError {
    fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt(_))
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl ReadError for AppendError {
    fn is_damage(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_damage())
    }

    fn is_unavailable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_unavailable())
    }
}

/// Returns the result of `read`, repeated until one run was made entirely on one of the `connections` (see [`super::EventStore::connections`]).
/// `read` may run several times, so it must not write.
///
/// # Errors
/// The error of `read`; [`StoreError::Unavailable`] if no connection lasts for one run.
pub async fn on_one<T, E, L>(connections: &watch::Receiver<u64>, mut read: impl FnMut() -> L) -> Result<T, E>
where
    E: ReadError,
    L: Future<Output = Result<T, E>>,
{
    for _ in 0..MAX_ATTEMPTS {
        let connection = *connections.borrow();
        let found = read().await;
        if *connections.borrow() == connection || found.as_ref().is_err_and(ReadError::is_unavailable) {
            return found;
        }
    }
    Err(connection_unstable())
}

/// Returns the result of `read`; damage only if found twice in a row on one of the `connections`. As in [`on_one`], `read` may run several times.
///
/// # Errors
/// The error of `read`; [`StoreError::Unavailable`] if no connection lasts for two runs.
pub async fn confirmed<T, E, L>(connections: &watch::Receiver<u64>, mut read: impl FnMut() -> L) -> Result<T, E>
where
    E: ReadError,
    L: Future<Output = Result<T, E>>,
{
    let mut found_on = None;
    for _ in 0..MAX_ATTEMPTS {
        let connection = *connections.borrow();
        let found = read().await;
        if !found.as_ref().is_err_and(ReadError::is_damage) {
            return found;
        }
        let is_same = *connections.borrow() == connection;
        if is_same && found_on == Some(connection) {
            return found;
        }
        found_on = is_same.then_some(connection);
    }
    Err(connection_unstable())
}

fn connection_unstable<E: ReadError>() -> E {
    StoreError::Unavailable("the connection to the event store keeps breaking".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage() -> StoreError {
        StoreError::Corrupt("the entry 0-7 of the log is missing".to_owned())
    }

    /// The outcome when runs find these results, with the connection changing within some of them, and the number of runs.
    async fn outcome_of(found: &[(Result<u8, StoreError>, bool)]) -> (Result<u8, StoreError>, usize) {
        let (connections, seen) = watch::channel(1);
        let mut reads = 0;
        let outcome = confirmed(&seen, || {
            let (found, has_changed) = found[reads].clone();
            reads += 1;
            if has_changed {
                connections.send_modify(|number| *number += 1);
            }
            async { found }
        })
        .await;
        (outcome, reads)
    }

    #[tokio::test]
    async fn damage_is_reported_if_one_connection_shows_it_twice() {
        assert_eq!(outcome_of(&[(Ok(1), false)]).await, (Ok(1), 1));
        assert_eq!(outcome_of(&[(Err(damage()), false), (Err(damage()), false)]).await, (Err(damage()), 2));
        assert_eq!(outcome_of(&[(Err(damage()), false), (Ok(1), false)]).await, (Ok(1), 2));
        // Between two servers.
        assert_eq!(outcome_of(&[(Err(damage()), true), (Ok(1), false)]).await, (Ok(1), 2));
        let changing = [(Err(damage()), true), (Err(damage()), false), (Err(damage()), false)];
        assert_eq!(outcome_of(&changing).await, (Err(damage()), 3));
        let changed_later = [(Err(damage()), false), (Err(damage()), true), (Ok(1), false)];
        assert_eq!(outcome_of(&changed_later).await, (Ok(1), 3));
    }

    #[tokio::test]
    async fn damage_that_no_connection_shows_twice_is_unavailable() {
        let (outcome, reads) = outcome_of(&vec![(Err(damage()), true); MAX_ATTEMPTS]).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert_eq!(reads, MAX_ATTEMPTS);
    }

    #[tokio::test]
    async fn a_read_across_two_connections_is_repeated() {
        let (connections, seen) = watch::channel(1);
        let mut reads = 0;
        let read = || {
            reads += 1;
            if reads == 1 {
                connections.send_modify(|number| *number += 1);
            }
            std::future::ready(Ok::<_, StoreError>(reads))
        };
        assert_eq!(on_one(&seen, read).await, Ok(2));
    }

    #[tokio::test]
    async fn other_errors_are_passed_on_at_once() {
        let away = StoreError::Unavailable("away".to_owned());
        assert_eq!(outcome_of(&[(Err(away.clone()), false)]).await, (Err(away), 1));
    }
}
