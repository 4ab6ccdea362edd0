//! Follows the end of the log, so that commits of other nodes are in memory before they are requested.

use std::{sync::Weak, time::Duration};

use tokio::time::sleep;

use super::{Shared, commit::sequence_before};
use crate::{backends::nats::pull_reader::Reader, ports::event_store::StoreError};

/// How many messages are fetched at once.
const BATCH: usize = 512;
/// How long one fetch waits for new messages.
const WAIT: Duration = Duration::from_secs(5);
/// On a busy log it fetches this often, and not once per message.
const PACE: Duration = Duration::from_millis(2);
/// The pause after a failure.
const PAUSE: Duration = Duration::from_millis(250);

/// Follows for as long as the store lives.
pub(super) async fn follow(store: Weak<Shared>) {
    loop {
        let Some(shared) = store.upgrade() else { return };
        let opened = open(&shared).await;
        drop(shared);
        let ended = match opened {
            Ok(reader) => run(&store, reader).await,
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "restarting the watch of the log in NATS");
        }
        sleep(PAUSE).await;
    }
}

async fn open(shared: &Shared) -> Result<Reader, StoreError> {
    shared.ready().await?;
    let last = shared.last_sequence().await?;
    let head = shared.last_commit_at(last).await?;
    if !shared.ring.leads_to(last + 1) {
        shared.ring.start(last + 1, sequence_before(head));
    }
    let reader = shared.open_reader(None, shared.ring.next()).await?;
    // Commits appended while the log was not followed.
    shared.announce(head);
    Ok(reader)
}

async fn run(store: &Weak<Shared>, mut reader: Reader) -> Result<(), StoreError> {
    let Some(mut connection) = store.upgrade().map(|shared| shared.connection.subscribe()) else { return Ok(()) };
    loop {
        let batch = tokio::select! {
            batch = reader.fetch(BATCH, WAIT) => batch.map_err(|error| StoreError::Unavailable(error.to_string()))?,
            // The data held in memory was dropped: this reader would continue at the wrong position.
            _ = connection.changed() => return Err(StoreError::Unavailable("connected again".to_owned())),
        };
        let Some(shared) = store.upgrade() else { return Ok(()) };
        let is_busy = !batch.is_empty();
        for raw in batch {
            let sequence = raw.sequence;
            // The node's own appends are there already.
            if sequence >= shared.ring.next() {
                let slot = shared.read_message(&raw);
                shared.observe(sequence, slot);
            }
        }
        drop(shared);
        if is_busy {
            sleep(PACE).await;
        }
    }
}
