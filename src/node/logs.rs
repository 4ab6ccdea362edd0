//! Opens the logs of `ordersystem copy` and `ordersystem verify`.

use std::{path::Path, sync::Arc, time::Duration};

use super::{StartError, backends::nats_access};
use crate::{
    backends::{
        embedded::{
            database::Database,
            event_store::{EmbeddedEventStore, read_only::ReadOnlyEventStore},
            read_model::at_rest,
        },
        nats::{
            connection::{ConnectError as NatsConnectError, Nats, NatsOptions},
            event_store::NatsEventStore,
        },
        redis::{
            connection::{ConnectError, Redis, RedisOptions},
            event_store::RedisEventStore,
            permissions::Roles,
        },
    },
    config::{LogAddress, LogRef},
    log_tools::{Passing, Patience, PatientStore},
    ports::{event_store::EventStore, read_model::StoredRows},
};

/// The timeout of a tool for a broker: longer than that of a node, which has waiting clients.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

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

/// The rows of the read model that is stored with a log, if there is one.
///
/// # Errors
/// One line: they cannot be read.
pub async fn stored_rows(log: &LogRef) -> Result<Option<StoredRows>, StartError> {
    match log.address.clone() {
        LogAddress::Embedded(dir) => Ok(tokio::task::spawn_blocking(move || at_rest::stored_rows(&dir)).await??),
        LogAddress::Redis(_) | LogAddress::Nats(_) => Ok(None),
    }
}

/// Opens a log for a tool.
///
/// # Errors
/// One line that names the log: it is unreachable, or unusable for this access.
pub async fn open(log: &LogRef, how: Access, patience: Patience) -> Result<Arc<dyn EventStore>, StartError> {
    let opened = match &log.address {
        LogAddress::Embedded(dir) => open_folder(dir, how),
        LogAddress::Redis(url) => {
            let options = RedisOptions {
                response_timeout: ANSWER_WITHIN,
                makes_log: how != Access::Read,
                roles: Roles { reads_log: true, writes_log: how != Access::Read, bus: false, cache: false },
                ..RedisOptions::new(url.expose(), &log.prefix)
            };
            open_redis(options).await
        }
        LogAddress::Nats(url) => {
            let options = NatsOptions {
                request_timeout: ANSWER_WITHIN,
                makes_log: how != Access::Read,
                replicas: if let Access::Write { replicas } = how { replicas } else { 1 },
                access: nats_access(&log.nats_access),
                ..NatsOptions::new(url.expose(), &log.prefix)
            };
            open_nats(options, &patience).await
        }
    };
    match opened {
        Ok(store) => Ok(Arc::new(PatientStore::new(store, patience))),
        Err(error) => Err(format!("{log}: {error}").into()),
    }
}

fn open_folder(dir: &Path, how: Access) -> Result<Arc<dyn EventStore>, StartError> {
    Ok(match how {
        Access::Read => Arc::new(ReadOnlyEventStore::open(dir)?),
        Access::Write { .. } => Arc::new(EmbeddedEventStore::new(Database::open(dir)?)),
    })
}

async fn open_redis(options: RedisOptions) -> Result<Arc<dyn EventStore>, StartError> {
    let redis = Redis::start(options, true)?;
    match redis.first_connection().await {
        Ok(()) => Ok(Arc::new(RedisEventStore::new(redis))),
        Err(ConnectError::Retryable(why) | ConnectError::Fatal(why)) => Err(why.into()),
    }
}

impl Passing for NatsConnectError {
    fn passes(&self) -> bool {
        matches!(self, Self::Retryable(_))
    }
}

async fn open_nats(options: NatsOptions, patience: &Patience) -> Result<Arc<dyn EventStore>, StartError> {
    let nats = Nats::start(options).await?;
    nats.connected().await.map_err(|error| error.why().to_owned())?;
    let store = NatsEventStore::new(nats);
    // The servers are reachable; this checks for a quorum.
    patience.ask(|| store.first_admission()).await.map_err(|error| error.why().to_owned())?;
    Ok(Arc::new(store))
}
