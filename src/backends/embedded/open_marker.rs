//! The marker file of an open store: it is beside the store while a node has it open, and a node that shuts down properly removes it.
//!
//! While the store is open, its newest commits are only in the WAL, and SQLite takes a missing WAL for an empty one: without the marker those commits
//! would be lost silently.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use super::{
    data_dir::{OPEN, sync_parent},
    error::OpenError,
    new_store::with_suffix,
};
use crate::private_files;

/// The content, for people who find the file.
const TEXT: &str =
    "A node has this store open, or has not ended in order: its newest commits are in the file that ends with -wal.\n";

/// The marker file, which has been written.
#[derive(Debug)]
pub(super) struct OpenMarker(PathBuf);

impl OpenMarker {
    /// Writes the marker of the store in `file`, which has just been opened: its WAL exists.
    ///
    /// # Errors
    /// [`OpenError`] if it cannot be written.
    pub(super) fn set(file: &Path) -> Result<Self, OpenError> {
        let path = with_suffix(file, OPEN);
        let write = || -> Result<(), OpenError> {
            let opened = private_files::options().write(true).create(true).truncate(true).open(&path);
            let opened = opened.map_err(private_files::Refused::from).and_then(private_files::regular);
            let mut marker = opened.map_err(OpenError::new)?;
            marker.write_all(TEXT.as_bytes())?;
            marker.sync_all()?;
            sync_parent(&path)
        };
        write().map_err(|error| error.at(&path))?;
        Ok(Self(path))
    }
}

impl Drop for OpenMarker {
    /// Removes the marker: no more writes follow, and the store is about to be closed, which removes the WAL.
    fn drop(&mut self) {
        let removed = fs::remove_file(&self.0).map_err(OpenError::from).and_then(|()| sync_parent(&self.0));
        if let Err(error) = removed {
            tracing::warn!(%error, file = %self.0.display(), "cannot remove the marker file of an open store");
        }
    }
}

/// Checks that the WAL is there, if the store in `file` was not closed.
///
/// # Errors
/// [`OpenError`] names the missing file, and how to continue without it.
pub(super) fn check(file: &Path) -> Result<(), OpenError> {
    let (marker, wal) = (with_suffix(file, OPEN), with_suffix(file, "-wal"));
    let exists = |path: &Path| match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::from(error).at(path)),
    };
    if !exists(&marker)? || exists(&wal)? {
        return Ok(());
    }
    Err(OpenError::new(format!(
        "{} is missing: the node that used this store before was not shut down properly, and its newest commits are in that file. Put it back, \
         or restore a backup; if another program has opened the store and taken them in, or to accept their loss, remove {}",
        wal.display(),
        marker.display()
    )))
}
