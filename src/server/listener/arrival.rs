//! Hands each request to the service when its head has arrived.

use tower::Service;

/// A service of tower, called by hyper as soon as the head of a request has been read.
///
/// The adapter of hyper-util calls it only when the task of the request first runs. The time until then, which is most of the latency of an
/// overloaded node, would be invisible to admission, and so would the waiting requests.
#[derive(Clone, Debug)]
pub struct OnArrival<S>(pub S);

impl<S, R> hyper::service::Service<R> for OnArrival<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    /// The services of this crate are always ready: their limits are applied behind `call`.
    fn call(&self, request: R) -> Self::Future {
        self.0.clone().call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    #[test]
    fn a_request_reaches_the_service_before_its_task_runs() {
        let arrived = Arc::new(AtomicUsize::new(0));
        let service = OnArrival(tower::service_fn({
            let arrived = Arc::clone(&arrived);
            move |()| {
                arrived.fetch_add(1, Ordering::Relaxed);
                future::pending::<Result<(), ()>>()
            }
        }));
        let waiting = [(), (), ()].map(|request| hyper::service::Service::call(&service, request));
        assert_eq!(arrived.load(Ordering::Relaxed), waiting.len());
    }
}
