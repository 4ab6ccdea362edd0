//! `catga.orders.v1.OrderCommandService`.

use tonic::{Request, Response, Status, Streaming};

use super::{convert, execute, reply};
use crate::{
    application::{
        OrderRequest,
        requests::{self, ItemDraft, MetaDraft, OrderDraft, Violations},
    },
    domain::order::Action,
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

    async fn run(&self, request: Result<OrderRequest, Violations>) -> Result<pb::CommandSuccess, Status> {
        Ok(run(&self.context, request).await?)
    }
}

/// Passes a command to the mediator.
pub(super) async fn run(
    context: &ApiState,
    request: Result<OrderRequest, Violations>,
) -> Result<pb::CommandSuccess, ApiError> {
    let reply = context.mediator.execute(request?).await?;
    Ok(convert::success(&reply, &context.log()?))
}

#[tonic::async_trait]
impl OrderCommandService for Commands {
    async fn create_order(
        &self,
        request: Request<pb::CreateOrderRequest>,
    ) -> Result<Response<pb::CreateOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(create_order(request.get_ref())).await?;
        Ok(reply(pb::CreateOrderResponse { order, revision, consistency_token }))
    }

    async fn pay_order(&self, request: Request<pb::PayOrderRequest>) -> Result<Response<pb::PayOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } = self.run(pay_order(request.get_ref())).await?;
        Ok(reply(pb::PayOrderResponse { order, revision, consistency_token }))
    }

    async fn ship_order(
        &self,
        request: Request<pb::ShipOrderRequest>,
    ) -> Result<Response<pb::ShipOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } = self.run(ship_order(request.get_ref())).await?;
        Ok(reply(pb::ShipOrderResponse { order, revision, consistency_token }))
    }

    async fn deliver_order(
        &self,
        request: Request<pb::DeliverOrderRequest>,
    ) -> Result<Response<pb::DeliverOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(deliver_order(request.get_ref())).await?;
        Ok(reply(pb::DeliverOrderResponse { order, revision, consistency_token }))
    }

    async fn cancel_order(
        &self,
        request: Request<pb::CancelOrderRequest>,
    ) -> Result<Response<pb::CancelOrderResponse>, Status> {
        let pb::CommandSuccess { order, revision, consistency_token } =
            self.run(cancel_order(request.get_ref())).await?;
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

pub(super) fn create_order(request: &pb::CreateOrderRequest) -> Result<OrderRequest, Violations> {
    let meta = MetaDraft {
        request_id: &request.request_id,
        expected_revision: request.expected_revision,
        actor: &request.actor,
    };
    let mut violations = Violations::default();
    // Too many items are reported as one violation: violations of single items would hide it.
    let is_bounded = request.items.len() <= crate::server::MAX_ITEMS;
    let items = request.items.iter().enumerate().map(|(index, item)| ItemDraft {
        product_id: Some(&item.product_id),
        name: Some(&item.name),
        quantity: Some(item.quantity),
        unit_price: match &item.unit_price {
            Some(price) => Some(convert::money_from_proto(price)),
            None => {
                if is_bounded {
                    violations.add(format!("items[{index}].unit_price"), "must not be left out");
                }
                None
            }
        },
    });
    let draft = OrderDraft {
        customer_id: Some(&request.customer_id),
        items: Some(items.take(validation_limit()).collect()),
        shipping_address: Some(&request.shipping_address),
    };
    requests::request(violations, meta, None, |violations| requests::create_order(violations, draft))
}

/// One item beyond the limit is enough to detect that there are too many.
const fn validation_limit() -> usize {
    crate::server::MAX_ITEMS + 1
}

pub(super) fn pay_order(request: &pb::PayOrderRequest) -> Result<OrderRequest, Violations> {
    let meta = MetaDraft {
        request_id: &request.request_id,
        expected_revision: request.expected_revision,
        actor: &request.actor,
    };
    requests::request(Violations::default(), meta, Some(&request.order_id), |violations| {
        requests::pay_order(violations, Some(&request.payment_method), Some(&request.payment_reference))
    })
}

pub(super) fn ship_order(request: &pb::ShipOrderRequest) -> Result<OrderRequest, Violations> {
    let meta = MetaDraft {
        request_id: &request.request_id,
        expected_revision: request.expected_revision,
        actor: &request.actor,
    };
    requests::request(Violations::default(), meta, Some(&request.order_id), |violations| {
        requests::ship_order(violations, Some(&request.tracking_number), Some(&request.carrier))
    })
}

pub(super) fn deliver_order(request: &pb::DeliverOrderRequest) -> Result<OrderRequest, Violations> {
    let meta = MetaDraft {
        request_id: &request.request_id,
        expected_revision: request.expected_revision,
        actor: &request.actor,
    };
    requests::request(Violations::default(), meta, Some(&request.order_id), |_| Some(Action::Deliver))
}

pub(super) fn cancel_order(request: &pb::CancelOrderRequest) -> Result<OrderRequest, Violations> {
    let meta = MetaDraft {
        request_id: &request.request_id,
        expected_revision: request.expected_revision,
        actor: &request.actor,
    };
    requests::request(Violations::default(), meta, Some(&request.order_id), |violations| {
        requests::cancel_order(violations, Some(&request.reason))
    })
}
