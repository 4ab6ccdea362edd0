//! Lists of orders, page by page.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
    vec,
};

use futures_core::Stream;
use tonic::{Request, Response, Status};

use crate::{
    Transport,
    catga::orders::v1::{
        ListOrdersRequest, ListOrdersResponse, OrderSummary, order_query_service_client::OrderQueryServiceClient,
    },
};

type Opening = Pin<Box<dyn Future<Output = Result<Response<ListOrdersResponse>, Status>> + Send>>;

/// The orders of a list. It is a [`Stream`], and [`order`](Orders::order) reads it without further traits.
pub struct Orders {
    ask: Box<dyn Fn(ListOrdersRequest, Duration) -> Opening + Send>,
    /// For the next page; none after the last.
    request: Option<ListOrdersRequest>,
    opening: Option<Opening>,
    page: vec::IntoIter<OrderSummary>,
    page_timeout: Duration,
}

/// Every order that `ListOrders` finds with `request`, from its `page_token` on. The next page is fetched when it is needed.
pub fn list_orders<T: Transport>(queries: &OrderQueryServiceClient<T>, request: ListOrdersRequest) -> Orders {
    let queries = queries.clone();
    let ask = move |page, limit| -> Opening {
        let mut queries = queries.clone();
        let mut page = Request::new(page);
        page.set_timeout(limit);
        Box::pin(async move { queries.list_orders(page).await })
    };
    Orders {
        ask: Box::new(ask),
        request: Some(request),
        opening: None,
        page: Vec::new().into_iter(),
        page_timeout: Duration::from_secs(30),
    }
}

impl Orders {
    /// The time limit of each page. Default: half a minute.
    #[must_use]
    pub fn page_timeout(mut self, limit: Duration) -> Self {
        self.page_timeout = limit;
        self
    }

    /// The next order; `None` once the list has ended. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// The error of a page that cannot be fetched; the list has ended then.
    pub async fn order(&mut self) -> Result<Option<OrderSummary>, Status> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await.transpose()
    }

    /// Waits for the next page; returns whether there is one.
    fn poll_page(&mut self, context: &mut Context<'_>) -> Poll<Result<bool, Status>> {
        let Some(request) = &mut self.request else { return Poll::Ready(Ok(false)) };
        let opening = self.opening.get_or_insert_with(|| (self.ask)(request.clone(), self.page_timeout));
        let outcome = ready!(opening.as_mut().poll(context));
        self.opening = None;
        match outcome.map(Response::into_inner) {
            Ok(reply) if reply.next_page_token.is_empty() => {
                self.request = None;
                self.page = reply.orders.into_iter();
            }
            Ok(reply) => {
                request.page_token = reply.next_page_token;
                self.page = reply.orders.into_iter();
            }
            Err(error) => {
                self.request = None;
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl Stream for Orders {
    type Item = Result<OrderSummary, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(order) = this.page.next() {
                return Poll::Ready(Some(Ok(order)));
            }
            match ready!(this.poll_page(context)) {
                Ok(true) => {}
                Ok(false) => return Poll::Ready(None),
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }
}

impl fmt::Debug for Orders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("next", &self.request).finish_non_exhaustive()
    }
}
