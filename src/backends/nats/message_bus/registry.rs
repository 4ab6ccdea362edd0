//! Who consumes, and how far each has come: what may be dropped from the stream follows from it.
//!
//! One key of the bucket, `names`, lists the consumers and a floor: no message above it is ever dropped without this key having been written
//! first, on condition that nobody else has. So a consumer that has entered its name, and starts at the floor that it found there, knows that
//! nothing it has not dealt with is dropped, however late a purge arrives that was decided on before.
//!
//! One key a consumer, `cursor.<name>`, holds what it has dealt with and which handle is the live one: whoever writes it under another
//! handle has taken the name over, and the former one's next write fails.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::dealt::Dealt;
use crate::{
    backends::nats::{
        connection::Nats,
        kv::{Bucket, WriteError},
    },
    message_bus::BusError,
};

/// How many consumers there may be.
const MAX_CONSUMERS: usize = 1_000;
/// How often one change is tried against others. Each try that fails is one of theirs that did not.
const MAX_TRIES: usize = 100;
const NAMES: &str = "names";

#[derive(Debug)]
pub(super) struct Registry {
    bucket: Bucket,
}

/// What the key `names` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Names {
    /// Everything up to here may have been dropped.
    pub floor: u64,
    /// Each name with a random text that tells one making of it from the next.
    pub consumers: BTreeMap<String, String>,
}

/// What the key of a cursor holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredCursor {
    /// Which making of the name it belongs to.
    incarnation: String,
    handle: String,
    floor: u64,
    ranges: Vec<(u64, u64)>,
}

/// The place of a live consumer, as it was last written.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    incarnation: String,
    handle: String,
    revision: u64,
}

impl Registry {
    pub(super) fn new(nats: Nats) -> Self {
        Self { bucket: Bucket::new(nats, "consumers") }
    }

    /// The names, with the revision of their key.
    pub(super) async fn names(&self) -> Result<(Names, u64), BusError> {
        let (names, revision) = self.read(NAMES).await?;
        Ok((names.unwrap_or_default(), revision))
    }

    /// Raises the floor, if nobody has changed the names since `revision`; answers whether nobody has.
    pub(super) async fn raise_floor(&self, names: &Names, revision: u64, floor: u64) -> Result<bool, BusError> {
        let names = Names { floor, ..names.clone() };
        Ok(self.write(NAMES, Some(&names), revision).await?.is_some())
    }

    /// How far the consumer `name` has come: nothing up to here is needed by it.
    pub(super) async fn floor_of(&self, names: &Names, name: &str) -> Result<u64, BusError> {
        let (cursor, _) = self.read::<StoredCursor>(&cursor_key(name)).await?;
        let own = cursor.filter(|cursor| names.consumers.get(name) == Some(&cursor.incarnation));
        Ok(own.map_or(names.floor, |cursor| cursor.floor))
    }

    /// Makes the consumer `name` or takes it over.
    pub(super) async fn open(&self, name: &str) -> Result<(Cursor, Dealt), BusError> {
        let (handle, key) = (random_text(), cursor_key(name));
        for _ in 0..MAX_TRIES {
            let Some((names, incarnation)) = self.enter(name).await? else { continue };
            let (former, revision) = self.read::<StoredCursor>(&key).await?;
            let dealt = match former.filter(|former| former.incarnation == incarnation) {
                Some(former) => Dealt::restored(former.floor, &former.ranges),
                None => Dealt::up_to(names.floor),
            };
            let Some(revision) = self.write(&key, Some(&stored(&incarnation, &handle, &dealt)), revision).await? else {
                continue;
            };
            // Removed meanwhile: whoever did it may have looked for the cursor before it was there.
            let (names, _) = self.names().await?;
            if names.consumers.get(name) == Some(&incarnation) {
                return Ok((Cursor { incarnation, handle, revision }, dealt));
            }
        }
        Err(contended(name))
    }

    /// Writes what `cursor` has dealt with.
    ///
    /// # Errors
    /// [`BusError::Replaced`] if it is not the live one any more; [`BusError::Unavailable`].
    pub(super) async fn save(&self, name: &str, cursor: &mut Cursor, dealt: &Dealt) -> Result<(), BusError> {
        let key = cursor_key(name);
        for _ in 0..MAX_TRIES {
            let value = stored(&cursor.incarnation, &cursor.handle, dealt);
            if let Some(revision) = self.write(&key, Some(&value), cursor.revision).await? {
                cursor.revision = revision;
                return Ok(());
            }
            // By another handle, or by an earlier write of this one whose answer did not come.
            self.look(name, cursor).await?;
        }
        Err(contended(name))
    }

    /// Checks that `cursor` is the live one, and finds its revision.
    ///
    /// # Errors
    /// As [`Registry::save`].
    pub(super) async fn look(&self, name: &str, cursor: &mut Cursor) -> Result<(), BusError> {
        let (found, revision) = self.read::<StoredCursor>(&cursor_key(name)).await?;
        match found {
            Some(found) if found.handle == cursor.handle => {
                cursor.revision = revision;
                Ok(())
            }
            _ => Err(BusError::Replaced),
        }
    }

    /// Forgets the consumer `name`.
    pub(super) async fn remove(&self, name: &str) -> Result<(), BusError> {
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

    /// Enters `name`, unless it is there; answers the names and its incarnation, or `None` if another changed them meanwhile.
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

fn stored(incarnation: &str, handle: &str, dealt: &Dealt) -> StoredCursor {
    let (incarnation, handle) = (incarnation.to_owned(), handle.to_owned());
    StoredCursor { incarnation, handle, floor: dealt.floor(), ranges: dealt.ranges() }
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
