//! Runs a command: fold the order, decide, append the events on condition that the stream has not changed.

use std::{future::Future, sync::Arc, time::Duration};

use metrics::Counter;
use tokio_util::sync::CancellationToken;

use super::{
    AppError, Scope, VersionedOrder,
    order_repository::{AsOf, MAX_LOADS, OrderRepository, connection_unstable, pause_before_reload},
    originator::{Originator, stored_request_id},
    requests::{OrderRequest, Target},
};
use crate::{
    codec::{self, Record},
    domain::{
        ids::OrderId,
        order::{Action, OrderCommand, OrderEvent, decide, evolve},
        text::RequestId,
        timestamp::Timestamp,
    },
    id_generator::IdGenerator,
    ports::{
        clock::Clock,
        deadline,
        event_store::{
            AppendError, Appended, Commit, CommitId, EventStore, ExpectedRevision, RequestKey, RequestScope, Revision,
            StoreError, StreamId,
        },
    },
    telemetry::{
        call,
        traces::{self, context::Traceparent},
    },
};

/// How often a command is decided again after conflicts with other writers of the same order.
const MAX_ATTEMPTS: u32 = 10;
/// The maximum pause before deciding again, in microseconds; the actual pause is random, so that competing writers separate.
const MAX_CONFLICT_PAUSE_MICROS: u64 = 2_000;
/// How many ids are drawn for a new order before the command is refused, if each one is already in use.
const MAX_NEW_IDS: u32 = 8;
/// After an id in use, the next one is chosen at random from this many: a generator that issues the same ids would collide again at the next one.
const REDRAWN_FROM: usize = 64;
/// Why the outcome of a command is unknown if its node abandons it.
const ABANDONED: &str = "the node is shutting down, and its event store does not answer";

/// The order as the command left it.
pub type CommandReply = Arc<VersionedOrder>;

/// Runs commands.
#[derive(Debug)]
pub struct CommandHandler {
    store: Arc<dyn EventStore>,
    orders: Arc<OrderRepository>,
    ids: Arc<IdGenerator>,
    clock: Arc<dyn Clock>,
    abandoned: CancellationToken,
    conflicts: Counter,
    taken_ids: Counter,
    replays: Counter,
}

impl CommandHandler {
    /// A handler that writes to `store` and caches folded orders in `orders`.
    #[must_use]
    pub fn new(
        store: Arc<dyn EventStore>,
        orders: Arc<OrderRepository>,
        ids: Arc<IdGenerator>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            store,
            orders,
            ids,
            clock,
            abandoned: CancellationToken::new(),
            conflicts: metrics::counter!("ordersystem_append_conflicts_total"),
            taken_ids: metrics::counter!("ordersystem_taken_order_ids_total"),
            replays: metrics::counter!("ordersystem_request_replays_total"),
        }
    }

    /// Does not wait for the outcome of an append once `abandoned` is cancelled.
    #[must_use]
    pub fn abandoned_by(self, abandoned: CancellationToken) -> Self {
        Self { abandoned, ..self }
    }

    pub(super) async fn execute(&self, request: OrderRequest) -> Result<CommandReply, AppError> {
        let scope = request.scope();
        let key = request.request_id.as_ref().map(|id| request_key(id, &scope, &request));
        let request_id = request.request_id.as_ref();
        let at = Timestamp::from_micros(self.clock.now_micros());
        request.kind().check_roles(&request.caller)?;
        if let Action::Create { customer_id, .. } = &request.action
            && !scope.admits(customer_id)
        {
            return Err(AppError::CustomerNotAllowed);
        }
        let originator = Originator::of(&request.caller, request.actor)?;
        let (action, expected) = (request.action, request.expected_revision);
        let connection = self.orders.connection();
        let outcome = match request.target {
            Target::Existing(order_id) => {
                let command = OrderCommand { order_id, at, action };
                let prepared = PreparedCommand { key, command, originator, scope };
                self.run(&prepared, request_id, expected).await
            }
            Target::New => {
                let order_id = self.new_order_id(0).await?;
                let command = OrderCommand { order_id, at, action };
                let prepared = PreparedCommand { key, command, originator, scope };
                self.create(prepared, request_id, expected).await
            }
        };
        if let Err(AppError::RequestIdReused(_)) = outcome {
            self.store.confirm_connection(connection).await?;
            return Err(AppError::RequestIdReused(request_id.map_or_else(String::new, ToString::to_string)));
        }
        outcome
    }

    /// Creates an order. The service chooses its id. An id is in use only if another node has the same worker number or a clock was set back; nothing
    /// was written under it then, and another id is as good.
    async fn create(
        &self,
        mut prepared: PreparedCommand,
        request_id: Option<&RequestId>,
        expected: Option<Revision>,
    ) -> Result<CommandReply, AppError> {
        for tries in 1..=MAX_NEW_IDS {
            let connection = self.orders.connection();
            let decided = match prepared.decide(None, expected) {
                Ok(events) => events,
                Err(refusal) => {
                    let first = self.replay_or_reject(&prepared, None, connection, refusal).await?;
                    return first.ok_or_else(|| AppError::unavailable("the id of the new order is in use"));
                }
            };
            match self.append(prepared.commit(None, &decided, request_id)).await {
                Ok(appended) if appended.replayed => return self.replay(&prepared, connection, appended).await,
                Ok(appended) => return self.accept(None, &decided, appended),
                Err(AppendError::Conflict { .. }) => {
                    self.taken_ids.increment(1);
                    tracing::warn!(order_id = %prepared.command.order_id, tries, "the generated id of a new order is already in use");
                    prepared.command.order_id = self.new_order_id(tries).await?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(AppError::unavailable(format_args!(
            "{MAX_NEW_IDS} consecutive ids generated for a new order are in use: something else issues ids under this worker number"
        )))
    }

    /// The id for a new order, after `taken` ids that were in use.
    async fn new_order_id(&self, taken: u32) -> Result<OrderId, AppError> {
        let id = if taken == 0 {
            self.ids.next_async().await?
        } else {
            let mut drawn = Vec::with_capacity(REDRAWN_FROM);
            self.ids.next_batch_async(REDRAWN_FROM, &mut drawn).await?;
            drawn[fastrand::usize(..drawn.len())]
        };
        let id = OrderId::new(id).map_err(|_| AppError::Corrupt("generated order id".into()))?;
        call::set_order(id.get());
        Ok(id)
    }

    /// Decides and appends until the append succeeds, a bounded number of times.
    async fn run(
        &self,
        prepared: &PreparedCommand,
        request_id: Option<&RequestId>,
        expected: Option<Revision>,
    ) -> Result<CommandReply, AppError> {
        let id = prepared.command.order_id;
        // The caches may lag behind other nodes: good enough to append on, but not to refuse on.
        let mut current = self.orders.cached(id);
        if current.is_none() {
            current = self.orders.shared(id).await;
        }
        let (mut is_fresh, mut is_behind) = (false, false);
        let mut loaded_on = self.orders.connection();
        for tries in 0..MAX_ATTEMPTS {
            if current.is_none() && !is_fresh {
                loaded_on = self.orders.connection();
                current = self.orders.load(id).await?;
                is_fresh = true;
            }
            let decided = match prepared.decide(current.as_deref(), expected) {
                Ok(events) => events,
                Err(_) if !is_fresh => {
                    current = None;
                    continue;
                }
                Err(refusal) => match self.replay_or_reject(prepared, current.as_deref(), loaded_on, refusal).await? {
                    Some(first) => return Ok(first),
                    None => {
                        // The decision was based on a stale revision: a server of the store is behind.
                        (current, is_fresh, is_behind) = (None, false, true);
                        pause_before_reload(tries).await;
                        continue;
                    }
                },
            };
            let commit = prepared.commit(current.as_deref(), &decided, request_id);
            let connection = self.orders.connection();
            match self.append(commit).await {
                Ok(appended) if appended.replayed => return self.replay(prepared, connection, appended).await,
                Ok(appended) => return self.accept(current.as_deref(), &decided, appended),
                Err(AppendError::Conflict { .. }) => {
                    self.conflicts.increment(1);
                    (current, is_fresh, is_behind) = (None, false, false);
                    pause(tries).await;
                }
                Err(error) => {
                    if matches!(error, AppendError::Store(StoreError::Corrupt(_))) {
                        self.orders.forget(id);
                    }
                    return Err(error.into());
                }
            }
        }
        if is_behind {
            return Err(AppError::unavailable("the servers of the store that reply lag behind on this order"));
        }
        Err(AppError::Contention)
    }

    /// Appends, unless the deadline has passed: nothing is written after the client has received a timeout.
    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        if deadline::has_passed() {
            return Err(AppendError::TooLate);
        }
        let appended = self.unless_abandoned(self.store.append(commit)).await;
        appended.unwrap_or_else(|| Err(AppendError::OutcomeUnknown(ABANDONED.to_owned())))
    }

    /// The result of `work`; `None` if the node abandons its requests before it is there.
    async fn unless_abandoned<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.abandoned.cancelled() => None,
        }
    }

    /// Folds the appended events into the order and caches it.
    fn accept(
        &self,
        before: Option<&VersionedOrder>,
        events: &[OrderEvent],
        appended: Appended,
    ) -> Result<CommandReply, AppError> {
        let mut order = before.map(|loaded| loaded.order.clone());
        for event in events {
            order = Some(evolve(order.as_ref(), event)?);
        }
        let order = order.ok_or_else(|| AppError::Corrupt("a command without events".into()))?;
        let reply = Arc::new(VersionedOrder { order, position: appended.position });
        self.orders.cache(&reply);
        Ok(reply)
    }

    /// Handles a domain rejection: if the command is the retry of an accepted one, the first response is replayed. `None`: the order loaded on the
    /// connection `loaded_on` is stale, so nothing is refused.
    async fn replay_or_reject(
        &self,
        prepared: &PreparedCommand,
        current: Option<&VersionedOrder>,
        loaded_on: u64,
        refusal: AppError,
    ) -> Result<Option<CommandReply>, AppError> {
        let stream = StreamId(prepared.command.order_id.get());
        let connection = self.orders.connection();
        if let Some(key) = &prepared.key
            && let Some(appended) = self.store.find_request(stream, key).await?
        {
            return self.replay(prepared, connection, appended).await.map(Some);
        }
        let revision = current.map_or(0, |loaded| loaded.order.revision);
        if !self.store.confirms(stream, revision).await? || self.orders.connection() != loaded_on {
            return Ok(None);
        }
        self.store.confirm_connection(loaded_on).await?;
        Err(refusal)
    }

    /// The replayed response to a request, which has taken effect: an abandoned one is not reported as if it had none.
    async fn replay(
        &self,
        prepared: &PreparedCommand,
        connection: u64,
        first: Appended,
    ) -> Result<CommandReply, AppError> {
        self.replays.increment(1);
        let reply = Box::pin(self.first_reply(prepared, connection, first));
        let reply = self.unless_abandoned(reply).await;
        reply.unwrap_or_else(|| Err(AppError::OutcomeUnknown(ABANDONED.to_owned())))
    }

    /// The order as the commit of a request left it. `first` was found on `connection`, or after it.
    ///
    /// A known request whose events are missing is damage only where one connection shows both: between two, the store may have failed over to a log
    /// that has neither.
    async fn first_reply(
        &self,
        prepared: &PreparedCommand,
        connection: u64,
        first: Appended,
    ) -> Result<CommandReply, AppError> {
        let stream = StreamId(prepared.command.order_id.get());
        let (mut connection, mut first, mut suspected_on) = (connection, first, None);
        for _ in 0..MAX_LOADS {
            let id = OrderId::new(first.stream.0).map_err(|_| AppError::Corrupt("order id of a stream".into()))?;
            let known = (first.last_revision, first.position);
            let then = self.orders.fold_known(id, AsOf::Revision(first.last_revision), known).await?;
            let now = self.orders.connection();
            if now == connection {
                match then {
                    // The key of a customer has its customer id, so it leads to its own orders; the reply must not depend on that alone.
                    Some(loaded) if !prepared.scope.admits(&loaded.order.customer_id) => {
                        return Err(AppError::OrderNotFound(id));
                    }
                    Some(loaded) if loaded.order.revision == first.last_revision => return Ok(Arc::new(loaded)),
                    _ if suspected_on == Some(now) => {
                        return Err(AppError::Corrupt(format!("order {id} has lost its history")));
                    }
                    _ => suspected_on = Some(now),
                }
            }
            connection = now;
            let Some(key) = &prepared.key else { break };
            first = self.store.find_request(stream, key).await?.ok_or_else(|| {
                AppError::unavailable("the log that knew this request has been replaced by one that does not")
            })?;
        }
        Err(connection_unstable())
    }
}

/// A command with its idempotency key, prepared once and shared by all attempts.
struct PreparedCommand {
    key: Option<RequestKey>,
    command: OrderCommand,
    originator: Originator,
    /// The orders that it may change.
    scope: Scope,
}

impl PreparedCommand {
    fn commit(&self, before: Option<&VersionedOrder>, events: &[OrderEvent], request_id: Option<&RequestId>) -> Commit {
        let (last, expected) = before.map_or((0, ExpectedRevision::NoStream), |loaded| {
            let revision = loaded.order.revision;
            (revision, ExpectedRevision::After { revision, position: loaded.position })
        });
        let Originator { actor, on_behalf_of } = &self.originator;
        let (actor, on_behalf_of) = (actor.as_ref(), on_behalf_of.as_ref());
        let traceparent = traces::traceparent();
        let traceparent = traceparent.as_ref().map(Traceparent::as_str);
        let encoded = events.iter().zip(last + 1..).map(|(event, revision)| {
            codec::encode(event, Record { revision, request_id, actor, on_behalf_of, traceparent })
        });
        Commit {
            id: CommitId::random(),
            stream: StreamId(self.command.order_id.get()),
            expected,
            request: self.key.clone(),
            events: encoded.collect(),
        }
    }

    /// The events of the command on the order as it is in `current`. An order outside of the scope is refused as one that does not exist.
    fn decide(
        &self,
        current: Option<&VersionedOrder>,
        expected: Option<Revision>,
    ) -> Result<Vec<OrderEvent>, AppError> {
        let order = current.map(|loaded| &loaded.order);
        let order_id = self.command.order_id;
        if order.is_some_and(|order| !self.scope.admits(&order.customer_id)) {
            return Err(AppError::OrderNotFound(order_id));
        }
        let revision = order.map_or(0, |order| order.revision);
        let decided = decide(order, &self.command).map_err(|error| AppError::refused(order_id, revision, error));
        match expected {
            // A stale expected revision is reported first: the decision was based on an outdated order.
            Some(expected) if expected != revision && !matches!(decided, Err(AppError::OrderNotFound(_))) => {
                Err(AppError::RevisionConflict { order_id, expected, actual: revision })
            }
            _ => decided,
        }
    }
}

async fn pause(tries: u32) {
    let most = (100_u64 << tries.min(10)).min(MAX_CONFLICT_PAUSE_MICROS);
    // The first conflict costs a reload, which is enough of a pause.
    if tries > 0 {
        tokio::time::sleep(Duration::from_micros(fastrand::u64(0..=most))).await;
    }
}

/// The key under which the store records a request. A retry of [`Action::Create`] has a new order id, so its key has the scope of the whole log.
fn request_key(id: &RequestId, callers: &Scope, request: &OrderRequest) -> RequestKey {
    let scope = match request.action {
        Action::Create { .. } => RequestScope::Log,
        _ => RequestScope::Stream,
    };
    RequestKey { scope, id: stored_request_id(&request.caller, callers, id), fingerprint: request.fingerprint() }
}
