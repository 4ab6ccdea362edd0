//! Backends that fail on demand, around those in memory.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use ordersystem::{
    node::Backends,
    ports::{
        event_store::{
            AppendError, Appended, Commit, Direction, EventStore, LogId, Position, Revision, StoreError, StoredEvent,
            StreamId, TokenKey,
        },
        message_bus::{BusError, MessageBus},
    },
};
use tokio::sync::watch;

use crate::support::intercepted::{BusCall, BusHooks, Intercepted, StoreCall, StoreHooks};

/// The behaviour of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Works,
    /// Does not answer until it works again.
    Hangs,
    Unavailable,
    Corrupt,
    Panics,
}

/// A switch for one kind of operation.
#[derive(Debug)]
pub struct Switch(watch::Sender<Mode>);

impl Switch {
    fn new() -> Self {
        Self(watch::channel(Mode::Works).0)
    }

    pub fn set(&self, mode: Mode) {
        self.0.send_replace(mode);
    }

    /// The number of calls that wait because of [`Mode::Hangs`].
    pub fn waiting(&self) -> usize {
        self.0.receiver_count()
    }

    async fn pass(&self) -> Result<(), StoreError> {
        let mode = *self.0.subscribe().wait_for(|mode| *mode != Mode::Hangs).await.expect("the switch lives");
        match mode {
            Mode::Works | Mode::Hangs => Ok(()),
            Mode::Unavailable => Err(StoreError::Unavailable("the secret address 10.0.0.7 is down".to_owned())),
            Mode::Corrupt => Err(StoreError::Corrupt("the secret file is damaged".to_owned())),
            Mode::Panics => panic!("injected"),
        }
    }
}

/// The outcome of appends, besides the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendAnswer {
    Honest,
    /// Writes, and then reports an unknown outcome.
    OutcomeUnknown,
    Full,
    /// Reports that the order exists already, whatever its id.
    Taken,
}

/// The part of the acknowledged events that a read of an order returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// All of them.
    No,
    /// The events up to this position, for this many reads.
    At(Position, u32),
}

type Happening = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// Something that happens between the store's look at the end of its log and its answer.
#[derive(Default)]
pub struct Meanwhile(Mutex<Option<Arc<Happening>>>);

impl Meanwhile {
    pub fn set(&self, what: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static) {
        *self.0.lock().expect("no panic") = Some(Arc::new(what));
    }

    async fn pass(&self) {
        let what = self.0.lock().expect("no panic").clone();
        if let Some(what) = what {
            what().await;
        }
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// An event store that fails on demand.
pub type FaultyStore = Intercepted<StoreFaults>;

#[derive(Debug)]
pub struct StoreFaults {
    inner: Arc<dyn EventStore>,
    pub appends: Switch,
    /// Reads of one order.
    pub reads: Switch,
    /// Reads of the log, its head, and the store's own check.
    pub log: Switch,
    /// Reads of the log only.
    pub batches: Switch,
    /// Whether reads are confirmed.
    pub confirms: Switch,
    pub answer: watch::Sender<AppendAnswer>,
    /// Whether the store knows the id of its log: the store of a broker does not before it has connected.
    pub is_known: AtomicBool,
    /// Whether reads of orders are answered by a server that has been deposed and does not know it.
    pub behind: watch::Sender<Behind>,
    /// Appends that wait in the switch or behind it.
    pub appending: watch::Sender<usize>,
    /// How often the store has been checked.
    pub checks: AtomicUsize,
    /// Something that happens while the end of the log is on its way to the caller.
    pub while_head_is_read: Meanwhile,
}

impl FaultyStore {
    /// Backends in memory with this store in front, which works unless told otherwise.
    pub fn backends() -> (Backends, Arc<Self>) {
        let mut backends = Backends::memory();
        let store = Arc::new(Intercepted(StoreFaults {
            inner: Arc::clone(&backends.store),
            appends: Switch::new(),
            reads: Switch::new(),
            log: Switch::new(),
            batches: Switch::new(),
            confirms: Switch::new(),
            answer: watch::channel(AppendAnswer::Honest).0,
            is_known: AtomicBool::new(true),
            behind: watch::channel(Behind::No).0,
            appending: watch::channel(0).0,
            checks: AtomicUsize::new(0),
            while_head_is_read: Meanwhile::default(),
        }));
        backends.store = Arc::<Self>::clone(&store);
        (backends, store)
    }
}

impl StoreFaults {
    /// The store behind it, which never fails.
    pub fn real(&self) -> Arc<dyn EventStore> {
        Arc::clone(&self.inner)
    }
}

/// Counts an append for as long as it lasts, however it ends.
struct Appending<'a>(&'a watch::Sender<usize>);

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[async_trait]
impl StoreHooks for StoreFaults {
    fn inner(&self) -> &dyn EventStore {
        &*self.inner
    }

    async fn before(&self, call: StoreCall) -> Result<(), StoreError> {
        match call {
            StoreCall::Append | StoreCall::FindRequest => Ok(()),
            StoreCall::ReadStream => self.reads.pass().await,
            StoreCall::ReadLog => {
                self.log.pass().await?;
                self.batches.pass().await
            }
            StoreCall::ReadCommits | StoreCall::Head => self.log.pass().await,
            StoreCall::Check => {
                self.checks.fetch_add(1, Ordering::SeqCst);
                self.log.pass().await
            }
            StoreCall::ConfirmConnection => self.confirms.pass().await,
        }
    }

    fn log_id(&self) -> Option<LogId> {
        self.is_known.load(Ordering::SeqCst).then(|| self.inner.log_id()).flatten()
    }

    fn token_key(&self) -> Option<TokenKey> {
        self.is_known.load(Ordering::SeqCst).then(|| self.inner.token_key()).flatten()
    }

    async fn append(&self, commit: Commit) -> Result<Appended, AppendError> {
        self.appending.send_modify(|count| *count += 1);
        let _counted = Appending(&self.appending);
        self.appends.pass().await?;
        let answer = *self.answer.borrow();
        match answer {
            AppendAnswer::Honest => self.inner.append(commit).await,
            AppendAnswer::Full => Err(AppendError::Full("the secret disk is full".to_owned())),
            AppendAnswer::Taken => Err(AppendError::Conflict { actual: 1 }),
            AppendAnswer::OutcomeUnknown => {
                self.inner.append(commit).await?;
                Err(AppendError::OutcomeUnknown("the secret broker timed out".to_owned()))
            }
        }
    }

    async fn read_stream(
        &self,
        stream: StreamId,
        from: Revision,
        direction: Direction,
        max_events: usize,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let mut shown = Position(u64::MAX);
        self.behind.send_modify(|behind| {
            if let Behind::At(position, reads) = *behind {
                shown = position;
                *behind = if reads > 1 { Behind::At(position, reads - 1) } else { Behind::No };
            }
        });
        let mut events = self.inner.read_stream(stream, Revision::MAX, Direction::Backward, usize::MAX).await?;
        events.retain(|event| event.position <= shown);
        match direction {
            Direction::Forward => {
                events.reverse();
                events.retain(|event| event.revision >= from);
            }
            Direction::Backward => events.retain(|event| event.revision <= from),
        }
        events.truncate(max_events);
        Ok(events)
    }

    async fn confirmed(&self) -> Result<Position, StoreError> {
        self.inner.head().await
    }

    /// Like a store with replicas, which asks a quorum.
    async fn contains(&self, stream: StreamId, revision: Revision, position: Position) -> Result<bool, StoreError> {
        let events = self.inner.read_stream(stream, Revision::MAX, Direction::Backward, usize::MAX).await?;
        let newest = events.iter().find(|event| event.position <= position);
        Ok(newest.is_none_or(|newest| newest.revision <= revision))
    }

    async fn head(&self) -> Result<Position, StoreError> {
        let head = self.inner.head().await;
        self.while_head_is_read.pass().await;
        head
    }
}

/// A message bus that fails on demand.
pub type FaultyBus = Intercepted<BusFaults>;

#[derive(Debug)]
pub struct BusFaults {
    inner: Arc<dyn MessageBus>,
    pub publishing: Switch,
    pub check: Switch,
}

impl FaultyBus {
    /// Backends in memory with this bus in front, which works unless told otherwise.
    pub fn backends() -> (Backends, Arc<Self>) {
        let mut backends = Backends::memory();
        let inner = Arc::clone(&backends.bus);
        let bus = Arc::new(Intercepted(BusFaults { inner, publishing: Switch::new(), check: Switch::new() }));
        backends.bus = Arc::<Self>::clone(&bus);
        (backends, bus)
    }
}

#[async_trait]
impl BusHooks for BusFaults {
    fn inner(&self) -> &dyn MessageBus {
        &*self.inner
    }

    async fn before(&self, call: BusCall) -> Result<(), BusError> {
        let passed = match call {
            BusCall::Publish => self.publishing.pass().await,
            BusCall::Check => self.check.pass().await,
            BusCall::Consumer => Ok(()),
        };
        passed.map_err(|error| BusError::Unavailable(error.to_string()))
    }
}
