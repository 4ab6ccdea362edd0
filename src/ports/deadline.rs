//! The deadline of a client call. Work not begun by then may be dropped, because the client is told that the call timed out.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Tells `work` that nobody waits for it after `deadline`.
pub async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> T {
    DEADLINE.scope(deadline, work).await
}

/// The deadline of the call that this task serves, if there is one.
#[must_use]
pub fn current() -> Option<Instant> {
    DEADLINE.try_with(|deadline| *deadline).ok()
}

/// Whether the deadline of the call that this task serves has passed.
#[must_use]
pub fn has_passed() -> bool {
    current().is_some_and(|deadline| deadline <= Instant::now())
}
