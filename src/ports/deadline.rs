//! Until when the client of a call waits. What is not begun by then need not be: its client has been told, or will be, that it was late.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Lets `work` know that nobody waits for it after `deadline`.
pub async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> T {
    DEADLINE.scope(deadline, work).await
}

/// The deadline of the call that this task works on, if it has one.
#[must_use]
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}

/// Whether nobody waits any more for what this task works on.
#[must_use]
pub fn has_passed() -> bool {
    current().is_some_and(|deadline| deadline <= Instant::now())
}
