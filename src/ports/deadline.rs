//! The deadline of a client call. Work not begun by then may be dropped, because the client receives a timeout.

use std::future::Future;

use tokio::time::Instant;

tokio::task_local! {
    static DEADLINE: Instant;
}

/// Sets the `deadline` of the call for which `work` is done.
pub async fn within<T>(deadline: Instant, work: impl Future<Output = T>) -> T {
    DEADLINE.scope(deadline, work).await
}

/// Sets the `deadline` of the call for one step of its work.
pub fn sync_within<T>(deadline: Instant, work: impl FnOnce() -> T) -> T {
    DEADLINE.sync_scope(deadline, work)
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
