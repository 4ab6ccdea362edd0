//! The consumers and their positions, which determine the messages that may be dropped from the stream.
//!
//! One key of the bucket, `names`, lists the consumers and a floor: no message above it is ever dropped before this key has been written, on
//! condition that it has not changed. So a consumer that has entered its name, and starts at the floor that it found there, is guaranteed that no
//! message it has not processed is dropped, however late an earlier purge arrives.
//!
//! One key for each consumer, `cursor.<name>`, holds the messages that it has processed and its live handle: a write under another handle takes the
//! name over, and the previous handle's next write fails.
//!
//! Sequences refer to one incarnation of the stream ([`Made`]): for a later one of the same name, earlier sequences are meaningless. If the bucket
//! with the names has vanished, the consumers' processes fill it again: each remembers its last write.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::acked_ranges::AckedRanges;
use crate::{
    backends::nats::{
        connection::{ConnectError, Nats},
        kv::{Bucket, WriteError},
        provision::Made,
    },
    ports::message_bus::BusError,
};

/// The maximum number of consumers.
const MAX_CONSUMERS: usize = 1_000;
/// How often a change that loses to another one is retried. Each failed try means that another change succeeded.
const MAX_TRIES: usize = 100;
/// For how long after the bucket was recreated nothing is dropped for lack of consumers: they have this long to enter their names again.
const RETURN_WITHIN: Duration = Duration::from_secs(30);
const NAMES: &str = "names";

#[derive(Debug)]
pub(super) struct Registry {
    bucket: Bucket,
    /// The last write of this process for each consumer. As many as there are consumers here.
    written: Mutex<HashMap<String, StoredCursor>>,
}

/// The content of the key `names`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// Everything up to here may have been dropped.
    floor: u64,
    /// The incarnation of the stream; 0 if it was not stored.
    #[serde(default)]
    stream: u64,
    /// Each name with a random text that distinguishes its incarnations.
    pub consumers: BTreeMap<String, String>,
}

/// The content of a cursor's key.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredCursor {
    /// The incarnation of the name that it belongs to.
    incarnation: String,
    handle: String,
    /// The incarnation of the stream that the sequences belong to; 0 if it was not stored.
    #[serde(default)]
    stream: u64,
    floor: u64,
    ranges: Vec<(u64, u64)>,
    /// All events up to this position of the log are processed.
    #[serde(default)]
    position: u64,
}

/// The progress of a consumer.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The incarnation of the stream that the sequences belong to; `None` if unknown.
    pub stream: Option<Made>,
    /// The sequences that it has processed.
    pub acked: AckedRanges,
    /// All events up to this position of the log are processed.
    pub position: u64,
}

impl Names {
    /// Everything up to here may have been dropped from the stream of this incarnation.
    pub(super) fn floor_in(&self, stream: Made) -> u64 {
        if is_of(self.stream, stream) { self.floor } else { 0 }
    }
}

/// Whether the stored incarnation `written` may be that of `stream`.
const fn is_of(written: u64, stream: Made) -> bool {
    written == 0 || written == stream.0
}

impl StoredCursor {
    fn new(incarnation: &str, handle: &str, progress: &Progress) -> Self {
        let Progress { stream, acked, position } = progress;
        Self {
            incarnation: incarnation.to_owned(),
            handle: handle.to_owned(),
            stream: stream.map_or(0, |stream| stream.0),
            floor: acked.floor(),
            ranges: acked.ranges(),
            position: *position,
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            stream: Some(Made(self.stream)).filter(|stream| stream.0 != 0),
            acked: AckedRanges::restored(self.floor, &self.ranges),
            position: self.position,
        }
    }
}

/// The cursor of a live consumer, as last written.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    incarnation: String,
    handle: String,
    revision: u64,
}

impl Registry {
    pub(super) fn new(nats: Nats) -> Self {
        Self { bucket: Bucket::new(nats, "consumers"), written: Mutex::default() }
    }

    /// Finds or creates the bucket.
    pub(super) async fn verify(&self) -> Result<(), ConnectError> {
        self.bucket.verify_writable().await
    }

    /// Whether it would accept a write.
    pub(super) async fn probe(&self, deadline: Instant) -> Result<(), String> {
        self.bucket.made().await?;
        self.bucket.probe(deadline).await
    }

    /// Whether the list of consumers is known to be complete: not while they may still have to enter their names again.
    pub(super) async fn is_complete(&self) -> Result<bool, BusError> {
        self.bucket.made_now().await.map_err(BusError::Unavailable)?;
        Ok(!self.bucket.was_made_again_within(RETURN_WITHIN))
    }

    fn with_written<T>(&self, work: impl FnOnce(&mut HashMap<String, StoredCursor>) -> T) -> T {
        work(&mut self.written.lock())
    }

    /// The names, with the revision of their key.
    pub(super) async fn names(&self) -> Result<(Names, u64), BusError> {
        let (names, revision) = self.read(NAMES).await?;
        Ok((names.unwrap_or_default(), revision))
    }

    /// Raises the floor, if the names have not changed since `revision`; returns whether they have not.
    pub(super) async fn raise_floor(
        &self,
        names: &Names,
        revision: u64,
        stream: Made,
        floor: u64,
    ) -> Result<bool, BusError> {
        let names = Names { floor, stream: stream.0, ..names.clone() };
        Ok(self.write(NAMES, Some(&names), revision).await?.is_some())
    }

    /// The position of the consumer `name` in the stream of this incarnation: it needs no message up to here.
    pub(super) async fn floor_of(&self, names: &Names, name: &str, stream: Made) -> Result<u64, BusError> {
        let own = self.cursor_of(names, name).await?;
        Ok(own.map_or(names.floor_in(stream), |cursor| if is_of(cursor.stream, stream) { cursor.floor } else { 0 }))
    }

    /// The position of the log up to which the consumer `name` has processed all events; `None` if there is no such consumer, or its position is
    /// unknown.
    pub(super) async fn position_of(&self, names: &Names, name: &str) -> Result<Option<u64>, BusError> {
        let known = self.cursor_of(names, name).await?.map(|cursor| cursor.position);
        // A processed event stays processed, whether or not the bucket still records it.
        Ok(known.or_else(|| self.with_written(|written| written.get(name).map(|cursor| cursor.position))))
    }

    async fn cursor_of(&self, names: &Names, name: &str) -> Result<Option<StoredCursor>, BusError> {
        let (cursor, _) = self.read::<StoredCursor>(&cursor_key(name)).await?;
        Ok(cursor.filter(|cursor| names.consumers.get(name) == Some(&cursor.incarnation)))
    }

    /// Creates the consumer `name` or takes it over.
    pub(super) async fn open(&self, name: &str) -> Result<(Cursor, Progress), BusError> {
        let (handle, key) = (random_text(), cursor_key(name));
        for _ in 0..MAX_TRIES {
            let Some((names, incarnation)) = self.enter(name).await? else { continue };
            let (former, revision) = self.read::<StoredCursor>(&key).await?;
            // The cursor was never written: if this process wrote it, then into a bucket that has vanished since.
            let vanished = || self.with_written(|written| written.get(name).cloned()).filter(|_| revision == 0);
            let progress = match former.filter(|former| former.incarnation == incarnation).or_else(vanished) {
                Some(former) => former.progress(),
                None => {
                    let stream = Some(Made(names.stream)).filter(|stream| stream.0 != 0);
                    Progress { stream, acked: AckedRanges::up_to(names.floor), position: 0 }
                }
            };
            let value = StoredCursor::new(&incarnation, &handle, &progress);
            let Some(revision) = self.write(&key, Some(&value), revision).await? else { continue };
            // Removed in the meantime: the removal may have looked for the cursor before it was written.
            let (names, _) = self.names().await?;
            if names.consumers.get(name) == Some(&incarnation) {
                self.with_written(|written| written.insert(name.to_owned(), value));
                return Ok((Cursor { incarnation, handle, revision }, progress));
            }
        }
        Err(contended(name))
    }

    /// Writes the progress of `cursor`.
    ///
    /// # Errors
    /// [`BusError::Replaced`] if it is no longer the live one; [`BusError::Unavailable`].
    pub(super) async fn save(&self, name: &str, cursor: &mut Cursor, progress: &Progress) -> Result<(), BusError> {
        let key = cursor_key(name);
        for _ in 0..MAX_TRIES {
            let value = StoredCursor::new(&cursor.incarnation, &cursor.handle, progress);
            if let Some(revision) = self.write(&key, Some(&value), cursor.revision).await? {
                cursor.revision = revision;
                self.with_written(|written| written.insert(name.to_owned(), value));
                return Ok(());
            }
            // Written by another handle, or by an earlier write of this one whose reply did not come.
            self.check_live(name, cursor).await?;
        }
        Err(contended(name))
    }

    /// Checks that `cursor` is the live one, and finds its revision.
    ///
    /// # Errors
    /// As [`Registry::save`].
    pub(super) async fn check_live(&self, name: &str, cursor: &mut Cursor) -> Result<(), BusError> {
        let (found, revision) = self.read::<StoredCursor>(&cursor_key(name)).await?;
        match found {
            Some(found) if found.handle == cursor.handle => {
                cursor.revision = revision;
                Ok(())
            }
            // The cursor was never written: its bucket has vanished.
            None if revision == 0 => self.enter_again(name, cursor).await,
            _ => Err(BusError::Replaced),
        }
    }

    /// Writes `cursor` as last written, unless another handle has taken the name in the meantime.
    async fn enter_again(&self, name: &str, cursor: &mut Cursor) -> Result<(), BusError> {
        let written = self.with_written(|written| written.get(name).cloned());
        let written = written.filter(|written| written.handle == cursor.handle).ok_or(BusError::Replaced)?;
        let (mut names, revision) = self.names().await?;
        match names.consumers.get(name) {
            Some(incarnation) if *incarnation == cursor.incarnation => {}
            Some(_) => return Err(BusError::Replaced),
            None => {
                names.consumers.insert(name.to_owned(), cursor.incarnation.clone());
                if self.write(NAMES, Some(&names), revision).await?.is_none() {
                    return Err(contended(name));
                }
            }
        }
        cursor.revision = self.write(&cursor_key(name), Some(&written), 0).await?.ok_or_else(|| contended(name))?;
        Ok(())
    }

    /// Removes the consumer `name`.
    pub(super) async fn remove(&self, name: &str) -> Result<(), BusError> {
        self.with_written(|written| written.remove(name));
        for _ in 0..MAX_TRIES {
            let (mut names, revision) = self.names().await?;
            if names.consumers.remove(name).is_some() && self.write(NAMES, Some(&names), revision).await?.is_none() {
                continue;
            }
            let (cursor, revision) = self.read::<StoredCursor>(&cursor_key(name)).await?;
            let Some(cursor) = cursor else { return Ok(()) };
            let (names, _) = self.names().await?;
            let is_made_again = names.consumers.get(name) == Some(&cursor.incarnation);
            if is_made_again || self.write::<StoredCursor>(&cursor_key(name), None, revision).await?.is_some() {
                return Ok(());
            }
        }
        Err(contended(name))
    }

    /// Enters `name`, unless it is present; returns the names and its incarnation, or `None` if another node changed them in the meantime.
    async fn enter(&self, name: &str) -> Result<Option<(Names, String)>, BusError> {
        let (mut names, revision) = self.names().await?;
        if let Some(incarnation) = names.consumers.get(name).cloned() {
            return Ok(Some((names, incarnation)));
        }
        if names.consumers.len() >= MAX_CONSUMERS {
            return Err(BusError::Unavailable(format!("there are {MAX_CONSUMERS} consumers: remove one")));
        }
        let incarnation = random_text();
        names.consumers.insert(name.to_owned(), incarnation.clone());
        Ok(self.write(NAMES, Some(&names), revision).await?.map(|_| (names, incarnation)))
    }

    async fn read<T: DeserializeOwned>(&self, key: &str) -> Result<(Option<T>, u64), BusError> {
        let Some(entry) = self.bucket.get(key).await.map_err(BusError::Unavailable)? else { return Ok((None, 0)) };
        let read = |value: Bytes| {
            let unreadable = |error| BusError::Unavailable(format!("the key {key} of the consumers: {error}"));
            serde_json::from_slice(&value).map_err(unreadable)
        };
        Ok((entry.value.map(read).transpose()?, entry.revision))
    }

    /// The new revision, or `None` if the key has another one than `expected`.
    async fn write<T: Serialize>(&self, key: &str, value: Option<&T>, expected: u64) -> Result<Option<u64>, BusError> {
        let value = value.map(serde_json::to_vec).transpose();
        let value = value.map_err(|error| BusError::Unavailable(error.to_string()))?;
        match self.bucket.write(key, value.map(Bytes::from), expected).await {
            Ok(revision) => Ok(Some(revision)),
            Err(WriteError::Conflict) => Ok(None),
            Err(WriteError::Unavailable(why)) => Err(BusError::Unavailable(why)),
        }
    }
}

fn cursor_key(name: &str) -> String {
    format!("cursor.{name}")
}

fn random_text() -> String {
    format!("{:032x}", fastrand::u128(..))
}

fn contended(name: &str) -> BusError {
    BusError::Unavailable(format!("others keep changing the consumer {name}"))
}
