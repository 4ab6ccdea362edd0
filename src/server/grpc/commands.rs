//! `catga.orders.v1.OrderCommandService`.

use bytes::Bytes;
use futures_util::Stream;
use http::Extensions;
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::{
    convert,
    execute::{self, Requests},
    frames::{UnaryReply, decoded},
    plain, reply,
    streams::{self, Replies},
};
use crate::{
    application::{
        OrderRequest,
        requests::{self, CommandDraft, CommandKind, Violations},
    },
    proto::catga::orders::v1::{
        self as pb, execute_commands_request::Command, order_command_service_server::OrderCommandService,
    },
    server::{ApiState, access::Standing, error::ApiError, principal::principal},
};

/// The OrderCommandService.
#[derive(Debug)]
pub struct Commands {
    api: ApiState,
}

impl Commands {
    /// Commands through the mediator of `api`.
    #[must_use]
    pub const fn new(api: ApiState) -> Self {
        Self { api }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// As in the table of reasons.
    pub async fn run(&self, request: OrderRequest) -> Result<UnaryReply, Status> {
        let reply = self.api.mediator.execute(request).await.map_err(ApiError::from)?;
        let signer = self.api.signer()?;
        Ok(UnaryReply::written(|wire| convert::write_success(wire, &reply, &signer)))
    }

    /// Runs the commands of `requests`, from a caller with `extensions`; returns frames of replies.
    ///
    /// # Errors
    /// As many streams are open as there may be.
    pub fn run_all(
        &self,
        requests: Requests,
        extensions: &Extensions,
    ) -> Result<impl Stream<Item = Result<Bytes, Status>> + Send + use<>, Status> {
        let streams = self.api.streams_of(extensions);
        let permit = streams.acquire().map_err(ApiError::from)?;
        let (caller, standing) = (principal(extensions).clone(), Standing::in_extensions(extensions));
        Ok(execute::run_all(self.api.clone(), &streams, permit, caller, standing, requests))
    }

    /// The reply to a command as a message, which may be compressed.
    async fn reply<M, R>(&self, request: Request<M>, command: fn(M) -> Command) -> Result<Response<R>, Status>
    where
        R: Message + Default,
    {
        let (_metadata, extensions, message) = request.into_parts();
        let request = checked(convert::command(&command(message)), &extensions)?;
        let unary = self.run(request).await?;
        Ok(reply(unary.decode()?))
    }
}

/// The command of this `kind` in `message`, from a caller with `extensions`.
///
/// # Errors
/// If the message is of another type, or invalid.
pub fn read(kind: CommandKind, message: &[u8], extensions: &Extensions) -> Result<OrderRequest, Status> {
    if kind == CommandKind::CreateOrder
        && let Some(draft) = plain::create_order(message)
    {
        return checked(draft, extensions);
    }
    let command = match kind {
        CommandKind::CreateOrder => Command::CreateOrder(decoded(message)?),
        CommandKind::PayOrder => Command::PayOrder(decoded(message)?),
        CommandKind::ShipOrder => Command::ShipOrder(decoded(message)?),
        CommandKind::DeliverOrder => Command::DeliverOrder(decoded(message)?),
        CommandKind::CancelOrder => Command::CancelOrder(decoded(message)?),
    };
    checked(convert::command(&command), extensions)
}

/// The command of `draft`, from a caller with `extensions`.
///
/// # Errors
/// Its violations.
fn checked(draft: CommandDraft<'_>, extensions: &Extensions) -> Result<OrderRequest, Status> {
    Ok(requests::command(Violations::default(), draft, principal(extensions)).map_err(ApiError::from)?)
}

#[tonic::async_trait]
impl OrderCommandService for Commands {
    async fn create_order(
        &self,
        request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        self.reply(request, Command::CreateOrder).await
    }

    async fn pay_order(&self, request: Request<pb::PayOrderRequest>) -> Result<Response<pb::PayOrderResponse>, Status> {
        self.reply(request, Command::PayOrder).await
    }

    async fn ship_order(
        &self,
        request: Request<pb::ShipOrderRequest>,
    ) -> Result<Response<pb::ShipOrderResponse>, Status> {
        self.reply(request, Command::ShipOrder).await
    }

    async fn deliver_order(
        &self,
        request: Request<pb::DeliverOrderRequest>,
    ) -> Result<Response<pb::DeliverOrderResponse>, Status> {
        self.reply(request, Command::DeliverOrder).await
    }

    async fn cancel_order(
        &self,
        request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        self.reply(request, Command::CancelOrder).await
    }

    type ExecuteCommandsStream = Replies<pb::ExecuteCommandsResponse>;

    async fn execute_commands(
        &self,
        request: Request<Streaming<pb::ExecuteCommandsRequest>>,
    ) -> Result<Response<Self::ExecuteCommandsStream>, Status> {
        let (_metadata, extensions, requests) = request.into_parts();
        Ok(Response::new(streams::messages(self.run_all(Box::pin(requests), &extensions)?)))
    }
}
