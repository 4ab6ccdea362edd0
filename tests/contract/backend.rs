//! A backend as the suites see it, and how a test runs on all of them.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use ordersystem::{
    backends::{
        REGISTRY,
        descriptor::{Descriptor, Opened, Parts},
    },
    config::{Config, FlagValues},
    ports::{
        checkpoint_store::CheckpointStore,
        event_store::EventStore,
        lease_store::LeaseStore,
        message_bus::{CloudEventAttributes, Message, MessageBus},
        read_model::ReadModel,
    },
};

use crate::embedded::kept_folder;

/// The clock of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Tokio's: waiting takes no real time.
    Simulated,
    /// A broker's: waiting takes real time.
    Real,
}

/// One implementation of the trait `T`.
pub struct Backend<T: ?Sized + 'static> {
    pub name: &'static str,
    pub time: Time,
    /// Opens an empty one.
    pub open: fn() -> BoxFuture<'static, Arc<T>>,
}

/// A trait with a suite, and where the descriptor of a backend has its implementation.
pub trait Port: 'static {
    /// Whether the backend implements it.
    fn is_in(backend: &Descriptor) -> bool;
    fn of(opened: Opened) -> Option<Arc<Self>>;
}

impl Port for dyn EventStore {
    fn is_in(backend: &Descriptor) -> bool {
        backend.persistence.is_some()
    }
    fn of(opened: Opened) -> Option<Arc<Self>> {
        opened.log.map(|log| log.store)
    }
}

impl Port for dyn LeaseStore {
    fn is_in(backend: &Descriptor) -> bool {
        backend.persistence.is_some()
    }
    fn of(opened: Opened) -> Option<Arc<Self>> {
        opened.log.map(|log| log.leases)
    }
}

impl Port for dyn CheckpointStore {
    fn is_in(backend: &Descriptor) -> bool {
        backend.persistence.is_some()
    }
    fn of(opened: Opened) -> Option<Arc<Self>> {
        opened.log.map(|log| log.checkpoints)
    }
}

impl Port for dyn MessageBus {
    fn is_in(backend: &Descriptor) -> bool {
        backend.transport.is_some()
    }
    fn of(opened: Opened) -> Option<Arc<Self>> {
        opened.bus.map(|bus| bus.bus)
    }
}

impl Port for dyn ReadModel {
    fn is_in(backend: &Descriptor) -> bool {
        backend.persistence.is_some() && backend.needs_data_dir
    }
    fn of(opened: Opened) -> Option<Arc<Self>> {
        opened.log.and_then(|log| log.read_model)
    }
}

/// The backends of a suite: those that it opens itself, since they need a server, and every other of the registry, as a node opens it.
fn all<'a, T: Port + ?Sized>(own: impl IntoIterator<Item = &'a Backend<T>>) -> Vec<Opening<'a, T>> {
    let own: Vec<_> = own.into_iter().map(Opening::of).collect();
    let others = REGISTRY.iter().filter(|other| T::is_in(other) && own.iter().all(|own| own.name != other.name));
    let others = others.map(|&other| Opening { name: other.name, time: Time::Real, how: How::Registered(other) });
    let others: Vec<_> = others.collect();
    own.into_iter().chain(others).collect()
}

/// How a test opens a backend.
struct Opening<'a, T: ?Sized + 'static> {
    name: &'static str,
    time: Time,
    how: How<'a, T>,
}

enum How<'a, T: ?Sized + 'static> {
    Own(&'a Backend<T>),
    Registered(&'static Descriptor),
}

impl<'a, T: Port + ?Sized> Opening<'a, T> {
    fn of(own: &'a Backend<T>) -> Self {
        Self { name: own.name, time: own.time, how: How::Own(own) }
    }

    async fn open(&self) -> Arc<T> {
        match self.how {
            How::Own(own) => (own.open)().await,
            How::Registered(backend) => T::of(opened(backend).await).expect("what its descriptor says"),
        }
    }
}

/// A backend as a node with a new data folder opens it.
async fn opened(backend: &Descriptor) -> Opened {
    let folder = kept_folder();
    let flags = FlagValues { config_file: None, values: vec![("data-dir", folder.clone().into())] };
    let config = Config::load(&flags, []).expect("the defaults");
    let configured = config.backends.iter().find(|configured| configured.descriptor == backend).expect("registered");
    let bus: fn(&Message) -> CloudEventAttributes = |_| CloudEventAttributes::default();
    let parts = Parts { log: true, bus: Some(bus), cache: false, data_dir: Some(&folder) };
    configured.backend.open(parts).await.expect("opens")
}

/// Runs `test` on each backend in turn, on one thread, and with simulated time where the backend supports it.
pub fn on_each<'a, T: Port + ?Sized, F: Future<Output = ()>>(
    backends: impl IntoIterator<Item = &'a Backend<T>>,
    test: impl Fn(Arc<T>) -> F,
) {
    run(all(backends), test);
}

/// The same on these backends only.
pub fn only_on<'a, T: Port + ?Sized, F: Future<Output = ()>>(
    backends: impl IntoIterator<Item = &'a Backend<T>>,
    test: impl Fn(Arc<T>) -> F,
) {
    run(backends.into_iter().map(Opening::of).collect(), test);
}

fn run<T: Port + ?Sized, F: Future<Output = ()>>(backends: Vec<Opening<'_, T>>, test: impl Fn(Arc<T>) -> F) {
    for backend in backends {
        println!("backend: {}", backend.name);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(backend.time == Time::Simulated)
            .build()
            .unwrap();
        runtime.block_on(async { test(backend.open().await).await });
    }
}

/// Runs `test` on each backend in turn, on several threads and in real time: for races.
pub fn race_on_each<T: Port + ?Sized, F: Future<Output = ()>>(backends: &[Backend<T>], test: impl Fn(Arc<T>) -> F) {
    for backend in all(backends) {
        println!("backend: {}", backend.name);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        runtime.block_on(async {
            let test = test(backend.open().await);
            tokio::time::timeout(Duration::from_secs(600), test).await.expect("a race test hangs");
        });
    }
}
