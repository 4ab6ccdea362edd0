//! `catga.orders.v1.OrderCommandService`.

use tonic::{Request, Response, Status, Streaming};

use super::{convert, execute, reply};
use crate::{
    application::requests::{self, CommandDraft, Violations},
    proto::catga::orders::v1::{self as pb, order_command_service_server::OrderCommandService},
    server::{ApiState, error::ApiError},
};

/// The OrderCommandService.
#[derive(Debug)]
pub struct Commands {
    context: ApiState,
}

impl Commands {
    /// Commands through the mediator of `context`.
    #[must_use]
    pub const fn new(context: ApiState) -> Self {
        Self { context }
    }

    async fn run(&self, draft: CommandDraft<'_>) -> Result<pb::CommandSuccess, Status> {
        let request = requests::command(Violations::default(), draft).map_err(ApiError::from)?;
        let reply = self.context.mediator.execute(request).await.map_err(ApiError::from)?;
        Ok(convert::success(&reply, &self.context.log()?))
    }
}

#[tonic::async_trait]
impl OrderCommandService for Commands {
    async fn create_order(
        &self,
        request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(convert::create_order(request.get_ref())).await?;
        Ok(reply(pb::CreateOrderResponse { order, revision, consistency_token }))
    }

    async fn pay_order(&self, request: Request<pb::PayOrderRequest>) -> Result<Response<pb::PayOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(convert::pay_order(request.get_ref())).await?;
        Ok(reply(pb::PayOrderResponse { order, revision, consistency_token }))
    }

    async fn ship_order(
        &self,
        request: Request<pb::ShipOrderRequest>,
    ) -> Result<Response<pb::ShipOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(convert::ship_order(request.get_ref())).await?;
        Ok(reply(pb::ShipOrderResponse { order, revision, consistency_token }))
    }

    async fn deliver_order(
        &self,
        request: Request<pb::DeliverOrderRequest>,
    ) -> Result<Response<pb::DeliverOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(convert::deliver_order(request.get_ref())).await?;
        Ok(reply(pb::DeliverOrderResponse { order, revision, consistency_token }))
    }

    async fn cancel_order(
        &self,
        request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(convert::cancel_order(request.get_ref())).await?;
        Ok(reply(pb::CancelOrderResponse { order, revision, consistency_token }))
    }

    type ExecuteCommandsStream = execute::Replies;

    async fn execute_commands(
        &self,
        request: Request<Streaming<pb::ExecuteCommandsRequest>>,
    ) -> Result<Response<execute::Replies>, Status> {
        let streams = self.context.streams_of(request.extensions());
        Ok(Response::new(execute::run_all(self.context.clone(), &streams, request.into_inner())))
    }
}
