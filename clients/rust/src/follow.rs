//! Event streams that are followed across restarts of the service.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_core::Stream;
use tokio::time::{Instant, Sleep, sleep};
use tonic::{Response, Status, Streaming};

use crate::{
    OrderError, Transport,
    backoff::Backoff,
    catga::orders::v1::{
        StreamEventsRequest, StreamEventsResponse, StreamOrderHistoryRequest, StreamOrderHistoryResponse, StreamStart,
        order_history_service_client::OrderHistoryServiceClient, stream_events_response, stream_order_history_response,
    },
};

type Opening<M> = Pin<Box<dyn Future<Output = Result<Response<Streaming<M>>, Status>> + Send>>;

/// A history whose position is known.
trait History<M>: Send {
    /// Opens the stream at the position.
    fn open(&mut self) -> Opening<M>;
    /// Moves the position past a message.
    fn note(&mut self, message: &M);
    /// The cursor of a message.
    fn cursor<'m>(&self, message: &'m M) -> &'m str;
    /// Whether the message says that all existing events have been read.
    fn is_caught_up(&self, message: &M) -> bool;
}

/// The messages of a stream, which is reopened where it broke off: no message is lost or repeated.
///
/// It is a [`Stream`], and [`message`](Follow::message) reads it without further traits. `caught_up` comes once, however often the stream
/// is reopened. An error that a retry does not fix is returned as the [`Status`] that it is, and ends the stream. To cancel it, drop it.
/// Nothing is read ahead beyond the HTTP/2 window.
pub struct Follow<M> {
    history: Box<dyn History<M>>,
    state: State<M>,
    backoff: Backoff,
    cursor: String,
    has_caught_up: bool,
    failing_since: Option<Instant>,
    give_up_after: Option<Duration>,
}

enum State<M> {
    /// The delay before the stream is reopened.
    Waiting(Pin<Box<Sleep>>),
    Opening(Opening<M>),
    Reading(Box<Streaming<M>>),
    Ended,
}

impl<M> Follow<M> {
    fn new(mut history: Box<dyn History<M>>) -> Self {
        Follow {
            state: State::Opening(history.open()),
            history,
            backoff: Backoff::new(),
            cursor: String::new(),
            has_caught_up: false,
            failing_since: None,
            give_up_after: None,
        }
    }

    /// Gives up with the last error when it has failed for this long without a single message. Without it: never.
    #[must_use]
    pub fn give_up_after(mut self, limit: Duration) -> Self {
        self.give_up_after = Some(limit);
        self
    }

    /// The cursor of the last message; keep it to resume from here later with `STREAM_START_AFTER`. Empty before the first.
    pub fn cursor(&self) -> &str {
        &self.cursor
    }

    /// The next message; `None` once the stream has ended. Nothing is lost if the future is dropped.
    ///
    /// # Errors
    ///
    /// An error that a retry does not fix, or errors for longer than [`give_up_after`](Follow::give_up_after).
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await.transpose()
    }

    /// Records a message; returns whether it is for the caller.
    fn note(&mut self, message: &M) -> bool {
        self.failing_since = None;
        self.backoff.reset();
        self.history.note(message);
        self.history.cursor(message).clone_into(&mut self.cursor);
        let again = self.has_caught_up && self.history.is_caught_up(message);
        self.has_caught_up |= self.history.is_caught_up(message);
        !again
    }

    /// The delay before the stream is reopened, or `error` if that would not help.
    fn recover(&mut self, error: Status) -> Result<State<M>, Status> {
        let facts = OrderError::of(&error);
        let now = Instant::now();
        let failing_since = *self.failing_since.get_or_insert(now);
        let wait = self.backoff.wait(&facts);
        let is_too_long = self.give_up_after.is_some_and(|limit| (now - failing_since).saturating_add(wait) > limit);
        if !facts.is_retryable() || is_too_long { Err(error) } else { Ok(State::Waiting(Box::pin(sleep(wait)))) }
    }
}

impl<M> Stream for Follow<M> {
    type Item = Result<M, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            let failure = match &mut this.state {
                State::Waiting(wait) => {
                    ready!(wait.as_mut().poll(context));
                    this.state = State::Opening(this.history.open());
                    continue;
                }
                State::Opening(opening) => match ready!(opening.as_mut().poll(context)) {
                    Ok(response) => {
                        this.state = State::Reading(Box::new(response.into_inner()));
                        continue;
                    }
                    Err(error) => error,
                },
                State::Reading(stream) => match ready!(Pin::new(stream.as_mut()).poll_next(context)) {
                    Some(Ok(message)) if this.note(&message) => return Poll::Ready(Some(Ok(message))),
                    Some(Ok(_)) => continue,
                    Some(Err(error)) => error,
                    None => {
                        this.state = State::Ended;
                        continue;
                    }
                },
                State::Ended => return Poll::Ready(None),
            };
            match this.recover(failure) {
                Ok(waiting) => this.state = waiting,
                Err(error) => {
                    this.state = State::Ended;
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

impl<M> fmt::Debug for Follow<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("cursor", &self.cursor).finish_non_exhaustive()
    }
}

/// The events of all orders, as `StreamEvents` with `request` would give them, resumed by cursor whenever it breaks off.
///
/// `history` must use a channel of this crate, or one that reports a broken connection as UNAVAILABLE as well. The call is made
/// when the first message is asked for.
pub fn follow_events<T: Transport>(
    history: &OrderHistoryServiceClient<T>,
    request: StreamEventsRequest,
) -> Follow<StreamEventsResponse> {
    Follow::new(Box::new(Place { client: history.clone(), request }))
}

/// The history of one order, as `StreamOrderHistory` with `request` would give it, resumed by revision.
///
/// `history` must use a channel of this crate, or one that reports a broken connection as UNAVAILABLE as well. The call is made
/// when the first message is asked for.
pub fn follow_order<T: Transport>(
    history: &OrderHistoryServiceClient<T>,
    request: StreamOrderHistoryRequest,
) -> Follow<StreamOrderHistoryResponse> {
    Follow::new(Box::new(Place { client: history.clone(), request }))
}

/// A request that advances with each message.
struct Place<T, Q> {
    client: OrderHistoryServiceClient<T>,
    request: Q,
}

impl<T: Transport> History<StreamEventsResponse> for Place<T, StreamEventsRequest> {
    fn open(&mut self) -> Opening<StreamEventsResponse> {
        let (mut client, request) = (self.client.clone(), self.request.clone());
        Box::pin(async move { client.stream_events(request).await })
    }

    fn note(&mut self, message: &StreamEventsResponse) {
        self.request.set_start(StreamStart::After);
        self.request.cursor.clone_from(&message.cursor);
    }

    fn cursor<'m>(&self, message: &'m StreamEventsResponse) -> &'m str {
        &message.cursor
    }

    fn is_caught_up(&self, message: &StreamEventsResponse) -> bool {
        matches!(message.item, Some(stream_events_response::Item::CaughtUp(_)))
    }
}

impl<T: Transport> History<StreamOrderHistoryResponse> for Place<T, StreamOrderHistoryRequest> {
    fn open(&mut self) -> Opening<StreamOrderHistoryResponse> {
        let (mut client, request) = (self.client.clone(), self.request.clone());
        Box::pin(async move { client.stream_order_history(request).await })
    }

    fn note(&mut self, message: &StreamOrderHistoryResponse) {
        if let Some(stream_order_history_response::Item::Event(event)) = &message.item {
            self.request.from_revision = event.revision.saturating_add(1);
        }
    }

    fn cursor<'m>(&self, message: &'m StreamOrderHistoryResponse) -> &'m str {
        &message.cursor
    }

    fn is_caught_up(&self, message: &StreamOrderHistoryResponse) -> bool {
        matches!(message.item, Some(stream_order_history_response::Item::CaughtUp(_)))
    }
}
