//! The folder of a node on disk: one process at a time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use super::error::OpenError;

/// The one file that everything is in, beside SQLite's own `-wal` and `-shm`.
pub(super) const DATABASE: &str = "orders.db";
/// The file of a read model whose log is elsewhere. It has the same tables, those of the log being empty.
pub(super) const READ_MODEL: &str = "read_model.db";
/// Locked by the process that uses the folder, whose number it holds.
const LOCK: &str = "orders.lock";

/// A data folder in the hands of this process, until dropped. The lock is the operating system's: it ends with the process,
/// however that ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Takes the folder, making it if it is not there.
    ///
    /// # Errors
    /// [`OpenError`] if another process has it, naming that process where it can, or if it cannot be made or written.
    pub fn take(path: &Path) -> Result<Self, OpenError> {
        // An absolute path is never taken for an SQLite URI.
        let path = std::path::absolute(path)?;
        create(&path)?;
        let file = path.join(LOCK);
        let mut lock = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&file)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(in_use(&mut lock)),
            Err(TryLockError::Error(error)) => return Err(OpenError::from(error).at(&file)),
        }
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether the folder is in memory and not on a disk, as far as the system tells: then nothing outlives the machine.
    pub(super) fn is_volatile(&self) -> bool {
        let real = fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        file_system_of(&real, &mounts).is_some_and(|kind| matches!(kind, "tmpfs" | "ramfs"))
    }
}

/// Makes the folder so that it outlives a power loss.
fn create(path: &Path) -> Result<(), OpenError> {
    if path.is_dir() {
        return Ok(());
    }
    if path.exists() {
        return Err(OpenError::new("it is a file, not a folder"));
    }
    fs::create_dir_all(path)?;
    sync_parent(path)
}

/// Syncs the folder that `path` is in: a new name is durable only when that is.
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
        Ok(pid) => OpenError::new(format!("it is in use by process {pid}; one process at a time may use a data dir")),
        Err(_) => OpenError::new("it is in use by another process; one process at a time may use a data dir"),
    }
}

/// The kind of the file system that `path` is on: of the mounts above it, the nearest one, and of those the latest.
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
    fn the_nearest_mount_decides_which_file_system_it_is() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vdb /run/my\\040data xfs rw 0 0\n";
        for (path, kind) in [("/srv", "ext4"), ("/run/x", "tmpfs"), ("/run/my data/x", "xfs"), ("/running", "ext4")] {
            assert_eq!(file_system_of(Path::new(path), mounts), Some(kind), "{path}");
        }
        assert_eq!(file_system_of(Path::new("/srv"), ""), None);
    }
}
