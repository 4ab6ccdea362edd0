//! The self-description of a backend: its name, its settings, and how it opens its parts.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::{
    ports::{
        checkpoint_store::CheckpointStore,
        event_store::EventStore,
        lease_store::LeaseStore,
        message_bus::{CloudEventAttributes, Message, MessageBus},
        order_cache::OrderCache,
        read_model::{ReadModel, StoredRows},
    },
    settings::{ConfigError, ServerUrl, Setting, UrlForm, Values},
};

/// How long a tool waits for a broker: longer than a node, which has clients waiting.
pub const TOOL_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a backend cannot be opened; one line for humans.
pub type OpenError = Box<dyn std::error::Error + Send + Sync>;

/// The opened parts, or why they cannot be opened.
pub type OpenResult<T> = Result<T, OpenError>;

/// A backend. Everything that must know which backends there are derives from these.
pub struct Descriptor {
    /// Its name, as in `--persistence` and `--transport`.
    pub name: &'static str,
    /// Its name in sentences, and the section of its settings.
    pub title: &'static str,
    /// Where it keeps the log, for the README; `None` if it is not an event store.
    pub persistence: Option<&'static str>,
    /// Where it publishes, for the README; `None` if it is not a message bus.
    pub transport: Option<&'static str>,
    /// The durability of an acknowledged command, for the README.
    pub durability: &'static str,
    /// Whether nodes can share it.
    pub is_shared: bool,
    /// Whether its log is in the data folder of the node.
    pub needs_data_dir: bool,
    /// Its settings.
    pub settings: &'static [Setting],
    /// Reads its settings.
    pub configure: fn(&Values) -> Result<Arc<dyn Backend>, ConfigError>,
    /// How the tools for whole logs find and open its log; `None` if it does not outlive the process.
    pub log_tools: Option<LogTools>,
}

impl fmt::Debug for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Descriptor {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Descriptor {}

/// A backend with its settings.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// The address of its server, for humans; `None` if it needs none.
    fn server(&self) -> Option<String> {
        None
    }

    /// Whether it caches the state of orders for all nodes of the log.
    fn is_cache(&self) -> bool {
        false
    }

    /// Opens the parts that a node needs, over one connection.
    ///
    /// # Errors
    /// One line, if an operator must act. An unreachable server is not an error: the backend connects to it later.
    async fn open(&self, parts: Parts<'_>) -> Result<Opened, OpenError>;
}

/// The parts of a backend that a node needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts<'a> {
    /// The log, with the data that is stored beside it.
    pub log: bool,
    /// The message bus, with the metadata that it publishes.
    pub bus: Option<fn(&Message) -> CloudEventAttributes>,
    /// The shared cache.
    pub cache: bool,
    /// The data folder of the node.
    pub data_dir: Option<&'a Path>,
}

impl Parts<'_> {
    /// Whether any part is needed.
    #[must_use]
    pub const fn is_any(&self) -> bool {
        self.log || self.bus.is_some() || self.cache
    }
}

/// The opened parts.
#[derive(Default)]
pub struct Opened {
    /// The log.
    pub log: Option<LogParts>,
    /// The message bus.
    pub bus: Option<BusParts>,
    /// The shared cache.
    pub cache: Option<Arc<dyn OrderCache>>,
    /// Waits until its server has responded for the first time, or is known to be unreachable; fails for one that needs an operator's action.
    pub arrival: Option<BoxFuture<'static, OpenResult<()>>>,
}

/// The log and the data that is stored beside it.
#[derive(Clone, Debug)]
pub struct LogParts {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// Leases for single-owner work.
    pub leases: Arc<dyn LeaseStore>,
    /// Checkpoints of log followers.
    pub checkpoints: Arc<dyn CheckpointStore>,
    /// The read model, if it is stored beside the log.
    pub read_model: Option<Arc<dyn ReadModel>>,
}

/// The message bus, and the leases of its handlers.
#[derive(Clone, Debug)]
pub struct BusParts {
    /// The bus.
    pub bus: Arc<dyn MessageBus>,
    /// Leases for handlers, shared by all nodes of the bus.
    pub leases: Arc<dyn LeaseStore>,
}

/// How `copy` and `verify` find and open a log of the backend.
pub enum LogTools {
    /// In a folder: `NAME:DIR`.
    Folder(FolderLogs),
    /// On a server.
    Server(ServerLogs),
}

/// Logs in folders.
pub struct FolderLogs {
    /// Opens the log in a folder.
    pub open: fn(&Path, Access) -> OpenResult<Arc<dyn EventStore>>,
    /// Reads the rows of the read model in a folder, if there is one.
    pub stored_rows: fn(&Path) -> OpenResult<Option<StoredRows>>,
}

/// Logs on servers.
pub struct ServerLogs {
    /// The form of an address; its schemes are also the words before a `:` without slashes.
    pub form: &'static UrlForm,
    /// Addresses as a person writes them.
    pub examples: &'static [&'static str],
    /// The schemes that use TLS.
    pub tls_schemes: &'static [&'static str],
    /// Validates the prefix of keys or streams.
    pub prefix: fn(&str) -> Result<String, String>,
    /// The settings that name a file with a secret, for an address without one.
    pub secrets: &'static [&'static str],
    /// Whether the files of the settings fit each other.
    pub check_files: fn(&Files) -> Result<(), Unusable>,
    /// The address with the secret from its file, if there is one.
    pub unlock: fn(&ServerUrl, &Files) -> Result<ServerUrl, Unusable>,
    /// Opens a log.
    pub open: fn(ServerLog, Access) -> BoxFuture<'static, OpenResult<OpenedLog>>,
}

/// The setting of an unusable file, and the reason.
pub type Unusable = (&'static str, String);

/// The files that settings name, by the key of the setting.
pub type Files = BTreeMap<&'static str, PathBuf>;

/// A log on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLog {
    /// The server.
    pub address: ServerUrl,
    /// The prefix of its keys or streams.
    pub prefix: String,
    /// The files for access to the server.
    pub files: Files,
}

/// The access to a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read-only: nothing is created or changed.
    Read,
    /// Writing to a log that may not exist yet.
    Write {
        /// The number of replicas of a stream created in NATS.
        replicas: usize,
    },
}

/// A log that has been opened, and a check that it can be used now, which may be repeated.
pub struct OpenedLog {
    /// The log.
    pub store: Arc<dyn EventStore>,
    /// The check; `None` if opening has already checked the log.
    pub verify: Option<Verify>,
}

/// A check that can be repeated.
pub type Verify = Box<dyn Fn() -> BoxFuture<'static, Result<(), NotVerified>> + Send + Sync>;

/// Why a log cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{why}")]
pub struct NotVerified {
    /// The human-readable reason.
    pub why: String,
    /// Whether it may be temporary.
    pub passes: bool,
}
