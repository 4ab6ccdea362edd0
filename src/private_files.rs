//! Files and folders that only this node's user can access: orders name customers, and a mark written by others would make ids repeat.

use std::{
    ffi::OsStr,
    fmt,
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io,
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

/// Why a file or folder is refused; one line for people, without its name.
#[derive(Debug)]
pub enum Refused {
    /// The path is a link instead of a file.
    Link,
    /// The path is not a folder.
    NoFolder,
    /// Other users could change the content of the folder; how, and the remedy.
    Open(String),
    /// The operating system reported an error.
    Io(io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => f.write_str("it is a link, and links are not followed: put the file itself in its place"),
            Self::NoFolder => f.write_str("it is a file, not a folder"),
            Self::Open(why) => f.write_str(why),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

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
    options.mode(0o600).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
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
        tracing::warn!(folder = %path.display(), was = %octal(found.mode()), "others could look into the data folder: its mode is 0700 now");
    }
    Ok(())
}

/// Revokes the permissions of other users on the files of `folder` that are `ours`, and logs it.
///
/// # Errors
/// The file, and [`Refused::Link`] if it is a link.
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
    if found.is_file() && found.mode() & OTHERS != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        tracing::warn!(file = %path.display(), was = %octal(found.mode()), "others could read a file of the data folder: its mode is 0600 now");
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
/// that way for the `fsGroup` of a pod, whose processes all belong to that group; elsewhere both hardly occur by accident.
fn weakness(path: &Path, rights: &Rights, user: &User) -> Option<String> {
    let (path, mode) = (path.display(), octal(rights.mode));
    if rights.owner != user.id && rights.owner != 0 {
        let (owner, id) = (rights.owner, user.id);
        return Some(format!(
            "it belongs to another user (uid {owner}), who could change what is in it: chown {id} {path}, or name a folder within it"
        ));
    }
    if rights.mode & ANYONE_WRITES != 0 {
        return Some(format!(
            "every user of this machine may change what is in it (mode {mode}): chmod 700 {path}, or name a folder within it"
        ));
    }
    let is_of_pod = rights.mode & SET_GROUP_ID != 0 && user.groups.contains(&rights.group);
    if rights.mode & GROUP_WRITES != 0 && !is_of_pod {
        let group = rights.group;
        return Some(format!(
            "the group {group} may change what is in it (mode {mode}): chmod 700 {path}, or name a folder within it"
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
            assert!(why.is_none_or(|why| why.contains("/data") && why.contains("ch")), "how to mend it");
        }
    }
}
