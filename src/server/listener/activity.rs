//! The activity of connections: which are idle, since when, and which may be evicted.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body as HttpBody;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tower::Service;

use super::unread::Unread;
use crate::server::observed::{Observed, Observer, Observing};

/// The requests being answered on one connection, and other signs of its use.
#[derive(Debug)]
pub(super) struct Activity {
    accepted_at: Instant,
    /// Requests whose response is not completely handed over.
    open: AtomicUsize,
    /// All requests received.
    requests: AtomicUsize,
    /// When the last response was completed, in ms since the connection was accepted.
    idle_since_ms: AtomicU64,
    /// Bytes received from the client.
    read_bytes: AtomicUsize,
    /// When the last ones came, in ms since the connection was accepted.
    last_read_ms: AtomicU64,
    /// Cancelled when the permit of the connection is needed.
    evicted: CancellationToken,
    /// The unread body of an HTTP/1 request.
    pub(super) unread: Arc<Unread>,
}

impl Activity {
    fn begin() -> Self {
        Self {
            accepted_at: Instant::now(),
            open: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            idle_since_ms: AtomicU64::new(0),
            read_bytes: AtomicUsize::new(0),
            last_read_ms: AtomicU64::new(0),
            evicted: CancellationToken::new(),
            unread: Arc::default(),
        }
    }

    /// Counts `bytes` received from the client.
    pub fn has_read(&self, bytes: usize) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.last_read_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    /// For how long the client has sent nothing, not even an acknowledgement of HTTP/2.
    fn silent_for(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.last_read_ms.load(Ordering::Relaxed)))
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.accepted_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Bytes received from the client.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Ends when the connection is evicted.
    pub async fn is_evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// Ends when there has been no request for `limit`, or no first request for `first`.
    pub async fn is_idle_for(&self, limit: Duration, first: Duration) {
        loop {
            let limit = if self.requests.load(Ordering::Acquire) == 0 { first } else { limit };
            match self.idle_for().map(|idle| limit.checked_sub(idle)) {
                None => sleep(limit).await,
                Some(Some(left)) if !left.is_zero() => sleep(left).await,
                Some(_) => return,
            }
        }
    }

    /// Whether there is a request.
    pub fn is_busy(&self) -> bool {
        self.open.load(Ordering::Acquire) > 0
    }

    /// For how long there has been no request; `None` while there is one.
    fn idle_for(&self) -> Option<Duration> {
        if self.is_busy() {
            return None;
        }
        let since = Duration::from_millis(self.idle_since_ms.load(Ordering::Acquire));
        Some(self.accepted_at.elapsed().saturating_sub(since))
    }
}

/// A request being answered, until the end of its response.
#[derive(Debug)]
pub(super) struct OpenRequest(Arc<Activity>);

impl OpenRequest {
    pub fn begin(activity: &Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::AcqRel);
        activity.open.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(activity))
    }
}

impl<D> Observer<D> for OpenRequest {}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.idle_since_ms.store(self.0.age_ms(), Ordering::Release);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The open connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    last_number: u64,
    connections: HashMap<u64, Arc<Activity>>,
}

impl Connections {
    fn open(&self) -> parking_lot::MutexGuard<'_, Open> {
        self.0.lock()
    }

    /// Adds a connection.
    pub fn enter(&self) -> Entered {
        let activity = Arc::new(Activity::begin());
        let mut open = self.open();
        open.last_number += 1;
        let number = open.last_number;
        open.connections.insert(number, Arc::clone(&activity));
        Entered { connections: self.clone(), number, activity }
    }

    /// Evicts the connection that has been idle longest, if that is `at_least`.
    pub fn evict_idlest(&self, at_least: Duration) -> bool {
        self.evict_longest(at_least, Activity::idle_for)
    }

    /// Evicts the connection whose client has been silent longest, if that is `at_least`, whatever calls it has.
    pub fn evict_most_silent(&self, at_least: Duration) -> bool {
        self.evict_longest(at_least, |activity| Some(activity.silent_for()))
    }

    fn evict_longest(&self, at_least: Duration, measure: impl Fn(&Activity) -> Option<Duration>) -> bool {
        let open = self.open();
        let staying = open.connections.values().filter(|activity| !activity.evicted.is_cancelled());
        let measured = staying.filter_map(|activity| Some((measure(activity)?, activity)));
        match measured.max_by_key(|(time, _)| *time) {
            Some((time, activity)) if time >= at_least => {
                activity.evicted.cancel();
                true
            }
            _ => false,
        }
    }
}

/// The registration of an open connection; removed when dropped.
#[derive(Debug)]
pub(super) struct Entered {
    connections: Connections,
    number: u64,
    pub activity: Arc<Activity>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.connections.open().connections.remove(&self.number);
    }
}

/// A service whose requests count as activity of their connection.
#[derive(Clone, Debug)]
pub(super) struct Counting<S> {
    pub inner: S,
    pub activity: Arc<Activity>,
}

impl<S, B> Service<Request<Incoming>> for Counting<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: HttpBody,
{
    type Response = Response<Observed<B, OpenRequest>>;
    type Error = Infallible;
    type Future = Observing<S::Future, OpenRequest>;

    fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(task)
    }

    fn call(&mut self, request: Request<Incoming>) -> Self::Future {
        let open = OpenRequest::begin(&self.activity);
        Observing::new(self.inner.call(request), Some(open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_has_been_idle_for_the_longest_makes_room() {
        let connections = Connections::default();
        let [first, second, third] = [connections.enter(), connections.enter(), connections.enter()];
        let busy = OpenRequest::begin(&first.activity);
        tokio::time::sleep(SECOND).await;
        drop(OpenRequest::begin(&second.activity));
        assert!(!connections.evict_idlest(SECOND * 2), "none has been idle for as long");
        assert!(connections.evict_idlest(SECOND));
        let evicted = [&first, &second, &third].map(|entered| entered.activity.evicted.is_cancelled());
        assert_eq!(evicted, [false, false, true]);
        tokio::time::sleep(SECOND).await;
        assert!(connections.evict_idlest(SECOND), "each only once");
        assert!(second.activity.evicted.is_cancelled());
        assert!(!connections.evict_idlest(Duration::ZERO), "a busy connection is never evicted");
        drop(busy);
        drop((second, third));
        assert_eq!(connections.open().connections.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_do_not_keep_the_place_of_a_client_that_has_long_been_silent() {
        let connections = Connections::default();
        let [first, second] = [connections.enter(), connections.enter()];
        let _calls = [&first, &second].map(|entered| OpenRequest::begin(&entered.activity));
        tokio::time::sleep(SECOND * 10).await;
        second.activity.has_read(1);
        tokio::time::sleep(SECOND * 10).await;
        assert!(!connections.evict_idlest(Duration::ZERO), "both have calls");
        assert!(!connections.evict_most_silent(SECOND * 21));
        assert!(connections.evict_most_silent(SECOND * 20));
        let evicted = [&first, &second].map(|entered| entered.activity.evicted.is_cancelled());
        assert_eq!(evicted, [true, false]);
        assert!(!connections.evict_most_silent(SECOND * 20), "each only once, and the other has just been heard");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_its_last_response_on() {
        let entered = Connections::default().enter();
        let begun = Instant::now();
        entered.activity.is_idle_for(SECOND * 300, SECOND * 60).await;
        assert_eq!(begun.elapsed().as_secs(), 60, "without a first request");
        let open = OpenRequest::begin(&entered.activity);
        let activity = Arc::clone(&entered.activity);
        let idle = tokio::spawn(async move { activity.is_idle_for(SECOND * 300, SECOND * 60).await });
        tokio::time::sleep(SECOND * 1_000).await;
        assert!(!idle.is_finished());
        drop(open);
        let ended = Instant::now();
        idle.await.expect("ends");
        assert!((300..601).contains(&ended.elapsed().as_secs()), "{:?}", ended.elapsed());
    }
}
