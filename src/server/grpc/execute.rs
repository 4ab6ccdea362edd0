//! `ExecuteCommands`: many commands in one call.
//!
//! Commands for one order run one after the other, in the order sent; different orders run concurrently. At most `MAX_OPEN` commands are read and not
//! yet answered, and replies of at most `MAX_REPLY_BYTES` wait for the client; beyond these bounds the call stops reading until the client has read
//! replies. If the node refuses a further command, the call keeps it waiting, and fails it with OVERLOADED after `MAX_KEPT`. A separate task drives
//! the call, so that a client that reads no replies stops no command halfway.

mod command;

use std::{
    collections::{HashMap, VecDeque},
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    stream::{self, FuturesUnordered, Stream},
};
use prost::Message as _;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use self::command::{Accepted, Reply};
use super::errors;
use crate::{
    application::{
        AppError,
        byte_budget::{ByteBudget, HeldBytes},
        event_streams::EventStreamPermit,
        requests::Target,
    },
    identity::Principal,
    proto::catga::orders::v1 as pb,
    server::{
        ApiState, EventStreams,
        access::{self, Standing},
        admission::overloaded,
        error::{ApiError, Reason},
    },
    telemetry::call,
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
/// How long a command waits for admission before it is refused. No other command is read in the meantime.
const MAX_KEPT: Duration = Duration::from_secs(1);

/// The commands of a call.
pub type Requests = Pin<Box<dyn Stream<Item = Result<pb::ExecuteCommandsRequest, Status>> + Send>>;

type Running = Pin<Box<dyn Future<Output = (Option<u64>, Reply)> + Send>>;

/// Runs every command of `requests`, and replies to each, in frames of as many messages as are ready. Each command is a call of the caller that
/// `standing` verifies for it, and counts against the limits of that caller; where callers are not identified, it is a call of `caller`.
pub fn run_all(
    api: ApiState,
    streams: &EventStreams,
    permit: EventStreamPermit,
    caller: Principal,
    standing: Option<Arc<Standing>>,
    requests: Requests,
) -> impl Stream<Item = Result<Bytes, Status>> + Send + use<> {
    let (sender, replies) = mpsc::channel::<Result<Reply, Status>>(SENDING);
    let room = Arc::new(Room::new(streams.share_of_read_bytes(MAX_REPLY_BYTES)));
    let execution = Execution {
        api,
        caller,
        standing,
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
        _permit: permit,
    };
    tokio::spawn(call::carried(execution.run(sender)));
    ReceiverStream::new(replies).ready_chunks(SENDING).flat_map(move |replies| {
        let (messages, failed) = frame(replies);
        room.freed.notify_one();
        let messages = (!messages.is_empty()).then(|| Ok(messages.into()));
        stream::iter(messages.into_iter().chain(failed.map(Err)))
    })
}

/// The messages of `replies`, and the status that ends the call, if there is one among them.
fn frame(replies: Vec<Result<Reply, Status>>) -> (Vec<u8>, Option<Status>) {
    let mut messages = Vec::with_capacity(replies.iter().flatten().map(|reply| reply.message.len()).sum());
    let mut failed = None;
    for reply in replies {
        match reply {
            Ok(reply) => messages.extend_from_slice(&reply.message),
            Err(status) => failed = Some(status),
        }
    }
    (messages, failed)
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

    /// Waits until there may be more room, for at most `at_most`.
    async fn more(&self, at_most: Duration) {
        tokio::select! {
            () = self.freed.notified() => {}
            // Other calls use the same budget.
            () = tokio::time::sleep(at_most) => {}
        }
    }
}

struct Execution {
    api: ApiState,
    caller: Principal,
    standing: Option<Arc<Standing>>,
    /// `None` once the client has sent everything.
    requests: Option<Requests>,
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
    /// The call may stay open for as long as its client likes.
    _permit: EventStreamPermit,
}

impl Execution {
    /// Runs until every command is answered, or the client is gone.
    async fn run(mut self, replies: mpsc::Sender<Result<Reply, Status>>) {
        let draining = self.api.draining.clone();
        let mut draining = pin!(draining.cancelled());
        let mut lost = pin!(Standing::lost_by(self.standing.clone()));
        while self.open > 0 || self.requests.is_some() {
            let poll = self.retry_waiting();
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
                () = &mut draining, if self.requests.is_some() => {
                    self.end(Some(ApiError::from(AppError::ShuttingDown).to_status()));
                }
                error = &mut lost, if self.requests.is_some() => self.end(Some(error.to_status())),
                request = next(&mut self.requests), if may_read => match request {
                    Some(Ok(request)) => self.accept(&request),
                    Some(Err(status)) => {
                        self.end(Some(errors::refine(status, self.api.info.max_message_bytes)));
                    }
                    None => self.end(None),
                },
                () = room.more(poll), if lacks_room => {}
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
        // Without unknown fields, which cost nothing once they are decoded.
        let request_bytes = request.encoded_len();
        // A new order is about as large as its request. If there is no room for that, the reply counts once it exists.
        let _ = bytes.set(self.reply_bytes.max(request_bytes));
        let correlation_id = command::correlation_id(request);
        let standing = self.standing.clone();
        let (request, limits, standing) = match standing.as_deref().map(Standing::reauthorize).transpose() {
            Ok(None) => (command::parse(request, &self.caller), None, None),
            Ok(Some(caller)) => (command::parse(request, &caller.principal), caller.limits.clone(), standing),
            Err(refused) => (Err(refused), None, None),
        };
        let accepted = Accepted {
            correlation_id,
            request,
            request_bytes,
            limits,
            standing,
            bytes,
            is_counted: false,
            permit: None,
        };
        self.kept = Some((accepted, Instant::now()));
    }

    /// Starts the waiting command if it is admitted, and refuses it if it has waited too long; returns when to try again.
    fn retry_waiting(&mut self) -> Duration {
        let Some((mut accepted, since)) = self.kept.take() else { return ROOM_POLL };
        let is_over = since.elapsed() >= MAX_KEPT;
        let (refusal, poll) = match accepted.within_limits() {
            Err(exceeded) => (access::limited(&exceeded), exceeded.retry_after.min(ROOM_POLL)),
            Ok(()) if self.api.admission.has_room() => {
                self.begin(accepted);
                return ROOM_POLL;
            }
            Ok(()) => (overloaded(), ROOM_POLL),
        };
        if is_over {
            if refusal.reason == Reason::Overloaded {
                self.api.admission.shed();
            }
            self.running.push(Box::pin(async { (None, accepted.refuse(refusal)) }));
        } else {
            self.kept = Some((accepted, since));
        }
        poll
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

    fn start(&mut self, order_id: Option<u64>, accepted: Accepted) {
        let mut next = Some(accepted);
        while let Some(accepted) = next.take() {
            let api = self.api.clone();
            let mut work: Running = Box::pin(async move { (order_id, accepted.execute(&api).await) });
            // On a store in memory most commands end at once, and need not be added to the running ones.
            match work.as_mut().now_or_never() {
                Some((_, answer)) => next = self.answer(order_id, answer),
                None => self.running.push(work),
            }
        }
    }

    fn finish(&mut self, order_id: Option<u64>, answer: Reply) {
        if let Some(next) = self.answer(order_id, answer) {
            self.start(order_id, next);
        }
    }

    /// Queues a reply; returns the next command for its order.
    fn answer(&mut self, order_id: Option<u64>, answer: Reply) -> Option<Accepted> {
        // The estimate follows large replies for a while: otherwise far too many would be read as if they were small.
        self.reply_bytes = answer.message.len().max(self.reply_bytes - self.reply_bytes / 64);
        self.answered.push_back(answer);
        let id = order_id?;
        let next = self.waiting.get_mut(&id).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.waiting.remove(&id);
        }
        next
    }
}

async fn next(requests: &mut Option<Requests>) -> Option<Result<pb::ExecuteCommandsRequest, Status>> {
    requests.as_mut()?.next().await
}
