//! The folder of a node on disk, used by one process at a time.

use std::{
    ffi::OsStr,
    fs::{self, File, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::error::OpenError;
use crate::private_files;

/// The one file that holds all data, in addition to SQLite's own `-wal` and `-shm`.
pub(super) const DATABASE: &str = "orders.db";
/// The file of a read model whose log is elsewhere. It has the same tables, those of the log being empty.
pub(super) const READ_MODEL: &str = "read_model.db";
/// The suffix of the marker file that exists while a node has the store open.
pub(super) const OPEN: &str = ".open";
/// Locked by the process that uses the folder; it contains the process id.
const LOCK: &str = "orders.lock";
/// The prefixes of the node's own files, marks of issued ids among them.
const OURS: [&str; 3] = ["orders.", "read_model.", "snowflake-"];

/// A data folder held by this process until dropped. The lock is the operating system's: it ends with the process, however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    lock: File,
}

impl Drop for DataDir {
    /// Closing the file alone would leave it locked while a program that is just being started still has the descriptor.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

impl DataDir {
    /// Takes the folder, creating it if it does not exist. From here on only this user can access it and the node's files in it.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it, naming that process if possible, if it cannot be created or written, if other users may change its
    /// content, and if there is a link in the place of a file.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        create(path)?;
        let path = real(path)?;
        private_files::take_folder(&path).map_err(OpenError::new)?;
        let file = path.join(LOCK);
        let opened = private_files::options().read(true).write(true).create(true).truncate(false).open(&file);
        let opened = opened.map_err(private_files::Refused::from).and_then(private_files::regular);
        let mut lock = opened.map_err(|refused| OpenError::new(refused).at(Path::new(LOCK)))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut lock)),
            Err(TryLockError::Error(error)) => return Err(OpenError::from(error).at(&file)),
        }
        let is_ours = |name: &OsStr| OURS.iter().any(|start| name.as_encoded_bytes().starts_with(start.as_bytes()));
        private_files::tighten(&path, is_ours)
            .map_err(|(file, refused)| OpenError::new(refused).at(Path::new(file.file_name().unwrap_or_default())))?;
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, lock })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Why the data does not survive a restart of the machine, if the folder is in memory and not on a disk, as far as the system reports it.
    pub(super) fn volatile(&self) -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let kind = file_system_of(&self.path, &mounts).filter(|kind| matches!(*kind, "tmpfs" | "ramfs"))?;
        let path = self.path.display();
        Some(format!(
            "{path} is on {kind}, a file system in memory: what it holds does not survive a restart of the machine"
        ))
    }
}

/// Creates the folder so that it survives a power loss.
fn create(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    if path.exists() {
        return Err(OpenError::new("it is a file, not a folder"));
    }
    private_files::make_folder(path)?;
    sync_parent(&real(path)?)
}

/// The path without links, as SQLite needs it to reject a link in the place of a file; an absolute path is never taken for an SQLite URI.
pub(super) fn real(path: &Path) -> Result<PathBuf, OpenError> {
    Ok(fs::canonicalize(path)?)
}

/// The database of the folder `dir`, for read-only callers.
///
/// # Errors
/// If the folder has no database, or has a link in its place.
pub(super) fn database_in(dir: &Path) -> Result<PathBuf, OpenError> {
    let file = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned()).join(DATABASE);
    match private_files::is_file(&file) {
        Ok(true) => Ok(file),
        Ok(false) => Err(OpenError::new(format!("there is no {DATABASE} here"))),
        Err(refused) => Err(OpenError::new(refused).at(Path::new(DATABASE))),
    }
}

/// Syncs the folder that contains `path`: a new name is durable only after that.
pub(super) fn sync_parent(path: &Path) -> Result<(), OpenError> {
    match path.parent() {
        Some(parent) if cfg!(unix) => Ok(File::open(parent)?.sync_all()?),
        _ => Ok(()),
    }
}

fn in_use(lock: &mut File) -> OpenError {
    let mut owner = String::new();
    let _ = lock.take(20).read_to_string(&mut owner);
    match owner.trim().parse::<u32>() {
        Ok(pid) => {
            OpenError::new(format!("it is in use by process {pid}; one process at a time may use a data folder"))
        }
        Err(_) => OpenError::new("it is in use by another process; one process at a time may use a data folder"),
    }
}

/// The type of the file system of `path`: of the mounts above it, the nearest one, and of those the latest.
fn file_system_of<'a>(path: &Path, mounts: &'a str) -> Option<&'a str> {
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (_device, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        // The kernel writes a space as \040; such a name is only ever compared with itself.
        let at = at.replace("\\040", " ");
        path.starts_with(&at).then_some((at.len(), kind))
    });
    above.max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_free_even_while_a_starting_program_has_its_lock_file_open() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::take(folder.path()).unwrap();
        // As a fork does.
        let inherited = dir.lock.try_clone().unwrap();
        assert!(DataDir::take(folder.path()).is_err());
        drop(dir);
        drop(DataDir::take(folder.path()).unwrap());
        drop(inherited);
    }

    #[test]
    fn the_nearest_mount_decides_the_file_system() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vdb /run/my\\040data xfs rw 0 0\n";
        for (path, kind) in [("/srv", "ext4"), ("/run/x", "tmpfs"), ("/run/my data/x", "xfs"), ("/running", "ext4")] {
            assert_eq!(file_system_of(Path::new(path), mounts), Some(kind), "{path}");
        }
        assert_eq!(file_system_of(Path::new("/srv"), ""), None);
    }
}
