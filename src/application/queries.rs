//! Answers queries: one order from the log, lists and counts from the read model.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{
    AppError, Consistency, VersionedOrder,
    admission::aside,
    order_repository::{AsOf, OrderRepository},
    permits::Permits,
};
use crate::{
    domain::ids::OrderId,
    ports::{
        event_store::{EventStore, LogPoint, Position, StoreError},
        read_model::{ListQuery, Page, ReadModel, Totals},
    },
    processors::projections::{ProjectionEnded, ProjectionProgress},
};

/// Answers queries.
#[derive(Debug)]
pub struct QueryHandler {
    store: Arc<dyn EventStore>,
    orders: Arc<OrderRepository>,
    read_model: Arc<dyn ReadModel>,
    progress: ProjectionProgress,
    permits: Arc<Permits>,
}

/// Asks for one order.
#[derive(Clone, Copy, Debug)]
pub struct GetOrder {
    /// The order.
    pub order_id: OrderId,
    /// Which moment of its history.
    pub until: AsOf,
    /// How fresh.
    pub consistency: Consistency,
}

/// Asks for several orders as they are now.
#[derive(Clone, Debug)]
pub struct BatchGetOrders {
    /// The orders.
    pub order_ids: Vec<OrderId>,
    /// How fresh.
    pub consistency: Consistency,
}

/// Asks for a page of the list of orders.
#[derive(Clone, Debug)]
pub struct ListOrders {
    /// Which page of what.
    pub query: ListQuery,
    /// How fresh.
    pub consistency: Consistency,
}

/// Asks for counts and revenue.
#[derive(Clone, Copy, Debug)]
pub struct GetOrderStats {
    /// How fresh.
    pub consistency: Consistency,
}

/// An answer from the read model, with the position of the log that it reflects.
#[derive(Clone, Debug)]
pub struct Projected<T> {
    /// The answer.
    pub answer: T,
    /// How far the read model had followed the log.
    pub position: Position,
}

fn reached(order: &VersionedOrder, until: AsOf) -> bool {
    !matches!(until, AsOf::Revision(wanted) if order.order.revision < wanted)
}

/// How long a query waits for freshness at the most; the deadline of the call ends the wait earlier.
const MAX_FRESHNESS_WAIT: Duration = Duration::from_secs(20);
/// The same where it cannot be told whether there is such a position: the store does not say where the log ends.
const MAX_UNCERTAIN_WAIT: Duration = Duration::from_secs(1);
/// How soon the end of the log is looked at again by who waits for it, if nothing has been heard of it.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// So many orders of one query are loaded at once.
const LOADS_AT_ONCE: usize = 16;
/// How often a query reads again because the node has connected to the store again meanwhile.
const MAX_READS: usize = 4;

impl QueryHandler {
    /// A handler that folds orders from `store` and lists from `read_model`. What has to wait for them has one of `permits`.
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
        let GetOrder { order_id, until, consistency } = query;
        let read = || async move {
            aside(self.check_reachable(consistency)).await?;
            match until {
                AsOf::Latest => self.current(order_id, consistency).await?.ok_or(AppError::OrderNotFound(order_id)),
                then => self.then(order_id, then, consistency).await,
            }
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn batch_get_orders(
        &self,
        query: BatchGetOrders,
    ) -> Result<Vec<Option<Arc<VersionedOrder>>>, AppError> {
        let (order_ids, consistency) = (&query.order_ids, query.consistency);
        let read = || async move {
            aside(self.check_reachable(consistency)).await?;
            // One confirmation serves all of them.
            let consistency = match consistency {
                Consistency::Strong => Consistency::AtLeast(aside(self.store.confirmed()).await?),
                other => other,
            };
            let loads: Vec<_> = order_ids.iter().map(|id| self.current(*id, consistency)).collect();
            stream::iter(loads).buffered(LOADS_AT_ONCE).try_collect().await
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn list_orders(&self, query: ListOrders) -> Result<Projected<Page>, AppError> {
        let (query, consistency) = (&query.query, query.consistency);
        let read = || async move {
            aside(self.await_projection(consistency)).await?;
            let position = self.progress.position();
            Ok(Projected { answer: self.read_model.list(query).await?, position })
        };
        self.confirmed(consistency, read).await
    }

    pub(super) async fn get_order_stats(&self, query: GetOrderStats) -> Result<Projected<Vec<Totals>>, AppError> {
        let consistency = query.consistency;
        let read = || async move {
            aside(self.await_projection(consistency)).await?;
            let position = self.progress.position();
            Ok(Projected { answer: self.read_model.totals().await?, position })
        };
        self.confirmed(consistency, read).await
    }

    pub(super) fn publish_gauges(&self) {
        self.orders.publish_gauges();
    }

    /// What `read` answers, or refuses, once the store has confirmed that this was read where all nodes write. An eventual read needs no more than
    /// that it was there.
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

    /// The order as it is now: from the cache unless that has to be fresher than the cache can promise.
    async fn current(&self, id: OrderId, consistency: Consistency) -> Result<Option<Arc<VersionedOrder>>, AppError> {
        if consistency == Consistency::Eventual
            && let Some(cached) = self.orders.cached(id)
        {
            return Ok(Some(cached));
        }
        match consistency {
            Consistency::Eventual => self.orders.load(id).await,
            Consistency::AtLeast(position) => self.orders.load_with(id, position).await,
            Consistency::Strong => self.orders.load_confirmed(id).await,
        }
    }

    /// The order as it was at a moment of its history.
    async fn then(&self, id: OrderId, then: AsOf, consistency: Consistency) -> Result<Arc<VersionedOrder>, AppError> {
        let mut order = self.orders.fold(id, then).await?;
        // A revision stays what it is. Whatever else was found may be for want of later events.
        let is_settled = |order: &VersionedOrder| matches!(then, AsOf::Revision(_)) && reached(order, then);
        let mut exists = order.is_some();
        let is_enough = match consistency {
            Consistency::Eventual => order.is_some(),
            _ => order.as_ref().is_some_and(is_settled),
        };
        if !is_enough {
            let current = self.current(id, consistency).await?;
            exists |= current.is_some();
            if let Some(current) = current.filter(|_| consistency != Consistency::Eventual) {
                order = self.orders.fold_known(id, then, (current.order.revision, current.position)).await?;
            }
        }
        match order {
            Some(order) if reached(&order, then) => Ok(Arc::new(order)),
            _ if exists => Err(AppError::RevisionNotReached(id)),
            _ => Err(AppError::OrderNotFound(id)),
        }
    }

    /// Waits until what this node is shown of the log has got to a token. A token from beyond what all who decide have confirmed is none of this
    /// log as it is now.
    async fn check_reachable(&self, consistency: Consistency) -> Result<(), AppError> {
        let Consistency::AtLeast(wanted) = consistency else {
            return Ok(());
        };
        LogPoint::from(wanted).verify(&*self.store).await?;
        let mut wake = self.store.wake();
        let reached = async {
            while self.store.head().await? < wanted {
                // A server that is behind may be followed by one that is not, with nothing appended.
                if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, wake.changed()).await {
                    return Err(AppError::ConsistencyTimeout(wanted));
                }
            }
            Ok(())
        };
        let reached = tokio::time::timeout(MAX_FRESHNESS_WAIT, reached);
        self.permits.wait(reached).await?.unwrap_or(Err(AppError::ConsistencyTimeout(wanted)))
    }

    /// Waits until the read model is as fresh as wanted, and of the log as it is now.
    async fn await_projection(&self, consistency: Consistency) -> Result<(), AppError> {
        let connection = self.orders.connection();
        let (wanted, longest) = match consistency {
            Consistency::Eventual => return Ok(()),
            Consistency::AtLeast(position) if self.progress.position() >= position => (position, MAX_FRESHNESS_WAIT),
            Consistency::AtLeast(position) => {
                // What cannot be told now is waited for a moment; what can never come is not.
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
        match self.permits.wait(tokio::time::timeout(longest, fresh)).await? {
            Ok(Ok(())) => Ok(()),
            Ok(Err(ProjectionEnded)) | Err(_) => Err(AppError::ConsistencyTimeout(wanted)),
        }
    }
}
