//! `ExecuteCommands`: many commands over one call.
//!
//! Commands for one order run one after the other, in the order sent; different orders run side by side. At most
//! [`MAX_OPEN`] commands are read and not yet answered; past that the call reads no further until the client has taken replies.

use std::{
    collections::{HashMap, VecDeque},
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use futures_util::{
    StreamExt,
    stream::{FuturesUnordered, Stream},
};
use tonic::{Status, Streaming};
use tonic_types::pb::Status as RpcStatus;

use super::{commands, layers};
use crate::{
    api::{
        Context,
        error::ApiError,
        validation::{self, Violations},
    },
    application::{AppError, OrderRequest},
    proto::catga::orders::v1::{self as pb, execute_commands_request::Command, execute_commands_response::Outcome},
};

/// Commands of one call that are read and not yet answered, at the most.
const MAX_OPEN: usize = 256;
/// The longest correlation id, in bytes.
const MAX_CORRELATION_ID_BYTES: usize = 512;

/// The replies, as they come.
pub type Replies = Pin<Box<dyn Stream<Item = Result<pb::ExecuteCommandsResponse, Status>> + Send>>;

type Running = Pin<Box<dyn Future<Output = (Option<String>, pb::ExecuteCommandsResponse)> + Send>>;

/// Answers every command of `requests`.
pub fn run_all(context: Context, requests: Streaming<pb::ExecuteCommandsRequest>) -> Replies {
    Box::pin(Execution {
        context,
        requests: Some(requests),
        running: FuturesUnordered::new(),
        waiting: HashMap::new(),
        open: 0,
        failed: None,
    })
}

struct Execution {
    context: Context,
    /// `None` once the client has sent everything.
    requests: Option<Streaming<pb::ExecuteCommandsRequest>>,
    running: FuturesUnordered<Running>,
    /// The orders that have a command running, with those that wait behind it.
    waiting: HashMap<String, VecDeque<pb::ExecuteCommandsRequest>>,
    open: usize,
    /// Ends the call once everything read has been answered.
    failed: Option<Status>,
}

impl Stream for Execution {
    type Item = Result<pb::ExecuteCommandsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.read(task);
        if let Poll::Ready(Some((order_id, response))) = this.running.poll_next_unpin(task) {
            this.open -= 1;
            if let Some(order_id) = order_id {
                this.start_next(order_id);
            }
            return Poll::Ready(Some(Ok(response)));
        }
        if this.open == 0 && this.requests.is_none() {
            return Poll::Ready(this.failed.take().map(Err));
        }
        Poll::Pending
    }
}

impl Execution {
    /// Reads what the client has sent, up to the bound.
    fn read(&mut self, task: &mut TaskContext<'_>) {
        while self.open < MAX_OPEN
            && let Some(requests) = &mut self.requests
        {
            if self.context.draining.is_cancelled() {
                self.end(Some(ApiError::from(AppError::ShuttingDown).to_status()));
                return;
            }
            match requests.poll_next_unpin(task) {
                Poll::Ready(Some(Ok(request))) => self.accept(request),
                Poll::Ready(Some(Err(status))) => {
                    self.end(Some(layers::refine(status, self.context.info.max_message_bytes)))
                }
                Poll::Ready(None) => self.end(None),
                Poll::Pending => return,
            }
        }
    }

    fn end(&mut self, failed: Option<Status>) {
        self.requests = None;
        self.failed = failed;
    }

    fn accept(&mut self, request: pb::ExecuteCommandsRequest) {
        self.open += 1;
        let order_id = order_id(&request).map(str::to_owned);
        match order_id.as_ref().and_then(|id| self.waiting.get_mut(id)) {
            Some(queue) => queue.push_back(request),
            None => {
                if let Some(id) = &order_id {
                    self.waiting.insert(id.clone(), VecDeque::new());
                }
                self.start(order_id, request);
            }
        }
    }

    fn start(&self, order_id: Option<String>, request: pb::ExecuteCommandsRequest) {
        let context = self.context.clone();
        self.running.push(Box::pin(async move { (order_id, execute(&context, request).await) }));
    }

    fn start_next(&mut self, order_id: String) {
        match self.waiting.get_mut(&order_id).and_then(VecDeque::pop_front) {
            Some(request) => self.start(Some(order_id), request),
            None => {
                self.waiting.remove(&order_id);
            }
        }
    }
}

fn order_id(request: &pb::ExecuteCommandsRequest) -> Option<&str> {
    match request.command.as_ref()? {
        Command::CreateOrder(_) => None,
        Command::PayOrder(command) => Some(&command.order_id),
        Command::ShipOrder(command) => Some(&command.order_id),
        Command::DeliverOrder(command) => Some(&command.order_id),
        Command::CancelOrder(command) => Some(&command.order_id),
    }
}

async fn execute(context: &Context, request: pb::ExecuteCommandsRequest) -> pb::ExecuteCommandsResponse {
    let outcome = match commands::run(context, parse(&request)).await {
        Ok(success) => Outcome::Success(success),
        Err(error) => Outcome::Error(to_rpc_status(&error)),
    };
    let mut correlation_id = request.correlation_id;
    truncate(&mut correlation_id);
    pb::ExecuteCommandsResponse { correlation_id, outcome: Some(outcome) }
}

fn parse(request: &pb::ExecuteCommandsRequest) -> Result<OrderRequest, Violations> {
    let mut violations = Violations::default();
    if request.correlation_id.len() > MAX_CORRELATION_ID_BYTES || request.correlation_id.chars().count() > 128 {
        violations.add("correlation_id", "must have at most 128 characters");
    }
    let parsed = match &request.command {
        Some(Command::CreateOrder(command)) => commands::create_order(command),
        Some(Command::PayOrder(command)) => commands::pay_order(command),
        Some(Command::ShipOrder(command)) => commands::ship_order(command),
        Some(Command::DeliverOrder(command)) => commands::deliver_order(command),
        Some(Command::CancelOrder(command)) => commands::cancel_order(command),
        None => {
            violations.add("command", "must be set");
            return Err(violations);
        }
    };
    if violations.is_empty() { parsed } else { Err(validation::join(violations, parsed.err())) }
}

/// A correlation id that is too long is refused; what comes back of it is only as much as is allowed.
fn truncate(correlation_id: &mut String) {
    if let Some((end, _)) = correlation_id.char_indices().nth(128) {
        correlation_id.truncate(end);
    }
}

fn to_rpc_status(error: &ApiError) -> RpcStatus {
    use prost::Message;
    let status = error.to_status();
    // The details are the encoded google.rpc.Status already.
    RpcStatus::decode(status.details()).unwrap_or_else(|_| RpcStatus {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
