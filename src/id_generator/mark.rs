//! The high-water mark: a promise on disk that no id at or past it has been issued.

use std::fmt::{self, Debug};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::private_files::{self, Refused};

/// The store of a generator's mark. One generator at a time uses a mark.
pub trait HighWaterMark: Send + Debug {
    /// The stored mark in Unix milliseconds; `None` if none was ever stored.
    ///
    /// # Errors
    /// If it cannot be read or is damaged; never a guess.
    fn load(&self) -> Result<Option<u64>, MarkError>;

    /// Stores the mark. When it returns `Ok`, the mark survives a crash as far as this kind of mark guarantees; after an error the old mark or the
    /// new one is stored, never another value.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn store(&self, unix_ms: u64) -> Result<(), MarkError>;

    /// Stores the mark of a generator that has ended, lower than the one before: a bound of the ids really issued.
    ///
    /// # Errors
    /// As [`HighWaterMark::store`].
    fn store_last(&self, unix_ms: u64) -> Result<(), MarkError> {
        self.store(unix_ms)
    }
}

/// The mark could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("high-water mark {place}: {what}")]
pub struct MarkError {
    place: String,
    what: String,
    is_unowned: bool,
}

impl MarkError {
    /// The mark at `place` could not be read or written, because of `what`.
    #[must_use]
    pub fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string(), is_unowned: false }
    }

    /// This node owns no mark at `place` now, and may store none.
    #[must_use]
    pub fn unowned(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { is_unowned: true, ..Self::new(place, what) }
    }

    /// Whether the node owns no mark now.
    #[must_use]
    pub const fn is_unowned(&self) -> bool {
        self.is_unowned
    }
}

/// A mark in a file of one line, `<unix ms> <xxh3 of the number, hex>`; survives a power loss.
///
/// The file stays open, so that the mark can be moved when the process has no file descriptor left. It is overwritten in place: the line is far
/// shorter than the sector that a disk writes all or nothing.
#[derive(Debug)]
pub struct FileMark {
    path: PathBuf,
    /// `None` until it is first stored.
    file: Mutex<Option<File>>,
}

impl FileMark {
    /// The mark in this file, which need not exist yet; its folder must.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: Mutex::new(None) }
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        let mut open = self.file.lock();
        if let Some(file) = &mut *open
            && is_current(file, text.len())?
        {
            file.rewind()?;
            file.write_all(text.as_bytes())?;
            return file.sync_data();
        }
        *open = Some(self.create(text)?);
        Ok(())
    }

    /// Recreates the file, or replaces whatever has its name.
    fn create(&self, text: &str) -> io::Result<File> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        // A file left by a crash, or a link that another user has put there, is not written through.
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_files::options().write(true).create_new(true).open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        // The new name is durable only after the folder is.
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if cfg!(unix) {
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    }
}

/// Whether `file` still has a name, and is as long as the text that is to overwrite it.
fn is_current(file: &File, length: usize) -> io::Result<bool> {
    let metadata = file.metadata()?;
    #[cfg(unix)]
    let has_name = std::os::unix::fs::MetadataExt::nlink(&metadata) > 0;
    #[cfg(not(unix))]
    let has_name = true;
    Ok(has_name && metadata.len() == length as u64)
}

impl HighWaterMark for FileMark {
    fn load(&self) -> Result<Option<u64>, MarkError> {
        let mut bytes = Vec::new();
        let opened = private_files::options().read(true).open(&self.path).map_err(Refused::from);
        let opened = opened.and_then(private_files::regular);
        match opened.and_then(|mut file| Ok(file.read_to_end(&mut bytes)?)) {
            Ok(_) => {}
            Err(Refused::Io(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(refused) => {
                return Err(MarkError::new(self.path.display(), format_args!("cannot be read: {refused}")));
            }
        }
        let mark = std::str::from_utf8(&bytes).ok().and_then(decode).ok_or_else(|| {
            MarkError::new(
                self.path.display(),
                "is damaged; remove it only if the clock is surely past every id issued from this folder",
            )
        })?;
        Ok(Some(mark))
    }

    fn store(&self, unix_ms: u64) -> Result<(), MarkError> {
        self.replace(&encode(unix_ms))
            .map_err(|error| MarkError::new(self.path.display(), format_args!("cannot be written: {error}")))
    }
}

fn encode(unix_ms: u64) -> String {
    format!("{unix_ms} {:016x}\n", xxh3_64(unix_ms.to_string().as_bytes()))
}

fn decode(text: &str) -> Option<u64> {
    let (number, _) = text.split_once(' ')?;
    let unix_ms = number.parse().ok()?;
    // Exactly the text that would have been written, so a lost or added byte anywhere counts as damage.
    (encode(unix_ms) == text).then_some(unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_mark_returns_the_last_stored_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id-mark");
        assert_eq!(FileMark::new(&path).load().unwrap(), None);
        FileMark::new(&path).store(1_800_000_000_000).unwrap();
        FileMark::new(&path).store(1_700_000_000_000).unwrap();
        assert_eq!(FileMark::new(&path).load().unwrap(), Some(1_700_000_000_000));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_mark_is_overwritten_in_the_open_file_and_recreated_if_that_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id-mark");
        let mark = FileMark::new(&path);
        for unix_ms in [1_800_000_000_000, 1_900_000_000_000, 7, 1_900_000_000_001] {
            mark.store(unix_ms).unwrap();
            assert_eq!(FileMark::new(&path).load().unwrap(), Some(unix_ms));
        }
        fs::remove_file(&path).unwrap();
        mark.store(1_900_000_000_002).unwrap();
        assert_eq!(FileMark::new(&path).load().unwrap(), Some(1_900_000_000_002));
        // Neither a new descriptor nor a name in the folder is needed.
        let links = |path: &Path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).unwrap());
        let before = links(&path);
        mark.store(1_900_000_000_003).unwrap();
        assert_eq!(links(&path), before);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_the_place_of_the_new_file_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("somebody-else-s");
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("id-mark.tmp")).unwrap();
        std::os::unix::fs::symlink(&target, folder.path().join("other-mark")).unwrap();
        let refused = FileMark::new(folder.path().join("other-mark")).load().unwrap_err().to_string();
        assert!(refused.contains("links are not followed"), "{refused}");
        FileMark::new(folder.path().join("id-mark")).store(7).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "kept");
    }

    #[test]
    fn any_damage_to_the_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id-mark");
        let good = encode(1_800_000_000_000).into_bytes();
        let mut damaged: Vec<Vec<u8>> = (0..good.len()).map(|cut| good[..cut].to_vec()).collect();
        damaged.extend((0..good.len()).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        }));
        damaged.push([&good[..], b"1"].concat());
        damaged.push(vec![0xff, 0xfe]);
        for bytes in damaged {
            fs::write(&path, &bytes).unwrap();
            let error = FileMark::new(&path).load().unwrap_err().to_string();
            assert!(error.contains("id-mark") && error.contains("damaged"), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mark = FileMark::new(folder.path().join("missing/id-mark"));
        assert!(mark.store(1).unwrap_err().to_string().contains("cannot be written"));
    }
}
