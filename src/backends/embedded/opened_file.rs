//! Checks that the folder still has the file that was opened. A file that is removed, moved or replaced while it is open takes writes as before, and
//! they are lost with the process.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use tokio::sync::watch;

use super::{error::DbError, new_store::with_suffix};
use crate::ports::event_store::{LogLoss, LossKind};

/// The file system and the number of a file in it.
type FileId = (u64, u64);

/// The opened file and its WAL.
#[derive(Debug)]
pub(super) struct OpenedFile {
    /// Each path with the identity of the file that was first found there: SQLite creates the WAL with its first write.
    files: [(PathBuf, OnceLock<FileId>); 2],
    loss: watch::Sender<Option<LogLoss>>,
}

impl OpenedFile {
    /// The file at `path`, which has just been opened.
    pub(super) fn new(path: &Path) -> Self {
        let opened = Self {
            files: [path.to_owned(), with_suffix(path, "-wal")].map(|path| (path, OnceLock::new())),
            loss: watch::Sender::new(None),
        };
        let _ = opened.verify();
        opened
    }

    /// Whether the file was lost when last verified.
    pub(super) fn loss(&self) -> watch::Receiver<Option<LogLoss>> {
        self.loss.subscribe()
    }

    /// The result of the last [`OpenedFile::verify`].
    ///
    /// # Errors
    /// [`DbError::Unavailable`].
    pub(super) fn last_verified(&self) -> Result<(), DbError> {
        self.loss.borrow().as_ref().map_or(Ok(()), |loss| Err(DbError::Unavailable(loss.why.clone())))
    }

    /// Checks that both files are those that were opened. This takes two system calls, and reads nothing of the files.
    ///
    /// # Errors
    /// [`DbError::Unavailable`], which names the file and what has happened to it.
    pub(super) fn verify(&self) -> Result<(), DbError> {
        let found = self.files.iter().find_map(|(path, opened)| lost(path, opened));
        // Whether another file is another log is not known: the node would have to open it.
        let found = found.map(|why| LogLoss { kind: LossKind::Gone, why });
        if *self.loss.borrow() != found {
            self.loss.send_replace(found);
        }
        self.last_verified()
    }
}

/// What has happened to the file at `path`, if it is not the one that was `opened`.
fn lost(path: &Path, opened: &OnceLock<FileId>) -> Option<String> {
    let event = match fs::metadata(path) {
        Ok(there) => {
            let there = (there.dev(), there.ino());
            (*opened.get_or_init(|| there) != there).then_some("was replaced by another file")
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            opened.get().map(|_| "was removed or moved")
        }
        // Nothing is known about the file, and writing to it may still succeed.
        Err(_) => None,
    };
    event.map(|event| {
        format!(
            "{} {event} while this node has it open, so nothing is read or written any more: put that very file back, \
             or restore a backup and restart the node",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_removed_moved_or_replaced_is_lost_until_it_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("data");
        let (file, wal, aside) = (dir.join("x.db"), dir.join("x.db-wal"), folder.path().join("aside"));
        fs::create_dir(&dir).unwrap();
        fs::write(&file, "x").unwrap();
        let opened = OpenedFile::new(&file);
        opened.verify().expect("SQLite has not made the WAL yet");
        fs::write(&wal, "x").unwrap();
        opened.verify().unwrap();
        let seen = opened.loss();
        for lost in [&file, &wal, &dir] {
            fs::rename(lost, &aside).unwrap();
            let gone = opened.verify().unwrap_err().to_string();
            assert!(gone.contains("was removed or moved"), "{gone}");
            assert_eq!(opened.last_verified().unwrap_err().to_string(), gone);
            assert!(seen.borrow().is_some());
            fs::rename(&aside, lost).unwrap();
            opened.verify().unwrap();
            assert!(seen.borrow().is_none() && opened.last_verified().is_ok());
        }
        for lost in [&file, &wal] {
            fs::rename(lost, &aside).unwrap();
            fs::copy(&aside, lost).unwrap();
            let other = opened.verify().unwrap_err().to_string();
            assert!(other.starts_with(&format!("{} was replaced", lost.display())), "{other}");
            fs::rename(&aside, lost).unwrap();
            opened.verify().unwrap();
        }
    }
}
