//! Bodies of requests and replies that are observed on their way: counted, logged, traced.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Observes a request or a reply with data of type `D`. It is dropped after the body, and so at the end of its call.
pub trait Observer<D> {
    /// Observes the head of a reply.
    fn head(&mut self, _status: StatusCode, _headers: &HeaderMap) {}

    /// Observes data that is passed on.
    fn data(&mut self, _data: &D) {}

    /// Observes trailers that are passed on.
    fn trailers(&mut self, _trailers: &HeaderMap) {}
}

impl<D, O: Observer<D>> Observer<D> for Box<O> {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) {
        (**self).head(status, headers);
    }

    fn data(&mut self, data: &D) {
        (**self).data(data);
    }

    fn trailers(&mut self, trailers: &HeaderMap) {
        (**self).trailers(trailers);
    }
}

pin_project! {
    /// A body that is observed, if it has an observer.
    pub struct Observed<B, O> {
        // Dropped before the observer.
        #[pin]
        body: B,
        observer: Option<O>,
    }
}

impl<B, O> Observed<B, O> {
    /// `body`, observed by `observer`.
    pub const fn new(body: B, observer: Option<O>) -> Self {
        Self { body, observer }
    }
}

impl<B: HttpBody, O: Observer<B::Data>> HttpBody for Observed<B, O> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(task));
        if let Some(observer) = this.observer
            && let Some(Ok(frame)) = &frame
        {
            if let Some(data) = frame.data_ref() {
                observer.data(data);
            } else if let Some(trailers) = frame.trailers_ref() {
                observer.trailers(trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// A pending response, observed from its head to the end of its body.
    #[must_use = "futures do nothing unless polled"]
    pub struct Observing<F, O> {
        // Dropped before the observer.
        #[pin]
        reply: F,
        observer: Option<O>,
    }
}

impl<F, O> Observing<F, O> {
    /// The response of `reply`, observed by `observer`.
    pub const fn new(reply: F, observer: Option<O>) -> Self {
        Self { reply, observer }
    }
}

impl<F, B, O> Future for Observing<F, O>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
    B: HttpBody,
    O: Observer<B::Data>,
{
    type Output = Result<Response<Observed<B, O>>, Infallible>;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.reply.poll(task))?;
        let mut observer = this.observer.take();
        if let Some(observer) = &mut observer {
            observer.head(response.status(), response.headers());
        }
        Poll::Ready(Ok(response.map(|body| Observed::new(body, observer))))
    }
}
