//! Runs queries: one order from the log, lists and counts from the read model.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    AppError, Consistency, Scope, VersionedOrder,
    admission::aside,
    order_repository::{AsOf, OrderRepository},
    permits::Permits,
    turns::Turns,
};
use crate::{
    domain::{ids::OrderId, order::Order},
    ports::{
        event_store::{EventStore, LogPoint, Position, StoreError},
        read_model::{ListQuery, Page, ReadModel, ReadModelError, Totals},
    },
    processors::projections::{ProjectionEnded, ProjectionProgress},
};

/// Runs queries.
#[derive(Debug)]
pub struct QueryHandler {
    store: Arc<dyn EventStore>,
    orders: Arc<OrderRepository>,
    read_model: Arc<dyn ReadModel>,
    progress: ProjectionProgress,
    permits: Arc<Permits>,
}

/// A query for one order.
#[derive(Clone, Debug)]
pub struct GetOrder {
    /// The order.
    pub order_id: OrderId,
    /// The moment of its history.
    pub until: AsOf,
    /// The required freshness.
    pub consistency: Consistency,
    /// The orders that the caller may see.
    pub scope: Scope,
}

/// A query for the current state of several orders.
#[derive(Clone, Debug)]
pub struct BatchGetOrders {
    /// The orders.
    pub order_ids: Vec<OrderId>,
    /// The size from which the reply would be refused: no more orders are read once they exceed it.
    pub max_bytes: usize,
    /// The turns to read many orders.
    pub turns: Turns,
    /// The required freshness.
    pub consistency: Consistency,
    /// The orders that the caller may see.
    pub scope: Scope,
}

/// A query for a page of the list of orders.
#[derive(Clone, Debug)]
pub struct ListOrders {
    /// The filter and the page.
    pub query: ListQuery,
    /// The required freshness.
    pub consistency: Consistency,
    /// The orders that the caller may see.
    pub scope: Scope,
}

/// A query for counts and revenue.
#[derive(Clone, Debug)]
pub struct GetOrderStats {
    /// The required freshness.
    pub consistency: Consistency,
    /// The orders that the caller may see, which are counted.
    pub scope: Scope,
}

/// A result from the read model, with the log position that it reflects.
#[derive(Clone, Debug)]
pub struct Projected<T> {
    /// The result.
    pub answer: T,
    /// The position up to which the read model had followed the log.
    pub position: Position,
}

fn reached(order: &VersionedOrder, until: AsOf) -> bool {
    !matches!(until, AsOf::Revision(wanted) if order.order.revision < wanted)
}

/// The maximum wait of a query for freshness; the deadline of the call may end it earlier.
const MAX_FRESHNESS_WAIT: Duration = Duration::from_secs(20);
/// The maximum wait when the store does not report the end of the log, so that the position may not exist.
const MAX_UNCERTAIN_WAIT: Duration = Duration::from_secs(1);
/// The poll interval for the end of the log, if no append is signalled.
const HEAD_POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How many orders of one query are loaded concurrently.
const LOADS_AT_ONCE: usize = 16;
/// How often a query reads again because the node has reconnected to the store in the meantime.
const MAX_READS: usize = 4;

/// The least bytes that an item takes in a reply beside its texts: the headers of its fields, its quantity, and the currency of a price of zero.
const LEAST_ITEM_BYTES: usize = 13;

/// A bound below the size of `order` in any reply.
fn least_bytes(order: &Order) -> usize {
    order.items.lines().len() * LEAST_ITEM_BYTES + order.text_lengths().sum::<usize>()
}

impl QueryHandler {
    /// A handler that folds orders from `store` and lists from `read_model`. Waiting queries use `permits`.
    #[must_use]
    pub fn new(
        store: Arc<dyn EventStore>,
        orders: Arc<OrderRepository>,
        read_model: Arc<dyn ReadModel>,
        progress: ProjectionProgress,
        permits: Arc<Permits>,
    ) -> Self {
        Self { store, orders, read_model, progress, permits }
    }

    pub(super) async fn get_order(&self, query: GetOrder) -> Result<Arc<VersionedOrder>, AppError> {
        let GetOrder { order_id, until, consistency, ref scope } = query;
        let read = || async move {
            self.require_log()?;
            aside(self.check_reachable(consistency)).await?;
            match until {
                AsOf::Latest => {
                    self.current(order_id, scope, consistency).await?.ok_or(AppError::OrderNotFound(order_id))
                }
                then => self.then(order_id, then, scope, consistency).await,
            }
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn batch_get_orders(
        &self,
        query: BatchGetOrders,
    ) -> Result<Vec<Option<Arc<VersionedOrder>>>, AppError> {
        let BatchGetOrders { order_ids, max_bytes, turns, consistency, scope } = &query;
        let (consistency, max_bytes) = (*consistency, *max_bytes);
        let read = || async move {
            self.require_log()?;
            aside(self.check_reachable(consistency)).await?;
            // One confirmation covers all of them.
            let consistency = match consistency {
                Consistency::Strong => Consistency::AtLeast(aside(self.store.confirmed()).await?),
                other => other,
            };
            // Not before: what may take long has been waited for.
            let _turn = turns.wait().await;
            // However often an order is named, it is read once.
            let distinct: HashSet<OrderId> = order_ids.iter().copied().collect();
            let load = |id: OrderId| async move {
                let loaded = self.current(id, scope, consistency).await;
                loaded.map(|loaded| (id, loaded))
            };
            let loads: Vec<_> = distinct.into_iter().map(load).collect();
            let mut loads = pin!(stream::iter(loads).buffer_unordered(LOADS_AT_ONCE));
            let (mut found, mut bytes) = (HashMap::new(), 0);
            while let Some((id, loaded)) = loads.try_next().await? {
                bytes += loaded.as_ref().map_or(0, |loaded| least_bytes(&loaded.order));
                if bytes > max_bytes {
                    return Err(AppError::ReplyTooLarge { max_bytes });
                }
                found.insert(id, loaded);
            }
            Ok(order_ids.iter().map(|id| found.get(id).cloned().flatten()).collect())
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn list_orders(&self, query: ListOrders) -> Result<Projected<Page>, AppError> {
        let ListOrders { mut query, consistency, scope } = query;
        query.filter.customer = scope.narrow(query.filter.customer)?;
        let query = &query;
        let read = || async move {
            aside(self.await_projection(consistency)).await?;
            let position = self.progress.position();
            Ok(Projected { answer: self.noted(self.read_model.list(query).await)?, position })
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn get_order_stats(&self, query: GetOrderStats) -> Result<Projected<Vec<Totals>>, AppError> {
        let consistency = query.consistency;
        let customer = query.scope.narrow(None)?;
        let customer = customer.as_ref();
        let read = || async move {
            aside(self.await_projection(consistency)).await?;
            let position = self.progress.position();
            let answer = match customer {
                None => self.noted(self.read_model.totals().await)?,
                Some(customer) => self.noted(self.read_model.customer_totals(customer).await)?,
            };
            Ok(Projected { answer, position })
        };
        self.confirmed(consistency, read).await
    }

    pub(super) fn publish_gauges(&self) {
        self.orders.publish_gauges();
    }

    /// The result of `read`, success or refusal, once the store has confirmed that it was read from the server to which all nodes write. An eventual
    /// read is returned without confirmation.
    async fn confirmed<T, R>(&self, consistency: Consistency, read: impl Fn() -> R) -> Result<T, AppError>
    where
        R: Future<Output = Result<T, AppError>>,
    {
        if consistency == Consistency::Eventual {
            return read().await;
        }
        let mut tries = 0;
        loop {
            let connection = self.orders.connection();
            let found = read().await;
            if found.as_ref().is_err_and(|error| !error.is_claim()) {
                return found;
            }
            tries += 1;
            match aside(self.store.confirm_connection(connection)).await {
                Ok(()) => return found,
                Err(why) if self.orders.connection() == connection || tries == MAX_READS => return Err(why.into()),
                Err(_) => {}
            }
        }
    }

    /// The current order if it is within `scope`: from the cache, unless a greater freshness is required.
    async fn current(
        &self,
        id: OrderId,
        scope: &Scope,
        consistency: Consistency,
    ) -> Result<Option<Arc<VersionedOrder>>, AppError> {
        let is_within = |found: &Arc<VersionedOrder>| scope.admits(&found.order.customer_id);
        // An order outside of the scope is looked up in the log like one that does not exist: the reply takes as long.
        if consistency == Consistency::Eventual
            && let Some(cached) = self.orders.cached(id).filter(is_within)
        {
            return Ok(Some(cached));
        }
        let found = match consistency {
            Consistency::Eventual => self.orders.load(id).await,
            Consistency::AtLeast(position) => self.orders.load_with(id, position).await,
            Consistency::Strong => self.orders.load_confirmed(id).await,
        };
        Ok(found?.filter(is_within))
    }

    /// The order within `scope` as it was at a moment of its history.
    async fn then(
        &self,
        id: OrderId,
        then: AsOf,
        scope: &Scope,
        consistency: Consistency,
    ) -> Result<Arc<VersionedOrder>, AppError> {
        // The customer of an order never changes.
        let is_within = |order: &VersionedOrder| scope.admits(&order.order.customer_id);
        let mut order = self.orders.fold(id, then).await?.filter(is_within);
        // An existing revision never changes. Any other result may lack later events.
        let is_settled = |order: &VersionedOrder| matches!(then, AsOf::Revision(_)) && reached(order, then);
        let mut exists = order.is_some();
        let is_enough = match consistency {
            Consistency::Eventual => order.is_some(),
            _ => order.as_ref().is_some_and(is_settled),
        };
        if !is_enough {
            let current = self.current(id, scope, consistency).await?;
            exists |= current.is_some();
            if let Some(current) = current.filter(|_| consistency != Consistency::Eventual) {
                let folded = self.orders.fold_known(id, then, (current.order.revision, current.position)).await?;
                order = folded.filter(is_within);
            }
        }
        match order {
            Some(order) if reached(&order, then) => Ok(Arc::new(order)),
            _ if exists => Err(AppError::NotYetThen(id)),
            _ => Err(AppError::OrderNotFound(id)),
        }
    }

    /// If the token is ahead of the log as this node reads it, waits until the log catches up. A token beyond the confirmed end does not belong to
    /// the current log.
    async fn check_reachable(&self, consistency: Consistency) -> Result<(), AppError> {
        let Consistency::AtLeast(wanted) = consistency else {
            return Ok(());
        };
        LogPoint::from(wanted).verify(&*self.store).await?;
        let mut wake = self.store.wake();
        let reached = async {
            while self.store.head().await? < wanted {
                // A server that is behind may be replaced by a current one without an append.
                if let Ok(Err(_)) = tokio::time::timeout(HEAD_POLL_INTERVAL, wake.changed()).await {
                    return Err(AppError::NotFreshInTime(wanted));
                }
            }
            Ok(())
        };
        let reached = tokio::time::timeout(MAX_FRESHNESS_WAIT, reached);
        self.permits.wait(reached).await?.unwrap_or(Err(AppError::NotFreshInTime(wanted)))
    }

    /// Refuses a query while the log is not in its store: cached orders and the rows of the list come from a log that may never return.
    fn require_log(&self) -> Result<(), AppError> {
        let loss = self.store.log_loss();
        loss.borrow().as_ref().map_or(Ok(()), |loss| Err(AppError::unavailable(loss)))
    }

    /// Reports damage found by a read to `/health`.
    fn noted<T>(&self, read: Result<T, ReadModelError>) -> Result<T, ReadModelError> {
        if let Err(error @ ReadModelError::Corrupt(_)) = &read {
            self.progress.note_unreadable(&error.to_string());
        }
        read
    }

    /// Waits until the read model has the required freshness, and matches the current log.
    async fn await_projection(&self, consistency: Consistency) -> Result<(), AppError> {
        self.require_log()?;
        // What was projected before the damage is not the current state of the orders.
        self.progress.damage().map_or(Ok(()), |what| Err(AppError::Corrupt(what)))?;
        let connection = self.orders.connection();
        let (wanted, longest) = match consistency {
            Consistency::Eventual => return Ok(()),
            Consistency::AtLeast(position) if self.progress.position() >= position => (position, MAX_FRESHNESS_WAIT),
            Consistency::AtLeast(position) => {
                // If the position cannot be verified now, waits a moment; if it can never exist, fails.
                match LogPoint::from(position).verify(&*self.store).await {
                    Ok(()) => (position, MAX_FRESHNESS_WAIT),
                    Err(gone @ StoreError::LogReplaced(_)) => return Err(gone.into()),
                    Err(_) => (position, MAX_UNCERTAIN_WAIT),
                }
            }
            Consistency::Strong => (self.store.confirmed_head().await?, MAX_FRESHNESS_WAIT),
        };
        let fresh = async {
            self.progress.found_on(connection).await?;
            self.progress.reached(wanted).await
        };
        let fresh = async {
            tokio::select! {
                fresh = fresh => fresh.map_err(|ProjectionEnded| AppError::NotFreshInTime(wanted)),
                what = self.progress.damaged() => Err(AppError::Corrupt(what)),
            }
        };
        match self.permits.wait(tokio::time::timeout(longest, fresh)).await? {
            Ok(fresh) => fresh,
            Err(_) => Err(AppError::NotFreshInTime(wanted)),
        }
    }
}
