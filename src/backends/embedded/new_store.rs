//! The creation of a store: its file exists completely or not at all, so an empty one is always damage.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags};

use super::{
    data_dir::{self, OPEN},
    end,
    error::{DbError, OpenError},
    schema,
};
use crate::private_files;

/// SQLite's files of a database that was removed while in use: they would be taken for a part of the next one.
const LEFT_OVER: [&str; 4] = ["-wal", "-journal", "-shm", OPEN];
/// The suffix added to the names of the first two, which may hold commits of the removed file.
const SET_ASIDE: &str = ".removed-store";

/// The flags to open a file for writing. SQLite's journals get the mode of the file.
pub(super) const WRITES: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX).union(OpenFlags::SQLITE_OPEN_NOFOLLOW);

/// The smallest page of SQLite, and thus the smallest store.
const SMALLEST_BYTES: u64 = 512;

/// Creates `file` if it does not exist.
///
/// # Errors
/// [`OpenError`] for a file that is empty or shorter than any store, for a link, and for one that cannot be created.
pub(super) fn make_if_missing(file: &Path) -> Result<(), OpenError> {
    private_files::is_file(file)
        .map_err(|refused| OpenError::new(refused).at(Path::new(file.file_name().unwrap_or_default())))?;
    match fs::metadata(file) {
        Ok(there) if there.is_file() && there.len() == 0 => {
            return Err(OpenError::new(format!(
                "{} is empty, which a store never is: restore a backup, or remove the file to begin a new store",
                file.display()
            )));
        }
        // SQLite takes such a file for an empty database, too.
        Ok(there) if there.is_file() && there.len() < SMALLEST_BYTES => {
            return Err(OpenError::new(format!(
                "{} has {} bytes, fewer than any store: restore a backup, or remove the file to begin a new store",
                file.display(),
                there.len()
            )));
        }
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    let was_used = was_used(file)?;
    let unfinished = Unfinished::of(file);
    make(unfinished.path())?;
    set_left_over_aside(file)?;
    unfinished.finish(file)?;
    if was_used {
        let dir = file.parent().unwrap_or(file);
        tracing::warn!(
            "made a new store in {}, where ids were issued before: was {} removed?",
            dir.display(),
            file.file_name().unwrap_or_default().display()
        );
    } else {
        // Logged because a path with a typing error is a new, empty store.
        tracing::info!("made a new store in {}", file.display());
    }
    Ok(())
}

fn make(file: &Path) -> Result<(), OpenError> {
    private_files::make_file(file).map_err(OpenError::new)?;
    let connection = Connection::open_with_flags(file, WRITES).map_err(DbError::from)?;
    // It is synced as a whole at the end.
    connection.execute_batch("PRAGMA synchronous = OFF").map_err(DbError::from)?;
    schema::migrate(&connection)?;
    end::check(&connection)?;
    connection.close().map_err(|(_, error)| DbError::from(error))?;
    Ok(())
}

/// Whether the folder shows that there was a store: the mark of issued ids, or commits that were not checkpointed into the file.
fn was_used(file: &Path) -> Result<bool, OpenError> {
    let Some((dir, name)) = file.parent().zip(file.file_name().and_then(|name| name.to_str())) else {
        return Ok(false);
    };
    let wal = format!("{name}-wal");
    for entry in fs::read_dir(dir)? {
        let entry = entry?.file_name();
        let entry = entry.to_string_lossy();
        if (entry.starts_with("snowflake-") && entry.ends_with(".mark")) || entry.starts_with(&wal) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn set_left_over_aside(file: &Path) -> Result<(), OpenError> {
    for suffix in LEFT_OVER {
        let left = with_suffix(file, suffix);
        let result = match fs::metadata(&left) {
            Ok(there) if there.len() > 0 && !["-shm", OPEN].contains(&suffix) => {
                fs::rename(&left, with_suffix(&left, SET_ASIDE))
            }
            Ok(_) => fs::remove_file(&left),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        result.map_err(|error| OpenError::from(error).at(&left))?;
    }
    Ok(())
}

pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file that is deleted unless it has got its final name.
pub(super) struct Unfinished(PathBuf);

impl Unfinished {
    /// The temporary form of `file`, without the remains of an earlier process that was killed.
    pub(super) fn of(file: &Path) -> Self {
        let unfinished = Self(with_suffix(file, ".unfinished"));
        unfinished.remove();
        unfinished
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives it its final name, after all of it is on the disk.
    pub(super) fn finish(self, file: &Path) -> Result<(), OpenError> {
        fs::File::open(&self.0)?.sync_all()?;
        fs::rename(&self.0, file)?;
        data_dir::sync_parent(file)
    }

    fn remove(&self) {
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _ = fs::remove_file(with_suffix(&self.0, suffix));
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.remove();
    }
}
