//! Commands that are safe to retry.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use crate::{
    OrderError, Transport,
    backoff::Backoff,
    catga::orders::v1::{
        CancelOrderRequest, CancelOrderResponse, CreateOrderRequest, CreateOrderResponse, DeliverOrderRequest,
        DeliverOrderResponse, PayOrderRequest, PayOrderResponse, ShipOrderRequest, ShipOrderResponse,
        order_command_service_client::OrderCommandServiceClient,
    },
};

/// A command: a message with a request id, and the method that it is for.
pub trait Command: Clone + Send + Sync {
    /// What it is answered with.
    type Reply: Send;

    /// Its idempotency key; empty if it has none.
    fn request_id(&mut self) -> &mut String;

    /// Gives it once: the method of the stub.
    fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> impl Future<Output = Result<Response<Self::Reply>, Status>> + Send;
}

impl Command for CreateOrderRequest {
    type Reply = CreateOrderResponse;

    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }

    async fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> Result<Response<Self::Reply>, Status> {
        commands.create_order(request).await
    }
}

impl Command for PayOrderRequest {
    type Reply = PayOrderResponse;

    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }

    async fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> Result<Response<Self::Reply>, Status> {
        commands.pay_order(request).await
    }
}

impl Command for ShipOrderRequest {
    type Reply = ShipOrderResponse;

    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }

    async fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> Result<Response<Self::Reply>, Status> {
        commands.ship_order(request).await
    }
}

impl Command for DeliverOrderRequest {
    type Reply = DeliverOrderResponse;

    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }

    async fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> Result<Response<Self::Reply>, Status> {
        commands.deliver_order(request).await
    }
}

impl Command for CancelOrderRequest {
    type Reply = CancelOrderResponse;

    fn request_id(&mut self) -> &mut String {
        &mut self.request_id
    }

    async fn call<T: Transport>(
        commands: &mut OrderCommandServiceClient<T>,
        request: Request<Self>,
    ) -> Result<Response<Self::Reply>, Status> {
        commands.cancel_order(request).await
    }
}

/// How long and how often [`send_with`] tries.
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// How long for all attempts and the waits between them.
    pub timeout: Duration,
    /// How many attempts at the most.
    pub attempts: NonZeroU32,
}

impl Default for SendOptions {
    /// Half a minute, five attempts.
    fn default() -> Self {
        SendOptions { timeout: Duration::from_secs(30), attempts: NonZeroU32::MIN.saturating_add(4) }
    }
}

/// Gives a command and retries it until it is answered: `send(&mut commands, &mut command)`. The kind of the message says which method
/// it is for.
///
/// A `command` without a request id gets one, in place, so that it takes effect once however often it is sent; whoever sends the
/// same message again, after a DEADLINE_EXCEEDED for example, gets the first answer. Retried is what may help
/// ([`OrderError::is_retryable`]), after the time that the service asks for, up to five attempts in all and for half a minute.
///
/// # Errors
///
/// The error of the last attempt; DEADLINE_EXCEEDED if that was not answered in time.
pub async fn send<C: Command, T: Transport>(
    commands: &mut OrderCommandServiceClient<T>,
    command: &mut C,
) -> Result<C::Reply, Status> {
    send_with(commands, command, SendOptions::default()).await
}

/// As [`send`], with another time or number of attempts.
///
/// # Errors
///
/// Those of [`send`].
pub async fn send_with<C: Command, T: Transport>(
    commands: &mut OrderCommandServiceClient<T>,
    command: &mut C,
    options: SendOptions,
) -> Result<C::Reply, Status> {
    if command.request_id().is_empty() {
        *command.request_id() = Uuid::new_v4().to_string();
    }
    let deadline = Instant::now() + options.timeout;
    let mut backoff = Backoff::new();
    let mut left = options.attempts.get();
    loop {
        let mut request = Request::new(command.clone());
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let outcome = timeout_at(deadline, C::call(commands, request)).await;
        let error = match outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(response) => return Ok(response.into_inner()),
            Err(error) => error,
        };
        left -= 1;
        let facts = OrderError::of(&error);
        let wait = backoff.wait(&facts);
        let remaining = deadline.saturating_duration_since(Instant::now());
        if left == 0 || !facts.is_retryable() || wait >= remaining {
            return Err(error);
        }
        sleep(wait).await;
    }
}
