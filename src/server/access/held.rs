//! The body of a reply to an admitted call.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::{FutureExt as _, future::BoxFuture};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Standing;
use crate::{
    identity::limits::Permit,
    server::error::{ApiError, trailers},
};

pin_project! {
    /// The body of a reply. It holds the permit of an open stream until it ends, and ends once the caller may no longer make the call.
    pub struct HeldBody<B> {
        #[pin]
        inner: B,
        // For an open gRPC call, where callers are identified.
        lost: Option<BoxFuture<'static, ApiError>>,
        has_ended: bool,
        _permit: Option<Permit>,
    }
}

impl<B> HeldBody<B> {
    /// A body that does not count as a stream.
    pub const fn free(inner: B) -> Self {
        Self { inner, lost: None, has_ended: false, _permit: None }
    }

    /// The body of a stream, which occupies `permit`; `standing` is the standing of the caller of an open gRPC call.
    pub fn new(inner: B, permit: Option<Permit>, standing: Option<Arc<Standing>>) -> Self {
        let lost = standing.map(|standing| async move { standing.lost().await }.boxed());
        Self { inner, lost, has_ended: false, _permit: permit }
    }
}

impl<B: HttpBody> HttpBody for HeldBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        if *this.has_ended {
            return Poll::Ready(None);
        }
        // Checked first, since a body that always has more data would never end.
        let Some(Poll::Ready(error)) = this.lost.as_mut().map(|lost| lost.as_mut().poll(task)) else {
            return this.inner.poll_frame(task);
        };
        (*this.lost, *this.has_ended) = (None, true);
        Poll::Ready(Some(Ok(Frame::trailers(trailers(&error.to_status())))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
