//! Files and folders that only this node's user can access: orders name customers, and a mark written by others would make ids repeat.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags},
    process,
};

/// The permissions of users other than the owner, in the mode of a file.
const OTHERS: u32 = 0o077;
const SET_GROUP_ID: u32 = 0o2000;
const GROUP_WRITES: u32 = 0o020;
const ANYONE_WRITES: u32 = 0o002;
const OTHERS_WRITE: u32 = GROUP_WRITES | ANYONE_WRITES;

/// Why a file or folder is refused; one line for humans, without its name.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The path is a link instead of a file.
    #[error("it is a symbolic link, and links are not followed: replace it with the file itself")]
    Link,
    /// The path is a folder, a pipe or a device instead of a file.
    #[error("it is not a file")]
    NoFile,
    /// The path is not a folder.
    #[error("it is a file, not a folder")]
    NoFolder,
    /// Other users could change the content of the folder; how, and the remedy.
    #[error("{0}")]
    Open(String),
    /// The operating system reported an error.
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        // The error of O_NOFOLLOW.
        if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) { Self::Link } else { Self::Io(error) }
    }
}

/// Makes all files that this process creates from here on inaccessible to other users, whatever its parent has set.
pub fn keep_from_others() {
    process::umask(Mode::from_raw_mode(OTHERS));
}

/// Creates a folder, and its parents, for this user only. An existing one stays unchanged.
///
/// # Errors
/// As reported by the system.
pub fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The options to open a file that only this user may read and write: it is created so, and a link at its path is an error that becomes
/// [`Refused::Link`].
#[must_use]
pub fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed());
    options
}

/// Passes an opened file on, unless it is a pipe, a device or a folder.
///
/// # Errors
/// [`Refused::NoFile`].
pub fn regular(file: File) -> Result<File, Refused> {
    if file.metadata()?.is_file() { Ok(file) } else { Err(Refused::NoFile) }
}

/// Opens a file that an operator names, to read it; links are followed. It does not block, as opening a pipe would until something writes into it.
///
/// # Errors
/// [`Refused::NoFile`], and those of the system.
pub fn open(path: &Path) -> Result<File, Refused> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    regular(OpenOptions::new().read(true).custom_flags(flags).open(path)?)
}

/// The content of a file that an operator names.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The content as text.
///
/// # Errors
/// As [`open`]; [`Refused::Io`] for content that is not UTF-8.
pub fn read_text(path: &Path) -> Result<String, Refused> {
    let mut text = String::new();
    open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// Opens a file with a secret as [`open`] does. No other user may be able to change it, and so choose the secret.
///
/// # Errors
/// [`Refused::Open`] for a file that others may write; as [`open`].
pub fn open_secret(path: &Path) -> Result<File, Refused> {
    let file = open(path)?;
    let mode = file.metadata()?.mode();
    if mode & OTHERS_WRITE != 0 {
        return Err(Refused::Open(format!("others may change it (mode {}): chmod go-w it", octal(mode))));
    }
    Ok(file)
}

/// Creates an empty file for this user only; libraries that open files by name, such as SQLite, then use it.
///
/// # Errors
/// [`Refused::Io`] also if the name already exists.
pub fn make_file(path: &Path) -> Result<File, Refused> {
    Ok(options().write(true).create_new(true).open(path)?)
}

/// Whether there is a file at `path`.
///
/// # Errors
/// [`Refused::Link`] for a link, also to a missing file.
pub fn is_file(path: &Path) -> Result<bool, Refused> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => Err(Refused::Link),
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Accepts an existing folder for private files: other users must not be able to change its content, or they could replace our files with their own.
/// Read permission of others is revoked, and that is logged.
///
/// # Errors
/// [`Refused::Open`] for a folder that others own or may write, see `weakness`.
pub fn take_folder(path: &Path) -> Result<(), Refused> {
    let found = fs::metadata(path)?;
    if !found.is_dir() {
        return Err(Refused::NoFolder);
    }
    if let Some(why) = weakness(path, &Rights::of(&found), &User::of_this_process()) {
        return Err(Refused::Open(why));
    }
    let is_shared_on_purpose = found.mode() & GROUP_WRITES != 0;
    if !is_shared_on_purpose && found.uid() == process::geteuid().as_raw() && found.mode() & OTHERS != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
        tracing::warn!(
            folder = %path.display(),
            was = %octal(found.mode()),
            "the data folder was accessible to other users; its mode is now 0700"
        );
    }
    Ok(())
}

/// Revokes the permissions of other users on the files of `folder` that are `ours`, and logs it.
///
/// # Errors
/// The file, and [`Refused::Link`] if it is a link, or [`Refused::NoFile`] if it is a folder, a pipe or a device.
pub fn tighten(folder: &Path, ours: impl Fn(&OsStr) -> bool) -> Result<(), (PathBuf, Refused)> {
    let at_folder = |error: io::Error| (folder.to_owned(), Refused::from(error));
    for entry in fs::read_dir(folder).map_err(at_folder)? {
        let entry = entry.map_err(at_folder)?;
        if ours(&entry.file_name()) {
            tighten_file(&entry.path()).map_err(|refused| (entry.path(), refused))?;
        }
    }
    Ok(())
}

/// By name instead of by descriptor: closing a descriptor would release the locks of SQLite on the file.
fn tighten_file(path: &Path) -> Result<(), Refused> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if found.is_symlink() {
        return Err(Refused::Link);
    }
    if !found.is_file() {
        return Err(Refused::NoFile);
    }
    if found.mode() & OTHERS != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        tracing::warn!(
            file = %path.display(),
            was = %octal(found.mode()),
            "a file in the data folder was readable by other users; its mode is now 0600"
        );
    }
    Ok(())
}

/// Owner, group and mode of a folder.
struct Rights {
    owner: u32,
    group: u32,
    mode: u32,
}

impl Rights {
    fn of(found: &Metadata) -> Self {
        Self { owner: found.uid(), group: found.gid(), mode: found.mode() }
    }
}

/// The identity of this process in the file system.
struct User {
    id: u32,
    groups: Vec<u32>,
}

impl User {
    fn of_this_process() -> Self {
        let mut groups: Vec<u32> =
            process::getgroups().unwrap_or_default().into_iter().map(process::Gid::as_raw).collect();
        groups.push(process::getegid().as_raw());
        Self { id: process::geteuid().as_raw(), groups }
    }
}

/// How users other than `user` and root could change the content of the folder, and the remedy.
///
/// Its group may write to it in one case: the folder has the set-group-id bit, and this process belongs to the group. Kubernetes prepares volumes
/// that way for the `fsGroup` of a pod, whose processes all belong to that group; elsewhere both are unlikely to occur by accident.
fn weakness(path: &Path, rights: &Rights, user: &User) -> Option<String> {
    let (path, mode) = (path.display(), octal(rights.mode));
    if rights.owner != user.id && rights.owner != 0 {
        let (owner, id) = (rights.owner, user.id);
        return Some(format!(
            "it belongs to another user (uid {owner}), who could change its contents: chown {id} {path}, or use a folder inside it"
        ));
    }
    if rights.mode & ANYONE_WRITES != 0 {
        return Some(format!(
            "every user of this machine can change its contents (mode {mode}): chmod 700 {path}, or use a folder inside it"
        ));
    }
    let is_of_pod = rights.mode & SET_GROUP_ID != 0 && user.groups.contains(&rights.group);
    if rights.mode & GROUP_WRITES != 0 && !is_of_pod {
        let group = rights.group;
        return Some(format!(
            "the group {group} can change its contents (mode {mode}): chmod 700 {path}, or use a folder inside it"
        ));
    }
    None
}

fn octal(mode: u32) -> String {
    format!("{:04o}", mode & 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_others_may_change_is_refused_but_for_the_volume_of_a_pod() {
        let user = User { id: 65_532, groups: vec![65_532, 100] };
        for (owner, group, mode, is_taken) in [
            (65_532, 65_532, 0o700, true),
            (65_532, 65_532, 0o755, true),
            // A volume prepared for fsGroup: owned by root, set-group-id, of a group of the process.
            (0, 65_532, 0o2775, true),
            (0, 100, 0o2770, true),
            (65_532, 65_532, 0o2775, true),
            (0, 65_532, 0o2777, false),
            (0, 7, 0o2775, false),
            (0, 65_532, 0o775, false),
            (65_532, 65_532, 0o770, false),
            (65_532, 65_532, 0o702, false),
            (0, 0, 0o1777, false),
            (1_000, 65_532, 0o700, false),
        ] {
            let why = weakness(Path::new("/data"), &Rights { owner, group, mode }, &user);
            assert_eq!(why.is_none(), is_taken, "{owner}:{group} {mode:o}: {why:?}");
            assert!(why.is_none_or(|why| why.contains("/data") && why.contains("ch")), "the remedy");
        }
    }

    #[test]
    fn pipes_folders_and_secrets_writable_by_others_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let [pipe, file] = ["pipe", "file"].map(|name| folder.path().join(name));
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for path in [&pipe, &folder.path().to_owned()] {
            assert!(matches!(open(path), Err(Refused::NoFile)), "{path:?}");
        }
        assert!(matches!(options().read(true).open(&pipe).map(regular), Ok(Err(Refused::NoFile))));
        assert!(matches!(tighten_file(&pipe), Err(Refused::NoFile)));
        fs::write(&file, "s3cret").unwrap();
        for (mode, is_open) in [(0o600, false), (0o640, false), (0o644, false), (0o660, true), (0o602, true)] {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let opened = open_secret(&file);
            assert_eq!(matches!(&opened, Err(Refused::Open(why)) if why.contains("chmod go-w")), is_open, "{mode:o}");
            assert_eq!(opened.is_ok(), !is_open, "{mode:o}");
            assert_eq!(read_text(&file).unwrap(), "s3cret");
        }
    }
}
