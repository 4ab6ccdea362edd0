//! A backend as the suites see it, and how a test runs on all of them.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

/// The clock of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Tokio's: waiting takes no real time.
    Simulated,
    /// A broker's: waiting takes real time.
    Real,
}

/// One implementation of the trait `T`.
pub struct Backend<T: ?Sized + 'static> {
    pub name: &'static str,
    pub time: Time,
    /// Opens an empty one.
    pub open: fn() -> BoxFuture<'static, Arc<T>>,
}

/// Runs `test` on each backend in turn, on one thread, and with simulated time where the backend supports it.
pub fn on_each<'a, T: ?Sized + 'static, F: Future<Output = ()>>(
    backends: impl IntoIterator<Item = &'a Backend<T>>,
    test: impl Fn(Arc<T>) -> F,
) {
    for backend in backends {
        println!("backend: {}", backend.name);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(backend.time == Time::Simulated)
            .build()
            .unwrap();
        runtime.block_on(async { test((backend.open)().await).await });
    }
}

/// Runs `test` on each backend in turn, on several threads and in real time: for races.
pub fn race_on_each<T: ?Sized, F: Future<Output = ()>>(backends: &[Backend<T>], test: impl Fn(Arc<T>) -> F) {
    for backend in backends {
        println!("backend: {}", backend.name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let test = test((backend.open)().await);
            tokio::time::timeout(Duration::from_secs(60), test).await.expect("a race test hangs");
        });
    }
}
