//! Damage that is found is looked for once more before it is said.
//!
//! What looks like damage is mostly two reads that contradict each other: a request that is known and the order of which is not there, an index
//! that leads to nothing, an end that the log does not reach. Where the store has failed over or has been restored between the two, each of them
//! is right, of another log. Only what one connection shows twice is damage.

use std::future::Future;

use tokio::sync::watch;

use super::{AppendError, StoreError};

/// How often to look before it is given up: each time a connection was lost.
const MAX_LOOKS: usize = 16;

/// Why something could not be read.
pub trait ReadError: From<StoreError> {
    /// Whether it says that what is stored is damaged.
    fn is_damage(&self) -> bool;
    /// Whether it says nothing of what is stored.
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

/// What `look` finds, looking again until all of a look was on one of the `connections` (see [`super::EventStore::connections`]). It may be
/// asked several times, so it must write nothing.
///
/// # Errors
/// What `look` says; [`StoreError::Unavailable`] where no connection lasts for a look.
pub async fn on_one<T, E, L>(connections: &watch::Receiver<u64>, mut look: impl FnMut() -> L) -> Result<T, E>
where
    E: ReadError,
    L: Future<Output = Result<T, E>>,
{
    for _ in 0..MAX_LOOKS {
        let connection = *connections.borrow();
        let found = look().await;
        if *connections.borrow() == connection || found.as_ref().is_err_and(ReadError::is_unavailable) {
            return found;
        }
    }
    Err(does_not_last())
}

/// What `look` finds; damage only if it has been found twice in a row on one of the `connections`. As [`on_one`] it may look several times.
///
/// # Errors
/// What `look` says; [`StoreError::Unavailable`] where no connection lasts for two looks.
pub async fn confirmed<T, E, L>(connections: &watch::Receiver<u64>, mut look: impl FnMut() -> L) -> Result<T, E>
where
    E: ReadError,
    L: Future<Output = Result<T, E>>,
{
    let mut found_on = None;
    for _ in 0..MAX_LOOKS {
        let connection = *connections.borrow();
        let found = look().await;
        if !found.as_ref().is_err_and(ReadError::is_damage) {
            return found;
        }
        let is_same = *connections.borrow() == connection;
        if is_same && found_on == Some(connection) {
            return found;
        }
        found_on = is_same.then_some(connection);
    }
    Err(does_not_last())
}

fn does_not_last<E: ReadError>() -> E {
    StoreError::Unavailable("the connection to the event store does not last".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage() -> StoreError {
        StoreError::Corrupt("the entry 0-7 of the log is missing".to_owned())
    }

    /// What comes of looks that find this, the connection having changed within some of them, and how many there were.
    async fn looking(found: &[(Result<u8, StoreError>, bool)]) -> (Result<u8, StoreError>, usize) {
        let (connections, seen) = watch::channel(1);
        let mut looks = 0;
        let outcome = confirmed(&seen, || {
            let (found, has_changed) = found[looks].clone();
            looks += 1;
            if has_changed {
                connections.send_modify(|number| *number += 1);
            }
            async { found }
        })
        .await;
        (outcome, looks)
    }

    #[tokio::test]
    async fn damage_is_what_one_connection_shows_twice() {
        assert_eq!(looking(&[(Ok(1), false)]).await, (Ok(1), 1));
        assert_eq!(looking(&[(Err(damage()), false), (Err(damage()), false)]).await, (Err(damage()), 2));
        assert_eq!(looking(&[(Err(damage()), false), (Ok(1), false)]).await, (Ok(1), 2));
        // Between two servers.
        assert_eq!(looking(&[(Err(damage()), true), (Ok(1), false)]).await, (Ok(1), 2));
        let changing = [(Err(damage()), true), (Err(damage()), false), (Err(damage()), false)];
        assert_eq!(looking(&changing).await, (Err(damage()), 3));
        let changed_later = [(Err(damage()), false), (Err(damage()), true), (Ok(1), false)];
        assert_eq!(looking(&changed_later).await, (Ok(1), 3));
    }

    #[tokio::test]
    async fn what_no_connection_shows_twice_is_not_known() {
        let (outcome, looks) = looking(&vec![(Err(damage()), true); MAX_LOOKS]).await;
        assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
        assert_eq!(looks, MAX_LOOKS);
    }

    #[tokio::test]
    async fn what_is_read_on_two_connections_is_read_again() {
        let (connections, seen) = watch::channel(1);
        let mut looks = 0;
        let look = || {
            looks += 1;
            if looks == 1 {
                connections.send_modify(|number| *number += 1);
            }
            std::future::ready(Ok::<_, StoreError>(looks))
        };
        assert_eq!(on_one(&seen, look).await, Ok(2));
    }

    #[tokio::test]
    async fn other_errors_are_passed_on_at_once() {
        let away = StoreError::Unavailable("away".to_owned());
        assert_eq!(looking(&[(Err(away.clone()), false)]).await, (Err(away), 1));
    }
}
