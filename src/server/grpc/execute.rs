//! `ExecuteCommands`: many commands in one call.
//!
//! Commands for one order run one after the other, in the order sent; different orders run concurrently. At most `MAX_OPEN` commands are read and not
//! yet answered, and replies of at most `MAX_REPLY_BYTES` wait for the client; beyond these bounds the call stops reading until the client has read
//! replies. If the node refuses one more command, the call waits with it, and fails it with OVERLOADED after `MAX_KEPT`. A separate task drives the
//! call, so that a client that reads no replies stops no command halfway.

use std::{
    collections::{HashMap, VecDeque},
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, StreamExt,
    stream::{FuturesUnordered, Stream},
};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tonic_types::pb::Status as RpcStatus;

use super::{convert, layers};
use crate::{
    application::{
        AppError, OrderRequest,
        byte_budget::{ByteBudget, HeldBytes},
        requests::{self, Field, Target, Violations},
    },
    proto::catga::orders::v1::{self as pb, execute_commands_response::Outcome},
    server::{
        ApiState, EventStreams,
        admission::overloaded,
        error::{ApiError, PANIC},
    },
};

/// The maximum number of commands of one call that are read and not yet answered.
const MAX_OPEN: usize = 256;
/// Replies in transit to the connection; they count as open as well.
const SENDING: usize = 64;
/// The maximum size of the replies of one call, including those of running commands, that wait for the client.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
/// The estimated size of the first reply.
const FIRST_REPLY_BYTES: usize = 16 * 1024;
/// The poll interval for room for one more reply, if it is not signalled.
const ROOM_POLL: Duration = Duration::from_millis(100);
/// How long a command waits for admission before it is refused. No other command is read meanwhile.
const MAX_KEPT: Duration = Duration::from_secs(1);
/// The maximum length of a correlation id, in characters.
const MAX_CORRELATION_ID_CHARS: usize = 128;

/// The stream of replies.
pub type Replies = Pin<Box<dyn Stream<Item = Result<pb::ExecuteCommandsResponse, Status>> + Send>>;

type Running = Pin<Box<dyn Future<Output = (Option<u64>, Reply)> + Send>>;

/// Runs every command of `requests`, and replies to each.
pub fn run_all(context: ApiState, streams: &EventStreams, requests: Streaming<pb::ExecuteCommandsRequest>) -> Replies {
    let (sender, replies) = mpsc::channel::<Result<Reply, Status>>(SENDING);
    let room = Arc::new(Room::new(streams.share_of_read_bytes(MAX_REPLY_BYTES)));
    let execution = Execution {
        context,
        next_bytes: None,
        kept: None,
        reply_bytes: FIRST_REPLY_BYTES,
        room: Arc::clone(&room),
        requests: Some(requests),
        running: FuturesUnordered::new(),
        waiting: HashMap::new(),
        answered: VecDeque::new(),
        open: 0,
        failed: None,
    };
    tokio::spawn(execution.run(sender));
    Box::pin(ReceiverStream::new(replies).map(move |reply| {
        let reply = reply.map(|reply| reply.message);
        room.freed.notify_one();
        reply
    }))
}

/// The memory budget of replies.
struct Room {
    bytes: ByteBudget,
    /// Notified when the client has read a reply.
    freed: Notify,
}

impl Room {
    fn new(bytes: ByteBudget) -> Self {
        Self { bytes, freed: Notify::new() }
    }

    /// Waits until there may be more room.
    async fn more(&self) {
        tokio::select! {
            () = self.freed.notified() => {}
            // Other calls use the same budget.
            () = tokio::time::sleep(ROOM_POLL) => {}
        }
    }
}

/// A reply, with the bytes that it reserves until the client reads it.
struct Reply {
    message: pb::ExecuteCommandsResponse,
    _bytes: HeldBytes,
}

/// A command that has been read. The client's message is not kept: it may be far larger.
struct Accepted {
    correlation_id: String,
    request: Result<OrderRequest, Violations>,
    /// The reservation for the reply.
    bytes: HeldBytes,
}

struct Execution {
    context: ApiState,
    /// `None` once the client has sent everything.
    requests: Option<Streaming<pb::ExecuteCommandsRequest>>,
    running: FuturesUnordered<Running>,
    /// The orders with a running command, and the commands queued behind it.
    waiting: HashMap<u64, VecDeque<Accepted>>,
    /// Replies that the client has not read yet.
    answered: VecDeque<Reply>,
    room: Arc<Room>,
    /// The reservation for the next reply; `None` if there is no room.
    next_bytes: Option<HeldBytes>,
    /// A command that waits for admission, and since when.
    kept: Option<(Accepted, Instant)>,
    /// The recent size of replies.
    reply_bytes: usize,
    /// Commands read whose replies are not yet handed to the connection.
    open: usize,
    /// Ends the call with this status once everything read has been answered.
    failed: Option<Status>,
}

impl Execution {
    /// Runs until every command is answered, or the client is gone.
    async fn run(mut self, replies: mpsc::Sender<Result<Reply, Status>>) {
        let draining = self.context.draining.clone();
        while self.open > 0 || self.requests.is_some() {
            self.settle_kept();
            let would_read = self.open < MAX_OPEN && self.requests.is_some() && self.kept.is_none();
            let may_read = would_read && self.has_room();
            let lacks_room = self.kept.is_some() || (would_read && !may_read);
            let room = Arc::clone(&self.room);
            tokio::select! {
                // Replies first: a client that sends faster than it reads must not grow the backlog.
                biased;
                place = replies.reserve(), if !self.answered.is_empty() => {
                    // Fails when the client is gone; the rest is then dropped like a unary call.
                    let (Ok(place), Some(answer)) = (place, self.answered.pop_front()) else { return };
                    self.open -= 1;
                    place.send(Ok(answer));
                }
                Some((order_id, answer)) = self.running.next() => self.finish(order_id, answer),
                () = draining.cancelled(), if self.requests.is_some() => {
                    self.end(Some(ApiError::from(AppError::ShuttingDown).to_status()));
                }
                request = next(&mut self.requests), if may_read => match request {
                    Some(Ok(request)) => self.accept(&request),
                    Some(Err(status)) => {
                        self.end(Some(layers::refine(status, self.context.info.max_message_bytes)));
                    }
                    None => self.end(None),
                },
                () = room.more(), if lacks_room => {}
                () = replies.closed() => return,
            }
        }
        if let Some(status) = self.failed {
            // Fails when the client is gone.
            let _ = replies.send(Err(status)).await;
        }
    }

    fn end(&mut self, failed: Option<Status>) {
        self.requests = None;
        self.failed = failed;
    }

    /// Whether there is room for one more reply; reserves it.
    fn has_room(&mut self) -> bool {
        if self.next_bytes.is_none() {
            let mut bytes = HeldBytes::none(self.room.bytes.clone());
            self.next_bytes = bytes.grow(self.reply_bytes).then_some(bytes);
        }
        self.next_bytes.is_some()
    }

    fn accept(&mut self, request: &pb::ExecuteCommandsRequest) {
        self.open += 1;
        let mut bytes = self.next_bytes.take().unwrap_or_else(|| HeldBytes::none(self.room.bytes.clone()));
        // A new order is about as large as its request. If there is no room for that, the reply counts once it exists.
        let _ = bytes.set(self.reply_bytes.max(request.encoded_len()));
        let accepted = Accepted { correlation_id: correlation_id(request), request: parse(request), bytes };
        self.kept = Some((accepted, Instant::now()));
    }

    /// Starts the waiting command if it is admitted, and refuses it if it has waited too long.
    fn settle_kept(&mut self) {
        let Some((accepted, since)) = self.kept.take() else { return };
        if self.context.admission.has_room() {
            self.begin(accepted);
        } else if since.elapsed() >= MAX_KEPT {
            self.context.admission.shed();
            self.running.push(Box::pin(async { (None, reply_to(accepted, Err(overloaded()))) }));
        } else {
            self.kept = Some((accepted, since));
        }
    }

    /// Starts a command, or queues it behind those of the same order.
    fn begin(&mut self, accepted: Accepted) {
        let order_id = match accepted.request.as_ref().map(|request| request.target) {
            Ok(Target::Existing(id)) => Some(id.get()),
            Ok(Target::New) | Err(_) => None,
        };
        match order_id.and_then(|id| self.waiting.get_mut(&id)) {
            Some(queue) => queue.push_back(accepted),
            None => {
                if let Some(id) = order_id {
                    self.waiting.insert(id, VecDeque::new());
                }
                self.start(order_id, accepted);
            }
        }
    }

    fn start(&self, order_id: Option<u64>, accepted: Accepted) {
        let context = self.context.clone();
        self.running.push(Box::pin(async move { (order_id, execute(&context, accepted).await) }));
    }

    fn finish(&mut self, order_id: Option<u64>, answer: Reply) {
        // The estimate follows large replies for a while: otherwise far too many would be read as if they were small.
        self.reply_bytes = answer.message.encoded_len().max(self.reply_bytes - self.reply_bytes / 64);
        self.answered.push_back(answer);
        let Some(id) = order_id else {
            return;
        };
        match self.waiting.get_mut(&id).and_then(VecDeque::pop_front) {
            Some(accepted) => self.start(order_id, accepted),
            None => {
                self.waiting.remove(&id);
            }
        }
    }
}

async fn next(
    requests: &mut Option<Streaming<pb::ExecuteCommandsRequest>>,
) -> Option<Result<pb::ExecuteCommandsRequest, Status>> {
    requests.as_mut()?.next().await
}

async fn execute(context: &ApiState, mut accepted: Accepted) -> Reply {
    let request = std::mem::replace(&mut accepted.request, Err(Violations::default()));
    // A panic ends one command, like one unary call, but not the others of this call.
    let work = AssertUnwindSafe(run(context, request)).catch_unwind();
    let outcome = context.admission.join().run(work).await;
    reply_to(accepted, outcome.unwrap_or_else(|_panic| Err(ApiError::internal(PANIC))))
}

async fn run(context: &ApiState, request: Result<OrderRequest, Violations>) -> Result<pb::CommandSuccess, ApiError> {
    let reply = context.mediator.execute(request?).await?;
    Ok(convert::success(&reply, &context.log()?))
}

fn reply_to(accepted: Accepted, outcome: Result<pb::CommandSuccess, ApiError>) -> Reply {
    let Accepted { correlation_id, mut bytes, .. } = accepted;
    let outcome = match outcome {
        Ok(success) => Outcome::Success(success),
        Err(error) => Outcome::Error(to_rpc_status(&error)),
    };
    let message = pb::ExecuteCommandsResponse { correlation_id, outcome: Some(outcome) };
    // If the reply is larger than its reservation, no further command is read before the client has read some replies.
    let _ = bytes.set(message.encoded_len());
    Reply { message, _bytes: bytes }
}

fn parse(request: &pb::ExecuteCommandsRequest) -> Result<OrderRequest, Violations> {
    let mut violations = Violations::default();
    if request.correlation_id.chars().nth(MAX_CORRELATION_ID_CHARS).is_some() {
        let description = format_args!("must have at most {MAX_CORRELATION_ID_CHARS} characters");
        violations.add(Field::CorrelationId, description);
    }
    let Some(command) = &request.command else {
        violations.add(Field::Command, "must be set");
        return Err(violations);
    };
    requests::command(violations, convert::command(command))
}

/// The correlation id of the reply. One that is too long is refused, and truncated in the reply.
fn correlation_id(request: &pb::ExecuteCommandsRequest) -> String {
    let id = &request.correlation_id;
    let end = id.char_indices().nth(MAX_CORRELATION_ID_CHARS).map_or(id.len(), |(end, _)| end);
    id[..end].to_owned()
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
