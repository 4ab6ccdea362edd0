//! Opens the logs of `ordersystem copy` and `ordersystem verify`.

use std::sync::Arc;

pub use crate::backends::descriptor::Access;

use super::StartError;
use crate::{
    backends::descriptor::{NotVerified, OpenedLog, ServerLog},
    config::{LogAddress, LogRef},
    log_tools::{Passing, Patience, PatientStore},
    ports::{event_store::EventStore, read_model::StoredRows},
};

impl Passing for NotVerified {
    fn passes(&self) -> bool {
        self.passes
    }
}

/// Opens a log for a tool.
///
/// # Errors
/// One line that names the log: it is unreachable, or unusable for this access.
pub async fn open(log: &LogRef, access: Access, patience: Patience) -> Result<Arc<dyn EventStore>, StartError> {
    match opened(log, access, &patience).await {
        Ok(store) => Ok(Arc::new(PatientStore::new(store, patience))),
        Err(error) => Err(format!("{log}: {error}").into()),
    }
}

async fn opened(log: &LogRef, access: Access, patience: &Patience) -> Result<Arc<dyn EventStore>, StartError> {
    match &log.address {
        LogAddress::Folder { logs, dir, .. } => (logs.open)(dir, access),
        LogAddress::Server { logs, url, .. } => {
            let log = ServerLog { address: url.clone(), prefix: log.prefix.clone(), files: log.files.clone() };
            let OpenedLog { store, verify } = (logs.open)(log, access).await?;
            if let Some(verify) = verify {
                patience.ask(verify).await.map_err(|error| error.why)?;
            }
            Ok(store)
        }
    }
}

/// The rows of the read model that is stored with a log, if there is one.
///
/// # Errors
/// One line: they cannot be read.
pub async fn stored_rows(log: &LogRef) -> Result<Option<StoredRows>, StartError> {
    match log.address.clone() {
        LogAddress::Folder { logs, dir, .. } => tokio::task::spawn_blocking(move || (logs.stored_rows)(&dir)).await?,
        LogAddress::Server { .. } => Ok(None),
    }
}
