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
    /// The reply.
    type Reply: Send;

    /// Its idempotency key; empty if it has none.
    fn request_id(&mut self) -> &mut String;

    /// Sends it once, with the method of the stub.
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

/// The argument of [`send`]: a command, or `&mut` of one, which keeps the request id that it is given.
pub trait AsCommand: Send {
    /// Its kind.
    type Command: Command;

    /// The command itself.
    fn as_command(&mut self) -> &mut Self::Command;
}

impl<C: Command> AsCommand for &mut C {
    type Command = C;

    fn as_command(&mut self) -> &mut C {
        self
    }
}

impl AsCommand for CreateOrderRequest {
    type Command = Self;

    fn as_command(&mut self) -> &mut Self {
        self
    }
}

impl AsCommand for PayOrderRequest {
    type Command = Self;

    fn as_command(&mut self) -> &mut Self {
        self
    }
}

impl AsCommand for ShipOrderRequest {
    type Command = Self;

    fn as_command(&mut self) -> &mut Self {
        self
    }
}

impl AsCommand for DeliverOrderRequest {
    type Command = Self;

    fn as_command(&mut self) -> &mut Self {
        self
    }
}

impl AsCommand for CancelOrderRequest {
    type Command = Self;

    fn as_command(&mut self) -> &mut Self {
        self
    }
}

/// The limits of [`send_with`].
#[derive(Clone, Copy, Debug)]
pub struct SendOptions {
    /// The time limit of all attempts and delays together.
    pub timeout: Duration,
    /// The maximum number of replies of the service; `None`: limited by time only. A connection that cannot be opened or that breaks does
    /// not count.
    pub attempts: Option<NonZeroU32>,
}

impl Default for SendOptions {
    /// Half a minute, with any number of attempts.
    fn default() -> Self {
        SendOptions { timeout: Duration::from_secs(30), attempts: None }
    }
}

/// Sends a command and retries it until it is answered: `send(&commands, PayOrderRequest { .. })`. The type of the message determines the
/// method.
///
/// A command without a request id gets one, so that it takes effect once however often it is sent; the same message sent again, after a
/// DEADLINE_EXCEEDED for example, gets the first reply. Give `&mut` of a message to have its id afterwards. Errors for which a retry may
/// help ([`OrderError::is_retryable`]) are retried, never earlier than the service requests, for half a minute; no attempt starts later.
///
/// # Errors
///
/// The error of the last attempt; DEADLINE_EXCEEDED if that was not answered in time.
pub async fn send<A: AsCommand, T: Transport>(
    commands: &OrderCommandServiceClient<T>,
    command: A,
) -> Result<<A::Command as Command>::Reply, Status> {
    send_with(commands, command, SendOptions::default()).await
}

/// As [`send`], with another time limit, or a limit of attempts.
///
/// # Errors
///
/// Those of [`send`].
pub async fn send_with<A: AsCommand, T: Transport>(
    commands: &OrderCommandServiceClient<T>,
    mut command: A,
    options: SendOptions,
) -> Result<<A::Command as Command>::Reply, Status> {
    let command = command.as_command();
    if command.request_id().is_empty() {
        *command.request_id() = Uuid::new_v4().to_string();
    }
    let mut commands = commands.clone();
    let deadline = Instant::now() + options.timeout;
    let mut backoff = Backoff::new();
    let mut answers = 0;
    loop {
        let mut request = Request::new(command.clone());
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        let outcome = timeout_at(deadline, A::Command::call(&mut commands, request)).await;
        let error = match outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))) {
            Ok(response) => return Ok(response.into_inner()),
            Err(error) => error,
        };
        let facts = OrderError::of(&error);
        // An unreachable service has not replied: only time limits these attempts.
        if !facts.is_of_connection() {
            answers += 1;
        }
        let wait = backoff.wait(&facts);
        let remaining = deadline.saturating_duration_since(Instant::now());
        let is_last = options.attempts.is_some_and(|most| answers >= most.get());
        if is_last || !facts.is_retryable() || wait >= remaining {
            return Err(error);
        }
        sleep(wait).await;
    }
}
