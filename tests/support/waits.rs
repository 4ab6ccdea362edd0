//! The waits of all tests: for a condition, and for an answer.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

/// How long anything that must happen may take, on a busy machine too.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The answer of a condition: whether it holds, and its value.
pub trait Answer {
    type Value;

    /// The value once the condition holds; until then the reason why not, as far as it is known.
    fn value(self) -> Result<Self::Value, String>;
}

impl Answer for bool {
    type Value = ();

    fn value(self) -> Result<(), String> {
        if self { Ok(()) } else { Err(String::new()) }
    }
}

impl<T> Answer for Option<T> {
    type Value = T;

    fn value(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

impl<T, E: Display> Answer for Result<T, E> {
    type Value = T;

    fn value(self) -> Result<T, String> {
        self.map_err(|error| format!(": {error}"))
    }
}

/// Asks again and again until `what` holds; fails with its name after [`PATIENCE`].
///
/// The deadline is one of real time, also where the clock of Tokio is paused: simulated time may run away from a busy machine.
pub async fn until<A: Answer>(what: &str, mut ask: impl AsyncFnMut() -> A) -> A::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await.value() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}{why}"),
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// The same, blocking.
pub fn blocking_until<A: Answer>(what: &str, mut ask: impl FnMut() -> A) -> A::Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().value() {
            Ok(value) => return value,
            Err(why) => assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}{why}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The result of `work`, within [`PATIENCE`].
pub async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}
